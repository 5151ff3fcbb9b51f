//! Pods: their nodes, host ports, readiness and readiness gates.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use super::metadata::{null_is_default, slim_metadata};
use super::node::Condition;

/// A pod: its node, its host ports, its owner and its annotations.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Pod {
    /// Slim metadata
    #[serde(deserialize_with = "slim_metadata")]
    pub metadata: ObjectMeta,
    /// The node, the containers and the readiness gates
    #[serde(default, deserialize_with = "null_is_default")]
    pub spec: PodSpec,
    /// The phase and the conditions that the kubelet reports
    #[serde(default, deserialize_with = "null_is_default")]
    pub status: PodStatus,
}

/// The part of a pod's spec that decides about host ports.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// The node it is bound to
    pub node_name: Option<String>,
    /// True if it uses the node's network namespace
    pub host_network: bool,
    /// The containers
    #[serde(deserialize_with = "null_is_default")]
    pub containers: Vec<Container>,
    /// The init containers, sidecars among them
    #[serde(deserialize_with = "null_is_default")]
    pub init_containers: Vec<Container>,
    /// The conditions that must be true before it is ready
    #[serde(deserialize_with = "null_is_default")]
    pub readiness_gates: Vec<ReadinessGate>,
}

/// A condition that must be true before the pod is ready.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReadinessGate {
    /// The condition's type
    pub condition_type: String,
}

/// The part of a container that decides about host ports.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Its name
    pub name: String,
    /// Its ports
    #[serde(deserialize_with = "null_is_default")]
    pub ports: Vec<ContainerPort>,
    /// `Always` makes an init container a sidecar
    pub restart_policy: Option<String>,
}

/// A container port. Numbers are wider than a port, so that a manifest with 99999 gives a message about the
/// port and not about JSON.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    /// Its name
    pub name: Option<String>,
    /// The port in the pod
    pub container_port: i64,
    /// The port on the node; with `hostNetwork` the API server copies the container port here
    pub host_port: Option<i64>,
    /// The node address it binds
    #[serde(rename = "hostIP")]
    pub host_ip: Option<String>,
    /// `TCP` if absent
    pub protocol: Option<String>,
}

/// The part of a pod's status that decides about its ports and its readiness.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`
    pub phase: Option<String>,
    /// The conditions, `Ready` among them
    #[serde(deserialize_with = "null_is_default")]
    pub conditions: Vec<Condition>,
}

impl Pod {
    /// Returns true if the pod is ready and not being deleted: one that is may be ready still, but not for
    /// long.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let is_ready = |condition: &Condition| condition.kind == "Ready" && condition.status == "True";
        self.metadata.deletion_timestamp.is_none() && self.status.conditions.iter().any(is_ready)
    }
}

/// The condition type that a pod names in `spec.readinessGates`.
pub const GATE: &str = "hostport-firewall.dev/open";

/// Returns true if the pod has this project's readiness gate.
#[must_use]
pub fn has_readiness_gate(pod: &Pod) -> bool {
    pod.spec.readiness_gates.iter().any(|gate| gate.condition_type == GATE)
}
