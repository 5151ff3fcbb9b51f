//! What Services ask for: node ports, the pods of k3s' `ServiceLB`, and Voyager's Ingresses of type `NodePort`.

use serde_json::{Value, json};

use crate::cluster::pod;
use crate::world::{Mode, World};

const EXPOSE: &str = "hostport-firewall.dev/expose";
const EXPOSE_NODE_PORTS: &str = "hostport-firewall.dev/expose-node-ports";
const SOURCES: &str = "hostport-firewall.dev/source-ranges";

fn service(name: &str, spec: &Value, annotations: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name, "namespace": "default", "annotations": annotations },
        "spec": spec,
    })
}

fn ports() -> Value {
    json!([
        { "name": "http", "port": 80, "nodePort": 30080 },
        { "name": "https", "port": 443, "nodePort": 30443 },
    ])
}

/// The endpoints of a Service, as the controller manager would write them.
fn slice(service: &str, endpoints: &[(&str, bool)]) -> Value {
    let endpoint = |(node, ready): &(&str, bool)| {
        let target =
            json!({ "kind": "Pod", "namespace": "default", "name": format!("web-{node}"), "uid": *node });
        json!({
            "addresses": ["10.244.0.1"], "conditions": { "ready": ready }, "nodeName": node, "targetRef": target,
        })
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-1"), "namespace": "default",
            "labels": { "kubernetes.io/service-name": service },
        },
        "addressType": "IPv4",
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    })
}

