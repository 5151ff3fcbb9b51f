//! The node port intent: a Service that says which of its node ports may be reached.

use std::collections::{BTreeMap, BTreeSet};

use firewall_core::Workload;

use super::annotation_keys::{EXPOSE, EXPOSE_NODE_PORTS, HOSTNAME, SOURCE_RANGES, annotations};
use super::host_port::HostPort;
use super::request::{GroupVariant, PortRequest, Rejected, rejected};
use super::service_ports::{self, NodePorts};
use super::voyager::labels::is_voyager_service;
use super::{annotation, hostname};
use crate::k8s::index::Index;
use crate::k8s::objects::{Endpoint, EndpointSlice, ObjectRef, Service};

/// Whether the Service requests for its node ports.
pub(super) fn concerns(service: &Service) -> bool {
    annotations(&service.metadata).contains_key(EXPOSE_NODE_PORTS)
}

/// Refuses annotations that mean nothing on the Service, or nothing together.
pub(super) fn understood(service: &Service, reference: &ObjectRef) -> Result<(), Rejected> {
    let annotations = annotations(&service.metadata);
    annotation::all_known(
        &service.metadata,
        &[EXPOSE, EXPOSE_NODE_PORTS, SOURCE_RANGES, HOSTNAME],
        reference,
    )?;
    let invalid = |message: String| Err(rejected(reference, "InvalidAnnotation", message));
    if annotations.contains_key(EXPOSE) && !service.is_load_balancer() {
        return invalid(format!(
            "{EXPOSE}: is for a Service of type LoadBalancer that k3s' ServiceLB serves; {EXPOSE_NODE_PORTS} opens node \
             ports"
        ));
    }
    let listed = annotations.contains_key(EXPOSE) || annotations.contains_key(EXPOSE_NODE_PORTS);
    if listed || service.is_load_balancer() && service_ports::names_balancer_sources(service) {
        return Ok(());
    }
    let stray = annotation::naming_sources(&service.metadata).map(|(name, _)| name.as_str()).next();
    let stray = stray.or_else(|| annotations.contains_key(HOSTNAME).then_some(HOSTNAME));
    // An operator may have copied what stands on its Ingress.
    match stray {
        Some(name) if !is_voyager_service(service) => invalid(format!(
            "{name}: no ports are named by {EXPOSE_NODE_PORTS} or {EXPOSE}; nothing of this Service is opened"
        )),
        _ => Ok(()),
    }
}

/// What the Service requests for. Refused whole if any entry cannot be understood.
pub(super) fn request<'a>(
    service: &Service,
    reference: &ObjectRef,
    node_ports: &'a NodePorts,
) -> Result<PortRequest<'a>, Rejected> {
    let invalid = |name: &str, message: &str| {
        let message = format!("{name}: {message}; nothing of this Service is opened");
        rejected(reference, "InvalidAnnotation", message)
    };
    if node_ports.is_empty() {
        let message = "the Service has no node ports; those of type NodePort have, and those of type LoadBalancer unless \
                       allocateLoadBalancerNodePorts is false";
        return Err(invalid(EXPOSE_NODE_PORTS, message));
    }
    let named: BTreeSet<HostPort> = node_ports.keys().cloned().collect();
    let listed = service_ports::listed_by(service, EXPOSE_NODE_PORTS, &named)
        .map_err(|(name, error)| invalid(&name, &error))?;
    let ports = listed.into_iter().filter_map(|(port, sources)| Some((node_ports.get(port)?, sources)));
    let hostname = hostname::annotated(&service.metadata)
        .map_err(|error| rejected(reference, "InvalidAnnotation", error))?;
    Ok(PortRequest {
        intent: reference.clone(),
        workload: workload(reference),
        ports: ports.collect(),
        variant: GroupVariant::PerNode(String::new()),
        hostname,
    })
}

/// What a Service's ports form together.
pub(super) fn workload(service: &ObjectRef) -> Workload {
    let ObjectRef { kind, namespace, name, .. } = service.clone();
    Workload { kind: kind.into_owned(), namespace, name }
}

/// `EndpointSlice`s by the namespace and name of their Service.
pub(super) type Slices<'a> = BTreeMap<(&'a str, &'a str), Vec<&'a EndpointSlice>>;

/// All of them, by Service.
pub(super) fn slices(index: &Index) -> Slices<'_> {
    let mut slices = Slices::new();
    for slice in index.endpoint_slices() {
        let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
        if let Some(service) = slice.service() {
            slices.entry((namespace, service)).or_default().push(slice);
        }
    }
    slices
}

/// The nodes with an endpoint of which this holds.
pub(super) fn nodes_of(slice: &EndpointSlice, holds: fn(&Endpoint) -> bool) -> impl Iterator<Item = &str> {
    let endpoints = slice.endpoints.iter().filter(move |endpoint| holds(endpoint));
    endpoints.filter_map(|endpoint| endpoint.node_name.as_deref())
}

/// The nodes that serve the Service's node ports: with `externalTrafficPolicy: Local` those with an endpoint that takes
/// traffic, else all.
pub(super) fn serving<'a>(
    index: &'a Index,
    slices: &Slices<'a>,
    service: &Service,
    reference: &ObjectRef,
) -> BTreeSet<&'a str> {
    if !service.is_local() {
        return index.nodes().filter_map(|node| node.metadata.name.as_deref()).collect();
    }
    let own = slices.get(&(reference.namespace.as_str(), reference.name.as_str()));
    own.into_iter().flatten().flat_map(|slice| nodes_of(slice, Endpoint::takes_traffic)).collect()
}
