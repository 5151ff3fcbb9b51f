//! Voyager's HostPort Ingress: its ports open to the sources it names, and never those of its stats and
//! exporter.

use serde_json::{Value, json};

use crate::environment::{Mode, TestEnvironment};
use crate::objects::{ingress, pod, voyager_crd};

/// Returns an HAProxy pod as Voyager's operator makes it, with stats and exporter on.
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

fn shop_ingress(sources: &str) -> Value {
    let backend = json!({ "service": { "name": "shop", "port": { "number": 80 } } });
    let annotations = json!({
        "ingress.appscode.com/type": "HostPort",
        "ingress.appscode.com/stats": "true",
        "hostport-firewall.dev/source-ranges": sources,
    });
    let spec = json!({
        "tls": [{ "hosts": ["shop.example"], "secretName": "shop" }],
        "rules": [{ "host": "shop.example", "http": { "paths": [
            { "path": "/", "pathType": "Prefix", "backend": backend },
        ] } }],
    });
    ingress("networking.k8s.io/v1", "shop", &annotations, &spec)
}

async fn voyager_ingress_opens_its_ports(mode: Mode) {
    let env = TestEnvironment::start(mode, 3).await;
    let [a, b, c] = &env.machines[..] else { panic!("three machines") };
    let _controller = env.start_controller(&[]);
    env.cluster.apply(shop_ingress("192.0.2.0/24, 2001:db8:1::/48")).await;
    env.cluster.create_pod(haproxy("voyager-shop-1", &a.name)).await;
    env.cluster.create_pod(haproxy("voyager-shop-2", &b.name)).await;
    let open =
        ["tcp/80 192.0.2.0/24", "tcp/80 2001:db8:1::/48", "tcp/443 192.0.2.0/24", "tcp/443 2001:db8:1::/48"];
    env.wait_until_open(a, &open).await;
    env.wait_until_open(b, &open).await;
    env.wait_until_open(c, &[]).await;

    let before = env.wait_until_idle().await;
    env.cluster.apply(shop_ingress("198.51.100.0/24")).await;
    for machine in [a, b] {
        env.wait_until_open(machine, &["tcp/80 198.51.100.0/24", "tcp/443 198.51.100.0/24"]).await;
    }
    let calls = env.wait_until_idle().await.split_off(before.len());
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
async fn voyager_ingress_opens_its_ports_by_destination_ranges() {
    voyager_ingress_opens_its_ports(Mode::Destination).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn voyager_ingress_opens_its_ports_by_network_tags() {
    voyager_ingress_opens_its_ports(Mode::Tags).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn voyager_ingress_opens_its_ports_by_attached_groups() {
    voyager_ingress_opens_its_ports(Mode::Attach).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn voyager_ingress_opens_its_ports_by_rules_in_shared_groups() {
    voyager_ingress_opens_its_ports(Mode::Shared).await;
}

async fn voyager_api_ingress_opens_its_ports(versions: &[&str]) {
    let env = TestEnvironment::start(Mode::Attach, 1).await;
    let machine = &env.machines[0];
    env.cluster.apply(voyager_crd(versions)).await;
    let mut own = shop_ingress("192.0.2.0/24");
    own["apiVersion"] = json!(format!("voyager.appscode.com/{}", versions[0]));
    own["spec"]["rules"] = json!([
        { "host": "shop.example", "http": { "port": "443", "paths": [] } },
        { "tcp": { "port": 5432, "backend": { "service": { "name": "db", "port": { "number": 5432 } } } } },
    ]);
    env.cluster.apply(own).await;
    let mut pod = haproxy("voyager-shop-1", &machine.name);
    pod["metadata"]["labels"]["origin-api-group"] = json!("voyager.appscode.com");
    let ports = pod["spec"]["containers"][0]["ports"].as_array_mut().expect("ports");
    ports.push(json!({ "name": "tcp-5432", "containerPort": 5432 }));
    env.cluster.create_pod(pod).await;
    let _controller = env.start_controller(&[]);
    env.wait_until_open(machine, &["tcp/80 192.0.2.0/24", "tcp/443 192.0.2.0/24", "tcp/5432 192.0.2.0/24"])
        .await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn ingress_of_voyager_v1_opens_its_ports() {
    voyager_api_ingress_opens_its_ports(&["v1", "v1beta1"]).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn ingress_of_voyager_v1beta1_opens_its_ports() {
    voyager_api_ingress_opens_its_ports(&["v1beta1"]).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn deleted_ingress_closes_only_its_own_ports_on_a_shared_node() {
    let env = TestEnvironment::start(Mode::Attach, 1).await;
    let machine = &env.machines[0];
    env.cluster.apply(voyager_crd(&["v1"])).await;
    let _controller = env.start_controller(&[]);
    let own = |name: &str, port: u16, source: &str| {
        let mut own = shop_ingress(source);
        own["apiVersion"] = json!("voyager.appscode.com/v1");
        own["metadata"]["name"] = json!(name);
        own["spec"]["rules"] = json!([{ "http": { "port": port, "paths": [] } }]);
        own
    };
    for (name, port, source) in [("shop", 8080, "192.0.2.0/24"), ("blog", 9090, "198.51.100.0/24")] {
        env.cluster.apply(own(name, port, source)).await;
        let mut pod = haproxy(&format!("voyager-{name}-1"), &machine.name);
        pod["metadata"]["labels"]["origin-name"] = json!(name);
        pod["metadata"]["labels"]["origin-api-group"] = json!("voyager.appscode.com");
        pod["spec"]["containers"][0]["ports"] =
            json!([{ "name": format!("tcp-{port}"), "containerPort": port }]);
        env.cluster.create_pod(pod).await;
    }
    env.wait_until_open(machine, &["tcp/8080 192.0.2.0/24", "tcp/9090 198.51.100.0/24"]).await;
    env.cluster.delete("ingresses.voyager.appscode.com", "shop").await;
    env.wait_until_open(machine, &["tcp/9090 198.51.100.0/24"]).await;

    // Voyager's CRD accepts any content: an Ingress that cannot be read opens nothing, and closes nothing.
    let mut unreadable = own("blog", 9090, "198.51.100.0/24");
    unreadable["spec"]["rules"] = json!("none");
    env.cluster.apply(unreadable).await;
    env.cluster.wait_for_event("Ingress", "blog", "cannot be read").await;
    env.wait_until_idle().await;
    env.wait_until_open(machine, &["tcp/9090 198.51.100.0/24"]).await;
    env.cluster.apply(own("blog", 9090, "198.51.100.0/24")).await;
    env.wait_until_open(machine, &["tcp/9090 198.51.100.0/24"]).await;
    env.cluster.delete_pod("voyager-blog-1").await;
    env.wait_until_open(machine, &[]).await;
}
