//! The ports of a Service, and their sources, from its annotations and its spec.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::annotation;
use super::annotation_keys::{EXPOSE, EXPOSE_NODE_PORTS, SOURCE_RANGES, annotations};
use super::host_port::{HostPort, HostPorts, parse_port};
use super::rules::Sources;
use crate::k8s::objects::{LOAD_BALANCER_SOURCES, Service, ServicePort};
use crate::parse::family::Family;
use crate::parse::source_ranges;

/// Parses the ports by the Service's own numbers.
///
/// # Errors
/// If a number is no port, or a protocol is unknown.
pub(super) fn parse_service_ports(service: &Service) -> Result<BTreeSet<HostPort>, String> {
    service.spec.ports.iter().map(|port| to_host_port(service, port, port.port)).collect()
}

/// Returns the port of a Service under one of its numbers. It is served over the families of the Service.
fn to_host_port(service: &Service, port: &ServicePort, number: i64) -> Result<HostPort, String> {
    let (protocol, ports) = parse_port(number, port.protocol.as_deref())?;
    let family = match &service.spec.ip_families[..] {
        [only] if only == "IPv4" => Some(Family::V4),
        [only] if only == "IPv6" => Some(Family::V6),
        _ => None,
    };
    Ok(HostPort { protocol, ports, name: port.name.clone(), container: String::new(), family })
}

/// Returns the ports that one of the Service's annotations lists, each with its sources.
///
/// # Errors
/// With the key of the annotation, or the field, that is not understood.
pub(super) fn resolve_listed_ports(
    service: &Service,
    list_key: &'static str,
    ports: BTreeSet<HostPort>,
) -> Result<Vec<(HostPort, Sources)>, (String, String)> {
    let list = |key| annotations(&service.metadata).get(key).map(String::as_str);
    let invalid = |error| (list_key.to_owned(), error);
    let selected =
        annotation::select_ports(list(list_key).unwrap_or_default(), &ports.into()).map_err(invalid)?;
    // An annotation with the sources of one port can mean a port of the other list, whose mistakes are
    // reported when that list is resolved.
    let all = HostPorts::from(parse_service_ports(service).map_err(invalid)?);
    let lists = [EXPOSE, EXPOSE_NODE_PORTS].into_iter().filter_map(list);
    let mut listed: BTreeSet<HostPort> =
        lists.flat_map(|list| annotation::select_ports(list, &all).unwrap_or_default()).collect();
    listed.extend(selected.iter().cloned());
    let with_sources = assign_sources(service, list_key, listed)?;
    Ok(with_sources.into_iter().filter(|(port, _)| selected.contains(port)).collect())
}

/// Assigns to each port the sources that the Service names for it.
///
/// # Errors
/// With the key of the annotation, or the field, that is not understood.
pub(super) fn assign_sources(
    service: &Service,
    list_key: &str,
    ports: BTreeSet<HostPort>,
) -> Result<Vec<(HostPort, Sources)>, (String, String)> {
    let general = parse_balancer_sources(service)?;
    let ports = annotation::assign_sources(&service.metadata, list_key, ports)
        .map_err(|(key, error)| (key.to_owned(), error))?;
    Ok(ports.into_iter().map(|(port, own)| (port, own.or_else(|| general.clone()))).collect())
}

/// Parses the sources of the Service's load balancer, which apply to nodes in its stead; none if the Service
/// has sources of the project's own annotation.
///
/// # Errors
/// If they are not understood: the default might be wider.
fn parse_balancer_sources(service: &Service) -> Result<Sources, (String, String)> {
    let annotations = annotations(&service.metadata);
    if annotations.contains_key(SOURCE_RANGES) {
        return Ok(None);
    }
    // The field before the annotation, as Kubernetes has it.
    let ranges = &service.spec.load_balancer_source_ranges;
    let (field, text) = match annotations.get(LOAD_BALANCER_SOURCES) {
        _ if !ranges.is_empty() => ("spec.loadBalancerSourceRanges", ranges.join(",")),
        Some(text) => (LOAD_BALANCER_SOURCES, text.clone()),
        None => return Ok(None),
    };
    let ranges = source_ranges::parse_strict(&text).map_err(|error| (field.to_owned(), error))?;
    Ok(Some(Arc::from(ranges)))
}

/// Returns true if the Service names sources for its load balancer.
pub(super) fn has_balancer_sources(service: &Service) -> bool {
    annotations(&service.metadata).contains_key(LOAD_BALANCER_SOURCES)
        || !service.spec.load_balancer_source_ranges.is_empty()
}

/// The Service's ports as its annotations name them, each with the port on the nodes.
pub(super) type NodePorts = BTreeMap<HostPort, HostPort>;

/// Parses the ports of the Service that have a node port.
///
/// # Errors
/// If a number is no port, or a protocol is unknown.
pub(super) fn parse_node_ports(service: &Service) -> Result<NodePorts, String> {
    let mut ports = NodePorts::new();
    for port in &service.spec.ports {
        let Some(number) = port.node_port.filter(|number| *number != 0) else { continue };
        let node_port = to_host_port(service, port, number)?;
        ports.insert(to_host_port(service, port, port.port)?, node_port);
    }
    Ok(ports)
}
