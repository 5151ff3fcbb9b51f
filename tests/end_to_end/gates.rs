//! The readiness gate: true once the cloud confirms the pod's own ports, whatever happens to other pods'
//! ports.

use std::time::Duration;

use serde_json::{Value, json};

use crate::environment::{ANYWHERE_80, Mode, TestEnvironment};
use crate::metrics::read_metric;
use crate::objects::{add_readiness_gate, daemon_set_pod, set_web_label, web_exposure};
use crate::process::{find_free_port, root};

/// Returns a pod that exposes port 80 and, if `gated`, is ready only once it is open.
fn web(name: &str, node: &str, gated: bool) -> Value {
    let mut pod = daemon_set_pod(name, node, 80);
    set_web_label(&mut pod);
    if gated {
        add_readiness_gate(&mut pod);
    }
    pod
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn gate_opens_after_cloud_confirms_and_only_where_declared() {
    let env = TestEnvironment::start(Mode::Destination, 2).await;
    let [a, b] = &env.machines[..] else { panic!("two machines") };
    env.gce().cloud().deny("*", "compute.firewalls.create");
    env.cluster.create_pod(web("gated", &a.name, true)).await;
    env.cluster.create_pod(web("plain", &b.name, false)).await;
    let controller = env.start_controller(&[]);
    env.cluster.wait_for_gate("gated", "False", "PermissionDenied").await;
    drop(controller);
    env.gce().cloud().grant_all();
    let _controller = env.start_controller(&[]);
    env.wait_until_open(a, ANYWHERE_80).await;
    env.cluster.wait_for_gate("gated", "True", "Open").await;
    let plain = env.cluster.list_conditions("plain").await;
    assert!(plain.is_empty(), "it declares no gate: {plain:?}");
}

/// Checks that the gates of these pods are true, and returns the times of their last transitions.
async fn read_open_gate_times(env: &TestEnvironment, pods: &[&str]) -> Vec<Value> {
    let mut since = Vec::new();
    for pod in pods {
        let conditions = env.cluster.list_conditions(pod).await;
        let gate = conditions.iter().find(|condition| condition["type"] == "hostport-firewall.dev/open");
        let gate = gate.unwrap_or_else(|| panic!("{pod} has no gate"));
        assert_eq!(gate["status"], "True", "{pod}: {gate}");
        since.push(gate["lastTransitionTime"].clone());
    }
    since
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn open_gate_is_unaffected_by_failures_on_other_nodes() {
    let env = TestEnvironment::start(Mode::Destination, 3).await;
    let [a, b, c] = &env.machines[..] else { panic!("three machines") };
    let controller = env.start_controller(&[]);
    for (name, machine) in [("a", a), ("b", b)] {
        env.cluster.create_pod(web(name, &machine.name, true)).await;
        env.cluster.wait_for_gate(name, "True", "Open").await;
    }
    let since = read_open_gate_times(&env, &["a", "b"]).await;

    // The workload's one rule cannot be extended to another node.
    env.gce().cloud().deny("*", "compute.firewalls.update");
    env.cluster.create_pod(web("c", &c.name, true)).await;
    env.cluster.wait_for_gate("c", "False", "PermissionDenied").await;
    env.cluster.wait_for_event("Pod", "c", "PermissionDenied").await;
    env.cluster.wait_for_event("Node", &c.name, "PermissionDenied").await;
    assert_eq!(read_open_gate_times(&env, &["a", "b"]).await, since);
    assert_eq!(env.cluster.list_events("Pod", "a").await.len(), 1, "the Event that it has opened");
    controller.kill();

    // The rule keeps a node that it should lose.
    env.gce().cloud().grant_all();
    env.cluster.delete_pod("c").await;
    env.cluster.delete_pod("b").await;
    let start = env.read_log_since(0).len();
    let _controller = env.start_controller(&["--policy", "open-only"]);
    env.wait_for_log_since(start, "stays as it is").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(read_open_gate_times(&env, &["a"]).await, since[..1]);
    env.wait_until_open(b, ANYWHERE_80).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn unreadable_cloud_changes_no_gate_and_no_status() {
    let env = TestEnvironment::start(Mode::Destination, 1).await;
    let [a] = &env.machines[..] else { panic!("one machine") };
    env.cluster.apply_file(&root().join("deploy/crd.yaml")).await;
    let controller = env.start_controller(&[]);
    env.cluster.apply(web_exposure(json!([{ "port": 80 }]), &[])).await;
    env.cluster.create_pod(web("a", &a.name, true)).await;
    env.cluster.wait_for_gate("a", "True", "Open").await;
    let status = env.cluster.wait_for_condition("Programmed", "True", "Programmed").await;
    let since = read_open_gate_times(&env, &["a"]).await;
    controller.kill();

    env.gce().cloud().deny("*", "compute.firewalls.list");
    let port = find_free_port();
    let _controller = env.start_controller(&["--metrics-address", &format!("127.0.0.1:{port}")]);
    env.wait_for_log("cannot be observed").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(read_open_gate_times(&env, &["a"]).await, since);
    assert_eq!(env.cluster.wait_for_condition("Programmed", "True", "Programmed").await, status);
    let failing = read_metric(port, "hostport_firewall_observe_failing", &["cloud=\"gce\""]);
    assert_eq!(failing.as_deref(), Some("1"));
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn unreadable_cloud_does_not_affect_the_other_cloud() {
    let env = TestEnvironment::start(Mode::Mixed, 1).await;
    let [on_aws, on_gce] = &env.machines[..] else { panic!("two machines") };
    env.cluster.apply_file(&root().join("deploy/crd.yaml")).await;
    env.gce().cloud().deny("*", "compute.firewalls.list");
    env.cluster.apply(web_exposure(json!([{ "port": 80 }]), &["192.0.2.0/24"])).await;
    for (name, machine) in [("on-aws", on_aws), ("on-gce", on_gce)] {
        let mut pod = web(name, &machine.name, true);
        pod["metadata"]["annotations"] = json!({});
        env.cluster.create_pod(pod).await;
    }
    let _controller = env.start_controller(&[]);
    env.cluster.wait_for_gate("on-aws", "True", "Open").await;
    env.wait_until_open(on_aws, &["tcp/80 192.0.2.0/24"]).await;
    let status = env.cluster.wait_for_condition("Programmed", "Unknown", "NotConfirmed").await;
    assert_eq!(status["nodeCount"], 1, "{status:#}");
    assert!(env.cluster.list_conditions("on-gce").await.is_empty(), "nothing is known about it");

    env.gce().cloud().grant_all();
    env.cluster.wait_for_gate("on-gce", "True", "Open").await;
    let status = env.cluster.wait_for_condition("Programmed", "True", "Programmed").await;
    assert_eq!(status["nodeCount"], 2, "{status:#}");
    read_open_gate_times(&env, &["on-aws", "on-gce"]).await;
}
