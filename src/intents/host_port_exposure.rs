//! The `HostPortExposure` intent: an object that selects pods, and names the host ports of theirs to open.

use std::borrow::Cow;
use std::collections::btree_map::{BTreeMap, Entry};
use std::fmt::Write;
use std::sync::Arc;

use firewall_core::{PortRange, Workload};
use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::{Selector, SelectorExt};

use super::host_port::{HostPort, HostPorts, MAX_HOST_PORTS};
use super::port_entry::PortEntry;
use super::request::{GroupVariant, PortRequest, Rejected, reject};
use super::rules::Sources;
use crate::k8s::host_port_exposure::{ExposedPort, HostPortExposure, MOST_PORTS, PortProtocol};
use crate::k8s::objects::{Node, ObjectRef, Pod};
use crate::k8s::problem::Problem;
use crate::k8s::reasons;
use crate::parse::hostname::parse_hostname;
use crate::parse::label_selector::parse_label_selector;
use crate::parse::source_ranges;

/// The most `HostPortExposure`s that open ports of one pod: more than any machine's firewall has room for, and
/// few enough that a namespace costs what its pods cost.
pub(super) const MOST_SELECTING: usize = 32;

/// The parsed spec of a `HostPortExposure`.
pub(super) struct PodSelection {
    reference: ObjectRef,
    workload: Workload,
    /// The problem where a pod is selected by too many, the same for all pods
    pub(super) too_many: Arc<Problem>,
    pods: Selector,
    nodes: Option<Selector>,
    ports: Vec<SelectedPort>,
    hostname: Option<String>,
}

/// One element of `spec.ports`.
struct SelectedPort {
    entry: PortEntry,
    sources: Sources,
    /// True if the element itself names these sources
    has_own_sources: bool,
}

impl PodSelection {
    /// Parses the spec.
    ///
    /// # Errors
    /// If any of it is not understood: then it opens nothing.
    pub(super) fn parse(exposure: &HostPortExposure) -> Result<Self, Rejected> {
        let reject_with = |reason| {
            move |message| {
                let message = format!("{message}; nothing of this is opened");
                reject(&exposure.reference(), reason, message)
            }
        };
        let invalid_selector = reject_with(reasons::INVALID_SELECTOR);
        let parse_selector = |field: &str, selector: &LabelSelector| {
            parse_label_selector(selector).map_err(|error| invalid_selector(format!("{field}: {error}")))
        };
        let pods = parse_selector("podSelector", &exposure.spec.pod_selector)?;
        if pods.selects_all() {
            let message = "podSelector: an empty selector would select every pod; name labels";
            return Err(invalid_selector(message.to_owned()));
        }
        let nodes = exposure.spec.node_selector.as_ref();
        let nodes = nodes.map(|nodes| parse_selector("nodeSelector", nodes)).transpose()?;
        let invalid = reject_with(reasons::INVALID_EXPOSURE);
        let general =
            parse_sources("sourceRanges", exposure.spec.source_ranges.as_deref()).map_err(&invalid)?;
        // The API server checks this; a manifest comes as it is.
        if exposure.spec.ports.len() > MOST_PORTS {
            return Err(invalid(format!("ports: there are more than {MOST_PORTS}")));
        }
        let mut ports = Vec::new();
        for (position, port) in exposure.spec.ports.iter().enumerate() {
            let field = format!("ports[{position}].sourceRanges");
            let own = parse_sources(&field, port.source_ranges.as_deref()).map_err(&invalid)?;
            let entry = PortEntry::parse(&format_entry(port)).map_err(&invalid)?;
            let has_own_sources = own.is_some();
            ports.push(SelectedPort { entry, has_own_sources, sources: own.or_else(|| general.clone()) });
        }
        let hostname = exposure.spec.hostname.as_deref().map(parse_hostname).transpose();
        let hostname = hostname.map_err(|error| invalid(format!("hostname: {error}")))?;
        let reference = exposure.reference();
        let message = format!(
            "it selects pods that {MOST_SELECTING} HostPortExposures before it in order of name select too; \
             it opens nothing for these pods"
        );
        let too_many = Arc::from(reject(&reference, reasons::TOO_MANY_EXPOSURES, message));
        Ok(Self { reference, workload: exposure.workload(), too_many, pods, nodes, ports, hostname })
    }

