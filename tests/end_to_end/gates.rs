//! The readiness gate: open once the cloud confirms the pod's own ports, whatever happens to those of others.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{owned_by, pod};
use crate::exposures::{becomes, exposure};
use crate::metrics::{free_port, metric};
use crate::process::root;
use crate::world::{Mode, World};

const OPEN: [&str; 2] = ["tcp/80 0.0.0.0/0", "tcp/80 ::/0"];

/// A pod that exposes port 80, and waits for it if it is gated.
fn web(name: &str, node: &str, gated: bool) -> Value {
    let expose = json!({ "hostport-firewall.dev/expose": "80" });
    let mut pod = pod(name, node, expose, json!([{ "containerPort": 80, "hostPort": 80 }]));
    pod["metadata"]["labels"] = json!({ "app": "web" });
    // Pods of one workload share a firewall rule.
    owned_by(&mut pod, "DaemonSet", "web");
    if gated {
        pod["spec"]["readinessGates"] = json!([{ "conditionType": "hostport-firewall.dev/open" }]);
    }
    pod
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn a_pod_that_declares_the_gate_waits_for_the_cloud_and_no_other_pod_is_touched() {
    let world = World::start(Mode::Destination, 2).await;
    let [a, b] = &world.machines[..] else { panic!("two machines") };
    world.google().cloud().deny("*", "compute.firewalls.create");
    world.cluster.run(web("gated", &a.name, true)).await;
    world.cluster.run(web("plain", &b.name, false)).await;
    let controller = world.controller(&[]);
    world.cluster.gate("gated", "False", "PermissionDenied").await;
    drop(controller);
    world.google().cloud().grant_all();
    let _controller = world.controller(&[]);
    world.opens(a, &OPEN).await;
    world.cluster.gate("gated", "True", "Open").await;
    let plain = world.cluster.conditions("plain").await;
    assert!(plain.is_empty(), "it declares no gate: {plain:?}");
}

/// The gates of these pods, which have to be open, with the times since when.
async fn open_since(world: &World, pods: &[&str]) -> Vec<Value> {
    let mut since = Vec::new();
    for pod in pods {
        let conditions = world.cluster.conditions(pod).await;
        let gate = conditions.iter().find(|condition| condition["type"] == "hostport-firewall.dev/open");
        let gate = gate.unwrap_or_else(|| panic!("{pod} has no gate"));
        assert_eq!(gate["status"], "True", "{pod}: {gate}");
        since.push(gate["lastTransitionTime"].clone());
    }
    since
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn what_becomes_of_other_nodes_turns_no_gate_whose_port_is_open() {
    let world = World::start(Mode::Destination, 3).await;
    let [a, b, c] = &world.machines[..] else { panic!("three machines") };
    let controller = world.controller(&[]);
    for (name, machine) in [("a", a), ("b", b)] {
        world.cluster.run(web(name, &machine.name, true)).await;
        world.cluster.gate(name, "True", "Open").await;
    }
    let since = open_since(&world, &["a", "b"]).await;

    // The one rule of the workload cannot take another node.
    world.google().cloud().deny("*", "compute.firewalls.update");
    world.cluster.run(web("c", &c.name, true)).await;
    world.cluster.gate("c", "False", "PermissionDenied").await;
    world.cluster.event("Pod", "c", "PermissionDenied").await;
    world.cluster.event("Node", &c.name, "PermissionDenied").await;
    assert_eq!(open_since(&world, &["a", "b"]).await, since);
    assert_eq!(world.cluster.events("Pod", "a").await.len(), 1, "that it has opened");
    controller.kill();

    // The rule keeps a node that it should not have.
    world.google().cloud().grant_all();
    world.cluster.stop("c").await;
    world.cluster.stop("b").await;
    let read = world.log_since(0).len();
    let _controller = world.controller(&["--policy", "open-only"]);
    world.says_since(read, "stays as it is").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(open_since(&world, &["a"]).await, since[..1]);
    world.opens(b, &OPEN).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn a_cloud_that_cannot_be_read_turns_no_gate_and_no_status() {
    let world = World::start(Mode::Destination, 1).await;
    let [a] = &world.machines[..] else { panic!("one machine") };
    world.cluster.apply(&root().join("deploy/crd.yaml")).await;
    let controller = world.controller(&[]);
    world
        .cluster
        .create(exposure(
            &json!({ "podSelector": { "matchLabels": { "app": "web" } }, "ports": [{ "port": 80 }] }),
        ))
        .await;
    world.cluster.run(web("a", &a.name, true)).await;
    world.cluster.gate("a", "True", "Open").await;
    let status = becomes(&world, "Programmed", "True", "Programmed").await;
    let since = open_since(&world, &["a"]).await;
    controller.kill();

    world.google().cloud().deny("*", "compute.firewalls.list");
    let port = free_port();
    let _controller = world.controller(&["--metrics-address", &format!("127.0.0.1:{port}")]);
    world.says("cannot be observed").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(open_since(&world, &["a"]).await, since);
    assert_eq!(becomes(&world, "Programmed", "True", "Programmed").await, status);
    let unreadable = metric(port, "hostport_firewall_cloud_unreadable", &["cloud=\"gce\""]);
    assert_eq!(unreadable.as_deref(), Some("1"));
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn one_cloud_that_cannot_be_read_takes_nothing_from_the_other() {
    let world = World::start(Mode::Mixed, 1).await;
    let [on_amazon, on_google] = &world.machines[..] else { panic!("two machines") };
    world.cluster.apply(&root().join("deploy/crd.yaml")).await;
    world.google().cloud().deny("*", "compute.firewalls.list");
    let selector = json!({ "matchLabels": { "app": "web" } });
    let spec =
        json!({ "podSelector": selector, "ports": [{ "port": 80 }], "sourceRanges": ["192.0.2.0/24"] });
    world.cluster.create(exposure(&spec)).await;
    for (name, machine) in [("on-amazon", on_amazon), ("on-google", on_google)] {
        let mut pod = web(name, &machine.name, true);
        pod["metadata"]["annotations"] = json!({});
        world.cluster.run(pod).await;
    }
    let _controller = world.controller(&[]);
    world.cluster.gate("on-amazon", "True", "Open").await;
    world.opens(on_amazon, &["tcp/80 192.0.2.0/24"]).await;
    let status = becomes(&world, "Programmed", "Unknown", "NotConfirmed").await;
    assert_eq!(status["nodeCount"], 1, "{status:#}");
    assert!(world.cluster.conditions("on-google").await.is_empty(), "nothing is known of it");

    world.google().cloud().grant_all();
    world.cluster.gate("on-google", "True", "Open").await;
    let status = becomes(&world, "Programmed", "True", "Programmed").await;
    assert_eq!(status["nodeCount"], 2, "{status:#}");
    open_since(&world, &["on-amazon", "on-google"]).await;
}
