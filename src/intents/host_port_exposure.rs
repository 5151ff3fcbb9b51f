//! The `HostPortExposure` intent: an object that selects pods, and names which of their host ports may be reached.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::rc::Rc;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::{Selector, SelectorExt};

use super::annotation;
use super::host_port::HostPort;
use super::request::{GroupVariant, PortRequest, Rejected, rejected};
use super::rules::Sources;
use crate::k8s::host_port_exposure::{ExposedPort, HostPortExposure, PortProtocol};
use crate::k8s::objects::{Node, ObjectRef, Pod};
use crate::parse::hostname::hostname;
use crate::parse::source_ranges;

/// A `HostPortExposure`, read.
#[derive(Clone)]
pub(super) struct Selection<'a> {
    exposure: &'a HostPortExposure,
    pods: Selector,
    nodes: Option<Selector>,
    ports: Vec<Wanted>,
    hostname: Option<String>,
}

/// An entry of its ports.
#[derive(Clone)]
struct Wanted {
    /// As an annotation would write it
    entry: String,
    sources: Sources,
    /// Whether it names these sources itself
    own: bool,
}

impl<'a> Selection<'a> {
    /// Reads it.
    ///
    /// # Errors
    /// If any of it cannot be understood: then it opens nothing.
    pub(super) fn of(exposure: &'a HostPortExposure) -> Result<Self, Rejected> {
        let refuse = |reason| {
            move |message| {
                let message = format!("{message}; nothing of this is opened");
                rejected(&exposure.reference(), reason, message)
            }
        };
        let selects = refuse("InvalidSelector");
        let pods = selector("podSelector", &exposure.spec.pod_selector).map_err(&selects)?;
        if pods.selects_all() {
            let message = "podSelector: an empty selector would select every pod; name labels";
            return Err(selects(message.to_owned()));
        }
        let nodes = exposure.spec.node_selector.as_ref().map(|nodes| selector("nodeSelector", nodes));
        let nodes = nodes.transpose().map_err(&selects)?;
        let invalid = refuse("InvalidExposure");
        let general = sources("sourceRanges", exposure.spec.source_ranges.as_deref()).map_err(&invalid)?;
        let mut ports = Vec::new();
        for (position, port) in exposure.spec.ports.iter().enumerate() {
            let own = sources(&format!("ports[{position}].sourceRanges"), port.source_ranges.as_deref());
            let own = own.map_err(&invalid)?;
            let entry = entry(port);
            annotation::named(&entry, &BTreeSet::new()).map_err(&invalid)?;
            ports.push(Wanted { entry, own: own.is_some(), sources: own.or_else(|| general.clone()) });
        }
        let hostname = exposure.spec.hostname.as_deref().map(hostname).transpose();
        let hostname = hostname.map_err(|error| invalid(format!("hostname: {error}")))?;
        Ok(Self { exposure, pods, nodes, ports, hostname })
    }

    /// Whether it selects the pod on the node.
    pub(super) fn selects(&self, pod: &Pod, node: Option<&Node>) -> bool {
        let nothing = BTreeMap::new();
        let own = pod.metadata.labels.as_ref().unwrap_or(&nothing);
        let around = node.and_then(|node| node.metadata.labels.as_ref()).unwrap_or(&nothing);
        self.pods.matches(own) && self.nodes.as_ref().is_none_or(|nodes| nodes.matches(around))
    }

    /// What it requests of the pod: those of its ports that the pod binds, because while a rollout is under way its pods bind
    /// different ones. Refused whole if the pod binds none of it, or one under two names with different sources.
    pub(super) fn request<'p>(
        &self,
        pod: &ObjectRef,
        host_ports: &'p BTreeSet<HostPort>,
    ) -> Result<PortRequest<'p>, Rejected> {
        let reference = self.exposure.reference();
        let invalid = |message: String| {
            let message = format!("{message}; nothing is opened for {pod}");
            rejected(&reference, "InvalidExposure", message)
        };
        let mut ports: BTreeMap<&HostPort, Sources> = BTreeMap::new();
        let mut apart = String::new();
        for wanted in &self.ports {
            for port in annotation::named(&wanted.entry, host_ports).map_err(invalid)? {
                let HostPort { protocol, port: number, .. } = port;
                if ports.insert(port, wanted.sources.clone()).is_some_and(|other| other != wanted.sources) {
                    let message =
                        format!("ports: {protocol}/{number} is named twice, with different sources");
                    return Err(invalid(message));
                }
                // Another pod may bind the same number under a name that has other sources.
                if wanted.own {
                    _ = write!(apart, " {protocol}/{number} by {}", wanted.entry);
                }
            }
        }
        if ports.is_empty() {
            let has = if host_ports.is_empty() { "none".to_owned() } else { annotation::listed(host_ports) };
            return Err(invalid(format!("ports: none of them is a host port of {pod}, which has {has}")));
        }
        Ok(PortRequest {
            workload: self.exposure.workload(),
            intent: reference,
            ports: ports.into_iter().collect(),
            variant: GroupVariant::PerNode(apart),
            hostname: self.hostname.clone(),
        })
    }
}

fn selector(field: &str, selector: &LabelSelector) -> Result<Selector, String> {
    Selector::try_from(selector.clone()).map_err(|error| format!("{field}: {error}"))
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
