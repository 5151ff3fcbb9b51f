//! Annotated pods: opened, moved, closed, repaired, and nothing else touched.

use std::time::Duration;

use aws_sdk_ec2::types::{ResourceType, Tag, TagSpecification};
use serde_json::json;

use crate::cluster::{owned_by, pod};
use crate::patience::looking_every;
use crate::process::Process;
use crate::world::{CLUSTER, Mode, World};

const ANYWHERE_8086: &[&str] = &["tcp/8086 0.0.0.0/0", "tcp/8086 ::/0"];

fn host_port_8086(name: &str, node: &str) -> serde_json::Value {
    let expose = json!({ "hostport-firewall.dev/expose": "8086" });
    pod(name, node, expose, json!([{ "containerPort": 8086, "hostPort": 8086 }]))
}

async fn a_port_follows_its_pod(mode: Mode) {
    let world = World::start(mode, 2).await;
    let [a, b] = &world.machines[..] else { panic!("two machines") };
    let _controller = world.controller(&[]);
    world.cluster.run(host_port_8086("web", &a.name)).await;
    world.opens(a, ANYWHERE_8086).await;
    world.opens(b, &[]).await;

    world.cluster.stop("web").await;
    world.cluster.run(host_port_8086("web", &b.name)).await;
    world.opens(b, ANYWHERE_8086).await;
    world.opens(a, &[]).await;

    let ssh = json!({ "hostport-firewall.dev/expose": "9890" });
    world.cluster.run(pod("ssh", &a.name, ssh, json!([{ "containerPort": 22, "hostPort": 9890 }]))).await;
    world.opens(a, &["tcp/9890 0.0.0.0/0", "tcp/9890 ::/0"]).await;

    let calls = world.settled().await;
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
async fn a_port_follows_its_pod_by_attached_groups() {
    a_port_follows_its_pod(Mode::Attach).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn a_port_follows_its_pod_by_rules_in_shared_groups() {
    a_port_follows_its_pod(Mode::Shared).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn a_port_follows_its_pod_by_destination_ranges() {
    a_port_follows_its_pod(Mode::Destination).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn a_port_follows_its_pod_by_network_tags() {
    a_port_follows_its_pod(Mode::Tags).await;
}

async fn only_what_an_intent_names_is_opened(mode: Mode) {
    let world = World::start(mode, 2).await;
    let [a, b] = &world.machines[..] else { panic!("two machines") };
    let _controller = world.controller(&[]);
    let on_host = |name: &str, node: &str, annotations, ports| {
        let mut pod = pod(name, node, annotations, ports);
        pod["spec"]["hostNetwork"] = json!(true);
        pod
    };
    let exporter = on_host("node-exporter", &a.name, json!({}), json!([{ "containerPort": 9100 }]));
    world.cluster.run(exporter).await;
    for machine in [a, b] {
        let ports = json!([
            { "name": "http", "containerPort": 80 },
            { "name": "https", "containerPort": 443 },
            { "name": "metrics", "containerPort": 10254 },
            { "name": "webhook", "containerPort": 8443 },
        ]);
        let expose = json!({ "hostport-firewall.dev/expose": "http, https" });
        let mut ingress = on_host(&format!("ingress-nginx-{}", machine.name), &machine.name, expose, ports);
        owned_by(&mut ingress, "DaemonSet", "ingress-nginx");
        world.cluster.run(ingress).await;
    }
    let open = ["tcp/80 0.0.0.0/0", "tcp/80 ::/0", "tcp/443 0.0.0.0/0", "tcp/443 ::/0"];
    world.opens(a, &open).await;
    world.opens(b, &open).await;
    // Google has no rule for both IPv4 and IPv6.
    let expected = if mode == Mode::Attach { 1 } else { 2 };
    assert_eq!(world.owned().await.len(), expected, "pods of one DaemonSet share one group");
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn only_what_an_intent_names_is_opened_on_aws() {
    only_what_an_intent_names_is_opened(Mode::Attach).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn only_what_an_intent_names_is_opened_by_destination_ranges() {
    only_what_an_intent_names_is_opened(Mode::Destination).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn only_what_an_intent_names_is_opened_by_network_tags() {
    only_what_an_intent_names_is_opened(Mode::Tags).await;
}

/// Kills the controller after each of the calls by which it opens a port; these, in their order.
async fn a_controller_killed_between_calls_converges(mode: Mode, opening: &[&str]) {
    let world = World::start(mode, 2).await;
    let [a, b] = &world.machines[..] else { panic!("two machines") };
    // Leaves everything at rest, so that the calls that come next are those of an opening.
    let close = async |controller: Process| {
        world.cluster.stop("web").await;
        world.opens(b, &[]).await;
        world.owns_nothing().await;
        world.settled().await;
        assert!(controller.terminate(), "a controller that is asked to end does so with success");
        world.mutations().len()
    };
    let seeded = world.mutations().len();
    let controller = world.controller(&[]);
    world.cluster.run(host_port_8086("web", &b.name)).await;
    world.opens(b, ANYWHERE_8086).await;
    assert_eq!(world.settled().await[seeded..], *opening, "there are other calls to be killed after");
    let mut before = close(controller).await;
    for survived in 1..=opening.len() {
        let controller = world.controller(&[]);
        world.cluster.run(host_port_8086("web", &a.name)).await;
        // It may have made more by then; it has not made less.
        let what = format!("{survived} calls of the controller");
        let calls = looking_every(Duration::from_millis(1), &what, async || {
            let calls = world.mutations().split_off(before);
            if calls.len() >= survived { Ok(calls) } else { Err(format!("{calls:?}")) }
        })
        .await;
        controller.kill();
        assert_eq!(calls[..survived], opening[..survived], "they are not those of an opening");
        world.cluster.stop("web").await;
        world.cluster.run(host_port_8086("web", &b.name)).await;
        let controller = world.controller(&[]);
        world.opens(b, ANYWHERE_8086).await;
        world.opens(a, &[]).await;
        before = close(controller).await;
    }
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn a_controller_killed_between_calls_converges_on_aws() {
    let opening = [
        "CreateSecurityGroup",
        "RevokeSecurityGroupEgress",
        "AuthorizeSecurityGroupIngress",
        "ModifyNetworkInterfaceAttribute",
    ];
    a_controller_killed_between_calls_converges(Mode::Attach, &opening).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn a_controller_killed_between_calls_converges_by_destination_ranges() {
    a_controller_killed_between_calls_converges(Mode::Destination, &["compute.firewalls.insert"; 2]).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn a_controller_killed_between_calls_converges_by_network_tags() {
    let opening = ["compute.firewalls.insert", "compute.firewalls.insert", "compute.instances.setTags"];
    a_controller_killed_between_calls_converges(Mode::Tags, &opening).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn drift_is_repaired_within_a_resync_and_others_are_left_alone() {
    let world = World::start(Mode::Attach, 2).await;
    let [a, b] = &world.machines[..] else { panic!("two machines") };
    world.amazon().meddle(&a.node_group, 10250, "10.20.0.0/16", true).await;
    let another = TagSpecification::builder()
        .resource_type(ResourceType::SecurityGroup)
        .tags(Tag::builder().key("hostport-firewall.dev/cluster").value("another").build())
        .build();
    let vpc = world.amazon().ec2.describe_security_groups().group_ids(&a.node_group).send().await.unwrap();
    let vpc = vpc.security_groups()[0].vpc_id().unwrap();
    let call =
        world.amazon().ec2.create_security_group().group_name("another").description("another").vpc_id(vpc);
    let another = call.tag_specifications(another).send().await.unwrap().group_id.unwrap();
    world.amazon().meddle(&another, 8086, "0.0.0.0/0", true).await;
    let foreign = world.amazon().foreign_groups(CLUSTER).await;

    let controller = world.controller(&["--resync", "2s"]);
    world.cluster.run(host_port_8086("web", &a.name)).await;
    let expected = ["tcp/8086 0.0.0.0/0", "tcp/8086 ::/0", "tcp/10250 10.20.0.0/16"];
    world.opens(a, &expected).await;

    let [owned] = &world.amazon().owned_groups(CLUSTER).await[..] else { panic!("one group") };
    world.amazon().meddle(owned, 8086, "0.0.0.0/0", false).await;
    world.opens(a, &expected).await;
    world.amazon().meddle(owned, 2222, "203.0.113.0/24", true).await;
    world.opens(a, &expected).await;

    world.cluster.stop("web").await;
    world.opens(a, &["tcp/10250 10.20.0.0/16"]).await;
    drop(controller);
    assert_eq!(world.amazon().foreign_groups(CLUSTER).await, foreign, "groups of others have changed");
    assert_eq!(world.amazon().groups(a).await, [a.node_group.as_str()]);
    assert_eq!(world.amazon().groups(b).await, [b.node_group.as_str()]);
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn nothing_is_called_while_nothing_changes_on_either_cloud() {
    let world = World::start(Mode::Mixed, 1).await;
    let [on_aws, on_google] = &world.machines[..] else { panic!("two machines") };
    let _controller = world.controller(&["--resync", "5s"]);
    for (name, machine) in [("web-aws", on_aws), ("web-google", on_google)] {
        world.cluster.run(host_port_8086(name, &machine.name)).await;
        world.opens(machine, ANYWHERE_8086).await;
    }
    let calls = world.settled().await;
    // Two minutes, with a comparison every five seconds: 24 chances to do something needless.
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!(world.mutations(), calls);
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn a_second_replica_waits_and_takes_over_when_the_first_dies_or_ends() {
    let world = World::start(Mode::Attach, 1).await;
    let machine = &world.machines[0];
    let first = world.replica("first", &[]);
    world.says("identity=\"first\"").await;
    let second = world.replica("second", &[]);
    world.says("another replica leads; waiting").await;
    world.cluster.run(host_port_8086("web", &machine.name)).await;
    world.opens(machine, ANYWHERE_8086).await;

    first.kill();
    world.cluster.stop("web").await;
    world.opens(machine, &[]).await;
    world.says("identity=\"second\"").await;

    // A replica that ends in order gives the lease up, so that the next need not wait for it to run out.
    let third = world.replica("third", &[]);
    assert!(second.terminate());
    world.says("identity=\"third\"").await;
    drop(third);
}
