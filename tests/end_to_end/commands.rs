//! The commands on manifest files, without a cluster: exit codes, output, and how `run` follows changed
//! files.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::aws::Aws;
use crate::machine::Machine;
use crate::objects::{exposing_pod, manifest_list};
use crate::process::{Process, binary};
use crate::wait::wait_until;

const CLUSTER: &str = "commands";

fn build_command(cloud: &Aws, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).args(["--cluster-name", CLUSTER, "--providers", "aws"]).envs(cloud.env_vars());
    command
}

fn run_command(cloud: &Aws, arguments: &[&str]) -> Output {
    build_command(cloud, arguments).output().expect("the binary runs")
}

fn write_manifests(file: &Path, machine: &Machine, pods: &[Value]) {
    let items: Vec<Value> = [machine.node.clone()].into_iter().chain(pods.iter().cloned()).collect();
    std::fs::write(file, manifest_list(&items)).expect("the manifests can be written");
}

/// Waits until this many rules are open on the machine.
async fn wait_until_open(cloud: &Aws, machine: &Machine, count: usize) {
    wait_until(&format!("{count} rules are open"), async || {
        let open = cloud.read_open_rules(machine).await;
        if open.len() == count { Ok(()) } else { Err(open.to_string()) }
    })
    .await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn plan_exit_code_shows_changes_and_cleanup_removes_all() {
    let cloud = Aws::start().await;
    let machine = cloud.seed(CLUSTER, &["--nodes", "1"]).remove(0);
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("manifests.json");
    let path = file.to_str().expect("UTF-8");
    write_manifests(&file, &machine, &[exposing_pod("web", &machine.name, 80)]);

    let planned = run_command(&cloud, &["plan", "--manifests", path, "-o", "json"]);
    assert_eq!(planned.status.code(), Some(2), "there are changes: {planned:?}");
    let plan: Value = serde_json::from_slice(&planned.stdout).expect("JSON");
    let verbs: Vec<&str> = plan["plans"][0]["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .filter_map(|s| s["verb"].as_str())
        .collect();
    assert_eq!(verbs, ["create", "create"], "a group, and its attachment: {plan}");

    let mut controller = build_command(&cloud, &["run", "--manifests", path, "--linger", "0s"]);
    let controller = Process::start(&mut controller, &folder.path().join("log"));
    wait_until_open(&cloud, &machine, 2).await;
    let planned = run_command(&cloud, &["plan", "--manifests", path]);
    assert_eq!(planned.status.code(), Some(0), "there are none left: {planned:?}");

    write_manifests(&file, &machine, &[]);
    wait_until_open(&cloud, &machine, 0).await;
    write_manifests(&file, &machine, &[exposing_pod("web", &machine.name, 80)]);
    wait_until_open(&cloud, &machine, 2).await;
    assert!(controller.terminate(), "SIGTERM ends it with success");

    assert_eq!(run_command(&cloud, &["cleanup"]).status.code(), Some(2), "there is something to remove");
    assert_eq!(cloud.read_open_rules(&machine).await.len(), 2, "and it is not removed without --yes");
    assert_eq!(run_command(&cloud, &["cleanup", "--yes"]).status.code(), Some(0));
    assert!(cloud.read_open_rules(&machine).await.is_empty());
    assert_eq!(run_command(&cloud, &["cleanup"]).status.code(), Some(0), "nothing is left");

    let misused = run_command(&cloud, &["plan", "--no-such-option"]);
    assert_eq!(misused.status.code(), Some(1), "not 2, which means that there are changes");
    let broken = run_command(&cloud, &["plan", "--manifests", "/does/not/exist"]);
    assert_eq!(broken.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&broken.stderr).contains("/does/not/exist"), "{broken:?}");
}

/// The field case `the-file-is-emptied-by-a-failed-export`.
#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn file_emptied_by_a_failed_export_closes_nothing() {
    let cloud = Aws::start().await;
    let machine = cloud.seed(CLUSTER, &["--nodes", "1"]).remove(0);
    let folder = TempDir::new().expect("a temporary folder");
    let (file, log) = (folder.path().join("all.json"), folder.path().join("log"));
    let path = file.to_str().expect("UTF-8");
    let pods = [exposing_pod("a", &machine.name, 443), exposing_pod("b", &machine.name, 8443)];
    write_manifests(&file, &machine, &pods);
    let all = std::fs::read_to_string(&file).expect("the file");
    let mut controller = build_command(&cloud, &["run", "--manifests", path, "--linger", "0s"]);
    let controller = Process::start(&mut controller, &log);
    wait_until_open(&cloud, &machine, 4).await;

    let status = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"pods is forbidden"}"#;
    let failures =
        [(&all[..all.len() / 2], "not valid YAML"), ("", "has no object"), (status, "pods is forbidden")];
    for (text, said) in failures {
        std::fs::write(&file, text).expect("the file");
        wait_until(&format!("the log says {said:?}"), async || {
            let log = std::fs::read_to_string(&log).expect("the log");
            let is_said = log.lines().any(|line| line.contains(said) && line.contains("no port is closed"));
            if is_said { Ok(()) } else { Err(log) }
        })
        .await;
        let planned = run_command(&cloud, &["plan", "--manifests", path]);
        assert_eq!(planned.status.code(), Some(1), "{planned:?}");
        assert!(String::from_utf8_lossy(&planned.stderr).contains(said), "{planned:?}");
        assert_eq!(cloud.read_open_rules(&machine).await.len(), 4, "after {said}");
    }
    // Without b, so that what is read shows.
    write_manifests(&file, &machine, &pods[..1]);
    wait_until_open(&cloud, &machine, 2).await;
    assert!(controller.terminate(), "SIGTERM ends it with success");
}

/// The field case `a-rendered-chart-without-pods`.
#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn plan_names_workloads_that_are_no_pods() {
    let cloud = Aws::start().await;
    let machine = cloud.seed(CLUSTER, &["--nodes", "1"]).remove(0);
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("chart.json");
    let template = json!({ "metadata": { "annotations": { "hostport-firewall.dev/expose": "https" } } });
    let workload = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": "edge" }, "spec": { "template": template },
    });
    write_manifests(&file, &machine, &[workload]);
    let planned = run_command(&cloud, &["plan", "--manifests", file.to_str().expect("UTF-8")]);
    assert_eq!(planned.status.code(), Some(0), "{planned:?}");
    let said = String::from_utf8_lossy(&planned.stderr);
    assert!(said.contains("1 DaemonSet was passed over: pods are needed"), "{said}");
}
