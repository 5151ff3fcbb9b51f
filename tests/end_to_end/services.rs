//! Ports that Services ask for: node ports, k3s' `ServiceLB` pods, and Voyager's Ingresses of type
//! `NodePort`.

use serde_json::{Value, json};

use crate::environment::{Mode, TestEnvironment};
use crate::objects::{host_port, ingress, pod, service};

const EXPOSE: &str = "hostport-firewall.dev/expose";
const EXPOSE_NODE_PORTS: &str = "hostport-firewall.dev/expose-node-ports";
const SOURCES: &str = "hostport-firewall.dev/source-ranges";

fn ports() -> Value {
    json!([
        { "name": "http", "port": 80, "nodePort": 30080 },
        { "name": "https", "port": 443, "nodePort": 30443 },
    ])
}

/// Returns the endpoints of a Service, as the controller manager would write them.
fn endpoint_slice(service: &str, endpoints: &[(&str, bool)]) -> Value {
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

async fn node_ports_open_on_serving_nodes(mode: Mode) {
    let env = TestEnvironment::start(mode, 3).await;
    let [a, b, c] = &env.machines[..] else { panic!("three machines") };
    let _controller = env.start_controller(&[]);
    let annotations = |listed: &str| json!({ EXPOSE_NODE_PORTS: listed, SOURCES: "192.0.2.0/24" });
    let everywhere =
        |listed: &str| service("web", &json!({ "type": "NodePort", "ports": ports() }), &annotations(listed));
    env.cluster.apply(everywhere("https")).await;
    for machine in [a, b, c] {
        env.wait_until_open(machine, &["tcp/30443 192.0.2.0/24"]).await;
    }
    env.cluster.wait_for_event("Service", "web", "tcp/30443 open on").await;

    let local = json!({ "type": "NodePort", "externalTrafficPolicy": "Local", "ports": ports() });
    env.cluster.apply(endpoint_slice("web", &[(&a.name, true), (&b.name, false)])).await;
    env.cluster.apply(service("web", &local, &annotations("http"))).await;
    env.wait_until_open(a, &["tcp/30080 192.0.2.0/24"]).await;
    env.wait_until_open(b, &[]).await;
    env.wait_until_open(c, &[]).await;
    env.cluster.apply(endpoint_slice("web", &[(&b.name, true), (&c.name, false)])).await;
    env.wait_until_open(b, &["tcp/30080 192.0.2.0/24"]).await;
    env.wait_until_open(a, &[]).await;

    env.cluster.apply(service("web", &local, &annotations("smtp"))).await;
    env.wait_until_open(b, &[]).await;
    env.cluster.wait_for_event("Service", "web", "\"smtp\"").await;
    env.cluster.apply(service("web", &local, &annotations("http"))).await;
    env.wait_until_open(b, &["tcp/30080 192.0.2.0/24"]).await;
    env.cluster.delete("Service", "web").await;
    env.wait_until_open(b, &[]).await;
    env.wait_until_idle().await;
    assert_eq!(env.list_owned().await, [""; 0]);
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn node_ports_open_on_serving_nodes_by_destination_ranges() {
    node_ports_open_on_serving_nodes(Mode::Destination).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn node_ports_open_on_serving_nodes_by_attached_groups() {
    node_ports_open_on_serving_nodes(Mode::Attach).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn service_lb_pods_open_ports_of_their_service() {
    let env = TestEnvironment::start(Mode::Destination, 2).await;
    let [a, b] = &env.machines[..] else { panic!("two machines") };
    let _controller = env.start_controller(&["--service-lb-namespace", "default"]);
    let balancer = |ranges: &[&str]| json!({ "type": "LoadBalancer", "ports": ports(), "loadBalancerSourceRanges": ranges });
    env.cluster.apply(service("web", &balancer(&[]), &json!({}))).await;
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
        env.cluster.create_pod(pod).await;
    }
    // Once this port is open, a pass has seen the other pods too.
    let expose = json!({ "hostport-firewall.dev/expose": "8080", "hostport-firewall.dev/source-ranges": "192.0.2.0/24" });
    let canary = pod("canary", &a.name, expose, host_port(8080));
    env.cluster.create_pod(canary).await;
    env.wait_until_open(a, &["tcp/8080 192.0.2.0/24"]).await;
    env.wait_until_open(b, &[]).await;
    env.cluster.delete_pod("canary").await;
    env.wait_until_open(a, &[]).await;
    env.cluster.apply(service("web", &balancer(&["192.0.2.0/24"]), &json!({}))).await;
    for machine in [a, b] {
        env.wait_until_open(machine, &["tcp/80 192.0.2.0/24", "tcp/443 192.0.2.0/24"]).await;
    }
    env.cluster.apply(service("web", &balancer(&["198.51.100.0/24"]), &json!({ EXPOSE: "https" }))).await;
    for machine in [a, b] {
        env.wait_until_open(machine, &["tcp/443 198.51.100.0/24"]).await;
    }
    env.cluster.delete_pod("svclb-web-1").await;
    env.wait_until_open(a, &[]).await;
    env.wait_until_open(b, &["tcp/443 198.51.100.0/24"]).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn voyager_node_port_ingress_opens_its_frontends_node_ports() {
    let env = TestEnvironment::start(Mode::Destination, 2).await;
    let [a, b] = &env.machines[..] else { panic!("two machines") };
    let _controller = env.start_controller(&[]);
    let shop_ingress = |kind: &str| {
        let annotations = json!({
            "ingress.appscode.com/type": kind,
            "ingress.appscode.com/stats": "true",
            "ingress.appscode.com/whitelist-source-range": "192.0.2.7 198.51.100.0/24",
        });
        let spec = json!({ "defaultBackend": { "service": { "name": "shop", "port": { "number": 80 } } } });
        ingress("networking.k8s.io/v1", "shop", &annotations, &spec)
    };
    env.cluster.apply(shop_ingress("NodePort")).await;
    let port =
        |name: &str, port: u16, node_port: u16| json!({ "name": name, "port": port, "nodePort": node_port });
    for (name, ports) in [
        ("voyager-shop", json!([port("tcp-80", 80, 30080), port("tcp-7000", 7000, 30700)])),
        ("voyager-shop-stats", json!([port("stats", 56789, 31789)])),
    ] {
        let mut service = service(name, &json!({ "type": "NodePort", "ports": ports }), &json!({}));
        service["metadata"]["labels"] =
            json!({ "origin": "voyager", "origin-name": "shop", "origin-api-group": "networking.k8s.io" });
        env.cluster.apply(service).await;
    }
    for machine in [a, b] {
        env.wait_until_open(machine, &["tcp/30080 192.0.2.7/32", "tcp/30080 198.51.100.0/24"]).await;
    }
    env.cluster.apply(shop_ingress("LoadBalancer")).await;
    for machine in [a, b] {
        env.wait_until_open(machine, &[]).await;
    }
    env.cluster.apply(shop_ingress("NodePort")).await;
    env.wait_until_open(a, &["tcp/30080 192.0.2.7/32", "tcp/30080 198.51.100.0/24"]).await;
    env.cluster.delete("Ingress", "shop").await;
    env.wait_until_open(a, &[]).await;
}
