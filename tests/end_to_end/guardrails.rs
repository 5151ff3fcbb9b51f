//! Guardrails: a rejected port stays closed, is reported, and opens by itself once they are relaxed.

use std::path::Path;

use serde_json::{Value, json};

use crate::environment::{Mode, TestEnvironment};
use crate::metrics::read_metric;
use crate::objects::{host_port, pod, set_web_label, web_exposure};
use crate::process::{find_free_port, root};
use crate::wait::wait_until;

/// Replaces the file as an editor does: all at once.
fn replace_file(path: &Path, guardrails: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, guardrails).expect("the file can be written");
    std::fs::rename(new, path).expect("it can be renamed");
}

/// Waits until the metric counts this many pods with the problem.
async fn wait_for_problem_pods(port: u16, reason: &str, count: &str) {
    let labels = [format!("reason=\"{reason}\""), "kind=\"Pod\"".to_owned()];
    wait_until(&format!("{count} pods have {reason}"), async || {
        let found =
            read_metric(port, "hostport_firewall_problem_objects", &labels.each_ref().map(String::as_str));
        if found.as_deref() == Some(count) { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn rejected_port_opens_when_its_guardrail_is_relaxed() {
    let env = TestEnvironment::start(Mode::Destination, 2).await;
    let [a, b] = &env.machines[..] else { panic!("two machines") };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("guardrails.yaml");
    replace_file(&file, "namespaces: [{selector: {matchLabels: {open: \"yes\"}}, ports: [80]}]\n");
    let port = find_free_port();
    let (file_name, address) = (file.display().to_string(), format!("127.0.0.1:{port}"));
    env.cluster.apply_file(&root().join("deploy/crd.yaml")).await;
    let _controller = env.start_controller(&["--guardrails", &file_name, "--metrics-address", &address]);

    let sources = ["192.0.2.0/24"];
    env.cluster.apply(web_exposure(json!([{ "port": 80 }]), &sources)).await;
    let mut selected = pod("selected", &a.name, json!({}), host_port(80));
    set_web_label(&mut selected);
    env.cluster.create_pod(selected).await;
    let annotations = json!({ "hostport-firewall.dev/expose": "80, 8080", "hostport-firewall.dev/source-ranges": sources[0] });
    let ports = json!([{ "containerPort": 80, "hostPort": 80 }, { "containerPort": 8080, "hostPort": 8080 }]);
    env.cluster.create_pod(pod("annotated", &b.name, annotations, ports)).await;

    for (kind, name) in [("HostPortExposure", "web"), ("Pod", "selected"), ("Pod", "annotated")] {
        let note = env.cluster.wait_for_event(kind, name, "guardrail namespaces").await;
        assert!(note.contains("NamespaceNotAllowed") && note.contains("namespace default"), "{note}");
    }
    env.cluster.wait_for_condition("Accepted", "False", "NamespaceNotAllowed").await;
    env.cluster.wait_for_condition("Programmed", "False", "Invalid").await;
    wait_for_problem_pods(port, "NamespaceNotAllowed", "2").await;
    assert_eq!(env.wait_until_idle().await, [""; 0], "nothing is opened");

    env.cluster.apply(namespace(&json!({ "open": "yes" }))).await;
    env.wait_until_open(a, &["tcp/80 192.0.2.0/24"]).await;
    env.cluster.wait_for_condition("Accepted", "True", "Accepted").await;
    env.cluster.wait_for_condition("Programmed", "True", "Programmed").await;
    env.cluster.wait_for_event("Pod", "annotated", "tcp/8080").await;
    env.wait_until_open(b, &[]).await;

    replace_file(&file, "namespaces: [{names: [default], ports: [80, 8000-9000]}]\n");
    env.wait_until_open(b, &["tcp/80 192.0.2.0/24", "tcp/8080 192.0.2.0/24"]).await;
    wait_for_problem_pods(port, "PortNotAllowed", "0").await;

    replace_file(&file, "deniedPorts: [8080]\n");
    env.wait_until_open(b, &[]).await;
    env.wait_until_open(a, &["tcp/80 192.0.2.0/24"]).await;
    env.cluster.wait_for_event("Pod", "annotated", "guardrail deniedPorts").await;

    // An unreadable file changes nothing; least of all does it open a port.
    replace_file(&file, "namespaces:\n- names: [default]\n  port: [80]\n");
    env.wait_for_log("line 3").await;
    env.wait_until_idle().await;
    env.wait_until_open(b, &[]).await;
    env.wait_until_open(a, &["tcp/80 192.0.2.0/24"]).await;

    replace_file(&file, "allowedSourceRanges: [10.0.0.0/8]\n");
    env.wait_until_open(a, &[]).await;
    env.cluster.wait_for_condition("Accepted", "False", "SourceNotAllowed").await;
    replace_file(&file, "allowedSourceRanges: [10.0.0.0/8, 192.0.2.0/24]\n");
    env.wait_until_open(a, &["tcp/80 192.0.2.0/24"]).await;
    env.wait_until_open(b, &["tcp/80 192.0.2.0/24", "tcp/8080 192.0.2.0/24"]).await;
}

fn namespace(labels: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "default", "labels": labels } })
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn unreadable_guardrails_prevent_controller_start() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("guardrails.yaml");
    let run = || {
        let output = std::process::Command::new(crate::process::binary())
            .args(["run", "--cluster-name", "x", "--providers", "aws", "--aws-region", "eu-central-1"])
            .args(["--manifests", &folder.path().display().to_string()])
            .args(["--guardrails", &file.display().to_string()])
            .output()
            .expect("it runs");
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let error = run();
    assert!(error.contains("cannot read the guardrails") && error.contains("guardrails.yaml"), "{error}");
    replace_file(&file, "deniedPorts: [25]\ndeniedport: [26]\n");
    let error = run();
    assert!(error.contains("line 2") && error.contains("deniedport"), "{error}");
}
