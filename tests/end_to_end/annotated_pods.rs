//! Annotated pods: their ports open, move and close with them, and no other port opens.

use serde_json::json;

use crate::environment::{ANYWHERE_80, ANYWHERE_8086, Mode, TestEnvironment};
use crate::objects::{daemon_set_pod, exposing_pod, pod, set_owner};

async fn port_follows_its_pod(mode: Mode) {
    let env = TestEnvironment::start(mode, 2).await;
    let [a, b] = &env.machines[..] else { panic!("two machines") };
    let _controller = env.start_controller(&[]);
    env.cluster.create_pod(exposing_pod("web", &a.name, 8086)).await;
    env.wait_until_open(a, ANYWHERE_8086).await;
    env.wait_until_open(b, &[]).await;

    env.cluster.delete_pod("web").await;
    env.cluster.create_pod(exposing_pod("web", &b.name, 8086)).await;
    env.wait_until_open(b, ANYWHERE_8086).await;
    env.wait_until_open(a, &[]).await;

    let ssh = json!({ "hostport-firewall.dev/expose": "9890" });
    env.cluster
        .create_pod(pod("ssh", &a.name, ssh, json!([{ "containerPort": 22, "hostPort": 9890 }])))
        .await;
    env.wait_until_open(a, &["tcp/9890 0.0.0.0/0", "tcp/9890 ::/0"]).await;

    let calls = env.wait_until_idle().await;
    let count = |name: &str| calls.iter().filter(|call| call.starts_with(name)).count();
    // The seed itself creates one group for each of the two machines.
    match mode {
        Mode::Attach => assert!(count("Modify") > 0 && count("CreateSecurityGroup") > 2, "{calls:?}"),
        Mode::Shared => assert_eq!((count("Modify"), count("CreateSecurityGroup")), (0, 2), "{calls:?}"),
        Mode::Destination => assert_eq!(count("compute.instances"), 0, "no instance is touched: {calls:?}"),
        Mode::Tags => assert!(count("compute.instances.setTags") > 0, "{calls:?}"),
        Mode::Mixed => unreachable!("it has a case of its own"),
    }
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn port_follows_its_pod_by_attached_groups() {
    port_follows_its_pod(Mode::Attach).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn port_follows_its_pod_by_rules_in_shared_groups() {
    port_follows_its_pod(Mode::Shared).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn port_follows_its_pod_by_destination_ranges() {
    port_follows_its_pod(Mode::Destination).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn port_follows_its_pod_by_network_tags() {
    port_follows_its_pod(Mode::Tags).await;
}

async fn intent_opens_only_named_ports(mode: Mode) {
    let env = TestEnvironment::start(mode, 2).await;
    let [a, b] = &env.machines[..] else { panic!("two machines") };
    let _controller = env.start_controller(&[]);
    let on_host = |name: &str, node: &str, annotations, ports| {
        let mut pod = pod(name, node, annotations, ports);
        pod["spec"]["hostNetwork"] = json!(true);
        pod
    };
    let exporter = on_host("node-exporter", &a.name, json!({}), json!([{ "containerPort": 9100 }]));
    env.cluster.create_pod(exporter).await;
    for machine in [a, b] {
        let ports = json!([
            { "name": "http", "containerPort": 80 },
            { "name": "https", "containerPort": 443 },
            { "name": "metrics", "containerPort": 10254 },
            { "name": "webhook", "containerPort": 8443 },
        ]);
        let expose = json!({ "hostport-firewall.dev/expose": "http, https" });
        let mut ingress = on_host(&format!("ingress-nginx-{}", machine.name), &machine.name, expose, ports);
        set_owner(&mut ingress, "DaemonSet", "ingress-nginx");
        env.cluster.create_pod(ingress).await;
    }
    let open = ["tcp/80 0.0.0.0/0", "tcp/80 ::/0", "tcp/443 0.0.0.0/0", "tcp/443 ::/0"];
    env.wait_until_open(a, &open).await;
    env.wait_until_open(b, &open).await;
    // Google Cloud has no rule for both IPv4 and IPv6.
    let expected = if mode == Mode::Attach { 1 } else { 2 };
    assert_eq!(env.list_owned().await.len(), expected, "pods of one DaemonSet share one group");
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn intent_opens_only_named_ports_by_attached_groups() {
    intent_opens_only_named_ports(Mode::Attach).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn intent_opens_only_named_ports_by_destination_ranges() {
    intent_opens_only_named_ports(Mode::Destination).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn intent_opens_only_named_ports_by_network_tags() {
    intent_opens_only_named_ports(Mode::Tags).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn one_controller_reconciles_both_clouds_of_a_cluster() {
    let env = TestEnvironment::start(Mode::Mixed, 2).await;
    let [on_aws, other_on_aws, on_gce, other_on_gce] = &env.machines[..] else { panic!("four machines") };
    let _controller = env.start_controller(&["--resync", "10s"]);
    for machine in [on_aws, on_gce] {
        env.cluster.create_pod(daemon_set_pod(&format!("web-{}", machine.name), &machine.name, 80)).await;
    }
    for (machine, open) in
        [(on_aws, ANYWHERE_80), (on_gce, ANYWHERE_80), (other_on_aws, &[]), (other_on_gce, &[])]
    {
        env.wait_until_open(machine, open).await;
    }
    // One pod moves from one cloud to the other.
    env.cluster.delete_pod(&format!("web-{}", on_aws.name)).await;
    env.cluster.create_pod(daemon_set_pod("moved", &other_on_gce.name, 80)).await;
    for (machine, open) in
        [(other_on_gce, ANYWHERE_80), (on_gce, ANYWHERE_80), (on_aws, &[]), (other_on_aws, &[])]
    {
        env.wait_until_open(machine, open).await;
    }
    // A denied call to one cloud does not delay the other.
    env.gce().cloud().deny("*", "compute.firewalls.list");
    env.cluster.create_pod(daemon_set_pod("back", &other_on_aws.name, 80)).await;
    env.wait_until_open(other_on_aws, ANYWHERE_80).await;
    env.wait_for_log("permission compute.firewalls.list").await;
}
