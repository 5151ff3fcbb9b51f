//! Slim Kubernetes objects: only the fields the job needs are ever deserialised and kept.
//!
//! A full `Pod` takes tens of kilobytes of memory; of a large cluster's pods only what decides about host
//! ports is held here. Unknown fields, managed fields above all, are skipped while parsing.
//!
//! An object whose fields have other types than the API's fails alone: the watcher skips and names it, so that one
//! bad custom resource cannot hide all others.

mod dns_endpoint;
mod ingress;
mod pod;
mod service;

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use serde::{Deserialize, Deserializer, Serialize};

pub use dns_endpoint::{DNSEndpoint, DNSEndpointSpec, DnsRecord};
pub use ingress::{Ingress, IngressFrontend, IngressSpec, IngressSpecRule, IntOrText};
pub use pod::{Container, ContainerPort, Pod, PodSpec, PodStatus, ReadinessGate};
pub use service::{
    Endpoint, EndpointConditions, EndpointSlice, Namespace, Service, ServicePort, ServiceSpec,
};

/// Prefix of the project's own annotations, labels and tags.
pub const DOMAIN: &str = "hostport-firewall.dev/";

/// Whether it carries any of the project's own annotations.
pub(crate) fn carries_ours(metadata: &ObjectMeta) -> bool {
    metadata.annotations.iter().flatten().any(|(name, _)| name.starts_with(DOMAIN))
}

/// A node: the machine behind it and its addresses.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Node {
    /// Slim metadata
    #[serde(deserialize_with = "slim_metadata")]
    pub metadata: ObjectMeta,
    /// What the cloud controller filled in
    #[serde(default, deserialize_with = "null_is_default")]
    pub spec: NodeSpec,
    /// What the kubelet says
    #[serde(default, deserialize_with = "null_is_default")]
    pub status: NodeStatus,
}

/// The part of a node's spec that names the machine.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    /// The cloud's id of the machine
    #[serde(rename = "providerID")]
    pub provider_id: Option<String>,
}

/// The part of a node's status that tells its addresses, and whether it serves.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// All addresses and names
    #[serde(deserialize_with = "null_is_default")]
    pub addresses: Vec<NodeAddress>,
    /// Whether it is ready, among others
    #[serde(deserialize_with = "null_is_default")]
    pub conditions: Vec<Condition>,
}

/// One condition of a pod or node, without its times: a change of them alone changes nothing here.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Condition {
    /// `Ready`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`
    pub status: String,
    /// Why, as one word in `CamelCase`
    #[serde(deserialize_with = "null_is_default")]
    pub reason: String,
}

impl Node {
    /// Whether the node serves, as far as it says: a manifest mostly says nothing.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self
            .status
            .conditions
            .iter()
            .any(|condition| condition.kind == "Ready" && condition.status != "True")
    }
}

/// One address or name of a node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeAddress {
    /// An IP address, or a name
    pub address: String,
    /// `InternalIP`, `ExternalIP`, `Hostname`, …
    #[serde(rename = "type")]
    pub kind: String,
}

/// Names a Kubernetes object in messages, and as the object of an Event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// For example `v1` or `voyager.appscode.com/v1`
    pub api_version: Cow<'static, str>,
    /// For example `Pod`
    pub kind: Cow<'static, str>,
    /// Empty for objects without a namespace
    pub namespace: String,
    /// The name
    pub name: String,
    /// The UID, if the object came from a cluster
    pub uid: String,
}

impl std::fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    source: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(source)?.unwrap_or_default())
}

/// Metadata as it is kept: names, labels, owners, and the annotations that somebody here reads.
fn slim_metadata<'de, D: Deserializer<'de>>(source: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Slim {
        name: Option<String>,
        namespace: Option<String>,
        uid: Option<String>,
        resource_version: Option<String>,
        deletion_timestamp: Option<Time>,
        labels: Option<BTreeMap<String, String>>,
        annotations: Option<BTreeMap<String, String>>,
        owner_references: Option<Vec<OwnerReference>>,
    }
    let slim = Slim::deserialize(source)?;
    let annotations = slim.annotations.map(|all| {
        all.into_iter()
            .filter(|(name, _)| READ_PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
            .collect()
    });
    Ok(ObjectMeta {
        name: slim.name,
        namespace: slim.namespace,
        uid: slim.uid,
        resource_version: slim.resource_version,
        deletion_timestamp: slim.deletion_timestamp,
        labels: slim.labels,
        annotations,
        owner_references: slim.owner_references,
        ..ObjectMeta::default()
    })
}

/// Annotations that are kept; `kubectl.kubernetes.io/last-applied-configuration` alone doubles an object.
const READ_PREFIXES: [&str; 3] = [DOMAIN, "ingress.appscode.com/", LOAD_BALANCER_SOURCES];

/// Says on a Service who may connect to its load balancer, as `spec.loadBalancerSourceRanges` does.
pub const LOAD_BALANCER_SOURCES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// Implements what kube's watcher asks of a type, for one whose API is known when compiling.
macro_rules! known_resource {
    ($kind:ident, $group:literal, $version:literal, $plural:literal, $scope:ty) => {
        impl kube::Resource for $kind {
            type DynamicType = ();
            type Scope = $scope;
            fn kind((): &()) -> Cow<'_, str> {
                stringify!($kind).into()
            }
            fn group((): &()) -> Cow<'_, str> {
                $group.into()
            }
            fn version((): &()) -> Cow<'_, str> {
                $version.into()
            }
            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }
            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

known_resource!(Pod, "", "v1", "pods", kube::core::NamespaceResourceScope);
known_resource!(Node, "", "v1", "nodes", kube::core::ClusterResourceScope);
known_resource!(Namespace, "", "v1", "namespaces", kube::core::ClusterResourceScope);
known_resource!(Service, "", "v1", "services", kube::core::NamespaceResourceScope);
known_resource!(
    DNSEndpoint,
    "externaldns.k8s.io",
    "v1alpha1",
    "dnsendpoints",
    kube::core::NamespaceResourceScope
);
known_resource!(
    EndpointSlice,
    "discovery.k8s.io",
    "v1",
    "endpointslices",
    kube::core::NamespaceResourceScope
);

#[cfg(test)]
mod tests;
