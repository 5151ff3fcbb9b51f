//! Kubernetes objects, as their owners would write them.

use serde_json::{Value, json};

use crate::landscape::{Intent, SOURCES, WORKLOADS, Workload, has_ipv6, node_name};

/// Returns the name of a workload's pod on a node.
pub(crate) fn pod_name(workload: usize, node: usize) -> String {
    format!("{}-{}", WORKLOADS[workload].name, node_name(node))
}

/// Returns a pod of a workload on a node.
pub(crate) fn pod(workload: usize, node: usize, sources: usize, has_gate: bool) -> Value {
    let Workload { name, namespace, protocol, ports, intent } = WORKLOADS[workload];
    let ports: Vec<Value> = ports
        .iter()
        .map(|port| json!({ "containerPort": port, "hostPort": port, "protocol": protocol }))
        .collect();
    let container = if intent == Intent::Ingress { "haproxy" } else { "main" };
    let owner = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "name": name, "uid": format!("ds-{name}"), "controller": true,
    });
    let mut pod = json!({
        "metadata": {
            "name": pod_name(workload, node), "namespace": namespace, "labels": { "app": name },
            "ownerReferences": [owner],
        },
        "spec": { "nodeName": node_name(node), "containers": [{ "name": container, "ports": ports }] },
        "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] },
    });
    if has_gate {
        pod["spec"]["readinessGates"] = json!([{ "conditionType": "hostport-firewall.dev/open" }]);
    }
    match intent {
        Intent::Annotation => pod["metadata"]["annotations"] = annotations(workload, sources),
        Intent::Exposure => {}
        Intent::Ingress => {
            pod["metadata"]["labels"] = json!({
                "app": name, "origin": "voyager", "origin-name": name,
                "origin-api-group": "voyager.appscode.com",
            });
        }
    }
    pod
}

/// Returns the annotations of a pod that asks itself.
pub(crate) fn annotations(workload: usize, sources: usize) -> Value {
    let Workload { ports, protocol, .. } = WORKLOADS[workload];
    let entry = |port: &u16| format!("{port}/{}", protocol.to_lowercase());
    let ports: Vec<String> = ports.iter().map(entry).collect();
    let mut annotations = json!({ "hostport-firewall.dev/expose": ports.join(",") });
    if !SOURCES[sources].is_empty() {
        annotations["hostport-firewall.dev/source-ranges"] = json!(SOURCES[sources].join(","));
    }
    annotations
}

/// Returns the object by which a workload asks, if it is not its pods.
pub(crate) fn intent(workload: usize, sources: usize) -> Option<Value> {
    intent_with(workload, sources, WORKLOADS[workload].ports)
}

/// Returns the object by which a workload asks for these of its ports, if it is not its pods.
pub(crate) fn intent_with(workload: usize, sources: usize, ports: &[u16]) -> Option<Value> {
    let Workload { name, namespace, protocol, intent, .. } = WORKLOADS[workload];
    let metadata = json!({ "name": name, "namespace": namespace, "generation": 1 });
    match intent {
        Intent::Annotation => None,
        Intent::Exposure => {
            let entry = |port: &u16| json!({ "port": port, "protocol": protocol });
            let ports: Vec<Value> = ports.iter().map(entry).collect();
            let mut spec = json!({ "podSelector": { "matchLabels": { "app": name } }, "ports": ports });
            if !SOURCES[sources].is_empty() {
                spec["sourceRanges"] = json!(SOURCES[sources]);
            }
            Some(json!({ "metadata": metadata, "spec": spec }))
        }
        Intent::Ingress => {
            let mut metadata = metadata;
            metadata["annotations"] = json!({ "ingress.appscode.com/type": "HostPort" });
            let rule = |port: &u16| json!({ "tcp": { "port": port } });
            let rules: Vec<Value> = ports.iter().map(rule).collect();
            let mut spec = json!({ "rules": rules });
            if !SOURCES[sources].is_empty() {
                spec["loadBalancerSourceRanges"] = json!(SOURCES[sources]);
            }
            Some(json!({ "metadata": metadata, "spec": spec }))
        }
    }
}

/// Returns a node. The machine is the one behind it; none while a cloud controller has not found it.
pub(crate) fn node(node: usize, provider_id: Option<String>, addresses_of: usize) -> Value {
    let (high, low) = ((10 + addresses_of) / 256, (10 + addresses_of) % 256);
    let mut addresses = vec![json!({ "type": "InternalIP", "address": format!("10.0.{high}.{low}") })];
    if has_ipv6(addresses_of) {
        addresses.push(json!({ "type": "InternalIP", "address": format!("fd00::{}", 10 + addresses_of) }));
    }
    let mut spec = json!({});
    if let Some(provider_id) = provider_id {
        spec["providerID"] = json!(provider_id);
    }
    json!({ "metadata": { "name": node_name(node) }, "spec": spec, "status": { "addresses": addresses } })
}

/// Returns a namespace.
pub(crate) fn namespace(name: &str) -> Value {
    json!({ "metadata": { "name": name, "labels": { "kubernetes.io/metadata.name": name } } })
}
