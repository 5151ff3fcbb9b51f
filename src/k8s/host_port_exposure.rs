//! The custom resource `HostPortExposure`: an intent apart from the pods, for their owner to write.
//!
//! An object that the controller would reject is refused at admission, as far as a schema and its CEL rules
//! can check it.

#![expect(unreachable_pub, reason = "the derive repeats the structs in scopes of their own")]

use firewall_core::Workload;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, CustomResourceExt, KubeSchema, Resource};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::objects::ObjectRef;

/// The API group of the kind.
pub const GROUP: &str = "hostport-firewall.dev";

/// The versions that are read, the preferred one first.
pub const VERSIONS: &[&str] = &["v1alpha1"];

/// The most elements of `spec.ports`.
pub const MOST_PORTS: usize = 100;

/// The most nodes that a status lists: the whole status is written anew, to every watcher, whenever one of its
/// nodes changes.
pub const MOST_NODES: usize = 100;

/// The most addresses that a status lists.
pub const MOST_ADDRESSES: usize = 200;

/// Opens host ports of the pods that it selects, on the nodes where they run and for as long as they run.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "hostport-firewall.dev",
    version = "v1alpha1",
    kind = "HostPortExposure",
    namespaced,
    status = "HostPortExposureStatus",
    shortname = "hpe",
    category = "all",
    derive = "PartialEq",
    doc = "Opens host ports of the pods that it selects, on the nodes where they run and for as long as they run.",
    printcolumn = r#"{"name": "Accepted", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Accepted\")].status"}"#,
    printcolumn = r#"{"name": "Programmed", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Programmed\")].status"}"#,
    printcolumn = r#"{"name": "Ports", "type": "string", "jsonPath": ".status.ports"}"#,
    printcolumn = r#"{"name": "Nodes", "type": "integer", "jsonPath": ".status.nodeCount"}"#,
    printcolumn = r#"{"name": "Addresses", "type": "string", "jsonPath": ".status.controllers[*].addresses[*].address", "priority": 1}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct HostPortExposureSpec {
    /// The pods of this namespace whose host ports are opened. It must name something: an empty selector
    /// would select every pod.
    #[x_kube(validation = (SELECTS, "an empty selector would select every pod; name labels"))]
    #[x_kube(validation = (OPERATORS, "an operator is In, NotIn, Exists or DoesNotExist"))]
    #[x_kube(validation = (VALUES, "In and NotIn need values, Exists and DoesNotExist take none"))]
    pub pod_selector: LabelSelector,
    /// The host ports to open, of those that the pods declare; for pods on the host's network by number or range
    /// also what they do not declare.
    #[schemars(length(min = 1, max = MOST_PORTS))]
    pub ports: Vec<ExposedPort>,
    /// The sources that may connect, as CIDRs, to ports that do not name their own; the controller's default
    /// if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "source_ranges_schema")]
    pub source_ranges: Option<Vec<String>>,
    /// Only on nodes with these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = (OPERATORS, "an operator is In, NotIn, Exists or DoesNotExist"))]
    #[x_kube(validation = (VALUES, "In and NotIn need values, Exists and DoesNotExist take none"))]
    pub node_selector: Option<LabelSelector>,
    /// The hostname for clients of the pods: external-dns publishes the addresses of the nodes where the
    /// ports are open and a pod is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 253),
        regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+$")
    )]
    pub hostname: Option<String>,
}

impl HostPortExposure {
    /// Returns the object, as messages and Events name it.
    #[must_use]
    pub fn reference(&self) -> ObjectRef {
        let metadata = &self.metadata;
        ObjectRef {
            api_version: Self::api_version(&()),
            kind: Self::kind(&()),
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
        }
    }

    /// Returns the workload that the selected pods form together.
    #[must_use]
    pub fn workload(&self) -> Workload {
        let ObjectRef { kind, namespace, name, .. } = self.reference();
        Workload { kind: kind.into_owned(), namespace, name }
    }
}

/// Ports to open.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExposedPort {
    /// The name of a container port, a number, or a range such as `30000-30100`.
    #[schemars(schema_with = "port_schema")]
    pub port: IntOrString,
    /// The protocol. If absent, TCP for a number or a range, and that of the container port for a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<PortProtocol>,
    /// The sources that may connect to these ports, as CIDRs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "source_ranges_schema")]
    pub source_ranges: Option<Vec<String>>,
}

/// A protocol with ports.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
pub enum PortProtocol {
    /// TCP
    #[serde(rename = "TCP")]
    Tcp,
    /// UDP
    #[serde(rename = "UDP")]
    Udp,
    /// SCTP
    #[serde(rename = "SCTP")]
    Sctp,
}

/// Returns the kind's definition, as YAML.
///
/// # Errors
/// If it cannot be written as YAML, which a test rules out.
pub fn definition() -> Result<String, serde_saphyr::ser::Error> {
    let text = serde_saphyr::to_string(&HostPortExposure::crd())?;
    Ok(format!("# Written by `hostport-firewall crd`. Needs Kubernetes 1.31, for CIDRs in CEL.\n{text}"))
}

