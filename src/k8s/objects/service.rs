//! Services, their endpoints, and namespaces, as far as they decide about ports.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use super::metadata::{null_is_default, slim_metadata};

/// A Service: its ports on nodes, their sources, and its traffic policy.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Service {
    /// Slim metadata
    #[serde(deserialize_with = "slim_metadata")]
    pub metadata: ObjectMeta,
    /// The ports, sources and policies
    #[serde(default, deserialize_with = "null_is_default")]
    pub spec: ServiceSpec,
}

/// The part of a Service that decides about ports of nodes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// `ClusterIP` if absent
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Its ports
    #[serde(deserialize_with = "null_is_default")]
    pub ports: Vec<ServicePort>,
    /// With `Local`, only nodes with an endpoint serve its node ports
    pub external_traffic_policy: Option<String>,
    /// The address families that it is served over, of `IPv4` and `IPv6`
    #[serde(deserialize_with = "null_is_default")]
    pub ip_families: Vec<String>,
    /// The sources that may connect, as CIDRs
    #[serde(deserialize_with = "null_is_default")]
    pub load_balancer_source_ranges: Vec<String>,
}

/// A port of a Service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServicePort {
    /// Its name
    pub name: Option<String>,
    /// The port for clients in the cluster
    pub port: i64,
    /// The port on every node
    pub node_port: Option<i64>,
    /// `TCP` if absent
    pub protocol: Option<String>,
}

impl Service {
    /// Returns true if the Service has the type that k3s' `ServiceLB` and clouds' load balancers serve.
    #[must_use]
    pub fn is_load_balancer(&self) -> bool {
        self.spec.kind.as_deref() == Some("LoadBalancer")
    }

    /// Returns true if its type has ports on nodes.
    #[must_use]
    pub fn has_node_ports(&self) -> bool {
        matches!(self.spec.kind.as_deref(), Some("NodePort" | "LoadBalancer"))
    }

    /// Returns true if only nodes with an endpoint serve its node ports.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.spec.external_traffic_policy.as_deref() == Some("Local")
    }
}

/// One slice of the endpoints of a Service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct EndpointSlice {
    /// Slim metadata
    #[serde(deserialize_with = "slim_metadata")]
    pub metadata: ObjectMeta,
    /// The endpoints
    #[serde(default, deserialize_with = "null_is_default")]
    pub endpoints: Vec<Endpoint>,
}

impl EndpointSlice {
    /// Returns the name of the Service.
    #[must_use]
    pub fn service(&self) -> Option<&str> {
        self.metadata.labels.as_ref()?.get("kubernetes.io/service-name").map(String::as_str)
    }
}

/// A pod that a Service sends traffic to.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    /// The node where it runs
    pub node_name: Option<String>,
    /// Its readiness
    #[serde(deserialize_with = "null_is_default")]
    pub conditions: EndpointConditions,
}

/// The conditions of an endpoint that decide about traffic.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct EndpointConditions {
    /// True if it takes new clients; absent means true:
    /// <https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#ready>
    pub ready: Option<bool>,
    /// True if it can answer, terminating or not; absent means the value of `ready`
    pub serving: Option<bool>,
    /// True while its pod is being deleted; then it is never ready
    pub terminating: Option<bool>,
}

impl Endpoint {
    /// Returns true if it takes new clients.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.conditions.ready.unwrap_or(true)
    }

    /// Returns true if traffic can reach it: where a node has no ready endpoint, kube-proxy sends traffic to
    /// those that terminate and still serve, so that a rolling update loses no connection.
    #[must_use]
    pub fn takes_traffic(&self) -> bool {
        let is_draining =
            self.conditions.terminating.unwrap_or(false) && self.conditions.serving.unwrap_or(false);
        self.is_ready() || is_draining
    }
}

/// A namespace, held for its labels.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Namespace {
    /// Slim metadata
    #[serde(deserialize_with = "slim_metadata")]
    pub metadata: ObjectMeta,
}
