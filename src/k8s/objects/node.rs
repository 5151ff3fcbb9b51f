//! Nodes: the machine behind each, its addresses, and its readiness.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use super::metadata::{null_is_default, slim_metadata};

/// A node: the machine behind it and its addresses.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Node {
    /// Slim metadata
    #[serde(deserialize_with = "slim_metadata")]
    pub metadata: ObjectMeta,
    /// The fields that the cloud controller sets
    #[serde(default, deserialize_with = "null_is_default")]
    pub spec: NodeSpec,
    /// The fields that the kubelet reports
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

/// The part of a node's status with its addresses and conditions.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// All addresses and host names
    #[serde(deserialize_with = "null_is_default")]
    pub addresses: Vec<NodeAddress>,
    /// The conditions, `Ready` among them
    #[serde(deserialize_with = "null_is_default")]
    pub conditions: Vec<Condition>,
}

/// One condition of a pod or node, without its times: a change of these alone decides nothing.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Condition {
    /// `Ready`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`
    pub status: String,
    /// The reason, as one word in `CamelCase`
    #[serde(deserialize_with = "null_is_default")]
    pub reason: String,
}

impl Node {
    /// Returns true unless the node reports that it is not ready: a manifest mostly has no conditions.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self
            .status
            .conditions
            .iter()
            .any(|condition| condition.kind == "Ready" && condition.status != "True")
    }
}

/// One address or host name of a node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeAddress {
    /// An IP address, or a host name
    pub address: String,
    /// `InternalIP`, `ExternalIP`, `Hostname`, …
    #[serde(rename = "type")]
    pub kind: String,
}
