//! Services, their endpoints and their namespaces, as far as they decide about ports.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use super::metadata::{null_is_default, slim_metadata};

/// A Service: the ports it has on nodes, who may come, and where it goes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Service {
    /// Slim metadata
    #[serde(deserialize_with = "slim_metadata")]
    pub metadata: ObjectMeta,
    /// What it asks for
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
    /// `Local`: only nodes with an endpoint serve its node ports
    pub external_traffic_policy: Option<String>,
    /// `IPv4` and `IPv6`: over which it is served
    #[serde(deserialize_with = "null_is_default")]
    pub ip_families: Vec<String>,
    /// Who may connect
    #[serde(deserialize_with = "null_is_default")]
    pub load_balancer_source_ranges: Vec<String>,
}

/// A port of a Service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServicePort {
    /// Its name
    pub name: Option<String>,
    /// The number by which clients in the cluster know it
    pub port: i64,
    /// The port on every node
    pub node_port: Option<i64>,
    /// `TCP` if absent
    pub protocol: Option<String>,
}

impl Service {
    /// The type by which k3s' `ServiceLB` and clouds' load balancers know a Service as theirs.
    #[must_use]
    pub fn is_load_balancer(&self) -> bool {
        self.spec.kind.as_deref() == Some("LoadBalancer")
    }

    /// Whether its type has ports on nodes.
    #[must_use]
    pub fn has_node_ports(&self) -> bool {
        matches!(self.spec.kind.as_deref(), Some("NodePort" | "LoadBalancer"))
    }

    /// Whether only nodes with an endpoint serve its node ports.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.spec.external_traffic_policy.as_deref() == Some("Local")
    }
}

/// Some of the endpoints of a Service.
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
    /// The name of the Service.
    #[must_use]
    pub fn service(&self) -> Option<&str> {
        self.metadata.labels.as_ref()?.get("kubernetes.io/service-name").map(String::as_str)
    }
}

/// What a Service sends traffic to.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    /// The node where it is
    pub node_name: Option<String>,
    /// Whether it takes traffic
    #[serde(deserialize_with = "null_is_default")]
    pub conditions: EndpointConditions,
}

/// The part of an endpoint's conditions that decides.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct EndpointConditions {
    /// Absent stands for true: <https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#ready>
    pub ready: Option<bool>,
    /// Whether it can answer, be it terminating or not; absent stands for what `ready` says
    pub serving: Option<bool>,
    /// Whether its pod is being deleted; then it is never ready
    pub terminating: Option<bool>,
}

impl Endpoint {
    /// Whether it takes new clients.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.conditions.ready.unwrap_or(true)
    }

    /// Whether traffic can go to it: where a node has no ready endpoint, kube-proxy sends it to those that terminate and
    /// still serve, so that a rolling update loses no connection.
    #[must_use]
    pub fn takes_traffic(&self) -> bool {
        let drains = self.conditions.terminating.unwrap_or(false) && self.conditions.serving.unwrap_or(false);
        self.is_ready() || drains
    }
}

/// A namespace: its labels.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Namespace {
    /// Slim metadata
    #[serde(deserialize_with = "slim_metadata")]
    pub metadata: ObjectMeta,
}
