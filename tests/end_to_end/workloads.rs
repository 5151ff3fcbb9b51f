//! Every kind of workload under every intent that can name it: opened is exactly what is expected.

use serde_json::{Value, json};

use crate::cluster::{owned_by, pod};
use crate::exposures::exposure;
use crate::machine::Machine;
use crate::process::root;
use crate::voyager;
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

fn rows() -> Vec<Row> {
    let port = |number: u16| json!([{ "containerPort": 8080, "hostPort": number }]);
    let bare: fn(&mut Value, &str, &str) = |_, _, _| {};
    let row = |name, ports, change, asked, open| Row { name, ports, change, asked, open };
    vec![
        row("bare", port(80), bare, TCP_80, WEB),
        row("daemon-set", port(80), |pod, _, _| owned_by(pod, "DaemonSet", "web"), TCP_80, WEB),
        row("deployment", port(80), |pod, _, _| owned_by(pod, "ReplicaSet", "web-5d9c"), TCP_80, WEB),
        row("stateful-set", port(80), |pod, _, _| owned_by(pod, "StatefulSet", "web"), TCP_80, WEB),
        row(
            "static",
            port(80),
            |pod, node, _| {
                owned_by(pod, "Node", node);
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

/// A way to ask for a pod's ports.
#[derive(Clone, Copy, PartialEq)]
enum Intent {
    Annotation,
    Object,
    /// A Voyager Ingress, of which the pod is the `HAProxy`
    Voyager,
    /// A Service, of which the pod is k3s' `ServiceLB`
    Balancer,
}

const SOURCES: &str = "192.0.2.0/24, 2001:db8::/32";

impl Intent {
    /// The pod of a row, and the object that asks for its ports if it does not itself.
    fn made(self, row: &Row, machine: &Machine) -> (Value, Option<Value>) {
        let name = format!("{}-{}", row.name, self.letter());
        let mut pod = pod(&name, &machine.name, json!({}), row.ports.clone());
        (row.change)(&mut pod, &machine.name, machine.address());
        let asking = match self {
            Self::Annotation => {
                asks_itself(&mut pod, row);
                None
            }
            Self::Object => {
                pod["metadata"]["labels"] = json!({ "row": name });
                Some(object(row, &name))
            }
            Self::Voyager => {
                pod["metadata"]["labels"] = json!({
                    "origin": "voyager", "origin-name": name, "origin-api-group": "voyager.appscode.com",
                });
                pod["spec"]["containers"][0]["name"] = json!("haproxy");
                Some(ingress(row, &name))
            }
            Self::Balancer => {
                pod["metadata"]["labels"] = json!({ "svccontroller.k3s.cattle.io/svcname": name });
                Some(balancer(row, &name))
            }
        };
        (pod, asking)
    }

    const fn letter(self) -> &'static str {
        match self {
            Self::Annotation => "a",
            Self::Object => "o",
            Self::Voyager => "v",
            Self::Balancer => "b",
        }
    }

    /// What is open on the node of a row. A frontend of Voyager's speaks TCP, and is one of `HAProxy`'s own.
    fn open(self, row: &Row) -> Vec<&'static str> {
        let mut open = row.open.to_vec();
        if self == Self::Voyager {
            open.retain(|rule| rule.starts_with("tcp/") && row.name != "sidecar");
        }
        open
    }
}

fn asks_itself(pod: &mut Value, row: &Row) {
    let listed: Vec<String> =
        row.asked.iter().map(|(port, protocol)| format!("{port}/{protocol}").to_lowercase()).collect();
    let annotations = &mut pod["metadata"]["annotations"];
    annotations["hostport-firewall.dev/expose"] = json!(listed.join(", "));
    annotations["hostport-firewall.dev/source-ranges"] = json!(SOURCES);
}

fn object(row: &Row, name: &str) -> Value {
    let ports: Vec<Value> =
        row.asked.iter().map(|(port, protocol)| json!({ "port": port, "protocol": protocol })).collect();
    let sources: Vec<&str> = SOURCES.split(", ").collect();
    let selector = json!({ "matchLabels": { "row": name } });
    let mut object = exposure(&json!({ "podSelector": selector, "ports": ports, "sourceRanges": sources }));
    object["metadata"]["name"] = json!(name);
    object
}

fn ingress(row: &Row, name: &str) -> Value {
    let rules: Vec<Value> = row.asked.iter().map(|(port, _)| json!({ "tcp": { "port": port } })).collect();
    let annotations = json!({
        "ingress.appscode.com/type": "HostPort", "hostport-firewall.dev/source-ranges": SOURCES,
    });
    json!({
        "apiVersion": "voyager.appscode.com/v1",
        "kind": "Ingress",
        "metadata": { "name": name, "namespace": "default", "annotations": annotations },
        "spec": { "rules": rules },
    })
}

fn balancer(row: &Row, name: &str) -> Value {
    let port = |(position, (port, protocol)): (usize, &(u16, &str))| json!({ "name": format!("p{position}"), "port": port, "protocol": protocol });
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name, "namespace": "default", "annotations": {
            "hostport-firewall.dev/source-ranges": SOURCES,
        } },
        "spec": {
            "type": "LoadBalancer",
            "ports": row.asked.iter().enumerate().map(port).collect::<Vec<_>>(),
            "loadBalancerSourceRanges": ["198.51.100.0/24"],
            "selector": { "row": name },
        },
    })
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn every_workload_opens_exactly_what_is_asked_for_on_google() {
    let intents = [Intent::Annotation, Intent::Object, Intent::Voyager, Intent::Balancer];
    every_workload_opens_exactly_what_is_asked_for(Mode::Destination, &intents).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn every_workload_opens_exactly_what_is_asked_for_on_amazon() {
    let intents = [Intent::Annotation, Intent::Object];
    every_workload_opens_exactly_what_is_asked_for(Mode::Attach, &intents).await;
}

/// Each row under each intent, on a node of its own.
async fn every_workload_opens_exactly_what_is_asked_for(mode: Mode, intents: &[Intent]) {
    let rows = rows();
    let cases: Vec<(&Row, Intent)> =
        rows.iter().flat_map(|row| intents.iter().map(move |intent| (row, *intent))).collect();
    let world = World::start(mode, u32::try_from(cases.len()).expect("a few")).await;
    world.cluster.apply(&root().join("deploy/crd.yaml")).await;
    world.cluster.create(voyager::crd(&["v1"])).await;
    let _controller = world.controller(&[]);
    for ((row, intent), machine) in cases.iter().zip(&world.machines) {
        let (pod, asking) = intent.made(row, machine);
        if let Some(asking) = asking {
            world.cluster.create(asking).await;
        }
        world.cluster.run(pod).await;
    }
    for ((row, intent), machine) in cases.iter().zip(&world.machines) {
        world.opens(machine, &intent.open(row)).await;
    }
    world.settled().await;
    for ((row, intent), machine) in cases.iter().zip(&world.machines) {
        world.opens(machine, &intent.open(row)).await;
    }
}
