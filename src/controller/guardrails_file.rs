//! Reads the guardrails file. The parser does no I/O, so that guardrails stay pure.

use std::path::Path;

use thiserror::Error;

use crate::guardrails::{Guardrails, file};

/// Guardrails that cannot be read. The controller does not start without those that it is configured to keep.
#[derive(Debug, Error)]
pub enum GuardrailsError {
    /// The file cannot be read.
    #[error("cannot read the guardrails in {path}: {source}")]
    Io {
        /// The file
        path: String,
        /// The cause
        source: std::io::Error,
    },
    /// The text of the file is not understood.
    #[error("{path} does not hold guardrails: {message}")]
    Content {
        /// The file
        path: String,
        /// The line and the cause
        message: String,
    },
}

/// Reads guardrails from a file.
///
/// # Errors
/// If the file cannot be read or understood; the text has the line.
pub fn read_guardrails(path: &Path) -> Result<Guardrails, GuardrailsError> {
    let shown = || path.display().to_string();
    let text =
        std::fs::read_to_string(path).map_err(|source| GuardrailsError::Io { path: shown(), source })?;
    file::parse(&text).map_err(|message| GuardrailsError::Content { path: shown(), message })
}
