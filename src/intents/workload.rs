//! Workloads: the controllers of pods. The pods of one workload share a firewall group.
//!
//! An ownerReference is free text that whoever creates a pod chooses. It can make a pod one of the pods of
//! any controller of its namespace, and no more: never an intent, whose name is the workload of the ports
//! that it opens. Pods that share a workload still open nothing for each other, because their ports and
//! their sources are part of the group.

use firewall_core::Workload;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::k8s::names::{is_dns_subdomain, is_kind};
use crate::k8s::objects::Pod;

/// The label by which a Deployment distinguishes its `ReplicaSets`.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// Returns the controller of a pod, a `ReplicaSet` of a Deployment as that Deployment; the pod itself if it
/// has none, or one that cannot exist.
pub(super) fn workload_of_pod(pod: &Pod, namespace: &str) -> Workload {
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let owners = pod.metadata.owner_references.iter().flatten();
    let owner = owners.into_iter().find(|owner| owner.controller == Some(true));
    let (kind, name) =
        owner.and_then(|owner| kind_and_name(pod, owner)).unwrap_or_else(|| ("Pod".to_owned(), pod_name));
    Workload { kind, namespace: namespace.to_owned(), name: name.to_owned() }
}

/// Returns the workload's kind and name; none if no object can have the owner's.
fn kind_and_name<'a>(pod: &'a Pod, owner: &'a OwnerReference) -> Option<(String, &'a str)> {
    let (kind, name) = (owner.kind.as_str(), owner.name.as_str());
    let (group, version) = owner.api_version.rsplit_once('/').unwrap_or(("", &owner.api_version));
    let is_named = is_kind(kind) && is_dns_subdomain(name) && is_dns_subdomain(version);
    if !is_named || !(group.is_empty() || is_dns_subdomain(group)) {
        return None;
    }
    let (kind, name) = match (group, kind) {
        ("apps", "ReplicaSet") => {
            let hash = pod.metadata.labels.as_ref().and_then(|labels| labels.get(TEMPLATE_HASH));
            let stripped = hash.and_then(|hash| name.strip_suffix(hash.as_str())?.strip_suffix('-'));
            stripped.filter(|name| is_dns_subdomain(name)).map_or((kind, name), |name| ("Deployment", name))
        }
        ("apps", "DaemonSet" | "StatefulSet") | ("batch", "Job") | ("", "ReplicationController") => {
            (kind, name)
        }
        // A static pod's mirror is named after its own node, and the same manifest may lie on every node.
        ("", "Node") => {
            if pod.spec.node_name.as_deref() != Some(name) {
                return None;
            }
            let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
            let stripped = pod_name.strip_suffix(name).and_then(|name| name.strip_suffix('-'));
            ("StaticPod", stripped.unwrap_or(pod_name))
        }
        // No other workload's kind has a space.
        ("", _) => return Some((format!("owner {kind}"), name)),
        _ => return Some((format!("owner {kind}.{group}"), name)),
    };
    Some((kind.to_owned(), name))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::k8s::objects::builders::from_json;

    fn workload(name: &str, labels: &Value, owner: Option<(&str, &str, &str, bool)>) -> String {
        let owners: Vec<Value> = owner
            .map(|(version, kind, name, controller)| {
                json!({ "apiVersion": version, "kind": kind, "name": name, "uid": "u", "controller": controller })
            })
            .into_iter()
            .collect();
        let metadata = json!({ "name": name, "labels": labels, "ownerReferences": owners });
        let pod = json!({ "metadata": metadata, "spec": { "nodeName": "node-a" } });
        workload_of_pod(&from_json(pod), "shop").to_string()
    }

    #[test]
    fn workload_is_the_controller_of_the_pod() {
        let hash = json!({ "pod-template-hash": "5d9c" });
        let none = json!({});
        let cases = [
            ("web-5d9c-x", &hash, Some(("apps/v1", "ReplicaSet", "web-5d9c", true)), "Deployment shop/web"),
            ("web-x", &none, Some(("apps/v1", "ReplicaSet", "web-5d9c", true)), "ReplicaSet shop/web-5d9c"),
            ("web-x", &hash, Some(("apps/v1", "ReplicaSet", "web5d9c", true)), "ReplicaSet shop/web5d9c"),
            ("web-x", &hash, Some(("apps/v1", "ReplicaSet", "other", true)), "ReplicaSet shop/other"),
            ("web-x", &none, Some(("apps/v1", "DaemonSet", "web", true)), "DaemonSet shop/web"),
            ("web-0", &none, Some(("apps/v1beta1", "StatefulSet", "web", true)), "StatefulSet shop/web"),
            ("web-x", &none, Some(("batch/v1", "Job", "web-1", true)), "Job shop/web-1"),
            (
                "web-x",
                &none,
                Some(("v1", "ReplicationController", "web", true)),
                "ReplicationController shop/web",
            ),
            ("turn-node-a", &none, Some(("v1", "Node", "node-a", true)), "StaticPod shop/turn"),
            ("turn", &none, Some(("v1", "Node", "node-a", true)), "StaticPod shop/turn"),
            (
                "arena-x",
                &none,
                Some(("agones.dev/v1", "GameServer", "arena-x", true)),
                "owner GameServer.agones.dev shop/arena-x",
            ),
            ("web", &none, Some(("example.com/v1", "Backup", "nightly", false)), "Pod shop/web"),
            ("web", &none, None, "Pod shop/web"),
        ];
        for (name, labels, owner, expected) in cases {
            assert_eq!(workload(name, labels, owner), expected, "{name} {owner:?}");
        }
    }

    #[test]
    fn reference_cannot_name_an_intent_or_another_kind() {
        let none = json!({});
        let cases = [
            (
                ("hostport-firewall.dev/v1alpha1", "HostPortExposure", "web"),
                "owner HostPortExposure.hostport-firewall.dev shop/web",
            ),
            (("v1", "HostPortExposure", "web"), "owner HostPortExposure shop/web"),
            (("v1", "Service", "web"), "owner Service shop/web"),
            (("v1", "Pod", "web"), "owner Pod shop/web"),
            (("networking.k8s.io/v1", "Ingress", "web"), "owner Ingress.networking.k8s.io shop/web"),
            (("v1", "Ingress.networking.k8s.io", "web"), "Pod shop/a"),
            (("apps/v1", "Deployment", "web"), "owner Deployment.apps shop/web"),
            (("v1", "StaticPod", "web"), "owner StaticPod shop/web"),
            (("example.com/v1", "DaemonSet", "web"), "owner DaemonSet.example.com shop/web"),
            (("v1", "ReplicaSet", "web"), "owner ReplicaSet shop/web"),
            (("apps/v1", "DaemonSet", "other/web"), "Pod shop/a"),
            (("apps/v1", "DaemonSet", "web\nERROR"), "Pod shop/a"),
            (("apps/v1", "Daemon\nSet", "web"), "Pod shop/a"),
            (("v1", "Node", "node-b"), "Pod shop/a"),
            (("a b/v1", "Own", "web"), "Pod shop/a"),
            (("a/b/c", "Own", "web"), "Pod shop/a"),
        ];
        for ((version, kind, name), expected) in cases {
            let owner = Some((version, kind, name, true));
            assert_eq!(workload("a", &none, owner), expected, "{owner:?}");
        }
        let long = "x".repeat(300);
        assert_eq!(workload("a", &none, Some(("apps/v1", "DaemonSet", &long, true))), "Pod shop/a");
        assert_eq!(workload("a", &none, Some(("apps/v1", &long, "web", true))), "Pod shop/a");
    }
}
