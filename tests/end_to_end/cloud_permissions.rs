//! Missing permissions of Google Cloud: each is named, with a remedy, and everything else works.

use std::collections::BTreeSet;

use firewall_gce::{ApiCall, Mode as GceMode};

use crate::environment::{ANYWHERE_80, CLUSTER, Mode, TestEnvironment};
use crate::machine::Machine;
use crate::objects::daemon_set_pod;
use crate::wait::wait_until;

/// Waits until `holds` returns true or the log since `start` names the permission; returns true if it names
/// it.
async fn wait_until_held_or_denied(
    env: &TestEnvironment,
    start: usize,
    permission: &str,
    mut holds: impl AsyncFnMut() -> bool,
) -> bool {
    wait_until(&format!("without {permission}, it works or names the permission"), async || {
        let log = env.read_log_since(start);
        let denied = log.contains(&format!("permission {permission} "));
        if denied || holds().await { Ok(denied) } else { Err(log) }
    })
    .await
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn missing_cloud_permission_is_named_and_all_else_works() {
    let env = TestEnvironment::start(Mode::Mixed, 2).await;
    let [on_aws, _, a, b] = &env.machines[..] else { panic!("four machines") };
    let gce = env.gce();
    let calls = ApiCall::of_rules().iter().chain(ApiCall::of_instances(GceMode::Destination));
    let mut permissions: BTreeSet<&str> = calls.flat_map(|call| call.permissions()).copied().collect();
    // These are needed only where a rule's name is taken or a network is named; the provider's tests cover
    // them.
    permissions.retain(|permission| !["compute.firewalls.get", "compute.networks.get"].contains(permission));
    for permission in permissions {
        gce.cloud().deny("*", permission);
        let start = env.read_log_since(0).len();
        let controller = env.start_controller(&["--resync", "1s"]);
        env.cluster.create_pod(daemon_set_pod("aws", &on_aws.name, 80)).await;
        env.cluster.create_pod(daemon_set_pod("a", &a.name, 80)).await;
        let opened = async |machine: &Machine| gce.read_open_rules(machine).len() == 2;
        let mut denied = wait_until_held_or_denied(&env, start, permission, async || opened(a).await).await;
        env.cluster.create_pod(daemon_set_pod("b", &b.name, 80)).await;
        denied |= wait_until_held_or_denied(&env, start, permission, async || opened(b).await).await;
        env.wait_until_open(on_aws, ANYWHERE_80).await;
        env.cluster.delete_pod("a").await;
        env.cluster.delete_pod("b").await;
        let closed = async || gce.list_owned_rules(CLUSTER).is_empty();
        denied |= wait_until_held_or_denied(&env, start, permission, closed).await;
        env.cluster.delete_pod("aws").await;
        env.wait_until_open(on_aws, &[]).await;
        controller.kill();
        let log = env.read_log_since(start);
        assert!(denied, "{permission} was not missed");
        let others = log.lines().filter(|line| {
            line.contains("permission compute.") && !line.contains(&format!("permission {permission} "))
        });
        assert_eq!(others.collect::<Vec<_>>(), [""; 0], "{permission} is what was missing");

        gce.cloud().grant_all();
        let _controller = env.start_controller(&[]);
        env.wait_until_nothing_owned().await;
    }
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn denied_shared_network_rule_is_reported_as_gcloud_command() {
    let env = TestEnvironment::start(Mode::Destination, 0).await;
    let gce = env.gce();
    gce.cloud().add_network("host", "shared");
    let node = gce.launch(7, "projects/host/global/networks/shared");
    env.cluster.register_node(&node).await;
    gce.cloud().deny("host", "compute.firewalls.create");
    let _controller = env.start_controller(&["--gce-network-project", "host"]);
    env.cluster.create_pod(daemon_set_pod("web", &node.name, 80)).await;
    env.cluster.wait_for_event("Pod", "web", "permission compute.firewalls.create").await;
    let command = "gcloud compute firewall-rules create hpf-";
    let event = env.cluster.wait_for_event("Pod", "web", command).await;
    for part in
        ["--project=host", "--network=shared", "--destination-ranges=10.30.0.17/32", "--description='{"]
    {
        assert!(event.contains(part), "{part} is not in {event}");
    }
    assert!(event.ends_with("}'"), "the whole command: {event}");
}
