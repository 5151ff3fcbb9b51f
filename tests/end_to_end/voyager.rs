//! Voyager's HostPort Ingress: the ports it asks for, from the sources it names, and never its own tools' ports.

use serde_json::{Value, json};

use crate::cluster::pod;
use crate::world::{Mode, World};

/// An HAProxy pod as Voyager's operator makes it, with stats and exporter on.
fn haproxy(name: &str, node: &str) -> Value {
    let ports = json!([
        { "name": "tcp-80", "containerPort": 80 },
        { "name": "tcp-443", "containerPort": 443 },
        { "name": "stats", "containerPort": 56789 },
    ]);
    let mut pod = pod(name, node, json!({}), ports);
    pod["metadata"]["labels"] =
        json!({ "origin": "voyager", "origin-name": "shop", "origin-api-group": "networking.k8s.io" });
    pod["spec"]["hostNetwork"] = json!(true);
    pod["spec"]["containers"][0]["name"] = json!("haproxy");
    pod["spec"]["containers"].as_array_mut().expect("containers").push(json!({
        "name": "exporter", "image": "example.invalid/exporter", "ports": [{ "name": "http", "containerPort": 56790 }],
    }));
    pod
}

fn ingress(sources: &str) -> Value {
    let backend = json!({ "service": { "name": "shop", "port": { "number": 80 } } });
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": { "name": "shop", "namespace": "default", "annotations": {
            "ingress.appscode.com/type": "HostPort",
            "ingress.appscode.com/stats": "true",
            "hostport-firewall.dev/source-ranges": sources,
        } },
        "spec": {
            "tls": [{ "hosts": ["shop.example"], "secretName": "shop" }],
            "rules": [{ "host": "shop.example", "http": { "paths": [
                { "path": "/", "pathType": "Prefix", "backend": backend },
            ] } }],
        },
    })
}

