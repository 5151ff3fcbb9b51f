//! Errors of manifests.

use thiserror::Error;

use crate::k8s::plain_text::{escape_unprintable, shorten};

/// The name of standard input in messages.
pub(super) const STANDARD_INPUT: &str = "standard input";

/// The reason for which manifests cannot be read. None of them is used then: pods missing from half a set of
/// files would look deleted.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// The file or folder cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file or folder
        path: String,
        /// The operating system's error
        source: std::io::Error,
    },
    /// A folder has no file to read.
    #[error(
        "{path} has no file that ends in .yaml, .yml or .json, which is not read as a cluster without objects"
    )]
    NoFile {
        /// The folder
        path: String,
    },
    /// A file has no object.
    #[error(
        "{path} has no object, which is not read as a cluster without objects: {}",
        explain_emptiness(path)
    )]
    NoObject {
        /// The file
        path: String,
    },
    /// Among all objects there is no Node.
    #[error(
        "the manifests have no Node, so nothing is known of a cluster; `kubectl get nodes -o yaml` prints them"
    )]
    NoNode,
    /// A list or a file has the API server's error instead of objects.
    #[error("{path}: {position} is a Status, which the API server sends instead of objects: {message}")]
    Status {
        /// The file
        path: String,
        /// The document or item
        position: String,
        /// The API server's message
        message: String,
    },
    /// The text is neither YAML nor JSON.
    #[error("{path} is not valid YAML or JSON: {message}")]
    Syntax {
        /// The file
        path: String,
        /// The position and the fault
        message: String,
    },
    /// A document or the item of a list is no object of Kubernetes.
    #[error("{path}: {position} is no object of Kubernetes: {message}")]
    NotAnObject {
        /// The file
        path: String,
        /// The document or item
        position: String,
        /// The fault
        message: String,
    },
    /// An object does not have the fields of its kind.
    #[error("{path}: {object} cannot be read: {message}")]
    Object {
        /// The file
        path: String,
        /// Kind and name
        object: String,
        /// The field and the fault
        message: String,
    },
    /// The files cannot be watched.
    #[error("cannot watch {path} for changes: {message}")]
    Watch {
        /// The file or folder
        path: String,
        /// The operating system's error
        message: String,
    },
}

fn explain_emptiness(path: &str) -> &'static str {
    if path == STANDARD_INPUT {
        "the command before it has printed nothing, most likely because it failed. kubectl prints nothing at \
         all if the server does not have one of several kinds, or cannot be reached; its own error tells which"
    } else {
        "a command that was to write it may have failed"
    }
}

/// Returns a parser's error on one line. It can repeat what it does not understand, at any length.
pub(super) fn to_message(error: &dyn std::fmt::Display) -> String {
    let mut message = escape_unprintable(&error.to_string()).into_owned();
    shorten(&mut message, 500);
    message
}
