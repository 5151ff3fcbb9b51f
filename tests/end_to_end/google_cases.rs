//! What only Google Cloud has: its drift, its permissions, its bad input; and both clouds in one cluster.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use firewall_gce::{Method, Mode as GceMode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::{owned_by, pod};
use crate::google::{Google, PROJECT, ZONE};
use crate::machine::Machine;
use crate::patience::until;
use crate::process::{Process, binary};
use crate::world::{CLUSTER, Mode, World};

const ANYWHERE_80: &[&str] = &["tcp/80 0.0.0.0/0", "tcp/80 ::/0"];

fn web(name: &str, node: &str) -> Value {
    let mut pod = pod(
        name,
        node,
        json!({ "hostport-firewall.dev/expose": "80" }),
        json!([{ "containerPort": 80, "hostPort": 80 }]),
    );
    owned_by(&mut pod, "DaemonSet", "web");
    pod
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn one_run_keeps_a_cluster_on_both_clouds_in_line() {
    let world = World::start(Mode::Mixed, 2).await;
    let [aws, other_aws, google, other_google] = &world.machines[..] else { panic!("four machines") };
    let _controller = world.controller(&[]);
    for machine in [aws, google] {
        world.cluster.run(web(&format!("web-{}", machine.name), &machine.name)).await;
    }
    for (machine, open) in [(aws, ANYWHERE_80), (google, ANYWHERE_80), (other_aws, &[]), (other_google, &[])]
    {
        world.opens(machine, open).await;
    }
    // One pod moves from one cloud to the other.
    world.cluster.stop(&format!("web-{}", aws.name)).await;
    world.cluster.run(web("moved", &other_google.name)).await;
    for (machine, open) in [(other_google, ANYWHERE_80), (google, ANYWHERE_80), (aws, &[]), (other_aws, &[])]
    {
        world.opens(machine, open).await;
    }
    // What one cloud refuses does not hold up the other.
    world.google().cloud().deny("*", "compute.firewalls.list");
    world.cluster.run(web("back", &other_aws.name)).await;
    world.opens(other_aws, ANYWHERE_80).await;
    world.says("permission compute.firewalls.list").await;
}

async fn drift_is_repaired_and_others_are_left_alone(mode: Mode) {
    let world = World::start(mode, 2).await;
    let [a, _] = &world.machines[..] else { panic!("two machines") };
    let google = world.google();
    google.allow("kubelet", "", 10250, "10.20.0.0/16", a.address());
    let another = r#"{"managedBy":"hostport-firewall","version":1,"cluster":"another","group":"web"}"#;
    google.allow("hpf-another", another, 8086, "0.0.0.0/0", "10.99.99.99");
    let others = google.others(CLUSTER);
    let kubelet = "tcp/10250 10.20.0.0/16";
    let expected = [ANYWHERE_80, &[kubelet]].concat();

    let _controller = world.controller(&["--resync", "2s"]);
    world.cluster.run(web("web", &a.name)).await;
    world.opens(a, &expected).await;
    google.meddle(CLUSTER, 80, "0.0.0.0/0", false);
    world.opens(a, &expected).await;
    google.meddle(CLUSTER, 2222, "203.0.113.0/24", true);
    world.opens(a, &expected).await;
    if mode == Mode::Tags {
        google.cloud().set_tags(
            PROJECT,
            ZONE,
            &a.name,
            BTreeSet::from(["node".to_owned(), "added".to_owned()]),
        );
        world.opens(a, &expected).await;
    }

    world.cluster.stop("web").await;
    world.opens(a, &[kubelet]).await;
    assert_eq!(google.others(CLUSTER), others, "rules of others have changed");
    let tags = google.cloud().tags(PROJECT, ZONE, &a.name);
    assert!(tags.contains("node") && tags.contains("added") == (mode == Mode::Tags), "{tags:?}");
    assert!(!tags.iter().any(|tag| tag.starts_with("hpf-")), "{tags:?}");
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn drift_is_repaired_and_others_are_left_alone_by_destination_ranges() {
    drift_is_repaired_and_others_are_left_alone(Mode::Destination).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn drift_is_repaired_and_others_are_left_alone_by_network_tags() {
    drift_is_repaired_and_others_are_left_alone(Mode::Tags).await;
}

/// Waits until `holds`, or the log since `start` names the permission.
async fn until_or_denied(
    world: &World,
    start: usize,
    permission: &str,
    mut holds: impl AsyncFnMut() -> bool,
) -> bool {
    until(&format!("without {permission}, it works or says why"), async || {
        let log = world.log_since(start);
        let denied = log.contains(&format!("permission {permission} "));
        if denied || holds().await { Ok(denied) } else { Err(log) }
    })
    .await
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn each_missing_permission_is_named_and_everything_else_works() {
    let world = World::start(Mode::Mixed, 2).await;
    let [aws, _, a, b] = &world.machines[..] else { panic!("four machines") };
    let google = world.google();
    let methods = Method::of_rules().iter().chain(Method::of_instances(GceMode::Destination));
    let mut permissions: BTreeSet<&str> = methods.flat_map(|method| method.permissions()).copied().collect();
    // Asked for only where a name is taken, or a network was named; tests of the provider have them.
    permissions.retain(|permission| !["compute.firewalls.get", "compute.networks.get"].contains(permission));
    for permission in permissions {
        google.cloud().deny("*", permission);
        let start = world.log_since(0).len();
        let controller = world.controller(&["--resync", "1s"]);
        world.cluster.run(web("aws", &aws.name)).await;
        world.cluster.run(web("a", &a.name)).await;
        let opened = async |machine: &Machine| google.open(machine).len() == 2;
        let mut denied = until_or_denied(&world, start, permission, async || opened(a).await).await;
        world.cluster.run(web("b", &b.name)).await;
        denied |= until_or_denied(&world, start, permission, async || opened(b).await).await;
        world.opens(aws, ANYWHERE_80).await;
        world.cluster.stop("a").await;
        world.cluster.stop("b").await;
        let closed = async || google.owned(CLUSTER).is_empty();
        denied |= until_or_denied(&world, start, permission, closed).await;
        world.cluster.stop("aws").await;
        world.opens(aws, &[]).await;
        controller.kill();
        let log = world.log_since(start);
        assert!(denied, "{permission} was not missed");
        let others = log.lines().filter(|line| {
            line.contains("permission compute.") && !line.contains(&format!("permission {permission} "))
        });
        assert_eq!(others.collect::<Vec<_>>(), [""; 0], "{permission} is what was missing");

        google.cloud().grant_all();
        let _controller = world.controller(&[]);
        world.owns_nothing().await;
    }
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn what_a_shared_networks_host_project_refuses_its_administrator_is_told_how_to_do() {
    let world = World::start(Mode::Destination, 0).await;
    let google = world.google();
    google.cloud().add_network("host", "shared");
    let node = google.launch(7, "projects/host/global/networks/shared");
    world.cluster.join(&node).await;
    google.cloud().deny("host", "compute.firewalls.create");
    let _controller = world.controller(&["--gce-network-project", "host"]);
    world.cluster.run(web("web", &node.name)).await;
    world.cluster.event("Pod", "web", "permission compute.firewalls.create").await;
    let command = "gcloud compute firewall-rules create hpf-";
    let event = world.cluster.event("Pod", "web", command).await;
    for part in
        ["--project=host", "--network=shared", "--destination-ranges=10.30.0.17/32", "--description='{"]
    {
        assert!(event.contains(part), "{part} is not in {event}");
    }
    assert!(event.ends_with("}'"), "the whole command: {event}");
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn bad_input_is_told_on_its_object_and_changes_nothing_else_on_google() {
    let world = World::start(Mode::Destination, 1).await;
    let google = world.google();
    let good = &world.machines[0];
    let nodes = [
        ("other-project", "gce://somebody-else/europe-west1-b/node", "--gce-project somebody-else"),
        ("malformed", "gce://p/z", "gce://<project>/<zone>/<name>"),
        ("gone", "gce://nodes-1234/europe-west1-b/gone", "does not exist"),
        ("aws", "aws:///eu-central-1a/i-0123456789abcdef0", "--providers aws,gce"),
    ];
    for (name, provider_id, _) in nodes {
        world.cluster.join(&Machine::new(name, provider_id, &["10.30.9.9".to_owned()])).await;
        world.cluster.run(web(&format!("on-{name}"), name)).await;
    }
    world.cluster.run(web("good", &good.name)).await;
    let controller = world.controller(&["--resync", "2s"]);
    world.opens(good, ANYWHERE_80).await;
    for (name, _, text) in nodes {
        world.cluster.event("Node", name, text).await;
    }

    // Somebody takes the name of a rule: it is left alone from then on, and said so.
    let (name, mut taken) = google.owned(CLUSTER).pop_first().expect("a rule");
    taken["description"] = json!("mine");
    google.cloud().put_firewall(PROJECT, &taken).expect("a valid rule");
    let others = google.others(CLUSTER);
    world.says(&format!("firewall rule {name}")).await;
    world.says("the name is taken").await;
    world.settled().await;
    assert_eq!(google.others(CLUSTER), others);
    google.cloud().remove_firewall(PROJECT, &name);
    world.opens(good, ANYWHERE_80).await;

    // An instance that is deleted while its node is still there.
    google.cloud().remove_instance(PROJECT, ZONE, &good.name);
    world.cluster.event("Node", &good.name, "does not exist").await;
    // Its address may be another instance's next.
    world.owns_nothing().await;
    assert!(controller.terminate());

    let again = google.launch(5, &format!("projects/{PROJECT}/global/networks/main"));
    world.cluster.join(&again).await;
    world.cluster.run(web("again", &again.name)).await;
    let _controller = world.controller(&["--gce-network", "absent"]);
    world
        .cluster
        .event("Node", &again.name, "projects/nodes-1234/global/networks/absent does not exist")
        .await;
    assert_eq!(google.owned(CLUSTER).len(), 0);
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn two_thousand_nodes_take_the_fewest_rules_and_one_that_leaves_takes_one_patch() {
    let google = Google::start().await;
    let machines = google.seed(2000);
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("manifests.json");
    let write = |machines: &[Machine]| {
        let nodes = machines.iter().map(|machine| machine.node.clone());
        let pods = machines.iter().map(|machine| {
            let mut pod = web(&format!("web-{}", machine.name), &machine.name);
            (pod["apiVersion"], pod["kind"]) = (json!("v1"), json!("Pod"));
            // IPv4 alone, so that the count is the limits' own.
            pod["metadata"]["annotations"]["hostport-firewall.dev/source-ranges"] = json!("192.0.2.0/24");
            pod
        });
        let list =
            json!({ "apiVersion": "v1", "kind": "List", "items": nodes.chain(pods).collect::<Vec<_>>() });
        std::fs::write(&file, list.to_string()).expect("the manifests can be written");
    };
    write(&machines);
    let mut command = Command::new(binary());
    command.args(["run", "--providers", "gce", "--cluster-name", CLUSTER, "--linger", "0s", "--manifests"]);
    let log = folder.path().join("log");
    let _controller = Process::start(command.arg(folder.path()).envs(google.environment()), &log);
    let calls = async |count: usize| {
        until(&format!("{count} calls"), async || {
            let reached = google.mutations().len() >= count;
            if reached { Ok(()) } else { Err(std::fs::read_to_string(&log).unwrap_or_default()) }
        })
        .await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        google.mutations()
    };
    assert_eq!(calls(8).await, ["compute.firewalls.insert"; 8], "2,000 addresses, 250 in each");
    for machine in [&machines[0], &machines[999], &machines[1999]] {
        assert_eq!(google.open(machine).len(), 1);
    }
    write(&machines[1..]);
    assert_eq!(calls(9).await[8..], ["compute.firewalls.patch"]);
    assert!(google.open(&machines[0]).is_empty());
}
