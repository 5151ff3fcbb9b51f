//! Who may connect to what an Ingress requests for, in all the ways that Voyager has had to say it.

use std::collections::BTreeMap;
use std::rc::Rc;

use ipnet::IpNet;
use kube::api::ObjectMeta;
use serde_json::Value;

use crate::intents::annotation;
use crate::intents::annotation_keys::{SOURCE_RANGES, annotations};
use crate::intents::request::{Rejected, rejected};
use crate::intents::rules::Sources;
use crate::k8s::objects::{Ingress, LOAD_BALANCER_SOURCES, ObjectRef};
use crate::parse::source_ranges;

const WHITELIST: &str = "ingress.appscode.com/whitelist-source-range";
/// Annotations for the Service, as JSON
const SERVICE_ANNOTATIONS: &str = "ingress.appscode.com/annotations-service";

/// The sources that the Ingress names, by the first of the ways it can. A way that is there and cannot be
/// understood is an error: the next one might be wider.
pub(super) fn sources(ingress: &Ingress) -> Result<Sources, String> {
    let annotations = annotations(&ingress.metadata);
    let said = |name: &str, ranges: Result<Vec<IpNet>, String>| match ranges {
        Ok(ranges) => Ok(Some(Rc::from(ranges))),
        Err(error) => Err(format!("{name}: {error}")),
    };
    if let Some((name, _)) =
        annotation::naming_sources(&ingress.metadata).find(|(name, _)| *name != SOURCE_RANGES)
    {
        return Err(format!("{name}: an Ingress names sources for all its ports, by {SOURCE_RANGES}"));
    }
    if let Some(text) = annotations.get(SOURCE_RANGES) {
        return said(SOURCE_RANGES, source_ranges::strict(text));
    }
    if let Some(text) = service_sources(annotations)? {
        return said(LOAD_BALANCER_SOURCES, source_ranges::strict(&text));
    }
    if let Some(text) = annotations.get(WHITELIST) {
        return said(WHITELIST, source_ranges::lenient(text));
    }
    let ranges = &ingress.spec.load_balancer_source_ranges;
    if ranges.is_empty() {
        return Ok(None);
    }
    said("spec.loadBalancerSourceRanges", source_ranges::strict(&ranges.join(",")))
}

/// The sources among the annotations that the operator copies to the Service.
fn service_sources(annotations: &BTreeMap<String, String>) -> Result<Option<String>, String> {
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

/// Refuses sources that stand on what the operator made and not on the Ingress: whoever wrote them expects them to
/// narrow what is opened. The same ones on both are fine, in case the operator copies annotations.
pub(super) fn reject_sources_on_managed_object(
    made: &ObjectMeta,
    reference: &ObjectRef,
    ingress: &Ingress,
) -> Result<(), Rejected> {
    let on_ingress = annotations(&ingress.metadata);
    let stray = annotation::naming_sources(made).find(|(name, text)| on_ingress.get(*name) != Some(*text));
    stray.map_or(Ok(()), |(name, _)| {
        let name_of_ingress = ingress.metadata.name.as_deref().unwrap_or_default();
        let kind = reference.kind.to_lowercase();
        let message = format!(
            "{name}: does nothing on a {kind} of Voyager's; put it on Ingress {name_of_ingress}. Nothing of this {kind} \
             is opened"
        );
        Err(rejected(reference, "InvalidAnnotation", message))
    })
}
