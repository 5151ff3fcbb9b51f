//! Voyager's Ingresses of type `NodePort`: the node ports of the Service that its operator manages.

use serde_json::{Value, json};

use super::super::{Collected, cluster, rejection, rules};
use super::{VOYAGER, annotated, ingress};
use crate::intents::demand::collect_exposures;
use crate::intents::settings::Settings;
use crate::k8s::index::{Object, Watch};
use crate::k8s::objects::builders::{self, from_json};

/// Returns the Service that Voyager's operator manages for an Ingress of type `NodePort`.
fn node_port_service(name: &str) -> Value {
    let port =
        |port: u16| json!({ "name": format!("tcp-{port}"), "port": port, "nodePort": 30000 + port / 10 });
    json!({
        "metadata": { "name": name, "namespace": "shop", "labels": {
            "origin": "voyager", "origin-name": "shop", "origin-api-group": VOYAGER,
        } },
        "spec": { "type": "NodePort", "ports": [port(80), port(8080), port(9000), port(7000), port(56789)] },
    })
}

/// Returns the Ingress with another type, `NodePort`, and these annotations.
fn node_port_ingress(annotations: &Value) -> Value {
    builders::annotated(annotated(annotations), &json!({ "ingress.appscode.com/type": "NodePort" }))
}

/// Collects the exposures of a Service and the Ingress that it is for.
fn collect(ingress: Option<Value>, service: Value) -> Collected {
    let mut index = cluster([]);
    if let Some(ingress) = ingress {
        let ingress = Object::Ingress(from_json(ingress));
        index.apply(&Watch::Ingresses(VOYAGER.to_owned()), ingress);
    }
    index.apply(&Watch::Services, Object::Service(from_json(service)));
    collect_exposures(&index, &Settings::default())
}

#[test]
fn node_port_ingress_opens_its_node_ports_on_every_node() {
    let whitelist = json!({ "ingress.appscode.com/whitelist-source-range": "192.0.2.0/24" });
    let found = collect(Some(node_port_ingress(&whitelist)), node_port_service("voyager-shop"));
    assert!(found.problems.is_empty(), "{:?}", found.problems);
    let nodes: Vec<&str> = found.exposures.iter().map(|exposure| exposure.node.name.as_str()).collect();
    assert_eq!(nodes, ["node-a", "node-b", "node-v4"]);
    for exposure in &found.exposures {
        assert_eq!(
            rules(exposure),
            ["tcp/30008 from 192.0.2.0/24", "tcp/30808 from 192.0.2.0/24", "tcp/30900 from 192.0.2.0/24"]
        );
        assert_eq!(exposure.intent.to_string(), "Ingress shop/shop");
    }
}

#[test]
fn node_port_of_the_stats_page_stays_closed() {
    let is_open = |annotations: &Value, stats_port: &Value| {
        let mut ingress = node_port_ingress(annotations);
        ingress["spec"]["rules"] = json!([{ "http": { "port": stats_port["port"] } }]);
        let mut service = node_port_service("voyager-shop");
        service["spec"]["ports"] = json!([stats_port]);
        !collect(Some(ingress), service).exposures.is_empty()
    };
    let port = |name: &str, port: u16| json!({ "name": name, "port": port, "nodePort": 31000 });
    let stats = |value: &str| json!({ "ingress.appscode.com/stats": value });
    let moved = json!({ "ingress.appscode.com/stats": "true", "ingress.appscode.com/stats-port": "7000" });
    let table = [
        (stats("true"), port("tcp-56789", 56789), false),
        (stats("false"), port("tcp-56789", 56789), true),
        (stats("false"), port("stats", 56789), false),
        (moved.clone(), port("tcp-7000", 7000), false),
        (moved, port("tcp-56789", 56789), true),
    ];
    for (annotations, port, expected) in table {
        assert_eq!(is_open(&annotations, &port), expected, "{annotations} {port}");
    }
    let ingress = || Some(node_port_ingress(&json!({})));
    assert_eq!(collect(ingress(), node_port_service("voyager-shop-stats")), Collected::default());

    let mut annotated = node_port_service("voyager-shop");
    annotated["metadata"]["annotations"] = json!({ "hostport-firewall.dev/expose-node-ports": "stats" });
    annotated["spec"]["ports"] = json!([port("stats", 56789)]);
    assert!(rejection(&collect(ingress(), annotated)).starts_with("VoyagerInternalPort Service"));
}

#[test]
fn host_port_ingress_opens_no_node_ports() {
    assert_eq!(collect(Some(ingress()), node_port_service("voyager-shop")), Collected::default());
}

#[test]
fn service_without_its_ingress_opens_nothing() {
    assert_eq!(collect(None, node_port_service("voyager-shop")), Collected::default());
}
