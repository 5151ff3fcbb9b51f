//! The sources of a Voyager Ingress, in every notation that Voyager has had for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;
use kube::core::ObjectMeta;
use serde_json::Value;

use crate::intents::annotation::find_source_annotations;
use crate::intents::annotation_keys::{SOURCE_RANGES, annotations};
use crate::intents::request::{Rejected, reject};
use crate::intents::rules::Sources;
use crate::k8s::objects::{Ingress, LOAD_BALANCER_SOURCES, ObjectRef};
use crate::k8s::reasons;
use crate::parse::source_ranges;

const WHITELIST: &str = "ingress.appscode.com/whitelist-source-range";
/// Annotations for the Service, as JSON
const SERVICE_ANNOTATIONS: &str = "ingress.appscode.com/annotations-service";

/// Parses the sources that the Ingress names, in the first notation that is present. One that is present and
/// not understood is an error: the next one might be wider.
pub(super) fn parse_sources(ingress: &Ingress) -> Result<Sources, String> {
    let annotations = annotations(&ingress.metadata);
    let with_field = |field: &str, ranges: Result<Vec<IpNet>, String>| match ranges {
        Ok(ranges) => Ok(Some(Arc::from(ranges))),
        Err(error) => Err(format!("{field}: {error}")),
    };
    if let Some((key, _)) = find_source_annotations(&ingress.metadata).find(|(key, _)| *key != SOURCE_RANGES)
    {
        return Err(format!("{key}: an Ingress names sources for all its ports, by {SOURCE_RANGES}"));
    }
    if let Some(text) = annotations.get(SOURCE_RANGES) {
        return with_field(SOURCE_RANGES, source_ranges::parse_strict(text));
    }
    if let Some(text) = find_service_sources(annotations)? {
        return with_field(LOAD_BALANCER_SOURCES, source_ranges::parse_strict(&text));
    }
    if let Some(text) = annotations.get(WHITELIST) {
        return with_field(WHITELIST, source_ranges::parse_lenient(text));
    }
    let ranges = &ingress.spec.load_balancer_source_ranges;
    if ranges.is_empty() {
        return Ok(None);
    }
    with_field("spec.loadBalancerSourceRanges", source_ranges::parse_strict(&ranges.join(",")))
}

/// Returns the sources among the annotations that the operator copies to the Service.
fn find_service_sources(annotations: &BTreeMap<String, String>) -> Result<Option<String>, String> {
    let Some(text) = annotations.get(SERVICE_ANNOTATIONS) else { return Ok(None) };
    // Serde's own text can repeat the whole annotation, whatever its length.
    let service: BTreeMap<String, Value> = serde_json::from_str(text).map_err(|error| {
        format!(
            "{SERVICE_ANNOTATIONS}: not a JSON object, at line {} column {}",
            error.line(),
            error.column()
        )
    })?;
    match service.get(LOAD_BALANCER_SOURCES) {
        None => Ok(None),
        Some(Value::String(ranges)) => Ok(Some(ranges.clone())),
        Some(_) => Err(format!("{SERVICE_ANNOTATIONS}: {LOAD_BALANCER_SOURCES} in it is not a text")),
    }
}

/// Rejects sources that are on the object that the operator manages and not on the Ingress: its author
/// expects them to narrow the ports, and they would not. The same ones on both are accepted, because the
/// operator may copy annotations.
pub(super) fn reject_sources_on_managed_object(
    managed: &ObjectMeta,
    reference: &ObjectRef,
    ingress: &Ingress,
) -> Result<(), Rejected> {
    let on_ingress = annotations(&ingress.metadata);
    let mut on_managed = find_source_annotations(managed);
    on_managed.find(|(key, text)| on_ingress.get(*key) != Some(*text)).map_or(Ok(()), |(key, _)| {
        let ingress_name = ingress.metadata.name.as_deref().unwrap_or_default();
        let kind = reference.kind.to_lowercase();
        let message = format!(
            "{key}: does nothing on a {kind} of Voyager's; put it on Ingress {ingress_name}. Nothing of this \
             {kind} is opened"
        );
        Err(reject(reference, reasons::INVALID_ANNOTATION, message))
    })
}
