//! The ports of a Service, and who may connect to them, as its annotations and its spec name them.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::annotation;
use super::annotation_keys::{EXPOSE, EXPOSE_NODE_PORTS, SOURCE_RANGES, annotations};
use super::host_port::{self, HostPort};
use super::rules::Sources;
use crate::k8s::objects::{LOAD_BALANCER_SOURCES, Service, ServicePort};
use crate::parse::family::Family;
use crate::parse::source_ranges;

/// The ports by the numbers that the Service gives them.
///
/// # Errors
/// If a port or a protocol is none.
pub(super) fn service_ports(service: &Service) -> Result<BTreeSet<HostPort>, String> {
    service.spec.ports.iter().map(|port| as_host_port(service, port, port.port)).collect()
}

/// The port of a Service under one of its numbers. It is served over the families of the Service.
pub(super) fn as_host_port(service: &Service, port: &ServicePort, number: i64) -> Result<HostPort, String> {
    let (protocol, bound) = host_port::read(number, port.protocol.as_deref())?;
    let family = match &service.spec.ip_families[..] {
        [only] if only == "IPv4" => Some(Family::V4),
        [only] if only == "IPv6" => Some(Family::V6),
        _ => None,
    };
    Ok(HostPort { protocol, port: bound, name: port.name.clone(), container: String::new(), family })
}

/// The ports that one of the Service's annotations lists, each with its sources. An error comes with the annotation's
/// name, or the field's.
pub(super) fn listed_by<'a>(
    service: &Service,
    annotation: &'static str,
    ports: &'a BTreeSet<HostPort>,
) -> Result<Vec<(&'a HostPort, Sources)>, (String, String)> {
    let list = |name| annotations(&service.metadata).get(name).map(String::as_str);
    let refuse = |error| (annotation.to_owned(), error);
    let selected = annotation::selected(list(annotation).unwrap_or_default(), ports).map_err(refuse)?;
    // What names the sources of one port can mean one of the other list. What is wrong with that is told there.
    let all = service_ports(service).map_err(refuse)?;
    let others = [EXPOSE, EXPOSE_NODE_PORTS].into_iter().filter_map(list);
    let mut listed: BTreeSet<&HostPort> =
        others.flat_map(|list| annotation::selected(list, &all).unwrap_or_default()).collect();
    listed.extend(&selected);
    let sourced = with_sources(service, annotation, listed)?;
    Ok(sourced.into_iter().filter_map(|(port, sources)| Some((*selected.get(port)?, sources))).collect())
}

/// The ports, each with the sources that the Service names for it.
pub(super) fn with_sources<'a>(
    service: &Service,
    listing: &str,
    ports: BTreeSet<&'a HostPort>,
) -> Result<Vec<(&'a HostPort, Sources)>, (String, String)> {
    let general = sources(service)?;
    let ports = annotation::with_sources(&service.metadata, listing, ports)
        .map_err(|(name, error)| (name.to_owned(), error))?;
    Ok(ports.into_iter().map(|(port, own)| (port, own.or_else(|| general.clone()))).collect())
}

/// Who may connect to the Service's load balancer: what is meant for a balancer is meant for nodes in its stead.
///
/// # Errors
/// If it cannot be understood: the default might be wider.
fn sources(service: &Service) -> Result<Sources, (String, String)> {
    let annotations = annotations(&service.metadata);
    if annotations.contains_key(SOURCE_RANGES) {
        return Ok(None);
    }
    // The field before the annotation, as Kubernetes has it.
    let ranges = &service.spec.load_balancer_source_ranges;
    let (name, text) = match annotations.get(LOAD_BALANCER_SOURCES) {
        _ if !ranges.is_empty() => ("spec.loadBalancerSourceRanges", ranges.join(",")),
        Some(text) => (LOAD_BALANCER_SOURCES, text.clone()),
        None => return Ok(None),
    };
    let ranges = source_ranges::strict(&text).map_err(|error| (name.to_owned(), error))?;
    Ok(Some(Rc::from(ranges)))
}

/// Whether the Service says who may connect to its load balancer.
pub(super) fn names_balancer_sources(service: &Service) -> bool {
    annotations(&service.metadata).contains_key(LOAD_BALANCER_SOURCES)
        || !service.spec.load_balancer_source_ranges.is_empty()
}

/// The Service's ports as its annotations name them, with the ports on the nodes.
pub(super) type NodePorts = BTreeMap<HostPort, HostPort>;

/// The ports of the Service that have one on every node.
///
/// # Errors
/// If a number or a protocol is none.
pub(super) fn node_ports(service: &Service) -> Result<NodePorts, String> {
    let mut ports = NodePorts::new();
    for port in &service.spec.ports {
        let Some(number) = port.node_port.filter(|number| *number != 0) else { continue };
        let on_node = as_host_port(service, port, number)?;
        ports.insert(as_host_port(service, port, port.port)?, on_node);
    }
    Ok(ports)
}
