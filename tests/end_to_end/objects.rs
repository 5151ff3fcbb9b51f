//! Builders of the objects that several cases create in the cluster.

use serde_json::{Value, json};

/// Returns a pod with one container, bound to a node; `ports` are its container ports.
#[expect(clippy::needless_pass_by_value, reason = "callers build the values in place")]
pub(crate) fn pod(name: &str, node: &str, annotations: Value, ports: Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "annotations": annotations },
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "containers": [{ "name": "main", "image": "example.invalid/image", "ports": ports }],
        },
    })
}

/// Returns the container ports of a pod that binds one TCP host port.
pub(crate) fn host_port(port: u16) -> Value {
    json!([{ "containerPort": port, "hostPort": port }])
}

/// Returns a pod that binds one TCP host port and exposes it by its annotation, to any source.
pub(crate) fn exposing_pod(name: &str, node: &str, port: u16) -> Value {
    pod(name, node, json!({ "hostport-firewall.dev/expose": port.to_string() }), host_port(port))
}

/// Returns an exposing pod of the DaemonSet `web`. The pods of one workload share a firewall group.
pub(crate) fn daemon_set_pod(name: &str, node: &str, port: u16) -> Value {
    let mut pod = exposing_pod(name, node, port);
    set_owner(&mut pod, "DaemonSet", "web");
    pod
}

/// Makes a workload the pod's controller or, for a pod that its kubelet runs by itself, the node.
pub(crate) fn set_owner(pod: &mut Value, kind: &str, name: &str) {
    pod["metadata"]["ownerReferences"] = json!([{
        "apiVersion": if kind == "Node" { "v1" } else { "apps/v1" }, "kind": kind, "name": name, "controller": true,
        "uid": "7d1e7b5a-0000-4000-8000-000000000001",
    }]);
}

/// Sets the label `app: web`, by which [`web_exposure`] selects pods.
pub(crate) fn set_web_label(pod: &mut Value) {
    pod["metadata"]["labels"] = json!({ "app": "web" });
}

/// Makes the pod wait, before it is ready, until its ports are open.
pub(crate) fn add_readiness_gate(pod: &mut Value) {
    pod["spec"]["readinessGates"] = json!([{ "conditionType": "hostport-firewall.dev/open" }]);
}

/// Returns a `HostPortExposure` called `web`.
pub(crate) fn exposure(spec: &Value) -> Value {
    json!({
        "apiVersion": "hostport-firewall.dev/v1alpha1",
        "kind": "HostPortExposure",
        "metadata": { "name": "web", "namespace": "default" },
        "spec": spec,
    })
}

/// Returns a `HostPortExposure` called `web` of the pods with the label `app: web`, open to any source if
/// `sources` is empty.
#[expect(clippy::needless_pass_by_value, reason = "callers build the value in place")]
pub(crate) fn web_exposure(ports: Value, sources: &[&str]) -> Value {
    let mut spec = json!({ "podSelector": { "matchLabels": { "app": "web" } }, "ports": ports });
    if !sources.is_empty() {
        spec["sourceRanges"] = json!(sources);
    }
    exposure(&spec)
}

/// Returns a Service.
pub(crate) fn service(name: &str, spec: &Value, annotations: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name, "namespace": "default", "annotations": annotations },
        "spec": spec,
    })
}

/// Returns an Ingress of Kubernetes' API, or of Voyager's.
pub(crate) fn ingress(api_version: &str, name: &str, annotations: &Value, spec: &Value) -> Value {
    json!({
        "apiVersion": api_version,
        "kind": "Ingress",
        "metadata": { "name": name, "namespace": "default", "annotations": annotations },
        "spec": spec,
    })
}

/// Returns the CRD of Voyager's own Ingress, serving these versions and storing the first.
pub(crate) fn voyager_crd(versions: &[&str]) -> Value {
    let schema =
        json!({ "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } });
    let version = |(position, name): (usize, &&str)| json!({ "name": name, "served": true, "storage": position == 0, "schema": schema });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": "ingresses.voyager.appscode.com" },
        "spec": {
            "group": "voyager.appscode.com",
            "scope": "Namespaced",
            "names": { "kind": "Ingress", "plural": "ingresses", "singular": "ingress" },
            "versions": versions.iter().enumerate().map(version).collect::<Vec<_>>(),
        },
    })
}

/// Returns the text of a manifest file that holds these objects.
pub(crate) fn manifest_list(items: &[Value]) -> String {
    json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string()
}
