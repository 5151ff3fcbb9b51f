//! Every kind of workload under every intent that can name it: opened is exactly what is expected.

use serde_json::{Value, json};

use crate::cluster::pod;
use crate::world::{Mode, World};

/// One row: what a pod looks like, which of its ports are asked for, and what is open on its node then.
struct Row {
    name: &'static str,
    ports: Value,
    /// Changes the pod; the second argument is its node's name, the third its address
    change: fn(&mut Value, &str, &str),
    asked: &'static [(u16, &'static str)],
    open: &'static [&'static str],
}

const WEB: &[&str] = &["tcp/80 192.0.2.0/24", "tcp/80 2001:db8::/32"];
const TCP_80: &[(u16, &str)] = &[(80, "TCP")];

fn owned(pod: &mut Value, kind: &str, name: &str) {
    pod["metadata"]["ownerReferences"] = json!([{
        "apiVersion": if kind == "Node" { "v1" } else { "apps/v1" }, "kind": kind, "name": name, "controller": true,
        "uid": "7d1e7b5a-0000-4000-8000-000000000003",
    }]);
}

fn rows() -> Vec<Row> {
    let port = |number: u16| json!([{ "containerPort": 8080, "hostPort": number }]);
    let bare: fn(&mut Value, &str, &str) = |_, _, _| {};
    let row = |name, ports, change, asked, open| Row { name, ports, change, asked, open };
    vec![
        row("bare", port(80), bare, TCP_80, WEB),
        row("daemon-set", port(80), |pod, _, _| owned(pod, "DaemonSet", "web"), TCP_80, WEB),
        row("deployment", port(80), |pod, _, _| owned(pod, "ReplicaSet", "web-5d9c"), TCP_80, WEB),
        row("stateful-set", port(80), |pod, _, _| owned(pod, "StatefulSet", "web"), TCP_80, WEB),
        row(
            "static",
            port(80),
            |pod, node, _| {
                owned(pod, "Node", node);
                pod["metadata"]["annotations"]["kubernetes.io/config.mirror"] = json!("1");
            },
            TCP_80,
            WEB,
        ),
        row(
            "sidecar",
            json!([]),
            |pod, _, _| {
                pod["spec"]["initContainers"] = json!([{
                    "name": "sidecar", "image": "example.invalid/image", "restartPolicy": "Always",
                    "ports": [{ "containerPort": 80, "hostPort": 80 }],
                }]);
            },
            TCP_80,
            WEB,
        ),
        row(
            "host-network",
            json!([{ "containerPort": 80 }, { "containerPort": 9100 }]),
            |pod, _, _| pod["spec"]["hostNetwork"] = json!(true),
            TCP_80,
            WEB,
        ),
        row("loopback", port(80), |pod, _, _| bound(pod, "127.0.0.1"), TCP_80, &[]),
        row("node-address", port(80), |pod, _, address| bound(pod, address), TCP_80, &WEB[..1]),
        row("ipv6", port(80), |pod, _, _| bound(pod, "2001:db8::1"), TCP_80, &WEB[1..]),
        row(
            "tcp-and-udp",
            json!([
                { "containerPort": 53, "hostPort": 53 },
                { "containerPort": 53, "hostPort": 53, "protocol": "UDP" },
            ]),
            bare,
            &[(53, "TCP"), (53, "UDP")],
            &["tcp/53 192.0.2.0/24", "tcp/53 2001:db8::/32", "udp/53 192.0.2.0/24", "udp/53 2001:db8::/32"],
        ),
        row(
            "sctp",
            json!([{ "containerPort": 3868, "hostPort": 3868, "protocol": "SCTP" }]),
            bare,
            &[(3868, "SCTP")],
            &["sctp/3868 192.0.2.0/24", "sctp/3868 2001:db8::/32"],
        ),
    ]
}

fn bound(pod: &mut Value, address: &str) {
    pod["spec"]["containers"][0]["ports"][0]["hostIP"] = json!(address);
}

/// The pod of a row on a node.
fn made(row: &Row, name: &str, node: &str, address: &str) -> Value {
    let mut made = pod(name, node, json!({}), row.ports.clone());
    made["metadata"]["labels"] = json!({ "row": name });
    (row.change)(&mut made, node, address);
    made
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn every_workload_opens_exactly_what_is_asked_for_on_google() {
    every_workload_opens_exactly_what_is_asked_for(Mode::Destination).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn every_workload_opens_exactly_what_is_asked_for_on_amazon() {
    every_workload_opens_exactly_what_is_asked_for(Mode::Attach).await;
}

/// By annotation and by object.
async fn every_workload_opens_exactly_what_is_asked_for(mode: Mode) {
    let rows = rows();
    let count = u32::try_from(rows.len()).expect("a few rows");
    let world = World::start(mode, 2 * count).await;
    world.cluster.apply(&crate::process::root().join("deploy/crd.yaml")).await;
    let _controller = world.controller(&[]);
    let (annotated, selected) = world.machines.split_at(rows.len());
    for ((row, by_annotation), by_object) in rows.iter().zip(annotated).zip(selected) {
        let mut pod = made(row, &format!("{}-a", row.name), &by_annotation.name, by_annotation.address());
        let listed: Vec<String> =
            row.asked.iter().map(|(port, protocol)| format!("{port}/{protocol}").to_lowercase()).collect();
        pod["metadata"]["annotations"]["hostport-firewall.dev/expose"] = json!(listed.join(", "));
        pod["metadata"]["annotations"]["hostport-firewall.dev/source-ranges"] =
            json!("192.0.2.0/24, 2001:db8::/32");
        world.cluster.run(pod).await;

        let name = format!("{}-o", row.name);
        let ports: Vec<Value> =
            row.asked.iter().map(|(port, protocol)| json!({ "port": port, "protocol": protocol })).collect();
        let exposure = json!({
            "apiVersion": "hostport-firewall.dev/v1alpha1",
            "kind": "HostPortExposure",
            "metadata": { "name": name, "namespace": "default" },
            "spec": {
                "podSelector": { "matchLabels": { "row": name } },
                "ports": ports,
                "sourceRanges": ["192.0.2.0/24", "2001:db8::/32"],
            },
        });
        world.cluster.create(exposure).await;
        world.cluster.run(made(row, &name, &by_object.name, by_object.address())).await;
    }
    for ((row, by_annotation), by_object) in rows.iter().zip(annotated).zip(selected) {
        for machine in [by_annotation, by_object] {
            world.opens(machine, row.open).await;
        }
    }
    world.settled().await;
    for ((row, by_annotation), by_object) in rows.iter().zip(annotated).zip(selected) {
        for machine in [by_annotation, by_object] {
            world.opens(machine, row.open).await;
        }
    }
}
