//! Tests of the intents, case by case.

mod annotation;
mod cost;
mod host_port_exposure;
mod malformed;
mod mistakes;
mod properties;
mod service;
mod voyager;

use serde_json::{Value, json};

use super::demand::{Collected, collect_exposures};
use super::exposure::Exposure;
use super::settings::Settings;
use super::unknown::Place;
use crate::guardrails::Guardrails;
use crate::k8s::index::{Index, Object, Watch};
use crate::k8s::objects::builders::{self, from_json, host_port, named_host_port, node};
use crate::k8s::problem::Problem;

/// Returns a pod on `node-a` whose one container has these ports.
fn pod(name: &str, annotations: &Value, ports: &Value) -> Value {
    builders::annotated(builders::pod("shop", name, "node-a", ports), annotations)
}

/// Returns an index with three machines: `node-a` and `node-b` with both address families, `node-v4` with
/// IPv4 alone.
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

fn collect(pods: impl IntoIterator<Item = Value>) -> Collected {
    collect_exposures(&cluster(pods), &Settings::default())
}

fn rules(exposure: &Exposure) -> Vec<String> {
    exposure.rules.iter().map(ToString::to_string).collect()
}

/// Returns the rules of the only exposure, and asserts that there is no problem.
fn opened(found: &Collected) -> Vec<String> {
    assert!(found.problems.is_empty(), "{:?}", found.problems);
    let [exposure] = &found.exposures[..] else { panic!("one exposure: {found:?}") };
    rules(exposure)
}

/// Returns the only problem, as `reason object: message`, and asserts that nothing is opened.
fn rejection(found: &Collected) -> String {
    assert!(found.exposures.is_empty(), "{:?}", found.exposures);
    only_problem(found)
}

/// Returns the only problem, as `reason object: message`. Copies of it on other objects do not count.
fn only_problem(found: &Collected) -> String {
    let is_original =
        |problem: &&Problem| !found.problems.iter().any(|other| other.to(&problem.object) == **problem);
    let problems: Vec<_> = found.problems.iter().filter(is_original).collect();
    let [problem] = problems[..] else { panic!("one problem: {found:?}") };
    format!("{} {}: {}", problem.reason, problem.object, problem.message)
}

fn web() -> Value {
    pod("web", &json!({ "hostport-firewall.dev/expose": "80" }), &json!([host_port(80)]))
}

#[test]
fn pod_is_exposed_while_it_binds_its_ports() {
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
        assert_eq!(collect([pod]).exposures.len(), count, "{status}");
    }
    let mut terminating = web();
    terminating["metadata"]["deletionTimestamp"] = json!("2026-05-04T10:00:00Z");
    assert_eq!(collect([terminating]).exposures.len(), 1);
    for unscheduled in [json!(null), json!("")] {
        let mut pod = web();
        pod["spec"]["nodeName"] = unscheduled;
        assert_eq!(collect([pod]), Collected::default());
    }
}

#[test]
fn host_port_without_an_intent_stays_closed() {
    let exporter = pod("node-exporter", &json!({}), &json!([host_port(9100)]));
    assert_eq!(collect([exporter]), Collected::default());
}

#[test]
fn exposure_names_its_pod_node_and_machine() {
    let found = collect([web()]);
    let [exposure] = &found.exposures[..] else { panic!("one exposure") };
    assert_eq!(exposure.port_owner.to_string(), "Pod shop/web");
    assert_eq!(exposure.node.to_string(), "Node node-a");
    assert_eq!(exposure.provider_id, "aws:///z/i-a");
    assert_eq!(exposure.intent, exposure.port_owner);
    assert_eq!(exposure.group.workload.to_string(), "Pod shop/web");
}

#[test]
fn default_source_is_anywhere_in_the_families_of_the_node() {
    assert_eq!(opened(&collect([web()])), ["tcp/80 from 0.0.0.0/0", "tcp/80 from ::/0"]);
    let mut on_v4 = web();
    on_v4["spec"]["nodeName"] = json!("node-v4");
    assert_eq!(opened(&collect([on_v4])), ["tcp/80 from 0.0.0.0/0"]);
}

#[test]
fn administrator_narrows_the_default_sources() {
    let settings =
        Settings { default_source_ranges: vec!["192.0.2.0/24".parse().unwrap()], ..Settings::default() };
    assert_eq!(opened(&collect_exposures(&cluster([web()]), &settings)), ["tcp/80 from 192.0.2.0/24"]);
}

