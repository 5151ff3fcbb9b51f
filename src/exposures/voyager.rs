//! The Voyager intent: an Ingress of type `HostPort`, and the `HAProxy` pods that its operator runs for it.
//!
//! Voyager's pods use the host's network, so that every declared port becomes a host port, the stats page and the
//! metrics exporter too. Only what the Ingress asks for may be opened.

use std::collections::{BTreeMap, BTreeSet};

use firewall_model::Workload;
use ipnet::IpNet;
use serde_json::Value;

use super::annotation::SOURCE_RANGES;
use super::host_port::HostPort;
use super::{Ask, Refusal, Variant, annotations, refusal, source_ranges};
use crate::index::Index;
use crate::objects::{Ingress, IntOrText, ObjectRef, Pod};

const TYPE: &str = "ingress.appscode.com/type";
const STATS: &str = "ingress.appscode.com/stats";
const STATS_PORT: &str = "ingress.appscode.com/stats-port";
const WHITELIST: &str = "ingress.appscode.com/whitelist-source-range";
/// Annotations for the Service, as JSON
const SERVICE_ANNOTATIONS: &str = "ingress.appscode.com/annotations-service";
const LOAD_BALANCER_SOURCES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// Where Voyager's stats page listens unless the Ingress says otherwise.
const DEFAULT_STATS_PORT: u16 = 56789;

/// What every Ingress with rules can listen on.
const HTTP_PORTS: [u16; 2] = [80, 443];

/// Whether Voyager's operator made the pod.
pub(super) fn is_haproxy(pod: &Pod) -> bool {
    label(pod, "origin") == Some("voyager") && label(pod, "origin-name").is_some()
}

fn label<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.metadata.labels.as_ref()?.get(name).map(String::as_str)
}

/// What the Ingress behind the pod asks for; nothing if there is none, or it is of another type.
pub(super) fn ask<'a>(
    index: &Index,
    pod: &Pod,
    host_ports: &'a [HostPort],
    defaults: &[IpNet],
) -> Result<Option<Ask<'a>>, Refusal> {
    let Some((group, ingress)) = ingress(index, pod) else { return Ok(None) };
    let kind = annotations(&ingress.metadata).get(TYPE).map(String::as_str);
    // `Daemon` is what HostPort was called until 2017.
    if !matches!(kind, Some("HostPort" | "Daemon")) {
        return Ok(None);
    }
    let reference = reference(ingress, group);
    let asked = asked_ports(ingress);
    let bound: Vec<&HostPort> =
        host_ports.iter().filter(|port| port.container == "haproxy" && asked.contains(&port.port)).collect();
    let named = sources(ingress).map_err(|error| refusal(&reference, "InvalidSourceRanges", error))?;
    // Named sources change for all pods at once and are not part of the group's identity. The default depends
    // on the node, so nodes of different families need different groups.
    let families = |ranges: &[IpNet]| {
        ranges.iter().map(|range| if range.addr().is_ipv4() { "v4" } else { "v6" }).collect::<BTreeSet<_>>()
    };
    let variant = match &named {
        Some(_) => String::new(),
        None => families(defaults).into_iter().collect::<Vec<_>>().join("+"),
    };
    let sources = named.unwrap_or_else(|| defaults.to_vec());
    let workload = Workload {
        kind: format!("Ingress.{group}"),
        namespace: reference.namespace.clone(),
        name: reference.name.clone(),
    };
    let ports = bound.into_iter().map(|port| (port, sources.clone())).collect();
    Ok(Some(Ask { intent: reference, workload, ports, variant: Variant::Text(variant) }))
}

/// The Ingress that the pod's labels name. Older pods do not name its group; then any group that holds the name
/// will do, if it is the only one.
fn ingress<'a>(index: &'a Index, pod: &Pod) -> Option<(&'a str, &'a Ingress)> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let mut candidates: Vec<_> = index.ingresses(namespace, label(pod, "origin-name")?).collect();
    if let Some(origin) = label(pod, "origin-api-group").or_else(|| label(pod, "origin-api-version")) {
        let origin = origin.split('/').next().unwrap_or_default();
        // The API server serves what was made as `extensions` under its newer name.
        let origin = if origin == "extensions" { "networking.k8s.io" } else { origin };
        candidates
            .retain(|(group, _)| *group == origin || origin == "networking.k8s.io" && *group == "extensions");
    }
    match candidates[..] {
        [only] => Some(only),
        _ => None,
    }
}

fn reference(ingress: &Ingress, group: &str) -> ObjectRef {
    let metadata = &ingress.metadata;
    let api_version = ingress.api_version.clone().unwrap_or_else(|| format!("{group}/v1"));
    ObjectRef {
        api_version: api_version.into(),
        kind: "Ingress".into(),
        namespace: metadata.namespace.clone().unwrap_or_else(|| "default".to_owned()),
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
    }
}

/// The ports that the Ingress asks for, less the stats page's.
fn asked_ports(ingress: &Ingress) -> BTreeSet<u16> {
    let frontends = ingress.spec.rules.iter().flat_map(|rule| [&rule.http, &rule.tcp]).flatten();
    let numbers = frontends.filter_map(|frontend| match frontend.port.as_ref()? {
        IntOrText::Int(port) => u16::try_from(*port).ok(),
        IntOrText::Text(port) => port.parse().ok(),
    });
    let mut ports: BTreeSet<u16> = numbers.chain(HTTP_PORTS).filter(|port| *port != 0).collect();
    let annotations = annotations(&ingress.metadata);
    if annotations.get(STATS).is_some_and(|stats| stats == "true") {
        let port = annotations.get(STATS_PORT).and_then(|port| port.parse().ok());
        ports.remove(&port.unwrap_or(DEFAULT_STATS_PORT));
    }
    ports
}

/// The sources that the Ingress names, by the first of the ways it can. A way that is there and cannot be
/// understood is an error: the next one might be wider.
fn sources(ingress: &Ingress) -> Result<Option<Vec<IpNet>>, String> {
    let annotations = annotations(&ingress.metadata);
    let said = |name: &str, ranges: Result<Vec<IpNet>, String>| {
        ranges.map(Some).map_err(|error| format!("{name}: {error}; nothing of this Ingress is opened"))
    };
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
    let service: BTreeMap<String, Value> = serde_json::from_str(text).map_err(|error| {
        format!("{SERVICE_ANNOTATIONS}: not a JSON object: {error}; nothing of this Ingress is opened")
    })?;
    match service.get(LOAD_BALANCER_SOURCES) {
        None => Ok(None),
        Some(Value::String(ranges)) => Ok(Some(ranges.clone())),
        Some(other) => {
            Err(format!("{LOAD_BALANCER_SOURCES}: {other} is not a text; nothing of this Ingress is opened"))
        }
    }
}
