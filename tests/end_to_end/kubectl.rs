//! What a person sees with kubectl, and what kubectl makes of deploy/.

use serde_json::json;

use crate::cluster::pod;
use crate::exposures::exposure;
use crate::patience::until;
use crate::process::root;
use crate::world::{Mode, World};

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn kubectl_shows_an_exposure_and_waits_for_it() {
    let world = World::start(Mode::Destination, 1).await;
    let machine = &world.machines[0];
    world.cluster.apply(&root().join("deploy/crd.yaml")).await;
    let _controller = world.controller(&[]);
    world
        .cluster
        .create(exposure(
            &json!({ "podSelector": { "matchLabels": { "app": "web" } }, "ports": [{ "port": 80 }] }),
        ))
        .await;
    let mut web = pod("web", &machine.name, json!({}), json!([{ "containerPort": 80, "hostPort": 80 }]));
    web["metadata"]["labels"] = json!({ "app": "web" });
    let wait = ["wait", "--for=condition=Programmed", "hpe/web", "--timeout=60s"];
    let (waited, ()) = tokio::join!(world.cluster.kubectl(&wait), world.cluster.run(web));
    assert_eq!(waited, "hostportexposure.hostport-firewall.dev/web condition met\n");
    world.cluster.ready("web").await;
    world.cluster.event("HostPortExposure", "web", "tcp/80 open on node").await;

    let get = world.cluster.kubectl(&["get", "hpe"]).await;
    let lines: Vec<Vec<&str>> = get.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAME", "ACCEPTED", "PROGRAMMED", "PORTS", "NODES", "AGE"], "{get}");
    assert_eq!(lines[1][..5], ["web", "True", "True", "tcp/80", "1"], "{get}");
    let all = world.cluster.kubectl(&["get", "all"]).await;
    assert!(all.contains("hostportexposure.hostport-firewall.dev/web"), "{all}");

    let expected = [
        "Message: the cloud has confirmed everything that it asks for",
        "Status: True Type: Programmed",
        "Node Count: 1",
        &format!("Address: {}", machine.address()),
        "Normal Opened",
        &format!("tcp/80 open on node {} (firewall rule hpf-", machine.name),
        "for HostPortExposure default/web",
    ];
    until("kubectl describes all of it", async || {
        let described = world.cluster.kubectl(&["describe", "hpe", "web"]).await;
        // kubectl aligns what it prints.
        let words = described.split_whitespace().collect::<Vec<_>>().join(" ");
        let missing = expected.iter().find(|part| !words.contains(**part));
        missing.map_or(Ok(()), |part| Err(format!("{part:?} is not in:\n{described}")))
    })
    .await;
    let explained = world.cluster.kubectl(&["explain", "hpe.spec.ports"]).await;
    assert!(explained.contains("sourceRanges") && explained.contains("-required-"), "{explained}");
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn the_kustomization_and_its_components_are_accepted() {
    let world = World::start(Mode::Destination, 0).await;
    let folder = tempfile::tempdir_in(root().join("target")).expect("a folder beside deploy");
    let kustomization = json!({
        "resources": ["../../deploy"],
        "components": ["../../deploy/guardrails", "../../deploy/external-dns"],
    });
    std::fs::write(folder.path().join("kustomization.yaml"), kustomization.to_string()).expect("a file");
    let path = folder.path().display().to_string();
    let applied = world.cluster.kubectl(&["apply", "--dry-run=server", "-k", &path]).await;
    for object in ["deployment.apps", "configmap", "customresourcedefinition.apiextensions.k8s.io"] {
        assert!(applied.contains(object), "{applied}");
    }
    let shown = world.cluster.kubectl(&["kustomize", &path]).await;
    for part in [
        "--guardrails=/etc/hostport-firewall/guardrails.yaml",
        "--external-dns",
        "hostport-firewall-external-dns",
    ] {
        assert!(shown.contains(part), "{part} is not in:\n{shown}");
    }
}