/// The current state of the intent, as all controllers of the cluster together report it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostPortExposureStatus {
    /// Of each condition, the one that is furthest from being met, of all controllers that serve a node of
    /// the intent's pods.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The open ports, as text
    #[serde(default)]
    pub ports: String,
    /// The number of nodes where they are open
    #[serde(default)]
    pub node_count: i32,
    /// The report of each controller: one, unless the cluster has several, each for nodes of its own.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub controllers: Vec<ControllerStatus>,
}

/// The state of the intent on the nodes that one controller serves.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ControllerStatus {
    /// The controller: the `--cluster-name` that it runs with
    pub name: String,
    /// `Accepted` is true if the object can be understood, each pod that it selects binds one of its ports,
    /// and no guardrail forbids any of it. `Programmed` is true if the cloud has confirmed all of it.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The open ports, as text
    #[serde(default)]
    pub ports: String,
    /// The number of nodes where they are open
    #[serde(default)]
    pub node_count: i32,
    /// The nodes where they are open: the first 100 by name
    #[serde(default)]
    #[schemars(length(max = MOST_NODES))]
    pub nodes: Vec<OpenNode>,
    /// The addresses for clients: those of nodes where the ports are open and a pod is ready, of the first
    /// 100 of these nodes by name, and at most 200 addresses. A hostname has all of them.
    #[serde(default)]
    #[schemars(length(max = MOST_ADDRESSES))]
    pub addresses: Vec<OpenAddress>,
}

/// A node where ports are open.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OpenNode {
    /// Its name
    pub name: String,
    /// The cloud's resources that open them
    #[serde(default)]
    pub resources: Vec<String>,
}

/// An address of a node.
#[derive(
    Clone, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct OpenAddress {
    /// `ExternalIP` or `InternalIP`
    #[serde(rename = "type")]
    pub kind: String,
    /// The address
    pub address: String,
    /// The node's name
    pub node: String,
}

/// CEL: a selector that names something.
const SELECTS: &str = "(has(self.matchLabels) && size(self.matchLabels) > 0) || \
                       (has(self.matchExpressions) && size(self.matchExpressions) > 0)";

/// CEL: a selector that can be understood.
const OPERATORS: &str = "!has(self.matchExpressions) || self.matchExpressions.all(one, \
                         one.operator in ['In', 'NotIn', 'Exists', 'DoesNotExist'])";

/// CEL: operators that have the values that they take.
const VALUES: &str = "!has(self.matchExpressions) || self.matchExpressions.all(one, \
                      (one.operator in ['In', 'NotIn']) == (has(one.values) && size(one.values) > 0))";

/// Returns the schema of a number or a text that is valid as a port.
fn port_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "The name of a container port, a number, or a range such as 30000-30100.",
        "x-kubernetes-int-or-string": true,
        "maxLength": 15,
        "x-kubernetes-validations": [
            {
                "rule": "type(self) == string || (int(self) >= 1 && int(self) <= 65535)",
                "message": "a port is a number from 1 to 65535",
            },
            {
                "rule": "type(self) == int || string(self).matches('^[0-9]{1,5}(-[0-9]{1,5})?$') || \
                         string(self).matches('^[a-z0-9-]*[a-z][a-z0-9-]*$')",
                "message": "write a port's name, its number, or a range such as 30000-30100",
            },
            {
                "rule": "type(self) == int || !string(self).matches('^[0-9]{1,5}(-[0-9]{1,5})?$') || \
                         (string(self).split('-').all(port, int(port) >= 1 && int(port) <= 65535) && \
                         int(string(self).split('-')[0]) <= int(string(self).split('-')[size(string(self).split('-')) - 1]))",
                "message": "a range goes from its lower to its higher port, from 1 to 65535",
            },
        ],
    })
}

/// Returns the schema of CIDRs, checked as strictly as the controller does. Needs Kubernetes 1.31 for CEL's
/// CIDRs.
fn source_ranges_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "The sources that may connect, as CIDRs such as 198.51.100.0/24 or 2001:db8::/32.",
        "type": "array",
        "nullable": true,
        "minItems": 1,
        "maxItems": 200,
        "items": {
            "type": "string",
            "maxLength": 49,
            "x-kubernetes-validations": [
                { "rule": "isCIDR(self)", "message": "not a CIDR such as 198.51.100.0/24 or 2001:db8::/32" },
                {
                    "rule": "!isCIDR(self) || cidr(self) == cidr(self).masked()",
                    "message": "the address has bits set behind its prefix",
                },
            ],
        },
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn deployed_crd_equals_the_definition() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/crd.yaml");
        let deployed = std::fs::read_to_string(path).expect("deploy/crd.yaml");
        let defined = super::definition().expect("YAML");
        assert!(deployed == defined, "write it anew with `hostport-firewall crd > deploy/crd.yaml`");
    }
}
