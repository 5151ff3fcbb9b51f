//! Guardrails: what they refuse stays closed and says so, and opens by itself when they are relaxed.

use std::path::Path;

use serde_json::{Value, json};

use crate::cluster::pod;
use crate::exposures::{becomes, exposure};
use crate::metrics::{free_port, metric};
use crate::patience::until;
use crate::process::root;
use crate::world::{Mode, World};

/// Replaces the file as an editor does: all at once.
fn write(path: &Path, guardrails: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, guardrails).expect("the file can be written");
    std::fs::rename(new, path).expect("it can be renamed");
}

/// Waits until this many pods have the problem.
async fn pods_with(port: u16, reason: &str, count: &str) {
    let labels = [format!("reason=\"{reason}\""), "kind=\"Pod\"".to_owned()];
    until(&format!("{count} pods have {reason}"), async || {
        let found = metric(port, "hostport_firewall_problems", &labels.each_ref().map(String::as_str));
        if found.as_deref() == Some(count) { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn what_a_guardrail_refuses_opens_by_itself_when_it_is_relaxed() {
    let world = World::start(Mode::Destination, 2).await;
    let [a, b] = &world.machines[..] else { panic!("two machines") };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("guardrails.yaml");
    write(&file, "namespaces: [{selector: {matchLabels: {open: \"yes\"}}, ports: [80]}]\n");
    let port = free_port();
    let (file_name, address) = (file.display().to_string(), format!("127.0.0.1:{port}"));
    world.cluster.apply(&root().join("deploy/crd.yaml")).await;
    let _controller = world.controller(&["--guardrails", &file_name, "--metrics-address", &address]);

    let selector = json!({ "matchLabels": { "app": "web" } });
    let sources = ["192.0.2.0/24"];
    world
        .cluster
        .create(exposure(
            &json!({ "podSelector": selector, "ports": [{ "port": 80 }], "sourceRanges": sources }),
        ))
        .await;
    let bound = |number: u16| json!([{ "containerPort": number, "hostPort": number }]);
    let mut selected = pod("selected", &a.name, json!({}), bound(80));
    selected["metadata"]["labels"] = json!({ "app": "web" });
    world.cluster.run(selected).await;
    let annotations = json!({ "hostport-firewall.dev/expose": "80, 8080", "hostport-firewall.dev/source-ranges": sources[0] });
    let ports = json!([{ "containerPort": 80, "hostPort": 80 }, { "containerPort": 8080, "hostPort": 8080 }]);
    world.cluster.run(pod("annotated", &b.name, annotations, ports)).await;

    for (kind, name) in [("HostPortExposure", "web"), ("Pod", "selected"), ("Pod", "annotated")] {
        let told = world.cluster.event(kind, name, "guardrail namespaces").await;
        assert!(told.contains("NamespaceNotAllowed") && told.contains("namespace default"), "{told}");
    }
    becomes(&world, "Accepted", "False", "NamespaceNotAllowed").await;
    becomes(&world, "Programmed", "False", "Invalid").await;
    pods_with(port, "NamespaceNotAllowed", "2").await;
    assert_eq!(world.settled().await, [""; 0], "nothing is opened");

    world.cluster.create(namespace(&json!({ "open": "yes" }))).await;
    world.opens(a, &["tcp/80 192.0.2.0/24"]).await;
    becomes(&world, "Accepted", "True", "Accepted").await;
    becomes(&world, "Programmed", "True", "Programmed").await;
    world.cluster.event("Pod", "annotated", "tcp/8080").await;
    world.opens(b, &[]).await;

    write(&file, "namespaces: [{names: [default], ports: [80, 8000-9000]}]\n");
    world.opens(b, &["tcp/80 192.0.2.0/24", "tcp/8080 192.0.2.0/24"]).await;
    pods_with(port, "PortNotAllowed", "0").await;

    write(&file, "deniedPorts: [8080]\n");
    world.opens(b, &[]).await;
    world.opens(a, &["tcp/80 192.0.2.0/24"]).await;
    world.cluster.event("Pod", "annotated", "guardrail deniedPorts").await;

    // What cannot be understood changes nothing, least of all opens.
    write(&file, "namespaces:\n- names: [default]\n  port: [80]\n");
    world.says("line 3").await;
    world.settled().await;
    world.opens(b, &[]).await;
    world.opens(a, &["tcp/80 192.0.2.0/24"]).await;

    write(&file, "allowedSourceRanges: [10.0.0.0/8]\n");
    world.opens(a, &[]).await;
    becomes(&world, "Accepted", "False", "SourceNotAllowed").await;
    write(&file, "allowedSourceRanges: [10.0.0.0/8, 192.0.2.0/24]\n");
    world.opens(a, &["tcp/80 192.0.2.0/24"]).await;
    world.opens(b, &["tcp/80 192.0.2.0/24", "tcp/8080 192.0.2.0/24"]).await;
}

fn namespace(labels: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "default", "labels": labels } })
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn guardrails_that_cannot_be_read_keep_the_controller_from_starting() {
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
    write(&file, "deniedPorts: [25]\ndeniedport: [26]\n");
    let error = run();
    assert!(error.contains("line 2") && error.contains("deniedport"), "{error}");
}
