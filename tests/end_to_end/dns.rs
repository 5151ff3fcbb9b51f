//! Hostnames: an address is published once its port is open and its pod ready, and removed before the port
//! closes.

use std::time::Duration;

use gce_simulator::{Fault, FaultKind};
use hostport_firewall::k8s::objects::DNSEndpoint;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::environment::{Mode, TestEnvironment};
use crate::objects::{host_port, pod};
use crate::process::root;
use crate::wait::wait_until;

const HOSTNAME: &str = "game.example.com";

/// Returns the CRD of external-dns' kind, with the fields that the controller writes.
fn dns_endpoint_crd() -> Value {
    let text = json!({ "type": "string" });
    let record = json!({
        "type": "object",
        "properties": {
            "dnsName": text,
            "recordType": text,
            "recordTTL": { "type": "integer", "format": "int64" },
            "targets": { "type": "array", "items": text },
        },
    });
    let spec = json!({
        "type": "object",
        "properties": { "endpoints": { "type": "array", "items": record } },
    });
    let schema = json!({ "type": "object", "properties": { "spec": spec } });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "dnsendpoints.externaldns.k8s.io",
            "annotations": { "api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/external-dns/pull/2007" },
        },
        "spec": {
            "group": "externaldns.k8s.io",
            "scope": "Namespaced",
            "names": { "kind": "DNSEndpoint", "plural": "dnsendpoints", "singular": "dnsendpoint" },
            "versions": [{
                "name": "v1alpha1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema },
            }],
        },
    })
}

/// Waits until the hostname has exactly these addresses.
async fn wait_until_published(env: &TestEnvironment, expected: &[&str]) {
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    wait_until(&format!("{HOSTNAME} has {expected:?}"), async || {
        let all = list_endpoints(env).await;
        let records = all.iter().flat_map(|endpoint| &endpoint.spec.endpoints);
        let records = records.filter(|record| record.dns_name == HOSTNAME && record.record_ttl == 60);
        let mut found: Vec<String> = records.flat_map(|record| record.targets.clone()).collect();
        found.sort();
        if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

async fn list_endpoints(env: &TestEnvironment) -> Vec<DNSEndpoint> {
    let api: Api<DNSEndpoint> = Api::namespaced(env.cluster.client.clone(), "default");
    api.list(&ListParams::default()).await.expect("DNSEndpoints").items
}

/// Returns a `DNSEndpoint` that is not the controller's.
fn foreign_endpoint() -> Value {
    json!({
        "apiVersion": "externaldns.k8s.io/v1alpha1",
        "kind": "DNSEndpoint",
        "metadata": { "name": "other", "namespace": "default" },
        "spec": { "endpoints": [{ "dnsName": "www.example.com", "recordType": "A", "targets": ["203.0.113.1"] }] },
    })
}

/// Returns a pod that exposes 7777/udp and names a hostname.
fn game(name: &str, node: &str) -> Value {
    let annotations = json!({
        "hostport-firewall.dev/expose": "7777/udp",
        "hostport-firewall.dev/source-ranges": "192.0.2.0/24",
        "hostport-firewall.dev/hostname": HOSTNAME,
    });
    pod(name, node, annotations, json!([{ "containerPort": 7777, "hostPort": 7777, "protocol": "UDP" }]))
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn dns_record_appears_when_ready_and_leaves_before_closing() {
    let env = TestEnvironment::start(Mode::Destination, 2).await;
    let [a, b] = &env.machines[..] else { panic!("two machines") };
    env.cluster.apply(dns_endpoint_crd()).await;
    env.cluster.apply_file(&root().join("deploy/external-dns/rbac.yaml")).await;
    env.cluster.apply(foreign_endpoint()).await;
    let controller = env.start_controller(&["--external-dns"]);
    let open = ["udp/7777 192.0.2.0/24"];

    env.gce().cloud().deny("*", "compute.firewalls.create");
    env.cluster.create_pod(game("game-a", &a.name)).await;
    env.cluster.mark_ready("game-a").await;
    env.cluster.wait_for_event("Pod", "game-a", "PermissionDenied").await;
    wait_until_published(&env, &[]).await;
    controller.kill();
    env.gce().cloud().grant_all();
    let controller = env.start_controller(&["--external-dns"]);
    env.wait_until_open(a, &open).await;
    wait_until_published(&env, &[a.address()]).await;

    env.cluster.create_pod(game("game-b", &b.name)).await;
    env.wait_until_open(b, &open).await;
    env.cluster.wait_for_event("Pod", "game-b", "open on node").await;
    wait_until_published(&env, &[a.address()]).await;
    env.cluster.mark_ready("game-b").await;
    wait_until_published(&env, &[a.address(), b.address()]).await;

    // No port can close now: the address is removed all the same.
    env.gce().cloud().deny("*", "compute.firewalls.update");
    env.gce().cloud().deny("*", "compute.firewalls.delete");
    env.cluster.delete_pod("game-a").await;
    wait_until_published(&env, &[b.address()]).await;
    env.wait_until_open(a, &open).await;
    controller.kill();

    // An address whose pod ended while no controller ran is removed by the next controller; a valid one is
    // kept.
    env.gce().cloud().grant_all();
    env.cluster.delete_pod("game-b").await;
    env.cluster.create_pod(game("game-a", &a.name)).await;
    env.cluster.mark_ready("game-a").await;
    let _controller = env.start_controller(&["--external-dns"]);
    wait_until_published(&env, &[a.address()]).await;
    env.wait_until_open(b, &[]).await;

    // A terminating pod keeps its open port, and gets no new clients.
    env.cluster.begin_to_delete_pod("game-a").await;
    wait_until_published(&env, &[]).await;
    env.wait_until_idle().await;
    env.wait_until_open(a, &open).await;
    env.cluster.delete_pod("game-a").await;
    env.wait_until_open(a, &[]).await;

    // The firewall closes slowly: the address is removed long before.
    env.cluster.create_pod(game("game-c", &a.name)).await;
    env.cluster.mark_ready("game-c").await;
    wait_until_published(&env, &[a.address()]).await;
    let kind = FaultKind::SlowOperation(Duration::from_secs(15));
    env.gce().cloud().inject(Fault { method: "compute.firewalls.delete".to_owned(), times: 1, kind });
    env.cluster.delete_pod("game-c").await;
    wait_until_published(&env, &[]).await;
    assert!(!env.read_open_rules(a).await.is_empty(), "the address left before the firewall closed");
    env.wait_until_open(a, &[]).await;
    let left = list_endpoints(&env).await;
    assert_eq!(left.len(), 1, "the foreign one: {left:?}");
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn unpublishable_hostname_is_reported_and_blocks_no_port() {
    let env = TestEnvironment::start(Mode::Destination, 1).await;
    let [a] = &env.machines[..] else { panic!("one machine") };
    let _controller = env.start_controller(&["--external-dns"]);
    let annotations = json!({
        "hostport-firewall.dev/expose": "80",
        "hostport-firewall.dev/source-ranges": "192.0.2.0/24",
        "hostport-firewall.dev/hostname": HOSTNAME,
    });
    let bound = host_port(80);
    env.cluster.create_pod(pod("web", &a.name, annotations, bound)).await;
    env.wait_until_open(a, &["tcp/80 192.0.2.0/24"]).await;
    let note = env.cluster.wait_for_event("Pod", "web", HOSTNAME).await;
    assert!(note.contains("not served"), "{note}");
}
