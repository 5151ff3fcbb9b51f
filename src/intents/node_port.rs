//! The node port intent: a Service whose annotations list the node ports to open.

use firewall_core::Workload;

use super::annotation::{find_source_annotations, reject_unknown_annotations};
use super::annotation_keys::{EXPOSE, EXPOSE_NODE_PORTS, HOSTNAME, SOURCE_RANGES, annotations};
use super::hostname::parse_hostname_annotation;
use super::request::{GroupVariant, PortRequest, Rejected, reject};
use super::service_ports::{NodePorts, has_balancer_sources, resolve_listed_ports};
use super::voyager::labels::is_voyager_service;
use crate::k8s::objects::{Endpoint, EndpointSlice, ObjectRef, Service};
use crate::k8s::reasons;

/// Returns true if the Service requests its node ports.
pub(super) fn has_node_port_annotation(service: &Service) -> bool {
    annotations(&service.metadata).contains_key(EXPOSE_NODE_PORTS)
}

/// Rejects annotations that have no meaning on the Service, or none together.
pub(super) fn reject_meaningless_annotations(
    service: &Service,
    reference: &ObjectRef,
) -> Result<(), Rejected> {
    let annotations = annotations(&service.metadata);
    reject_unknown_annotations(
        &service.metadata,
        &[EXPOSE, EXPOSE_NODE_PORTS, SOURCE_RANGES, HOSTNAME],
        reference,
    )?;
    let invalid = |message: String| Err(reject(reference, reasons::INVALID_ANNOTATION, message));
    if annotations.contains_key(EXPOSE) && !service.is_load_balancer() {
        return invalid(format!(
            "{EXPOSE}: is for a Service of type LoadBalancer that k3s' ServiceLB serves; {EXPOSE_NODE_PORTS} \
             opens node ports"
        ));
    }
    let lists_ports = annotations.contains_key(EXPOSE) || annotations.contains_key(EXPOSE_NODE_PORTS);
    if lists_ports || service.is_load_balancer() && has_balancer_sources(service) {
        return Ok(());
    }
    let without_ports = find_source_annotations(&service.metadata).map(|(key, _)| key.as_str()).next();
    let without_ports = without_ports.or_else(|| annotations.contains_key(HOSTNAME).then_some(HOSTNAME));
    // Voyager's operator may have copied the annotations of its Ingress.
    match without_ports {
        Some(key) if !is_voyager_service(service) => invalid(format!(
            "{key}: no ports are named by {EXPOSE_NODE_PORTS} or {EXPOSE}; nothing of this Service is opened"
        )),
        _ => Ok(()),
    }
}

/// Builds the request of the Service's annotations. It is rejected as a whole if any entry is not understood.
pub(super) fn build_request(
    service: &Service,
    reference: &ObjectRef,
    node_ports: &NodePorts,
) -> Result<PortRequest, Rejected> {
    let invalid = |key: &str, message: &str| {
        let message = format!("{key}: {message}; nothing of this Service is opened");
        reject(reference, reasons::INVALID_ANNOTATION, message)
    };
    if node_ports.is_empty() {
        let message = "the Service has no node ports; those of type NodePort have, and those of type \
                       LoadBalancer unless allocateLoadBalancerNodePorts is false";
        return Err(invalid(EXPOSE_NODE_PORTS, message));
    }
    let listed = resolve_listed_ports(service, EXPOSE_NODE_PORTS, node_ports.keys().cloned().collect())
        .map_err(|(key, error)| invalid(&key, &error))?;
    let ports =
        listed.into_iter().filter_map(|(port, sources)| Some((node_ports.get(&port)?.clone(), sources)));
    let hostname = parse_hostname_annotation(&service.metadata)
        .map_err(|error| reject(reference, reasons::INVALID_ANNOTATION, error))?;
    Ok(PortRequest {
        intent: reference.clone(),
        workload: workload_of_service(reference),
        ports: ports.collect(),
        variant: GroupVariant::PerNode(String::new()),
        hostname,
    })
}

/// Returns the workload of a Service's ports: the Service itself.
pub(super) fn workload_of_service(service: &ObjectRef) -> Workload {
    let ObjectRef { kind, namespace, name, .. } = service.clone();
    Workload { kind: kind.into_owned(), namespace, name }
}

/// Returns the nodes with an endpoint for which the predicate holds.
pub(super) fn find_endpoint_nodes(
    slice: &EndpointSlice,
    matches: fn(&Endpoint) -> bool,
) -> impl Iterator<Item = &str> {
    let endpoints = slice.endpoints.iter().filter(move |endpoint| matches(endpoint));
    endpoints.filter_map(|endpoint| endpoint.node_name.as_deref())
}