#[test]
fn host_ip_limits_rules_to_its_family() {
    let on = |address: &str, sources: &str| {
        let annotations =
            json!({ "hostport-firewall.dev/expose": "80", "hostport-firewall.dev/source-ranges": sources });
        collect([pod(
            "web",
            &annotations,
            &json!([{ "containerPort": 80, "hostPort": 80, "hostIP": address }]),
        )])
    };
    let both = "192.0.2.0/24, 2001:db8::/32";
    assert_eq!(opened(&on("10.0.0.1", both)), ["tcp/80 from 192.0.2.0/24"]);
    assert_eq!(opened(&on("2001:db8::1", both)), ["tcp/80 from 2001:db8::/32"]);
    assert_eq!(opened(&on("0.0.0.0", both)).len(), 2);
    assert!(rejection(&on("10.0.0.1", "2001:db8::/32")).starts_with("NoSources Pod shop/web: tcp/80"));
    assert!(rejection(&on("127.0.0.1", both)).contains("no host port"));
    let mut on_v4 = pod(
        "web",
        &json!({ "hostport-firewall.dev/expose": "80", "hostport-firewall.dev/source-ranges": "2001:db8::/32" }),
        &json!([host_port(80)]),
    );
    on_v4["spec"]["nodeName"] = json!("node-v4");
    assert!(
        rejection(&collect([on_v4])).starts_with("NoSources Pod shop/web: tcp/80"),
        "nor that of its node"
    );
}

#[test]
fn node_without_a_machine_is_reported() {
    let mut unknown = web();
    unknown["spec"]["nodeName"] = json!("node-z");
    assert!(rejection(&collect([unknown])).starts_with("UnknownNode Pod shop/web: node node-z"));
    for no_id in [json!({}), json!({ "providerID": "" })] {
        let mut index = cluster([web()]);
        let node = json!({ "metadata": { "name": "node-a" }, "spec": no_id });
        index.apply(&Watch::Nodes, Object::Node(from_json(node)));
        let message = rejection(&collect_exposures(&index, &Settings::default()));
        assert!(
            message.starts_with("NoProviderId Node node-a") && message.contains("--provider-id"),
            "{message}"
        );
    }
}

#[test]
fn node_without_a_machine_keeps_what_its_pods_ask_for() {
    let kept = |sources: Option<&str>, guardrails: Guardrails| {
        let mut unknown =
            pod("web", &json!({ "hostport-firewall.dev/expose": "80" }), &json!([host_port(80)]));
        unknown["spec"]["nodeName"] = json!("node-z");
        if let Some(sources) = sources {
            unknown["metadata"]["annotations"]["hostport-firewall.dev/source-ranges"] = json!(sources);
        }
        let settings = Settings { guardrails, ..Settings::default() };
        let collected = collect_exposures(&cluster([unknown]), &settings).unknown;
        assert!(collected.iter().all(|unknown| unknown.place == Place::UnknownMachine));
        collected.iter().map(|unknown| unknown.rules.to_string()).collect::<Vec<_>>()
    };
    let all = Guardrails::default;
    assert_eq!(kept(Some("10.0.0.0/8"), all()), ["tcp/80 from 10.0.0.0/8"]);
    assert_eq!(
        kept(Some("2001:db8::/32"), all()),
        ["tcp/80 from 2001:db8::/32"],
        "it may have such an address"
    );
    assert_eq!(kept(None, all()), ["tcp/80 from 0.0.0.0/0, tcp/80 from ::/0"]);
    let ipv4_only = Guardrails { allowed_source_ranges: Some(vec!["0.0.0.0/0".parse().unwrap()]), ..all() };
    assert_eq!(kept(None, ipv4_only), ["tcp/80 from 0.0.0.0/0"]);
}

#[test]
fn request_beyond_a_guardrail_is_rejected_as_a_whole() {
    let expose = json!({ "hostport-firewall.dev/expose": "80, 22" });
    let ports = json!([{ "containerPort": 80, "hostPort": 80 }, { "containerPort": 2222, "hostPort": 22 }]);
    let ssh = || pod("ssh", &expose, &ports);
    let message = rejection(&collect([ssh()]));
    assert!(message.starts_with("PortDenied Pod shop/ssh") && message.contains("--allow-ports"), "{message}");
    let guardrails = Guardrails { allowed_ports: vec!["22".parse().unwrap()], ..Guardrails::default() };
    let allowed = Settings { guardrails, ..Settings::default() };
    assert_eq!(opened(&collect_exposures(&cluster([ssh()]), &allowed)).len(), 4);
    let expose = json!({ "hostport-firewall.dev/expose": "9890" });
    let elsewhere = pod("ssh", &expose, &json!([{ "containerPort": 22, "hostPort": 9890 }]));
    assert_eq!(opened(&collect([elsewhere])).len(), 2, "the host port counts, not the container's");
}

#[test]
fn problem_of_one_pod_does_not_affect_another() {
    let bad = pod("bad", &json!({ "hostport-firewall.dev/expose": "true" }), &json!([host_port(80)]));
    let found = collect([bad, web()]);
    assert_eq!(found.exposures.len(), 1);
    assert!(only_problem(&found).contains("Pod shop/bad"));
}