    /// Returns true if it selects the pod on the node.
    pub(super) fn selects(&self, pod: &Pod, node: Option<&Node>) -> bool {
        let no_labels = BTreeMap::new();
        let pod_labels = pod.metadata.labels.as_ref().unwrap_or(&no_labels);
        let node_labels = node.and_then(|node| node.metadata.labels.as_ref()).unwrap_or(&no_labels);
        self.pods.matches(pod_labels) && self.nodes.as_ref().is_none_or(|nodes| nodes.matches(node_labels))
    }

    /// Builds the request for a pod: those of the ports that the pod binds, because while a rollout is under
    /// way its pods bind different ones. It is rejected as a whole if the pod binds none of them, or one
    /// under two names with different sources.
    pub(super) fn build_request(
        &self,
        pod: &ObjectRef,
        host_ports: &HostPorts,
    ) -> Result<PortRequest, Rejected> {
        let reference = self.reference.clone();
        let invalid = |message: String| {
            let message = format!("{message}; nothing is opened for {pod}");
            reject(&reference, reasons::INVALID_EXPOSURE, message)
        };
        let mut ports: BTreeMap<Cow<'_, HostPort>, &Sources> = BTreeMap::new();
        let mut variant = String::new();
        for SelectedPort { entry, sources, has_own_sources } in &self.ports {
            for port in entry.find_in(host_ports).map_err(invalid)? {
                match ports.entry(port) {
                    Entry::Occupied(before) if *before.get() != sources => {
                        return Err(invalid(contradiction(before.key())));
                    }
                    Entry::Occupied(_) => {}
                    Entry::Vacant(first) => {
                        // Another pod may bind the same number under a name that has other sources.
                        if *has_own_sources {
                            let HostPort { protocol, ports, .. } = &**first.key();
                            _ = write!(variant, " {protocol}/{ports} by {}", entry.text);
                        }
                        first.insert(sources);
                    }
                }
            }
            // The pieces between declared ports are different ones for each range.
            if ports.len() > 2 * MAX_HOST_PORTS {
                return Err(invalid(format!("ports: there are more than {}", 2 * MAX_HOST_PORTS)));
            }
        }
        if let Some(twice) = find_contradiction(&ports) {
            return Err(invalid(contradiction(twice)));
        }
        if ports.is_empty() {
            let has = host_ports.format().unwrap_or_else(|| "none".to_owned());
            let remedy = if host_ports.can_bind_undeclared { "; write the number" } else { "" };
            return Err(invalid(format!(
                "ports: none of them is a host port of {pod}, which declares {has}{remedy}"
            )));
        }
        Ok(PortRequest {
            workload: self.workload.clone(),
            intent: reference,
            ports: ports.into_iter().map(|(port, sources)| (port.into_owned(), sources.clone())).collect(),
            variant: GroupVariant::PerNode(variant),
            hostname: self.hostname.clone(),
        })
    }
}

fn contradiction(HostPort { protocol, ports, .. }: &HostPort) -> String {
    format!("ports: {protocol}/{ports} is named twice, with different sources")
}

/// Returns the first of the ports that another one overlaps that has other sources. Only ranges of undeclared ports
/// overlap without being the same.
fn find_contradiction<'p>(ports: &'p BTreeMap<Cow<'_, HostPort>, &Sources>) -> Option<&'p HostPort> {
    // Whatever overlaps one of those before overlaps the one that reaches farthest.
    let mut farthest: BTreeMap<_, (PortRange, &Sources)> = BTreeMap::new();
    for (port, sources) in ports {
        let HostPort { protocol, ports, name, container, family } = &**port;
        let identity = (protocol, name, container, family);
        if let Some((before, other)) = farthest.get(&identity)
            && before.last() >= ports.first()
        {
            if other != sources {
                return Some(port);
            }
            if before.last() >= ports.last() {
                continue;
            }
        }
        farthest.insert(identity, (*ports, sources));
    }
    None
}

/// Formats the port as an annotation would name it: `http`, `30000-30100/udp`.
fn format_entry(port: &ExposedPort) -> String {
    let text = match &port.port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(text) => text.clone(),
    };
    match port.protocol {
        None => text,
        Some(PortProtocol::Tcp) => text + "/tcp",
        Some(PortProtocol::Udp) => text + "/udp",
        Some(PortProtocol::Sctp) => text + "/sctp",
    }
}

fn parse_sources(field: &str, ranges: Option<&[String]>) -> Result<Sources, String> {
    let Some(ranges) = ranges else { return Ok(None) };
    let ranges: Vec<IpNet> =
        source_ranges::parse_strict(&ranges.join(",")).map_err(|error| format!("{field}: {error}"))?;
    Ok(Some(Arc::from(ranges)))
}
