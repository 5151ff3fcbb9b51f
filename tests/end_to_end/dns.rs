//! Hostnames: their addresses enter when the firewall is open and the pod ready, and leave before it closes.

use std::time::Duration;

use gce_simulator::{Fault, FaultKind};
use hostport_firewall::k8s::objects::DNSEndpoint;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::cluster::pod;
use crate::patience::until;
use crate::process::root;
use crate::world::{Mode, World};

const HOSTNAME: &str = "game.example.com";

/// The definition of external-dns' kind, as far as it checks what is written.
fn definition() -> Value {
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
async fn publishes(world: &World, expected: &[&str]) {
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    until(&format!("{HOSTNAME} has {expected:?}"), async || {
        let all = endpoints(world).await;
        let records = all.iter().flat_map(|endpoint| &endpoint.spec.endpoints);
        let records = records.filter(|record| record.dns_name == HOSTNAME && record.record_ttl == 60);
        let mut found: Vec<String> = records.flat_map(|record| record.targets.clone()).collect();
        found.sort();
        if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

async fn endpoints(world: &World) -> Vec<DNSEndpoint> {
    let api: Api<DNSEndpoint> = Api::namespaced(world.cluster.client.clone(), "default");
    api.list(&ListParams::default()).await.expect("DNSEndpoints").items
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn an_address_enters_when_open_and_ready_and_leaves_before_the_firewall_closes() {
    let world = World::start(Mode::Destination, 2).await;
    let [a, b] = &world.machines[..] else { panic!("two machines") };
    world.cluster.create(definition()).await;
    world.cluster.apply(&root().join("deploy/external-dns/rbac.yaml")).await;
    let someone_elses = json!({
        "apiVersion": "externaldns.k8s.io/v1alpha1",
        "kind": "DNSEndpoint",
        "metadata": { "name": "other", "namespace": "default" },
        "spec": { "endpoints": [{ "dnsName": "www.example.com", "recordType": "A", "targets": ["203.0.113.1"] }] },
    });
    world.cluster.create(someone_elses).await;
    let controller = world.controller(&["--external-dns"]);
    let open = ["udp/7777 192.0.2.0/24"];
    let annotations = json!({
        "hostport-firewall.dev/expose": "7777/udp",
        "hostport-firewall.dev/source-ranges": "192.0.2.0/24",
        "hostport-firewall.dev/hostname": HOSTNAME,
    });
    let bound = json!([{ "containerPort": 7777, "hostPort": 7777, "protocol": "UDP" }]);
    let game = |name: &str, node: &str| pod(name, node, annotations.clone(), bound.clone());

    world.google().cloud().deny("*", "compute.firewalls.create");
    world.cluster.run(game("game-a", &a.name)).await;
    world.cluster.ready("game-a").await;
    world.cluster.event("Pod", "game-a", "PermissionDenied").await;
    publishes(&world, &[]).await;
    controller.kill();
    world.google().cloud().grant_all();
    let controller = world.controller(&["--external-dns"]);
    world.opens(a, &open).await;
    publishes(&world, &[a.address()]).await;

    world.cluster.run(game("game-b", &b.name)).await;
    world.opens(b, &open).await;
    world.cluster.event("Pod", "game-b", "open on node").await;
    publishes(&world, &[a.address()]).await;
    world.cluster.ready("game-b").await;
    publishes(&world, &[a.address(), b.address()]).await;

    // Nothing can close now: the address leaves all the same.
    world.google().cloud().deny("*", "compute.firewalls.update");
    world.google().cloud().deny("*", "compute.firewalls.delete");
    world.cluster.stop("game-a").await;
    publishes(&world, &[b.address()]).await;
    world.opens(a, &open).await;
    controller.kill();

    // What has left while no controller ran leaves with the next; what is as it should be stays all the time.
    world.google().cloud().grant_all();
    world.cluster.stop("game-b").await;
    world.cluster.run(game("game-a", &a.name)).await;
    world.cluster.ready("game-a").await;
    let _controller = world.controller(&["--external-dns"]);
    publishes(&world, &[a.address()]).await;
    world.opens(b, &[]).await;

    // A pod that is ending serves on, and gets no new clients.
    world.cluster.begin_to_stop("game-a").await;
    publishes(&world, &[]).await;
    world.settled().await;
    world.opens(a, &open).await;
    world.cluster.stop("game-a").await;
    world.opens(a, &[]).await;

    // The firewall takes its time to close: until then the address is long gone.
    world.cluster.run(game("game-c", &a.name)).await;
    world.cluster.ready("game-c").await;
    publishes(&world, &[a.address()]).await;
    let kind = FaultKind::SlowOperation(Duration::from_secs(15));
    world.google().cloud().inject(Fault { method: "compute.firewalls.delete".to_owned(), times: 1, kind });
    world.cluster.stop("game-c").await;
    publishes(&world, &[]).await;
    assert!(!world.open(a).await.is_empty(), "the address left before the firewall closed");
    world.opens(a, &[]).await;
    let left = endpoints(&world).await;
    assert_eq!(left.len(), 1, "that of others: {left:?}");
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn a_hostname_that_cannot_be_published_is_told_and_holds_no_port_up() {
    let world = World::start(Mode::Destination, 1).await;
    let [a] = &world.machines[..] else { panic!("one machine") };
    let _controller = world.controller(&["--external-dns"]);
    let annotations = json!({
        "hostport-firewall.dev/expose": "80",
        "hostport-firewall.dev/source-ranges": "192.0.2.0/24",
        "hostport-firewall.dev/hostname": HOSTNAME,
    });
    let bound = json!([{ "containerPort": 80, "hostPort": 80 }]);
    world.cluster.run(pod("web", &a.name, annotations, bound)).await;
    world.opens(a, &["tcp/80 192.0.2.0/24"]).await;
    let told = world.cluster.event("Pod", "web", HOSTNAME).await;
    assert!(told.contains("not served"), "{told}");
}
