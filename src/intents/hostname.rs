//! Hostnames: by which clients are to find what is open.

use kube::api::ObjectMeta;

use super::annotation_keys::{HOSTNAME, annotations};
use crate::parse::hostname::hostname;

/// The hostname that an object's annotation names.
///
/// # Errors
/// If it is none.
pub(super) fn annotated(metadata: &ObjectMeta) -> Result<Option<String>, String> {
    let named = annotations(metadata).get(HOSTNAME);
    named.map(|text| hostname(text).map_err(|error| format!("{HOSTNAME}: {error}"))).transpose()
}
