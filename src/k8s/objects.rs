//! Slim Kubernetes objects: only the fields the job needs are ever deserialised and kept.
//!
//! A full `Pod` takes tens of kilobytes of memory; of a large cluster's pods only what decides about host
//! ports is held here. Unknown fields, managed fields above all, are skipped while parsing.
//!
//! An object whose fields have other types than the API's fails alone: the watcher skips and names it, so that one
//! bad custom resource cannot hide all others.

#[cfg(test)]
pub(crate) mod builders;
mod dns_endpoint;
mod ingress;
mod metadata;
mod node;
mod pod;
pub mod reference;
mod resource;
mod service;

pub use dns_endpoint::{DNSEndpoint, DNSEndpointSpec, DnsRecord};
pub use ingress::{Ingress, IngressFrontend, IngressSpec, IngressSpecRule, IntOrText};
pub(crate) use metadata::carries_ours;
pub use metadata::{DOMAIN, LOAD_BALANCER_SOURCES};
pub use node::{Condition, Node, NodeAddress, NodeSpec, NodeStatus};
pub use pod::{Container, ContainerPort, GATE, Pod, PodSpec, PodStatus, ReadinessGate, has_readiness_gate};
pub use reference::ObjectRef;
pub use service::{
    Endpoint, EndpointConditions, EndpointSlice, Namespace, Service, ServicePort, ServiceSpec,
};

#[cfg(test)]
mod tests;
