//! One object of the index: which objects are held, which fields of them, and which differences count as a
//! change.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::k8s::host_port_exposure::HostPortExposure;
use crate::k8s::objects::{
    DNSEndpoint, EndpointSlice, Ingress, Namespace, Node, Pod, Service, carries_ours, has_readiness_gate,
};

/// Namespace and name of an object; the namespace is empty for a cluster-scoped one.
pub type NamespacedName = (String, String);

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
    /// One slice of the endpoints of a Service
    EndpointSlice(EndpointSlice),
    /// An Ingress, with its `api_version` filled in
    Ingress(Ingress),
    /// A `HostPortExposure`
    HostPortExposure(Box<HostPortExposure>),
    /// DNS records that this controller asks external-dns to publish
    DNSEndpoint(DNSEndpoint),
}

/// A kind that an [`Object`] can be.
pub(super) trait IndexedKind: Sized + 'static {
    /// Returns the object if it is of this kind.
    fn from_object(object: &Object) -> Option<&Self>;
}

macro_rules! kinds {
    ($($kind:ident),*) => {
        $(impl IndexedKind for $kind {
            fn from_object(object: &Object) -> Option<&Self> {
                match object {
                    Object::$kind(object) => Some(object),
                    _ => None,
                }
            }
        })*

        impl Object {
            fn metadata(&self) -> &ObjectMeta {
                match self {
                    $(Self::$kind(object) => &object.metadata,)*
                }
            }

            fn metadata_mut(&mut self) -> &mut ObjectMeta {
                match self {
                    $(Self::$kind(object) => &mut object.metadata,)*
                }
            }
        }
    };
}

kinds!(Pod, Node, Namespace, Service, EndpointSlice, Ingress, HostPortExposure, DNSEndpoint);

impl Object {
    /// Returns namespace and name.
    pub(crate) fn name(&self) -> NamespacedName {
        let ObjectMeta { namespace, name, .. } = self.metadata();
        (namespace.clone().unwrap_or_default(), name.clone().unwrap_or_default())
    }

    /// Returns the object as the index holds it: without the fields that change with every update of a
    /// status, each of which would look like a change, and with its namespace, which the API server always
    /// sets and a manifest may leave out.
    pub(super) fn normalized(mut self) -> Self {
        let namespaced = !matches!(self, Self::Node(_) | Self::Namespace(_));
        let metadata = self.metadata_mut();
        metadata.resource_version = None;
        metadata.managed_fields = None;
        let namespace = metadata.namespace.take().unwrap_or_else(|| "default".to_owned());
        metadata.namespace = namespaced.then_some(namespace);
        self
    }

    /// Returns the object without the status that this controller writes: the event that follows such a write
    /// is no change.
    pub(super) fn without_status(&self) -> Cow<'_, Self> {
        match self {
            Self::HostPortExposure(exposure) => {
                let intent = HostPortExposure { status: None, ..(**exposure).clone() };
                Cow::Owned(Self::HostPortExposure(Box::new(intent)))
            }
            other => Cow::Borrowed(other),
        }
    }

    /// Returns true if the object can ever decide about ports. Others are not held: most pods of a cluster
    /// have no host port, and most Services no node port.
    pub(in crate::k8s) fn is_relevant(&self) -> bool {
        match self {
            Self::Pod(pod) => is_relevant_pod(pod),
            Self::Service(service) => service.has_node_ports() || carries_ours(&service.metadata),
            _ => true,
        }
    }
}

/// Returns true if a pod has a port on its node, or can bind any there without declaring it, an annotation of ours,
/// whose mistakes have to be reported, or the readiness gate.
fn is_relevant_pod(pod: &Pod) -> bool {
    let containers = pod.spec.containers.iter().chain(&pod.spec.init_containers);
    let mut ports = containers.flat_map(|container| &container.ports);
    pod.spec.host_network
        || ports.any(|port| port.host_port.is_some_and(|port| port != 0))
        || carries_ours(&pod.metadata)
        || has_readiness_gate(pod)
}
