//! Pods: where they run, which host ports they bind, and whether they still do.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use super::metadata::{null_is_default, slim_metadata};
use super::node::Condition;

/// A pod: where it runs, which host ports it binds, who owns it, and what it asks for.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Pod {
    /// Slim metadata
    #[serde(deserialize_with = "slim_metadata")]
    pub metadata: ObjectMeta,
    /// What is asked of the kubelet
    #[serde(default, deserialize_with = "null_is_default")]
    pub spec: PodSpec,
    /// What the kubelet says
    #[serde(default, deserialize_with = "null_is_default")]
    pub status: PodStatus,
}

/// The part of a pod's spec that decides about host ports.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// The node it is bound to
    pub node_name: Option<String>,
    /// Whether it uses the node's network namespace
    pub host_network: bool,
    /// The containers
    #[serde(deserialize_with = "null_is_default")]
    pub containers: Vec<Container>,
    /// The init containers, sidecars among them
    #[serde(deserialize_with = "null_is_default")]
    pub init_containers: Vec<Container>,
    /// The conditions that it waits for before it is ready
    #[serde(deserialize_with = "null_is_default")]
    pub readiness_gates: Vec<ReadinessGate>,
}

/// A condition that a pod waits for.
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

/// The part of a pod's status that decides whether it still binds its ports.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`
    pub phase: Option<String>,
    /// Whether it is ready, among others
    #[serde(deserialize_with = "null_is_default")]
    pub conditions: Vec<Condition>,
}

impl Pod {
    /// Whether the pod can serve, and goes on to: one that is being deleted still may, but not for long.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let says = |condition: &Condition| condition.kind == "Ready" && condition.status == "True";
        self.metadata.deletion_timestamp.is_none() && self.status.conditions.iter().any(says)
    }
}

/// The condition that a pod's `spec.readinessGates` name.
pub const GATE: &str = "hostport-firewall.dev/open";

/// Whether the pod waits for the condition.
#[must_use]
pub fn has_readiness_gate(pod: &Pod) -> bool {
    pod.spec.readiness_gates.iter().any(|gate| gate.condition_type == GATE)
}
