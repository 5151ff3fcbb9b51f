//! Two thousand nodes in one cluster.

use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::environment::CLUSTER;
use crate::gce::Gce;
use crate::machine::Machine;
use crate::objects::{daemon_set_pod, manifest_list};
use crate::process::{Process, binary};
use crate::wait::wait_until;

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn two_thousand_nodes_share_eight_rules_and_leave_by_one_patch() {
    let gce = Gce::start().await;
    let machines = gce.seed(2000);
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("manifests.json");
    let write = |machines: &[Machine]| {
        let nodes = machines.iter().map(|machine| machine.node.clone());
        let pods = machines.iter().map(|machine| {
            let mut pod = daemon_set_pod(&format!("web-{}", machine.name), &machine.name, 80);
            // IPv4 alone: each 250 addresses then need one rule.
            pod["metadata"]["annotations"]["hostport-firewall.dev/source-ranges"] = json!("192.0.2.0/24");
            pod
        });
        let list = manifest_list(&nodes.chain(pods).collect::<Vec<_>>());
        std::fs::write(&file, list).expect("the manifests can be written");
    };
    write(&machines);
    let mut command = Command::new(binary());
    command.args(["run", "--providers", "gce", "--cluster-name", CLUSTER, "--linger", "0s", "--manifests"]);
    let log = folder.path().join("log");
    let _controller = Process::start(command.arg(folder.path()).envs(gce.env_vars()), &log);
    let calls = async |count: usize| {
        wait_until(&format!("{count} calls"), async || {
            let reached = gce.list_mutations().len() >= count;
            if reached { Ok(()) } else { Err(std::fs::read_to_string(&log).unwrap_or_default()) }
        })
        .await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        gce.list_mutations()
    };
    assert_eq!(calls(8).await, ["compute.firewalls.insert"; 8], "2,000 addresses, 250 in each");
    for machine in [&machines[0], &machines[999], &machines[1999]] {
        assert_eq!(gce.read_open_rules(machine).len(), 1);
    }
    write(&machines[1..]);
    assert_eq!(calls(9).await[8..], ["compute.firewalls.patch"]);
    assert!(gce.read_open_rules(&machines[0]).is_empty());
}