async fn a_voyager_ingress_opens_its_ports(mode: Mode) {
    let world = World::start(mode, 3).await;
    let [a, b, c] = &world.machines[..] else { panic!("three machines") };
    let _controller = world.controller(&[]);
    world.cluster.create(ingress("192.0.2.0/24, 2001:db8:1::/48")).await;
    world.cluster.run(haproxy("voyager-shop-1", &a.name)).await;
    world.cluster.run(haproxy("voyager-shop-2", &b.name)).await;
    let open =
        ["tcp/80 192.0.2.0/24", "tcp/80 2001:db8:1::/48", "tcp/443 192.0.2.0/24", "tcp/443 2001:db8:1::/48"];
    world.opens(a, &open).await;
    world.opens(b, &open).await;
    world.opens(c, &[]).await;

    let before = world.settled().await;
    world.cluster.create(ingress("198.51.100.0/24")).await;
    for machine in [a, b] {
        world.opens(machine, &["tcp/80 198.51.100.0/24", "tcp/443 198.51.100.0/24"]).await;
    }
    let calls = world.settled().await.split_off(before.len());
    let expected: &[&str] = match mode {
        Mode::Attach => &["AuthorizeSecurityGroupIngress", "RevokeSecurityGroupIngress"],
        // Each of the two machines has a group of its own.
        Mode::Shared => &[
            "AuthorizeSecurityGroupIngress",
            "AuthorizeSecurityGroupIngress",
            "RevokeSecurityGroupIngress",
            "RevokeSecurityGroupIngress",
        ],
        // The IPv4 rule changes, and the IPv6 rule has no source left.
        Mode::Destination => &["compute.firewalls.delete", "compute.firewalls.patch"],
        Mode::Tags => &[
            "compute.firewalls.delete",
            "compute.firewalls.patch",
            "compute.instances.setTags",
            "compute.instances.setTags",
        ],
        Mode::Mixed => unreachable!("it has a case of its own"),
    };
    let mut sorted = calls.clone();
    sorted.sort();
    assert_eq!(sorted, expected, "{calls:?}");
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn a_voyager_ingress_opens_its_ports_by_destination_ranges() {
    a_voyager_ingress_opens_its_ports(Mode::Destination).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn a_voyager_ingress_opens_its_ports_by_network_tags() {
    a_voyager_ingress_opens_its_ports(Mode::Tags).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn a_voyager_ingress_opens_its_ports_by_attached_groups() {
    a_voyager_ingress_opens_its_ports(Mode::Attach).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn a_voyager_ingress_opens_its_ports_by_rules_in_shared_groups() {
    a_voyager_ingress_opens_its_ports(Mode::Shared).await;
}

/// The CRD of Voyager's own Ingress, serving these versions.
pub(crate) fn crd(versions: &[&str]) -> Value {
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

async fn voyagers_own_ingress_opens_its_ports(versions: &[&str]) {
    let world = World::start(Mode::Attach, 1).await;
    let machine = &world.machines[0];
    world.cluster.create(crd(versions)).await;
    let mut own = ingress("192.0.2.0/24");
    own["apiVersion"] = json!(format!("voyager.appscode.com/{}", versions[0]));
    own["spec"]["rules"] = json!([
        { "host": "shop.example", "http": { "port": "443", "paths": [] } },
        { "tcp": { "port": 5432, "backend": { "service": { "name": "db", "port": { "number": 5432 } } } } },
    ]);
    world.cluster.create(own).await;
    let mut pod = haproxy("voyager-shop-1", &machine.name);
    pod["metadata"]["labels"]["origin-api-group"] = json!("voyager.appscode.com");
    let ports = pod["spec"]["containers"][0]["ports"].as_array_mut().expect("ports");
    ports.push(json!({ "name": "tcp-5432", "containerPort": 5432 }));
    world.cluster.run(pod).await;
    let _controller = world.controller(&[]);
    world.opens(machine, &["tcp/80 192.0.2.0/24", "tcp/443 192.0.2.0/24", "tcp/5432 192.0.2.0/24"]).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn an_ingress_of_voyagers_own_api_opens_its_ports() {
    voyagers_own_ingress_opens_its_ports(&["v1", "v1beta1"]).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn an_ingress_of_voyagers_older_api_opens_its_ports() {
    voyagers_own_ingress_opens_its_ports(&["v1beta1"]).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn several_ingresses_share_a_node_and_one_that_is_deleted_closes_under_its_pods() {
    let world = World::start(Mode::Attach, 1).await;
    let machine = &world.machines[0];
    world.cluster.create(crd(&["v1"])).await;
    let _controller = world.controller(&[]);
    let own = |name: &str, port: u16, source: &str| {
        let mut own = ingress(source);
        own["apiVersion"] = json!("voyager.appscode.com/v1");
        own["metadata"]["name"] = json!(name);
        own["spec"]["rules"] = json!([{ "http": { "port": port, "paths": [] } }]);
        own
    };
    for (name, port, source) in [("shop", 8080, "192.0.2.0/24"), ("blog", 9090, "198.51.100.0/24")] {
        world.cluster.create(own(name, port, source)).await;
        let mut pod = haproxy(&format!("voyager-{name}-1"), &machine.name);
        pod["metadata"]["labels"]["origin-name"] = json!(name);
        pod["metadata"]["labels"]["origin-api-group"] = json!("voyager.appscode.com");
        pod["spec"]["containers"][0]["ports"] =
            json!([{ "name": format!("tcp-{port}"), "containerPort": port }]);
        world.cluster.run(pod).await;
    }
    world.opens(machine, &["tcp/8080 192.0.2.0/24", "tcp/9090 198.51.100.0/24"]).await;
    world.cluster.delete("ingresses.voyager.appscode.com", "shop").await;
    world.opens(machine, &["tcp/9090 198.51.100.0/24"]).await;

    // Voyager's definition lets anything in; what cannot be read opens nothing.
    let mut unreadable = own("blog", 9090, "198.51.100.0/24");
    unreadable["spec"]["rules"] = json!("none");
    world.cluster.create(unreadable).await;
    world.opens(machine, &[]).await;
    world.cluster.event("Ingress", "blog", "cannot be read").await;
    world.cluster.create(own("blog", 9090, "198.51.100.0/24")).await;
    world.opens(machine, &["tcp/9090 198.51.100.0/24"]).await;
    world.cluster.stop("voyager-blog-1").await;
    world.opens(machine, &[]).await;
}
