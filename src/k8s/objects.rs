//! Slim Kubernetes objects: only the fields that are used are ever deserialised and held.
//!
//! A full `Pod` takes tens of kilobytes of memory; here only the fields that decide about host ports are
//! held. Unknown fields, managed fields above all, are skipped while parsing.
//!
//! An object whose fields have other types than the API's fails alone: the watcher skips and reports it, so
//! that one bad custom resource cannot hide all others.

#[cfg(test)]
pub(crate) mod builders;
mod dns_endpoint;
mod ingress;
mod metadata;
mod node;
pub mod object_set;
mod pod;
pub mod reference;
mod resource;
mod service;

pub use dns_endpoint::{DNSEndpoint, DNSEndpointSpec, DnsRecord};
pub use ingress::{Ingress, IngressFrontend, IngressSpec, IngressSpecRule, IntOrText};
pub use metadata::{DOMAIN, LOAD_BALANCER_SOURCES};
pub(crate) use metadata::{carries_ours, is_read};
pub use node::{Condition, Node, NodeAddress, NodeSpec, NodeStatus};
pub use pod::{Container, ContainerPort, GATE, Pod, PodSpec, PodStatus, ReadinessGate, has_readiness_gate};
pub use reference::ObjectRef;
pub use service::{
    Endpoint, EndpointConditions, EndpointSlice, Namespace, Service, ServicePort, ServiceSpec,
};

#[cfg(test)]
mod tests;
