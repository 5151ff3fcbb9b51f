//! The commands, from manifest files and without a cluster: exit codes, output, and following changes.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::amazon::Amazon;
use crate::cluster::pod;
use crate::machine::Machine;
use crate::patience::until;
use crate::process::{Process, binary};

const CLUSTER: &str = "commands";

fn command(cloud: &Amazon, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).args(["--cluster-name", CLUSTER, "--providers", "aws"]).envs(cloud.environment());
    command
}

fn run(cloud: &Amazon, arguments: &[&str]) -> Output {
    command(cloud, arguments).output().expect("the binary runs")
}

fn write(file: &Path, machine: &Machine, pods: &[Value]) {
    let items: Vec<Value> = [machine.node.clone()].into_iter().chain(pods.iter().cloned()).collect();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
    std::fs::write(file, list.to_string()).expect("the manifests can be written");
}

fn web(machine: &Machine) -> Value {
    let expose = json!({ "hostport-firewall.dev/expose": "80" });
    let mut pod = pod("web", &machine.name, expose, json!([{ "containerPort": 80, "hostPort": 80 }]));
    (pod["apiVersion"], pod["kind"]) = (json!("v1"), json!("Pod"));
    pod
}

/// Waits until this many rules are open on the machine.
async fn opens(cloud: &Amazon, machine: &Machine, count: usize) {
    until(&format!("{count} rules are open"), async || {
        let open = cloud.open(machine).await;
        if open.len() == count { Ok(()) } else { Err(open.to_string()) }
    })
    .await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn plan_tells_by_its_exit_code_and_cleanup_leaves_nothing() {
    let cloud = Amazon::start().await;
    let machine = cloud.seed(CLUSTER, &["--nodes", "1"]).remove(0);
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("manifests.json");
    let path = file.to_str().expect("UTF-8");
    write(&file, &machine, &[web(&machine)]);

    let planned = run(&cloud, &["plan", "--manifests", path, "-o", "json"]);
    assert_eq!(planned.status.code(), Some(2), "there are changes: {planned:?}");
    let plan: Value = serde_json::from_slice(&planned.stdout).expect("JSON");
    let verbs: Vec<&str> = plan["plans"][0]["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .filter_map(|s| s["verb"].as_str())
        .collect();
    assert_eq!(verbs, ["create", "create"], "a group, and its attachment: {plan}");

    let mut controller = command(&cloud, &["run", "--manifests", path, "--linger", "0s"]);
    let controller = Process::start(&mut controller, &folder.path().join("log"));
    opens(&cloud, &machine, 2).await;
    let planned = run(&cloud, &["plan", "--manifests", path]);
    assert_eq!(planned.status.code(), Some(0), "there are none left: {planned:?}");

    write(&file, &machine, &[]);
    opens(&cloud, &machine, 0).await;
    write(&file, &machine, &[web(&machine)]);
    opens(&cloud, &machine, 2).await;
    assert!(controller.terminate(), "SIGTERM ends it with success");

    assert_eq!(run(&cloud, &["cleanup"]).status.code(), Some(2), "there is something to remove");
    assert_eq!(cloud.open(&machine).await.len(), 2, "and it is not removed without --yes");
    assert_eq!(run(&cloud, &["cleanup", "--yes"]).status.code(), Some(0));
    assert!(cloud.open(&machine).await.is_empty());
    assert_eq!(run(&cloud, &["cleanup"]).status.code(), Some(0), "nothing is left");

    let misused = run(&cloud, &["plan", "--no-such-option"]);
    assert_eq!(misused.status.code(), Some(1), "not the 2 that says there are changes");
    let broken = run(&cloud, &["plan", "--manifests", "/does/not/exist"]);
    assert_eq!(broken.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&broken.stderr).contains("/does/not/exist"), "{broken:?}");
}
