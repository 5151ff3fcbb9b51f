//! Builders of Kubernetes objects for tests.
//!
//! Objects are JSON, as the API server returns them: a test sets the one field that it is about, also to a
//! value that no typed object could hold, and reads the result with [`from_json`].

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::ObjectRef;

/// Returns a reference to an object of API version `v1` without a UID. The namespace of a node is empty.
pub(crate) fn object_ref(kind: &'static str, namespace: &str, name: &str) -> ObjectRef {
    ObjectRef {
        api_version: "v1".into(),
        kind: kind.into(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: String::new(),
    }
}

/// Reads an object as the watcher does.
pub(crate) fn from_json<K: DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).expect("an object of this kind")
}

/// Returns a container port that is bound to the same number on the node.
pub(crate) fn host_port(port: u16) -> Value {
    json!({ "containerPort": port, "hostPort": port })
}

/// Returns a container port with a name that is bound to the same number on the node.
pub(crate) fn named_host_port(name: &str, port: u16) -> Value {
    json!({ "name": name, "containerPort": port, "hostPort": port })
}

/// Returns a running pod with one container, called `main`, that has these ports. Its UID is its name.
pub(crate) fn pod(namespace: &str, name: &str, node: &str, ports: &Value) -> Value {
    json!({
        "metadata": { "name": name, "namespace": namespace, "uid": name },
        "spec": { "nodeName": node, "containers": [{ "name": "main", "ports": ports }] },
        "status": { "phase": "Running" },
    })
}

/// Returns a node with these internal addresses.
pub(crate) fn node(name: &str, provider_id: &str, addresses: &[&str]) -> Value {
    let address = |address: &&str| json!({ "type": "InternalIP", "address": address });
    let addresses: Vec<Value> = addresses.iter().map(address).collect();
    json!({
        "metadata": { "name": name },
        "spec": { "providerID": provider_id },
        "status": { "addresses": addresses },
    })
}

/// Returns a Service of this type.
pub(crate) fn service(namespace: &str, name: &str, kind: &str, ports: &Value) -> Value {
    json!({ "metadata": { "name": name, "namespace": namespace }, "spec": { "type": kind, "ports": ports } })
}

/// Returns an `EndpointSlice` of the Service.
pub(crate) fn endpoint_slice(namespace: &str, service: &str, name: &str, endpoints: &Value) -> Value {
    let labels = json!({ "kubernetes.io/service-name": service });
    json!({ "metadata": { "name": name, "namespace": namespace, "labels": labels }, "endpoints": endpoints })
}

/// Returns a Voyager Ingress of this type, with these rules.
pub(crate) fn ingress(namespace: &str, name: &str, kind: &str, rules: &Value) -> Value {
    let ingress = json!({ "metadata": { "name": name, "namespace": namespace }, "spec": { "rules": rules } });
    annotated(ingress, &json!({ "ingress.appscode.com/type": kind }))
}

/// Returns a `HostPortExposure`. Its UID is its name.
pub(crate) fn host_port_exposure(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({ "metadata": { "name": name, "namespace": namespace, "uid": name }, "spec": spec })
}

/// Adds annotations to those that the object has.
pub(crate) fn annotated(mut object: Value, annotations: &Value) -> Value {
    for (name, value) in annotations.as_object().expect("annotations are an object") {
        object["metadata"]["annotations"][name] = value.clone();
    }
    object
}
