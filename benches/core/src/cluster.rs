//! A cluster in memory: 30 pods on each node, of which 5 % have a host port, and what asks for these.
//!
//! The index drops the other 95 % while they are being decoded, so they are left out here too. Of every ten pods with a
//! host port four are selected by `HostPortExposure`s, two are annotated, two belong to Voyager's HAProxy, and for two
//! nobody asks. There are as many `HostPortExposure`s as pods, twenty to a namespace.

use crate::k8s::index::{Index, Object, Watch};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const PODS_OF_NAMESPACE: usize = 20;
const VOYAGER: &str = "voyager.appscode.com";

/// Returns an index of this many nodes.
pub(crate) fn index(nodes: usize) -> Index {
    let pods = nodes * 3 / 2;
    let ingresses = Watch::Ingresses(VOYAGER.to_owned());
    let optional = [Watch::HostPortExposures, ingresses.clone()];
    let mut index = Index::expecting(Watch::ALWAYS.into_iter().chain(optional));
    index.reset(Watch::Nodes, (0..nodes).map(|number| node(number, true)).collect());
    index.reset(Watch::Pods, (0..pods).map(|number| pod(number, 8000)).collect());
    let namespaces = pods.div_ceil(PODS_OF_NAMESPACE);
    let namespace = |number| Object::Namespace(parse(json!({ "metadata": { "name": name_of(number) } })));
    index.reset(Watch::Namespaces, (0..namespaces).map(namespace).collect());
    index.reset(Watch::HostPortExposures, (0..pods).map(exposure).collect());
    index.reset(ingresses, (0..namespaces).map(ingress).collect());
    index.reset(Watch::Services, (0..namespaces).map(service).collect());
    index.reset(Watch::EndpointSlices, (0..namespaces).map(|number| slice(number, nodes)).collect());
    index
}

/// Returns a pod on the node that its number gives, with a port of this number.
pub(crate) fn pod(number: usize, port: u16) -> Object {
    let namespace = number / PODS_OF_NAMESPACE;
    let mut metadata = json!({
        "name": format!("pod-{number}"), "namespace": name_of(namespace), "uid": format!("uid-{number}"),
        "ownerReferences": [{
            "apiVersion": "apps/v1", "kind": "DaemonSet", "name": format!("web-{}", number % 5), "uid": "1", "controller": true,
        }],
    });
    match number % 10 {
        0..4 => metadata["labels"] = json!({ "app": format!("app-{}", number % PODS_OF_NAMESPACE) }),
        4..6 => {
            metadata["annotations"] = json!({
                "hostport-firewall.dev/expose": port.to_string(),
                "hostport-firewall.dev/source-ranges": "10.0.0.0/8, 192.0.2.0/24",
            });
        }
        6..8 => metadata["labels"] = json!({ "origin": "voyager", "origin-name": "shop" }),
        _ => metadata["labels"] = json!({ "app": "exporter" }),
    }
    let name = if (6..8).contains(&(number % 10)) { "haproxy" } else { "main" };
    let port = json!({ "name": "web", "containerPort": port, "hostPort": port });
    let node = number * 2 / 3;
    Object::Pod(parse(json!({
        "metadata": metadata,
        "spec": { "nodeName": format!("node-{node}"), "containers": [{ "name": name, "ports": [port] }] },
        "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] },
    })))
}

fn name_of(namespace: usize) -> String {
    format!("tenant-{namespace}")
}

/// Returns a node.
pub(crate) fn node(number: usize, ready: bool) -> Object {
    let external = format!("198.18.{}.{}", number / 250, number % 250);
    Object::Node(parse(json!({
        "metadata": {
            "name": format!("node-{number}"), "labels": { "zone": format!("z{}", number % 3) },
        },
        "spec": { "providerID": format!("memory://i-{number}") },
        "status": {
            "addresses": [
                { "type": "InternalIP", "address": format!("10.0.{}.{}", number / 250, number % 250) },
                { "type": "ExternalIP", "address": external },
            ],
            "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }],
        },
    })))
}

fn exposure(number: usize) -> Object {
    let place = number % PODS_OF_NAMESPACE;
    let mut spec = json!({
        "podSelector": { "matchLabels": { "app": format!("app-{place}") } },
        "ports": [{ "port": "web" }], "sourceRanges": ["203.0.113.0/24", "10.0.0.0/8"],
    });
    if place % 4 == 1 {
        spec["nodeSelector"] = json!({ "matchExpressions": [{ "key": "zone", "operator": "Exists" }] });
    }
    Object::HostPortExposure(parse(json!({
        "metadata": {
            "name": format!("exposure-{place}"), "namespace": name_of(number / PODS_OF_NAMESPACE), "uid": format!("x-{number}"),
            "generation": 1,
        },
        "spec": spec,
    })))
}

fn ingress(namespace: usize) -> Object {
    Object::Ingress(parse(json!({
        "metadata": {
            "name": "shop", "namespace": name_of(namespace), "annotations": { "ingress.appscode.com/type": "HostPort" },
        },
        "spec": { "rules": [{ "http": { "port": 8000 } }, { "tcp": { "port": "8443" } }] },
    })))
}

/// Returns a Service that the nodes with its endpoints serve.
fn service(namespace: usize) -> Object {
    let node_port = 30_000 + namespace % 2000;
    Object::Service(parse(json!({
        "metadata": {
            "name": "api", "namespace": name_of(namespace), "annotations": { "hostport-firewall.dev/expose-node-ports": "80" },
        },
        "spec": {
            "type": "NodePort", "externalTrafficPolicy": "Local", "ports": [{ "port": 80, "nodePort": node_port }],
        },
    })))
}

fn slice(namespace: usize, nodes: usize) -> Object {
    let endpoint = |number| json!({ "nodeName": format!("node-{}", (namespace * 7 + number) % nodes) });
    Object::EndpointSlice(parse(json!({
        "metadata": {
            "name": "api-1", "namespace": name_of(namespace), "labels": { "kubernetes.io/service-name": "api" },
        },
        "endpoints": [endpoint(0), endpoint(1), endpoint(2)],
    })))
}

fn parse<K: DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).expect("an object of this kind")
}
