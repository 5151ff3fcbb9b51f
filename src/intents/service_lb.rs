//! The k3s intent: a Service of type `LoadBalancer` that `ServiceLB` serves, by pods that bind its ports on nodes.
//!
//! Their labels are untrusted: what they claim counts only in the namespace where k3s runs them, or in the Service's.

use std::collections::BTreeSet;

use super::annotation_keys::{EXPOSE, annotations};
use super::host_port::HostPort;
use super::request::{GroupVariant, PortRequest, Rejected, rejected};
use super::settings::Settings;
use super::{hostname, node_port, service_ports};
use crate::k8s::index::Index;
use crate::k8s::objects::reference::service_reference;
use crate::k8s::objects::{ObjectRef, Pod};

const SERVICE_NAME: &str = "svccontroller.k3s.cattle.io/svcname";
/// Absent before k3s 1.23, which ran the pods beside the Service
const SERVICE_NAMESPACE: &str = "svccontroller.k3s.cattle.io/svcnamespace";

/// Whether the pod claims to serve a Service for `ServiceLB`.
pub(super) fn is_service_lb(pod: &Pod) -> bool {
    label(pod, SERVICE_NAME).is_some()
}

fn label<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.metadata.labels.as_ref()?.get(name).map(String::as_str)
}

/// What the Service behind the pod requests for; nothing if there is none, or it says neither which ports nor who may come.
pub(super) fn request<'a>(
    index: &Index,
    settings: &Settings,
    pod: &Pod,
    pod_reference: &ObjectRef,
    host_ports: &'a BTreeSet<HostPort>,
) -> Result<Option<PortRequest<'a>>, Rejected> {
    let own = pod_reference.namespace.as_str();
    let namespace = label(pod, SERVICE_NAMESPACE).unwrap_or(own);
    let service = label(pod, SERVICE_NAME).and_then(|name| index.service(namespace, name));
    let Some(service) = service.filter(|service| service.is_load_balancer()) else { return Ok(None) };
    let annotated = annotations(&service.metadata).contains_key(EXPOSE);
    if !annotated && !service_ports::names_balancer_sources(service) {
        return Ok(None);
    }
    let reference = service_reference(service);
    if own != settings.service_lb_namespace && own != namespace {
        let message = format!(
            "its labels say that it serves {reference}, but pods of ServiceLB run in namespace {}; if k3s runs them here, \
             start the controller with --service-lb-namespace {own}",
            settings.service_lb_namespace
        );
        return Err(rejected(pod_reference, "NotServiceLb", message));
    }
    node_port::understood(service, &reference)?;
    let invalid = |(name, error): (String, String)| {
        let message = format!("{name}: {error}; nothing of this Service is opened");
        rejected(&reference, "InvalidAnnotation", message)
    };
    let named =
        service_ports::service_ports(service).map_err(|error| rejected(&reference, "InvalidPort", error))?;
    let asked = if annotated {
        service_ports::listed_by(service, EXPOSE, &named)
    } else {
        service_ports::with_sources(service, EXPOSE, named.iter().collect())
    };
    let asked = asked.map_err(invalid)?;
    // While k3s replaces its pods, some still bind the Service's former ports.
    let bound = asked.into_iter().filter_map(|(port, sources)| {
        let same = |bound: &&HostPort| (bound.protocol, bound.port) == (port.protocol, port.port);
        Some((host_ports.iter().find(same)?, sources))
    });
    let ports: Vec<_> = bound.collect();
    if ports.is_empty() {
        return Ok(None);
    }
    let hostname = hostname::annotated(&service.metadata)
        .map_err(|error| rejected(&reference, "InvalidAnnotation", error))?;
    let workload = node_port::workload(&reference);
    // A number can also be one of the Service's node ports, with other sources.
    let mut on_nodes = service.spec.ports.iter().filter_map(|port| port.node_port);
    let meet = on_nodes.any(|number| ports.iter().any(|(port, _)| i64::from(port.port) == number));
    let apart = if meet { " of ServiceLB" } else { "" };
    Ok(Some(PortRequest {
        intent: reference,
        workload,
        ports,
        variant: GroupVariant::PerNode(apart.to_owned()),
        hostname,
    }))
}