async fn node_ports_open_where_they_are_served(mode: Mode) {
    let world = World::start(mode, 3).await;
    let [a, b, c] = &world.machines[..] else { panic!("three machines") };
    let _controller = world.controller(&[]);
    let asks = |listed: &str| json!({ EXPOSE_NODE_PORTS: listed, SOURCES: "192.0.2.0/24" });
    let everywhere =
        |listed: &str| service("web", &json!({ "type": "NodePort", "ports": ports() }), &asks(listed));
    world.cluster.create(everywhere("https")).await;
    for machine in [a, b, c] {
        world.opens(machine, &["tcp/30443 192.0.2.0/24"]).await;
    }
    world.cluster.event("Service", "web", &format!("tcp/30443 open on node {}", a.name)).await;

    let local = json!({ "type": "NodePort", "externalTrafficPolicy": "Local", "ports": ports() });
    world.cluster.create(slice("web", &[(&a.name, true), (&b.name, false)])).await;
    world.cluster.create(service("web", &local, &asks("http"))).await;
    world.opens(a, &["tcp/30080 192.0.2.0/24"]).await;
    world.opens(b, &[]).await;
    world.opens(c, &[]).await;
    world.cluster.create(slice("web", &[(&b.name, true), (&c.name, false)])).await;
    world.opens(b, &["tcp/30080 192.0.2.0/24"]).await;
    world.opens(a, &[]).await;

    world.cluster.create(service("web", &local, &asks("smtp"))).await;
    world.opens(b, &[]).await;
    world.cluster.event("Service", "web", "\"smtp\"").await;
    world.cluster.create(service("web", &local, &asks("http"))).await;
    world.opens(b, &["tcp/30080 192.0.2.0/24"]).await;
    world.cluster.delete("Service", "web").await;
    world.opens(b, &[]).await;
    world.settled().await;
    assert_eq!(world.owned().await, [""; 0]);
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn node_ports_open_where_they_are_served_by_destination_ranges() {
    node_ports_open_where_they_are_served(Mode::Destination).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn node_ports_open_where_they_are_served_by_attached_groups() {
    node_ports_open_where_they_are_served(Mode::Attach).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn pods_of_service_lb_open_what_their_service_asks_for() {
    let world = World::start(Mode::Destination, 2).await;
    let [a, b] = &world.machines[..] else { panic!("two machines") };
    let _controller = world.controller(&["--service-lb-namespace", "default"]);
    let balancer = |ranges: &[&str]| json!({ "type": "LoadBalancer", "ports": ports(), "loadBalancerSourceRanges": ranges });
    world.cluster.create(service("web", &balancer(&[]), &json!({}))).await;
    for (name, machine) in [("svclb-web-1", a), ("svclb-web-2", b)] {
        let bound = json!([
            { "name": "lb-tcp-80", "containerPort": 80, "hostPort": 80 },
            { "name": "lb-tcp-443", "containerPort": 443, "hostPort": 443 },
        ]);
        let mut pod = pod(name, &machine.name, json!({}), bound);
        pod["metadata"]["labels"] = json!({
            "svccontroller.k3s.cattle.io/svcname": "web",
            "svccontroller.k3s.cattle.io/svcnamespace": "default",
        });
        world.cluster.run(pod).await;
    }
    // Once this is open, everything has been looked at.
    let expose = json!({ "hostport-firewall.dev/expose": "8080", "hostport-firewall.dev/source-ranges": "192.0.2.0/24" });
    let canary = pod("canary", &a.name, expose, json!([{ "containerPort": 8080, "hostPort": 8080 }]));
    world.cluster.run(canary).await;
    world.opens(a, &["tcp/8080 192.0.2.0/24"]).await;
    world.opens(b, &[]).await;
    world.cluster.stop("canary").await;
    world.opens(a, &[]).await;
    world.cluster.create(service("web", &balancer(&["192.0.2.0/24"]), &json!({}))).await;
    for machine in [a, b] {
        world.opens(machine, &["tcp/80 192.0.2.0/24", "tcp/443 192.0.2.0/24"]).await;
    }
    world.cluster.create(service("web", &balancer(&["198.51.100.0/24"]), &json!({ EXPOSE: "https" }))).await;
    for machine in [a, b] {
        world.opens(machine, &["tcp/443 198.51.100.0/24"]).await;
    }
    world.cluster.stop("svclb-web-1").await;
    world.opens(a, &[]).await;
    world.opens(b, &["tcp/443 198.51.100.0/24"]).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn a_voyager_ingress_of_type_node_port_opens_the_node_ports_of_its_frontends() {
    let world = World::start(Mode::Destination, 2).await;
    let [a, b] = &world.machines[..] else { panic!("two machines") };
    let _controller = world.controller(&[]);
    let ingress = |kind: &str| {
        json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": { "name": "shop", "namespace": "default", "annotations": {
                "ingress.appscode.com/type": kind,
                "ingress.appscode.com/stats": "true",
                "ingress.appscode.com/whitelist-source-range": "192.0.2.7 198.51.100.0/24",
            } },
            "spec": { "defaultBackend": { "service": { "name": "shop", "port": { "number": 80 } } } },
        })
    };
    world.cluster.create(ingress("NodePort")).await;
    let port =
        |name: &str, port: u16, node_port: u16| json!({ "name": name, "port": port, "nodePort": node_port });
    for (name, ports) in [
        ("voyager-shop", json!([port("tcp-80", 80, 30080), port("tcp-7000", 7000, 30700)])),
        ("voyager-shop-stats", json!([port("stats", 56789, 31789)])),
    ] {
        let mut service = service(name, &json!({ "type": "NodePort", "ports": ports }), &json!({}));
        service["metadata"]["labels"] =
            json!({ "origin": "voyager", "origin-name": "shop", "origin-api-group": "networking.k8s.io" });
        world.cluster.create(service).await;
    }
    for machine in [a, b] {
        world.opens(machine, &["tcp/30080 192.0.2.7/32", "tcp/30080 198.51.100.0/24"]).await;
    }
    world.cluster.create(ingress("LoadBalancer")).await;
    for machine in [a, b] {
        world.opens(machine, &[]).await;
    }
    world.cluster.create(ingress("NodePort")).await;
    world.opens(a, &["tcp/30080 192.0.2.7/32", "tcp/30080 198.51.100.0/24"]).await;
    world.cluster.delete("Ingress", "shop").await;
    world.opens(a, &[]).await;
}
