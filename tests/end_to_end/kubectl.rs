//! kubectl: its view of a `HostPortExposure`, and the kustomization in deploy/.

use hostport_firewall::k8s::manifests::{Manifests, read};
use serde_json::json;

use crate::environment::{Mode, TestEnvironment};
use crate::objects::{host_port, ingress, pod, set_web_label, voyager_crd, web_exposure};
use crate::process::{binary, root};
use crate::wait::wait_until;

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn kubectl_shows_exposure_and_waits_for_it() {
    let env = TestEnvironment::start(Mode::Destination, 1).await;
    let machine = &env.machines[0];
    env.cluster.apply_file(&root().join("deploy/crd.yaml")).await;
    let _controller = env.start_controller(&[]);
    env.cluster.apply(web_exposure(json!([{ "port": 80 }]), &[])).await;
    let mut web = pod("web", &machine.name, json!({}), host_port(80));
    set_web_label(&mut web);
    let wait = ["wait", "--for=condition=Programmed", "hpe/web", "--timeout=60s"];
    let (waited, ()) = tokio::join!(env.cluster.run_kubectl(&wait), env.cluster.create_pod(web));
    assert_eq!(waited, "hostportexposure.hostport-firewall.dev/web condition met\n");
    env.cluster.mark_ready("web").await;
    env.cluster.wait_for_event("HostPortExposure", "web", "tcp/80 open on node").await;

    let get = env.cluster.run_kubectl(&["get", "hpe"]).await;
    let lines: Vec<Vec<&str>> = get.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAME", "ACCEPTED", "PROGRAMMED", "PORTS", "NODES", "AGE"], "{get}");
    assert_eq!(lines[1][..5], ["web", "True", "True", "tcp/80", "1"], "{get}");
    let all = env.cluster.run_kubectl(&["get", "all"]).await;
    assert!(all.contains("hostportexposure.hostport-firewall.dev/web"), "{all}");

    let expected = [
        "Message: the cloud has confirmed all of its ports",
        "Status: True Type: Programmed",
        "Node Count: 1",
        &format!("Address: {}", machine.address()),
        "Normal Opened",
        &format!("tcp/80 open on node {} (firewall rule hpf-", machine.name),
        "for HostPortExposure default/web",
    ];
    wait_until("kubectl describes all of it", async || {
        let described = env.cluster.run_kubectl(&["describe", "hpe", "web"]).await;
        // kubectl aligns what it prints.
        let words = described.split_whitespace().collect::<Vec<_>>().join(" ");
        let missing = expected.iter().find(|part| !words.contains(**part));
        missing.map_or(Ok(()), |part| Err(format!("{part:?} is not in:\n{described}")))
    })
    .await;
    let explained = env.cluster.run_kubectl(&["explain", "hpe.spec.ports"]).await;
    assert!(explained.contains("sourceRanges") && explained.contains("-required-"), "{explained}");
}

/// Returns the command of `plan --help` that prints the objects of a cluster.
fn dump_of_the_help() -> String {
    let help = std::process::Command::new(binary()).args(["plan", "--help"]).output().expect("it runs");
    let help = String::from_utf8(help.stdout).expect("UTF-8");
    let (_, dump) = help.split_once("  kubectl get ").expect("an example with kubectl");
    let (dump, _) = dump.split_once("> objects.json").expect("its end");
    format!("kubectl get {dump}")
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn dump_of_the_help_is_complete_on_every_cluster() {
    let env = TestEnvironment::start(Mode::Destination, 1).await;
    env.cluster.create_pod(pod("web", &env.machines[0].name, json!({}), host_port(80))).await;
    let folder = tempfile::tempdir().expect("a folder");
    let read_dump = async || {
        let dump = env.cluster.run_script(&dump_of_the_help()).await;
        assert!(dump.status.success(), "{dump:?}");
        std::fs::write(folder.path().join("objects.json"), dump.stdout).expect("a file");
        read(&Manifests::Path(folder.path().to_owned())).expect("a cluster")
    };
    let index = read_dump().await;
    assert_eq!((index.nodes().count(), index.pods().count()), (1, 1), "without any CRD");
    env.cluster.apply_file(&root().join("deploy/crd.yaml")).await;
    env.cluster.apply(voyager_crd(&["v1"])).await;
    env.cluster.apply(web_exposure(json!([{ "port": 80 }]), &[])).await;
    env.cluster.apply(ingress("voyager.appscode.com/v1", "shop", &json!({}), &json!({}))).await;
    let index = read_dump().await;
    let counts = (index.nodes().count(), index.host_port_exposures().count(), index.all_ingresses().count());
    assert_eq!(counts, (1, 1, 1), "with both");

    let plan = "hostport-firewall plan --cluster-name x --providers aws --manifests -";
    let plan = plan.replace("hostport-firewall", &binary().display().to_string());
    let failed = env.cluster.run_script(&format!("kubectl get pods,nosuchkind -A -o json | {plan}")).await;
    let error = String::from_utf8_lossy(&failed.stderr);
    assert!(error.contains("standard input has no object"), "{error}");
    assert_eq!((failed.status.code(), failed.stdout.as_slice()), (Some(1), &b""[..]));
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn api_server_accepts_kustomization_and_components() {
    let env = TestEnvironment::start(Mode::Destination, 0).await;
    let folder = tempfile::tempdir_in(root().join("target")).expect("a folder beside deploy");
    let kustomization = json!({
        "resources": ["../../deploy"],
        "components": ["../../deploy/guardrails", "../../deploy/external-dns"],
    });
    std::fs::write(folder.path().join("kustomization.yaml"), kustomization.to_string()).expect("a file");
    let path = folder.path().display().to_string();
    let applied = env.cluster.run_kubectl(&["apply", "--dry-run=server", "-k", &path]).await;
    for object in ["deployment.apps", "configmap", "customresourcedefinition.apiextensions.k8s.io"] {
        assert!(applied.contains(object), "{applied}");
    }
    let shown = env.cluster.run_kubectl(&["kustomize", &path]).await;
    for part in [
        "--guardrails=/etc/hostport-firewall/guardrails.yaml",
        "--external-dns",
        "hostport-firewall-external-dns",
    ] {
        assert!(shown.contains(part), "{part} is not in:\n{shown}");
    }
}
