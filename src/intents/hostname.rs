//! The hostname annotation.

use kube::core::ObjectMeta;

use super::annotation_keys::{HOSTNAME, annotations};
use crate::parse::hostname::parse_hostname;

/// Parses the hostname that the object's annotation names; none if it has no such annotation.
///
/// # Errors
/// If the value is no hostname, with the annotation's key.
pub(super) fn parse_hostname_annotation(metadata: &ObjectMeta) -> Result<Option<String>, String> {
    let value = annotations(metadata).get(HOSTNAME);
    value.map(|text| parse_hostname(text).map_err(|error| format!("{HOSTNAME}: {error}"))).transpose()
}
