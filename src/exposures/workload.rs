//! Workloads: whose pod it is, so that the pods of one workload share a firewall group.

use firewall_model::Workload;

use crate::objects::Pod;

/// The label by which a Deployment tells its `ReplicaSets` apart.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// The controller of a pod, with the `ReplicaSet` hash stripped; the pod itself if nothing controls it.
pub(super) fn workload(pod: &Pod, namespace: &str) -> Workload {
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
