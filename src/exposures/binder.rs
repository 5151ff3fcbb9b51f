//! Binders: what binds ports on nodes, and until when.

use std::collections::BTreeSet;

use crate::index::Index;
use crate::objects::{Endpoint, EndpointTarget, Node, ObjectRef, Pod, Service};

use super::{node_port, voyager};

/// Everything that binds ports of nodes now, whether or not anything exposes them.
#[must_use]
pub fn binding(index: &Index) -> BTreeSet<ObjectRef> {
    let mut binding: BTreeSet<ObjectRef> =
        index.pods().filter(|pod| binding_on(pod).is_some()).map(pod_reference).collect();
    for service in index.services().filter(|service| service.has_node_ports()) {
        let reference = service_reference(service);
        if !service.is_local() {
            binding.insert(reference);
            continue;
        }
        let opens = node_port::concerns(service) || voyager::is_offshoot(service);
        for endpoint in
            index.endpoint_slices(&reference.namespace, &reference.name).flat_map(|slice| &slice.endpoints)
        {
            let binder = endpoint_reference(endpoint, &reference);
            if endpoint.is_ready() {
                binding.insert(binder);
            } else if opens {
                // It is there and serves no node port any more, whatever host ports it has: those linger.
                binding.remove(&binder);
            }
        }
    }
    binding
}

/// The node on which the pod binds its ports. One that is being deleted binds them until it is gone.
pub(super) fn binding_on(pod: &Pod) -> Option<&str> {
    let finished = matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed"));
    pod.spec.node_name.as_deref().filter(|name| !name.is_empty() && !finished)
}

/// The pod, as messages and Events name it.
pub(crate) fn pod_reference(pod: &Pod) -> ObjectRef {
    reference("Pod", &pod.metadata)
}

/// The Service, as messages and Events name it.
pub(super) fn service_reference(service: &Service) -> ObjectRef {
    reference("Service", &service.metadata)
}

/// The pod behind an endpoint of a Service; the Service, if it is none.
pub(super) fn endpoint_reference(endpoint: &Endpoint, service: &ObjectRef) -> ObjectRef {
    match &endpoint.target_ref {
        Some(EndpointTarget { kind, namespace, name, uid }) if kind == "Pod" => ObjectRef {
            api_version: "v1".into(),
            kind: "Pod".into(),
            namespace: namespace.clone().unwrap_or_else(|| service.namespace.clone()),
            name: name.clone(),
            uid: uid.clone(),
        },
        _ => service.clone(),
    }
}

fn reference(kind: &'static str, metadata: &kube::api::ObjectMeta) -> ObjectRef {
    ObjectRef {
        api_version: "v1".into(),
        kind: kind.into(),
        namespace: metadata.namespace.clone().unwrap_or_else(|| "default".to_owned()),
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
    }
}

/// The node, as messages and Events name it.
pub(super) fn node_reference(node: &Node) -> ObjectRef {
    let name = node.metadata.name.clone().unwrap_or_default();
    // The kubelet gives its Events the node's name as UID, and `kubectl describe node` looks for that.
    ObjectRef {
        api_version: "v1".into(),
        kind: "Node".into(),
        namespace: String::new(),
        uid: name.clone(),
        name,
    }
}
