//! Recovery: after a kill, a failover or drift the clouds converge, and at rest no call is made.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_ec2::types::{ResourceType, Tag, TagSpecification};

use crate::environment::{ANYWHERE_80, ANYWHERE_8086, CLUSTER, Mode, TestEnvironment};
use crate::gce::{PROJECT, ZONE};
use crate::objects::{daemon_set_pod, exposing_pod};
use crate::process::Process;
use crate::wait::poll_every;

/// Kills the controller after each of the calls by which it opens a port; `opening` are these calls, in
/// order.
async fn killed_controller_converges_after_each_call(mode: Mode, opening: &[&str]) {
    let env = TestEnvironment::start(mode, 2).await;
    let [a, b] = &env.machines[..] else { panic!("two machines") };
    // Leaves the controller idle, so that the calls that come next are those of an opening.
    let close = async |controller: Process| {
        env.cluster.delete_pod("web").await;
        env.wait_until_open(b, &[]).await;
        env.wait_until_nothing_owned().await;
        env.wait_until_idle().await;
        assert!(controller.terminate(), "a controller that is asked to end does so with success");
        env.list_mutations().len()
    };
    let seeded = env.list_mutations().len();
    let controller = env.start_controller(&[]);
    env.cluster.create_pod(exposing_pod("web", &b.name, 8086)).await;
    env.wait_until_open(b, ANYWHERE_8086).await;
    assert_eq!(env.wait_until_idle().await[seeded..], *opening, "there are other calls to be killed after");
    let mut before = close(controller).await;
    for survived in 1..=opening.len() {
        let controller = env.start_controller(&[]);
        env.cluster.create_pod(exposing_pod("web", &a.name, 8086)).await;
        // It may have made more by then; it has not made less.
        let what = format!("{survived} calls of the controller");
        let calls = poll_every(Duration::from_millis(1), &what, async || {
            let calls = env.list_mutations().split_off(before);
            if calls.len() >= survived { Ok(calls) } else { Err(format!("{calls:?}")) }
        })
        .await;
        controller.kill();
        assert_eq!(calls[..survived], opening[..survived], "they are not those of an opening");
        env.cluster.delete_pod("web").await;
        env.cluster.create_pod(exposing_pod("web", &b.name, 8086)).await;
        let controller = env.start_controller(&[]);
        env.wait_until_open(b, ANYWHERE_8086).await;
        env.wait_until_open(a, &[]).await;
        before = close(controller).await;
    }
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn killed_controller_converges_by_attached_groups() {
    let opening = [
        "CreateSecurityGroup",
        "RevokeSecurityGroupEgress",
        "AuthorizeSecurityGroupIngress",
        "ModifyNetworkInterfaceAttribute",
    ];
    killed_controller_converges_after_each_call(Mode::Attach, &opening).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn killed_controller_converges_by_destination_ranges() {
    killed_controller_converges_after_each_call(Mode::Destination, &["compute.firewalls.insert"; 2]).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn killed_controller_converges_by_network_tags() {
    let opening = ["compute.firewalls.insert", "compute.firewalls.insert", "compute.instances.setTags"];
    killed_controller_converges_after_each_call(Mode::Tags, &opening).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn drift_is_repaired_and_others_kept_by_attached_groups() {
    let env = TestEnvironment::start(Mode::Attach, 2).await;
    let [a, b] = &env.machines[..] else { panic!("two machines") };
    env.aws().authorize_by_hand(&a.node_group, 10250, "10.20.0.0/16").await;
    let another = TagSpecification::builder()
        .resource_type(ResourceType::SecurityGroup)
        .tags(Tag::builder().key("hostport-firewall.dev/cluster").value("another").build())
        .build();
    let vpc = env.aws().ec2.describe_security_groups().group_ids(&a.node_group).send().await.unwrap();
    let vpc = vpc.security_groups()[0].vpc_id().unwrap();
    let call = env.aws().ec2.create_security_group().group_name("another").description("another").vpc_id(vpc);
    let another = call.tag_specifications(another).send().await.unwrap().group_id.unwrap();
    env.aws().authorize_by_hand(&another, 8086, "0.0.0.0/0").await;
    let foreign = env.aws().list_foreign_groups(CLUSTER).await;

    let controller = env.start_controller(&["--resync", "2s"]);
    env.cluster.create_pod(exposing_pod("web", &a.name, 8086)).await;
    let expected = ["tcp/8086 0.0.0.0/0", "tcp/8086 ::/0", "tcp/10250 10.20.0.0/16"];
    env.wait_until_open(a, &expected).await;

    let [owned] = &env.aws().list_owned_groups(CLUSTER).await[..] else { panic!("one group") };
    env.aws().revoke_by_hand(owned, 8086, "0.0.0.0/0").await;
    env.wait_until_open(a, &expected).await;
    env.aws().authorize_by_hand(owned, 2222, "203.0.113.0/24").await;
    env.wait_until_open(a, &expected).await;

    env.cluster.delete_pod("web").await;
    env.wait_until_open(a, &["tcp/10250 10.20.0.0/16"]).await;
    drop(controller);
    assert_eq!(env.aws().list_foreign_groups(CLUSTER).await, foreign, "groups of others have changed");
    assert_eq!(env.aws().list_attached_groups(a).await, [a.node_group.as_str()]);
    assert_eq!(env.aws().list_attached_groups(b).await, [b.node_group.as_str()]);
}

async fn drift_is_repaired_and_others_kept(mode: Mode) {
    let env = TestEnvironment::start(mode, 2).await;
    let [a, _] = &env.machines[..] else { panic!("two machines") };
    let gce = env.gce();
    gce.create_by_hand("kubelet", "", 10250, "10.20.0.0/16", a.address());
    let another = r#"{"managedBy":"hostport-firewall","version":1,"cluster":"another","group":"web"}"#;
    gce.create_by_hand("hpf-another", another, 8086, "0.0.0.0/0", "10.99.99.99");
    let others = gce.list_foreign_rules(CLUSTER);
    let kubelet = "tcp/10250 10.20.0.0/16";
    let expected = [ANYWHERE_80, &[kubelet]].concat();

    let _controller = env.start_controller(&["--resync", "2s"]);
    env.cluster.create_pod(daemon_set_pod("web", &a.name, 80)).await;
    env.wait_until_open(a, &expected).await;
    gce.delete_by_hand(CLUSTER);
    env.wait_until_open(a, &expected).await;
    gce.widen_by_hand(CLUSTER, 2222, "203.0.113.0/24");
    env.wait_until_open(a, &expected).await;
    if mode == Mode::Tags {
        gce.cloud().set_tags(PROJECT, ZONE, &a.name, BTreeSet::from(["node".to_owned(), "added".to_owned()]));
        env.wait_until_open(a, &expected).await;
    }

    env.cluster.delete_pod("web").await;
    env.wait_until_open(a, &[kubelet]).await;
    assert_eq!(gce.list_foreign_rules(CLUSTER), others, "rules of others have changed");
    let tags = gce.cloud().tags(PROJECT, ZONE, &a.name);
    assert!(tags.contains("node") && tags.contains("added") == (mode == Mode::Tags), "{tags:?}");
    assert!(!tags.iter().any(|tag| tag.starts_with("hpf-")), "{tags:?}");
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn drift_is_repaired_and_others_kept_by_destination_ranges() {
    drift_is_repaired_and_others_kept(Mode::Destination).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn drift_is_repaired_and_others_kept_by_network_tags() {
    drift_is_repaired_and_others_kept(Mode::Tags).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn idle_controller_makes_no_mutating_calls() {
    let env = TestEnvironment::start(Mode::Mixed, 1).await;
    let [on_aws, on_gce] = &env.machines[..] else { panic!("two machines") };
    let _controller = env.start_controller(&["--resync", "5s"]);
    for (name, machine) in [("web-aws", on_aws), ("web-gce", on_gce)] {
        env.cluster.create_pod(exposing_pod(name, &machine.name, 8086)).await;
        env.wait_until_open(machine, ANYWHERE_8086).await;
    }
    let calls = env.wait_until_idle().await;
    // Two minutes, with a comparison every five seconds: 24 chances to do something needless.
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!(env.list_mutations(), calls);
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn second_replica_takes_over_when_the_first_dies_or_ends() {
    let env = TestEnvironment::start(Mode::Attach, 1).await;
    let machine = &env.machines[0];
    let first = env.start_replica("first", &[]);
    env.wait_for_log("identity=\"first_").await;
    let second = env.start_replica("second", &[]);
    env.wait_for_log("another replica leads; waiting").await;
    env.cluster.create_pod(exposing_pod("web", &machine.name, 8086)).await;
    env.wait_until_open(machine, ANYWHERE_8086).await;

    first.kill();
    env.cluster.delete_pod("web").await;
    env.wait_until_open(machine, &[]).await;
    env.wait_for_log("identity=\"second_").await;

    // A replica that ends in order gives up the Lease, so that the next need not wait until it expires.
    let third = env.start_replica("third", &[]);
    assert!(second.terminate());
    env.wait_for_log("identity=\"third_").await;
    drop(third);
}
