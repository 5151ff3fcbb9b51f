//! The k3s intent: a Service of type `LoadBalancer` that `ServiceLB` serves, by pods that bind its ports on
//! nodes.
//!
//! The pods' labels are untrusted: they count only in the namespace where k3s runs such pods, or in the
//! Service's.

use super::annotation_keys::{EXPOSE, annotations};
use super::host_port::{HostPort, HostPorts};
use super::hostname::parse_hostname_annotation;
use super::node_port::{reject_meaningless_annotations, workload_of_service};
use super::request::{GroupVariant, PortRequest, Rejected, reject};
use super::rules::Sources;
use super::service_ports::{assign_sources, has_balancer_sources, parse_service_ports, resolve_listed_ports};
use super::settings::Settings;
use crate::k8s::index::Index;
use crate::k8s::objects::reference::service_reference;
use crate::k8s::objects::{ObjectRef, Pod, Service};
use crate::k8s::reasons;

const SERVICE_NAME: &str = "svccontroller.k3s.cattle.io/svcname";
/// Absent before k3s 1.23, which ran the pods beside the Service
const SERVICE_NAMESPACE: &str = "svccontroller.k3s.cattle.io/svcnamespace";

/// Returns true if the pod has the labels of a pod that serves a Service for `ServiceLB`.
pub(super) fn is_service_lb(pod: &Pod) -> bool {
    find_label(pod, SERVICE_NAME).is_some()
}

fn find_label<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.metadata.labels.as_ref()?.get(name).map(String::as_str)
}

/// Returns the namespace and name of the Service that the pod's labels name.
pub(super) fn find_served_service<'a>(pod: &'a Pod, pod_namespace: &'a str) -> Option<(&'a str, &'a str)> {
    let name = find_label(pod, SERVICE_NAME)?;
    Some((find_label(pod, SERVICE_NAMESPACE).unwrap_or(pod_namespace), name))
}

/// Builds the request of the Service behind the pod; none if there is no such Service, or it names neither
/// ports nor sources.
pub(super) fn build_request(
    index: &Index,
    settings: &Settings,
    pod: &Pod,
    pod_reference: &ObjectRef,
    host_ports: &HostPorts,
) -> Result<Option<PortRequest>, Rejected> {
    let pod_namespace = pod_reference.namespace.as_str();
    let Some((namespace, name)) = find_served_service(pod, pod_namespace) else { return Ok(None) };
    let service = index.service(namespace, name).filter(|service| service.is_load_balancer());
    let Some(service) = service else { return Ok(None) };
    let lists_ports = annotations(&service.metadata).contains_key(EXPOSE);
    if !lists_ports && !has_balancer_sources(service) {
        return Ok(None);
    }
    let reference = service_reference(service);
    if pod_namespace != settings.service_lb_namespace && pod_namespace != namespace {
        let message = format!(
            "its labels say that it serves {reference}, but pods of ServiceLB run in namespace {}; if k3s \
             runs them here, start the controller with --service-lb-namespace {pod_namespace}",
            settings.service_lb_namespace
        );
        return Err(reject(pod_reference, reasons::NOT_SERVICE_LB, message));
    }
    reject_meaningless_annotations(service, &reference)?;
    let ports = find_bound_ports(service, &reference, lists_ports, host_ports)?;
    if ports.is_empty() {
        return Ok(None);
    }
    let hostname = parse_hostname_annotation(&service.metadata)
        .map_err(|error| reject(&reference, reasons::INVALID_ANNOTATION, error))?;
    // A number can also be one of the Service's node ports, with other sources.
    let mut node_ports = service.spec.ports.iter().filter_map(|port| port.node_port);
    let is_shared =
        node_ports.any(|number| ports.iter().any(|(port, _)| i64::from(port.ports.first()) == number));
    let variant = if is_shared { " of ServiceLB" } else { "" };
    Ok(Some(PortRequest {
        workload: workload_of_service(&reference),
        intent: reference,
        ports,
        variant: GroupVariant::PerNode(variant.to_owned()),
        hostname,
    }))
}

/// Returns those of the pod's host ports that the Service requests, each with its sources.
fn find_bound_ports(
    service: &Service,
    reference: &ObjectRef,
    lists_ports: bool,
    host_ports: &HostPorts,
) -> Result<Vec<(HostPort, Sources)>, Rejected> {
    let service_ports =
        parse_service_ports(service).map_err(|error| reject(reference, reasons::INVALID_PORT, error))?;
    let requested = if lists_ports {
        resolve_listed_ports(service, EXPOSE, service_ports)
    } else {
        assign_sources(service, EXPOSE, service_ports)
    };
    let requested = requested.map_err(|(key, error)| {
        let message = format!("{key}: {error}; nothing of this Service is opened");
        reject(reference, reasons::INVALID_ANNOTATION, message)
    })?;
    // While k3s replaces its pods, some still bind the Service's former ports.
    let bound = requested.into_iter().filter_map(|(port, sources)| {
        let is_same = |bound: &&HostPort| (bound.protocol, bound.ports) == (port.protocol, port.ports);
        Some((host_ports.declared.iter().find(is_same)?.clone(), sources))
    });
    Ok(bound.collect())
}
