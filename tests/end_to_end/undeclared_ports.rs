//! Pods on the host's network: ports that no pod can declare open by number, and close with the pod.

use serde_json::{Value, json};

use crate::environment::{Mode, TestEnvironment};
use crate::objects::{pod, web_exposure};
use crate::process::root;

fn on_host(mut pod: Value) -> Value {
    pod["spec"]["hostNetwork"] = json!(true);
    pod
}

/// A media server declares its two fixed ports, and relays on ten thousand.
async fn relay_range_opens_where_the_server_runs(mode: Mode) {
    let env = TestEnvironment::start(mode, 2).await;
    let [a, b] = &env.machines[..] else { panic!("two machines") };
    let _controller = env.start_controller(&[]);
    let server = |node: &str| {
        let expose = json!({ "hostport-firewall.dev/expose": "7881, 50000-60000/udp" });
        let ports = json!([{ "name": "http", "containerPort": 7880 }, { "containerPort": 7881 }]);
        on_host(pod("sfu", node, expose, ports))
    };
    let open = ["tcp/7881 0.0.0.0/0", "tcp/7881 ::/0", "udp/50000-60000 0.0.0.0/0", "udp/50000-60000 ::/0"];
    env.cluster.create_pod(server(&a.name)).await;
    env.wait_until_open(a, &open).await;
    env.wait_until_open(b, &[]).await;
    env.cluster.delete_pod("sfu").await;
    env.wait_until_open(a, &[]).await;
    env.cluster.create_pod(server(&b.name)).await;
    env.wait_until_open(b, &open).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn relay_range_opens_where_the_server_runs_on_aws() {
    relay_range_opens_where_the_server_runs(Mode::Attach).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn relay_range_opens_where_the_server_runs_on_gce() {
    relay_range_opens_where_the_server_runs(Mode::Destination).await;
}

/// The proxy of a Gateway listens on the ports that Gateways name, and declares those of its metrics.
#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn listeners_of_a_gateway_open_and_its_metrics_do_not() {
    let env = TestEnvironment::start(Mode::Destination, 1).await;
    let [node] = &env.machines[..] else { panic!("one machine") };
    env.cluster.apply_file(&root().join("deploy/crd.yaml")).await;
    let _controller = env.start_controller(&[]);
    env.cluster.apply(web_exposure(json!([{ "port": 80 }, { "port": 443 }]), &["0.0.0.0/0"])).await;
    let metrics = json!([{ "name": "metrics", "containerPort": 9964 }]);
    let mut proxy = on_host(pod("proxy", &node.name, json!({}), metrics));
    proxy["metadata"]["labels"] = json!({ "app": "web" });
    env.cluster.create_pod(proxy).await;
    env.wait_until_open(node, &["tcp/80 0.0.0.0/0", "tcp/443 0.0.0.0/0"]).await;

    env.cluster.apply(web_exposure(json!([{ "port": "https" }]), &["0.0.0.0/0"])).await;
    env.cluster.wait_for_event("HostPortExposure", "web", "write the number").await;
    env.wait_until_open(node, &[]).await;
}
