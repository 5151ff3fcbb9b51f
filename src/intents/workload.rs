//! Workloads: the controllers of pods. The pods of one workload share a firewall group.

use firewall_core::Workload;

use crate::k8s::objects::Pod;

/// The label by which a Deployment distinguishes its `ReplicaSets`.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// Returns the controller of a pod, a `ReplicaSet` of a Deployment as that Deployment; the pod itself if it
/// has none.
pub(super) fn workload_of_pod(pod: &Pod, namespace: &str) -> Workload {
    let metadata = &pod.metadata;
    let pod_name = metadata.name.as_deref().unwrap_or_default();
    let owners = metadata.owner_references.iter().flatten();
    let (kind, name) = match owners.into_iter().find(|owner| owner.controller == Some(true)) {
        None => ("Pod", pod_name),
        Some(owner) if owner.kind == "ReplicaSet" => {
            let hash = metadata.labels.as_ref().and_then(|labels| labels.get(TEMPLATE_HASH));
            let stripped = hash.and_then(|hash| owner.name.strip_suffix(hash.as_str())?.strip_suffix('-'));
            stripped.map_or(("ReplicaSet", owner.name.as_str()), |name| ("Deployment", name))
        }
        // A static pod's mirror is named after its node, and the same manifest may lie on every node.
        Some(owner) if owner.kind == "Node" => {
            let stripped = pod_name.strip_suffix(owner.name.as_str()).and_then(|name| name.strip_suffix('-'));
            ("StaticPod", stripped.unwrap_or(pod_name))
        }
        Some(owner) => (owner.kind.as_str(), owner.name.as_str()),
    };
    Workload { kind: kind.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::k8s::objects::builders::from_json;

    fn workload(name: &str, labels: &Value, owner: Option<(&str, &str, bool)>) -> String {
        let owners: Vec<Value> = owner
            .map(|(kind, name, controller)| {
                json!({ "apiVersion": "v1", "kind": kind, "name": name, "uid": "u", "controller": controller })
            })
            .into_iter()
            .collect();
        let metadata = json!({ "name": name, "labels": labels, "ownerReferences": owners });
        workload_of_pod(&from_json(json!({ "metadata": metadata })), "shop").to_string()
    }

    #[test]
    fn workload_is_the_controller_of_the_pod() {
        let hash = json!({ "pod-template-hash": "5d9c" });
        let none = json!({});
        let cases = [
            ("web-5d9c-x", &hash, Some(("ReplicaSet", "web-5d9c", true)), "Deployment shop/web"),
            ("web-x", &none, Some(("ReplicaSet", "web-5d9c", true)), "ReplicaSet shop/web-5d9c"),
            ("web-x", &hash, Some(("ReplicaSet", "web5d9c", true)), "ReplicaSet shop/web5d9c"),
            ("web-x", &hash, Some(("ReplicaSet", "other", true)), "ReplicaSet shop/other"),
            ("web-x", &none, Some(("DaemonSet", "web", true)), "DaemonSet shop/web"),
            ("web-0", &none, Some(("StatefulSet", "web", true)), "StatefulSet shop/web"),
            ("web-x", &none, Some(("Job", "web-1", true)), "Job shop/web-1"),
            ("turn-node-a", &none, Some(("Node", "node-a", true)), "StaticPod shop/turn"),
            ("turn", &none, Some(("Node", "node-a", true)), "StaticPod shop/turn"),
            ("web", &none, Some(("Backup", "nightly", false)), "Pod shop/web"),
            ("web", &none, None, "Pod shop/web"),
        ];
        for (name, labels, owner, expected) in cases {
            assert_eq!(workload(name, labels, owner), expected, "{name} {owner:?}");
        }
    }
}
