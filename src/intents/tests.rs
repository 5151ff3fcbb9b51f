//! Tests of what intents ask for, case by case.

mod annotation;
mod host_port_exposure;
mod malformed;
mod mistakes;
mod properties;
mod service;
mod voyager;

use serde_json::{Value, json};

use super::collect::{Collected, collect_exposures};
use super::exposure::Exposure;
use super::settings::Settings;
use crate::guardrails::Guardrails;
use crate::k8s::index::{Index, Object, Watch};
use crate::k8s::objects::builders::{self, from_json, host_port, named_host_port, node};
use crate::k8s::problem::Problem;

/// Returns a pod on `node-a` whose one container has these ports.
fn pod(name: &str, annotations: &Value, ports: &Value) -> Value {
    builders::annotated(builders::pod("shop", name, "node-a", ports), annotations)
}

/// Three machines: `node-a` and `node-b` with both address families, `node-v4` with IPv4 alone.
fn cluster(pods: impl IntoIterator<Item = Value>) -> Index {
    let both = ["10.0.0.1", "2001:db8::1"];
    let nodes = [
        node("node-a", "aws:///z/i-a", &both),
        node("node-b", "aws:///z/i-b", &both),
        node("node-v4", "aws:///z/i-v4", &["10.0.0.3"]),
    ];
    let mut index = Index::expecting([Watch::Pods, Watch::Nodes]);
    index.reset(Watch::Pods, pods.into_iter().map(|pod| Object::Pod(from_json(pod))).collect());
    index.reset(Watch::Nodes, nodes.map(|node| Object::Node(from_json(node))).into());
    index
}

fn found(pods: impl IntoIterator<Item = Value>) -> Collected {
    collect_exposures(&cluster(pods), &Settings::default())
}

fn rules(exposure: &Exposure) -> Vec<String> {
    exposure.rules.iter().map(ToString::to_string).collect()
}

/// What the only exposure lets in, while nothing is wrong.
fn opened(found: &Collected) -> Vec<String> {
    assert!(found.problems.is_empty(), "{:?}", found.problems);
    let [exposure] = &found.exposures[..] else { panic!("one exposure: {found:?}") };
    rules(exposure)
}

/// The only problem, as `reason object: message`, while nothing is opened.
fn refused(found: &Collected) -> String {
    assert!(found.exposures.is_empty(), "{:?}", found.exposures);
    told(found)
}

/// The only problem, as `reason object: message`. Other objects that it concerns are told the same.
fn told(found: &Collected) -> String {
    let own = |notice: &&Problem| !found.problems.iter().any(|other| other.to(&notice.object) == **notice);
    let problems: Vec<_> = found.problems.iter().filter(own).collect();
    let [problem] = problems[..] else { panic!("one problem: {found:?}") };
    format!("{} {}: {}", problem.reason, problem.object, problem.message)
}

fn web() -> Value {
    pod("web", &json!({ "hostport-firewall.dev/expose": "80" }), &json!([host_port(80)]))
}

#[test]
fn a_pod_counts_while_it_binds_its_ports() {
    let cases = [
        (json!({ "phase": "Pending" }), 1),
        (json!({ "phase": "Running" }), 1),
        (json!({ "phase": "Unknown" }), 1),
        (json!({}), 1),
        (json!({ "phase": "Succeeded" }), 0),
        (json!({ "phase": "Failed" }), 0),
    ];
    for (status, count) in cases {
        let mut pod = web();
        pod["status"] = status.clone();
        assert_eq!(found([pod]).exposures.len(), count, "{status}");
    }
    let mut terminating = web();
    terminating["metadata"]["deletionTimestamp"] = json!("2026-05-04T10:00:00Z");
    assert_eq!(found([terminating]).exposures.len(), 1);
    for unscheduled in [json!(null), json!("")] {
        let mut pod = web();
        pod["spec"]["nodeName"] = unscheduled;
        assert_eq!(found([pod]), Collected::default());
    }
}

#[test]
fn a_host_port_that_nobody_asked_for_is_not_opened() {
    let exporter = pod("node-exporter", &json!({}), &json!([host_port(9100)]));
    assert_eq!(found([exporter]), Collected::default());
}

#[test]
fn an_exposure_names_its_pod_its_node_and_its_machine() {
    let found = found([web()]);
    let [exposure] = &found.exposures[..] else { panic!("one exposure") };
    assert_eq!(exposure.port_owner.to_string(), "Pod shop/web");
    assert_eq!(exposure.node.to_string(), "Node node-a");
    assert_eq!(exposure.provider_id, "aws:///z/i-a");
    assert_eq!(exposure.intent, exposure.port_owner);
    assert_eq!(exposure.workload.to_string(), "Pod shop/web");
}

