//! The `HostPortExposure` intent: an object that selects pods, and names which of their host ports may be reached.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::{Selector, SelectorExt};

use super::host_port::HostPort;
use super::rules::Sources;
use super::{Ask, Refusal, Varies, annotation, hostname, refusal, source_ranges};
use crate::host_port_exposure::{ExposedPort, HostPortExposure, PortProtocol};
use crate::index::Index;
use crate::objects::{Node, ObjectRef, Pod};

/// The exposures that select the pod, on the node it runs on.
///
/// # Errors
/// For each that cannot be read; it selects nothing then.
pub(super) fn selecting<'a>(
    index: &'a Index,
    pod: &Pod,
    node: Option<&Node>,
) -> Vec<Result<&'a HostPortExposure, Refusal>> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let mut selecting = Vec::new();
    for exposure in index.host_port_exposures(namespace) {
        match selects(exposure, pod, node) {
            Ok(true) => selecting.push(Ok(exposure)),
            Ok(false) => {}
            Err(message) => selecting.push(Err(refusal(&exposure.reference(), "InvalidSelector", message))),
        }
    }
    selecting
}

fn selects(exposure: &HostPortExposure, pod: &Pod, node: Option<&Node>) -> Result<bool, String> {
    let pods = selector("podSelector", &exposure.spec.pod_selector)?;
    if pods.selects_all() {
        return Err("podSelector: an empty selector would select every pod; name labels".to_owned());
    }
    let no_labels = BTreeMap::new();
    if !pods.matches(pod.metadata.labels.as_ref().unwrap_or(&no_labels)) {
        return Ok(false);
    }
    let Some(on) = &exposure.spec.node_selector else { return Ok(true) };
    let labels = node.and_then(|node| node.metadata.labels.as_ref()).unwrap_or(&no_labels);
    Ok(selector("nodeSelector", on)?.matches(labels))
}

fn selector(field: &str, selector: &LabelSelector) -> Result<Selector, String> {
    Selector::try_from(selector.clone()).map_err(|error| format!("{field}: {error}"))
}

/// What the exposure asks of the pod: those of its ports that the pod binds, because while a rollout is under way its
/// pods bind different ones. Refused whole if any of it cannot be understood, or the pod binds none of it.
pub(super) fn ask<'a>(
    exposure: &HostPortExposure,
    pod: &ObjectRef,
    host_ports: &'a BTreeSet<HostPort>,
) -> Result<Ask<'a>, Refusal> {
    let reference = exposure.reference();
    let invalid = |message: String| {
        let message = format!("{message}; nothing is opened for {pod}");
        refusal(&reference, "InvalidExposure", message)
    };
    let general = sources("sourceRanges", exposure.spec.source_ranges.as_deref()).map_err(invalid)?;
    let mut ports: BTreeMap<&HostPort, Sources> = BTreeMap::new();
    for (position, wanted) in exposure.spec.ports.iter().enumerate() {
        let own = sources(&format!("ports[{position}].sourceRanges"), wanted.source_ranges.as_deref());
        let own = own.map_err(invalid)?.or_else(|| general.clone());
        for port in annotation::named(&entry(wanted), host_ports).map_err(invalid)? {
            if ports.insert(port, own.clone()).is_some_and(|other| other != own) {
                let message =
                    format!("ports: {}/{} is named twice, with different sources", port.protocol, port.port);
                return Err(invalid(message));
            }
        }
    }
    if ports.is_empty() {
        let has = if host_ports.is_empty() { "none".to_owned() } else { annotation::listed(host_ports) };
        return Err(invalid(format!("ports: none of them is a host port of {pod}, which has {has}")));
    }
    let workload = exposure.workload();
    let hostname = exposure.spec.hostname.as_deref().map(hostname).transpose();
    let hostname = hostname.map_err(|error| invalid(format!("hostname: {error}")))?;
    let ports = ports.into_iter().collect();
    Ok(Ask { intent: reference, workload, ports, varies: Varies::NodeByNode, hostname })
}

/// The port as an annotation would write it: `http`, `30000-30100/udp`.
fn entry(wanted: &ExposedPort) -> String {
    let port = match &wanted.port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(text) => text.clone(),
    };
    match wanted.protocol {
        None => port,
        Some(PortProtocol::Tcp) => port + "/tcp",
        Some(PortProtocol::Udp) => port + "/udp",
        Some(PortProtocol::Sctp) => port + "/sctp",
    }
}

fn sources(field: &str, ranges: Option<&[String]>) -> Result<Sources, String> {
    let Some(ranges) = ranges else { return Ok(None) };
    let ranges: Vec<IpNet> =
        source_ranges::strict(&ranges.join(",")).map_err(|error| format!("{field}: {error}"))?;
    Ok(Some(Rc::from(ranges)))
}
