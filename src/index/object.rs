//! One object of the index: what is kept of it, and what of it is news.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::host_port_exposure::HostPortExposure;
use crate::objects::{DNSEndpoint, DOMAIN, EndpointSlice, Ingress, Namespace, Node, Pod, Service};
use crate::readiness;

/// Namespace and name of an object; the namespace is empty for what has none.
pub type Name = (String, String);

/// An object of a watched kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// A pod
    Pod(Pod),
    /// A node
    Node(Node),
    /// A namespace
    Namespace(Namespace),
    /// A Service
    Service(Service),
    /// A part of the endpoints of a Service
    EndpointSlice(EndpointSlice),
    /// An Ingress, with its `api_version` filled in
    Ingress(Ingress),
    /// A `HostPortExposure`
    HostPortExposure(Box<HostPortExposure>),
    /// Records that we have asked external-dns for
    DNSEndpoint(DNSEndpoint),
}

/// What an [`Object`] can be.
pub(super) trait Kind: Sized + 'static {
    fn of(object: &Object) -> Option<&Self>;
}

macro_rules! kinds {
    ($($kind:ident),*) => {$(
        impl Kind for $kind {
            fn of(object: &Object) -> Option<&Self> {
                match object {
                    Object::$kind(object) => Some(object),
                    _ => None,
                }
            }
        }
    )*};
}

kinds!(Pod, Node, Namespace, Service, EndpointSlice, HostPortExposure, DNSEndpoint);

impl Object {
    fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Pod(pod) => &pod.metadata,
            Self::Node(node) => &node.metadata,
            Self::Namespace(namespace) => &namespace.metadata,
            Self::Service(service) => &service.metadata,
            Self::EndpointSlice(slice) => &slice.metadata,
            Self::Ingress(ingress) => &ingress.metadata,
            Self::HostPortExposure(exposure) => &exposure.metadata,
            Self::DNSEndpoint(endpoint) => &endpoint.metadata,
        }
    }

    pub(super) fn name(&self) -> Name {
        let metadata = self.metadata();
        let namespace = match self {
            Self::Node(_) | Self::Namespace(_) => String::new(),
            // The API server sets a namespace on everything that has one; a manifest may leave it out.
            _ => metadata.namespace.clone().unwrap_or_else(|| "default".to_owned()),
        };
        (namespace, metadata.name.clone().unwrap_or_default())
    }

    /// Without what changes with every status update: keeping it would make each of them look like a change.
    pub(super) fn without_noise(mut self) -> Self {
        match &mut self {
            Self::Pod(pod) => pod.metadata.resource_version = None,
            Self::Node(node) => node.metadata.resource_version = None,
            Self::Namespace(namespace) => namespace.metadata.resource_version = None,
            Self::Service(service) => service.metadata.resource_version = None,
            Self::EndpointSlice(slice) => slice.metadata.resource_version = None,
            Self::Ingress(ingress) => ingress.metadata.resource_version = None,
            Self::DNSEndpoint(endpoint) => endpoint.metadata.resource_version = None,
            Self::HostPortExposure(exposure) => {
                exposure.metadata.resource_version = None;
                exposure.metadata.managed_fields = None;
            }
        }
        self
    }

    /// The object without what we write ourselves: its coming back is no news.
    pub(super) fn asks(&self) -> Cow<'_, Self> {
        match self {
            Self::HostPortExposure(exposure) => {
                let asked = HostPortExposure { status: None, ..(**exposure).clone() };
                Cow::Owned(Self::HostPortExposure(Box::new(asked)))
            }
            other => Cow::Borrowed(other),
        }
    }

    /// Whether it can ever decide about anything. What cannot is dropped at the door: most pods of a cluster have no
    /// host port, and most Services no node port.
    pub(super) fn matters(&self) -> bool {
        match self {
            Self::Pod(pod) => pod_matters(pod),
            Self::Service(service) => service.has_node_ports() || asks(&service.metadata),
            _ => true,
        }
    }
}

/// Whether a pod can ever be exposed, or says that it wants to be.
fn pod_matters(pod: &Pod) -> bool {
    let containers = || pod.spec.containers.iter().chain(&pod.spec.init_containers);
    let ports = || containers().flat_map(|container| &container.ports);
    ports().any(|port| port.host_port.is_some_and(|port| port != 0))
        || pod.spec.host_network && ports().next().is_some()
        || asks(&pod.metadata)
        || readiness::declares(pod)
}

/// Whether it carries any of our annotations.
fn asks(metadata: &ObjectMeta) -> bool {
    metadata.annotations.iter().flatten().any(|(name, _)| name.starts_with(DOMAIN))
}