#[test]
fn the_default_is_anywhere_by_the_families_that_the_node_has() {
    assert_eq!(opened(&found([web()])), ["tcp/80 from 0.0.0.0/0", "tcp/80 from ::/0"]);
    let mut on_v4 = web();
    on_v4["spec"]["nodeName"] = json!("node-v4");
    assert_eq!(opened(&found([on_v4])), ["tcp/80 from 0.0.0.0/0"]);
}

#[test]
fn an_administrator_can_narrow_the_default() {
    let settings =
        Settings { default_source_ranges: vec!["192.0.2.0/24".parse().unwrap()], ..Settings::default() };
    assert_eq!(opened(&collect_exposures(&cluster([web()]), &settings)), ["tcp/80 from 192.0.2.0/24"]);
}

#[test]
fn a_port_is_reached_over_the_family_of_its_host_ip_only() {
    let on = |address: &str, sources: &str| {
        let annotations =
            json!({ "hostport-firewall.dev/expose": "80", "hostport-firewall.dev/source-ranges": sources });
        found([pod(
            "web",
            &annotations,
            &json!([{ "containerPort": 80, "hostPort": 80, "hostIP": address }]),
        )])
    };
    let both = "192.0.2.0/24, 2001:db8::/32";
    assert_eq!(opened(&on("10.0.0.1", both)), ["tcp/80 from 192.0.2.0/24"]);
    assert_eq!(opened(&on("2001:db8::1", both)), ["tcp/80 from 2001:db8::/32"]);
    assert_eq!(opened(&on("0.0.0.0", both)).len(), 2);
    assert!(refused(&on("10.0.0.1", "2001:db8::/32")).starts_with("NoSources Pod shop/web: tcp/80"));
    assert!(refused(&on("127.0.0.1", both)).contains("no host port"));
    let mut on_v4 = pod(
        "web",
        &json!({ "hostport-firewall.dev/expose": "80", "hostport-firewall.dev/source-ranges": "2001:db8::/32" }),
        &json!([host_port(80)]),
    );
    on_v4["spec"]["nodeName"] = json!("node-v4");
    assert!(refused(&found([on_v4])).starts_with("NoSources Pod shop/web: tcp/80"), "nor that of its node");
}

#[test]
fn a_node_that_cannot_be_found_or_has_no_machine_is_told() {
    let mut lost = web();
    lost["spec"]["nodeName"] = json!("node-z");
    assert!(refused(&found([lost])).starts_with("UnknownNode Pod shop/web: node node-z"));
    for no_id in [json!({}), json!({ "providerID": "" })] {
        let mut index = cluster([web()]);
        let node = json!({ "metadata": { "name": "node-a" }, "spec": no_id });
        index.apply(&Watch::Nodes, Object::Node(from_json(node)));
        let message = refused(&collect_exposures(&index, &Settings::default()));
        assert!(
            message.starts_with("NoProviderId Node node-a") && message.contains("--provider-id"),
            "{message}"
        );
    }
}

#[test]
fn what_a_guardrail_denies_is_refused_whole() {
    let expose = json!({ "hostport-firewall.dev/expose": "80, 22" });
    let ports = json!([{ "containerPort": 80, "hostPort": 80 }, { "containerPort": 2222, "hostPort": 22 }]);
    let ssh = || pod("ssh", &expose, &ports);
    let message = refused(&found([ssh()]));
    assert!(message.starts_with("PortDenied Pod shop/ssh") && message.contains("--allow-ports"), "{message}");
    let guardrails = Guardrails { allowed_ports: vec!["22".parse().unwrap()], ..Guardrails::default() };
    let allowed = Settings { guardrails, ..Settings::default() };
    assert_eq!(opened(&collect_exposures(&cluster([ssh()]), &allowed)).len(), 4);
    let expose = json!({ "hostport-firewall.dev/expose": "9890" });
    let elsewhere = pod("ssh", &expose, &json!([{ "containerPort": 22, "hostPort": 9890 }]));
    assert_eq!(opened(&found([elsewhere])).len(), 2, "the host port counts, not the container's");
}

#[test]
fn what_is_wrong_with_one_pod_leaves_the_others_alone() {
    let bad = pod("bad", &json!({ "hostport-firewall.dev/expose": "true" }), &json!([host_port(80)]));
    let found = found([bad, web()]);
    assert_eq!(found.exposures.len(), 1);
    assert!(told(&found).contains("Pod shop/bad"));
}
