//! References: the names of objects in messages and Events.

use std::borrow::Cow;

use kube::core::ObjectMeta;
use serde::Serialize;

use super::node::Node;
use super::pod::Pod;
use super::service::Service;

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

/// Returns the pod, as messages and Events name it.
pub(crate) fn pod_reference(pod: &Pod) -> ObjectRef {
    reference("Pod", &pod.metadata)
}

/// Returns the Service, as messages and Events name it.
pub(crate) fn service_reference(service: &Service) -> ObjectRef {
    reference("Service", &service.metadata)
}

fn reference(kind: &'static str, metadata: &ObjectMeta) -> ObjectRef {
    ObjectRef {
        api_version: "v1".into(),
        kind: kind.into(),
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
    }
}

/// Returns the node, as messages and Events name it.
pub(crate) fn node_reference(node: &Node) -> ObjectRef {
    let name = node.metadata.name.clone().unwrap_or_default();
    // The kubelet gives its Events the node's name as UID, and `kubectl describe node` searches for that.
    ObjectRef {
        api_version: "v1".into(),
        kind: "Node".into(),
        namespace: String::new(),
        uid: name.clone(),
        name,
    }
}
