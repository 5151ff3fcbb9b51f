//! Bounds on what one tenant can cost: counted, not timed.

use std::collections::BTreeSet;
use std::ptr;

use firewall_core::RuleSet;

use super::*;
use crate::guardrails::file::parse;

/// Returns a cluster with this many nodes and a Service whose node ports `listed` are open on all of them to
/// 300 sources.
fn with_service(nodes: usize, listed: &str) -> Index {
    let mut index = Index::expecting([Watch::Services, Watch::Nodes]);
    let name = |number: usize| format!("node-{number}");
    let node = |number: usize| node(&name(number), &format!("aws:///z/i-{number}"), &["10.0.0.1"]);
    index.reset(Watch::Nodes, (0..nodes).map(|number| Object::Node(from_json(node(number)))).collect());
    let port = |number: u16| json!({ "port": number, "nodePort": 30000 + 2 * number });
    let ports = json!((1..=100).map(port).collect::<Vec<_>>());
    let sources: Vec<String> =
        (0..300).map(|number| format!("10.{}.{}.0/32", number / 250, number % 250)).collect();
    let annotations = json!({
        "hostport-firewall.dev/expose-node-ports": listed,
        "hostport-firewall.dev/source-ranges": sources.join(","),
    });
    let service = builders::annotated(builders::service("shop", "web", "NodePort", &ports), &annotations);
    index.reset(Watch::Services, vec![Object::Service(from_json(service))]);
    index
}

#[test]
fn rules_of_a_service_are_built_once_for_all_nodes() {
    let found = collect_exposures(&with_service(1000, "1"), &Settings::default());
    assert_eq!((found.exposures.len(), found.problems.len()), (1000, 0));
    let address = |exposure: &Exposure| {
        let rules: &RuleSet = &exposure.rules;
        ptr::from_ref(rules)
    };
    let rules: BTreeSet<*const RuleSet> = found.exposures.iter().map(address).collect();
    assert_eq!((rules.len(), found.exposures[0].rules.len()), (1, 300));
}

#[test]
fn guardrails_are_asked_before_rules_are_built() {
    // Its 30,000 rules are too many, which is found by building them.
    let index = with_service(10, "1-100");
    let cases = [
        ("{}", "TooManyRules"),
        ("namespaces: [{names: [other]}]", "NamespaceNotAllowed"),
        ("namespaces: [{names: [shop], ports: [30002]}]", "PortNotAllowed"),
        ("deniedPorts: [30004]", "PortDenied"),
    ];
    for (guardrails, expected) in cases {
        let settings = Settings { guardrails: parse(guardrails).expect("guardrails"), ..Settings::default() };
        let problem = rejection(&collect_exposures(&index, &settings));
        assert!(problem.starts_with(&format!("{expected} Service shop/web: ")), "{guardrails}: {problem}");
    }
}

#[test]
fn ports_that_a_service_opens_are_bounded() {
    let mut index = with_service(1, "1");
    let ports: Vec<Value> =
        (0..2001).map(|number| json!({ "port": 1 + number, "nodePort": 30000 + number })).collect();
    let annotations = json!({ "hostport-firewall.dev/expose-node-ports": "1-65535" });
    let service = builders::service("shop", "web", "NodePort", &json!(ports));
    let service = builders::annotated(service, &annotations);
    index.reset(Watch::Services, vec![Object::Service(from_json(service))]);
    let problem = rejection(&collect_exposures(&index, &Settings::default()));
    assert!(problem.contains("more than 2000 ports"), "{problem}");
}

/// Returns a cluster where each of these exposures of a namespace selects each of its pods, and none binds a
/// port of any.
fn with_mistakes(namespaces: &[&str], exposures: usize, pods: usize) -> Index {
    let (mut all_pods, mut all_exposures) = (Vec::new(), Vec::new());
    let spec = json!({ "podSelector": { "matchLabels": { "app": "web" } }, "ports": [{ "port": "absent" }] });
    for namespace in namespaces {
        all_pods.extend((0..pods).map(|number| {
            let name = format!("pod-{number}");
            let mut pod = builders::pod(namespace, &name, "node-a", &json!([host_port(80)]));
            pod["metadata"]["labels"] = json!({ "app": "web" });
            pod
        }));
        all_exposures.extend((0..exposures).map(|number| {
            let exposure = builders::host_port_exposure(namespace, &format!("x-{number}"), &spec);
            Object::HostPortExposure(from_json(exposure))
        }));
    }
    let mut index = cluster(all_pods);
    index.reset(Watch::HostPortExposures, all_exposures);
    index
}

#[test]
fn problems_of_a_namespace_are_bounded() {
    let found = collect_exposures(&with_mistakes(&["games", "shop"], 150, 150), &Settings::default());
    for namespace in ["games", "shop"] {
        let own = || found.problems.iter().filter(|problem| problem.object.namespace == namespace);
        let intents: BTreeSet<&str> = own()
            .filter(|problem| problem.object.kind == "HostPortExposure")
            .map(|problem| problem.object.name.as_str())
            .collect();
        assert_eq!(intents.len(), 150, "each intent has a problem, from which its condition comes");
        assert_eq!(own().count(), 150 + 150 + 100, "and each pod the first of its own");
        let more = found
            .problems
            .iter()
            .find(|problem| problem.object.to_string() == format!("Namespace {namespace}"));
        let more = more.expect("the rest is counted");
        assert!(more.message.contains("8192 more") && more.reason == "MoreProblems", "{}", more.message);
    }
    let few = collect_exposures(&with_mistakes(&["shop"], 5, 5), &Settings::default());
    assert_eq!(few.problems.len(), 2 * 5 * 5, "each pair on both");
}

#[test]
fn exposures_that_open_ports_of_one_pod_are_bounded() {
    let mut index = with_mistakes(&["shop"], 40, 50);
    let spec = json!({ "podSelector": { "matchLabels": { "app": "web" } }, "ports": [{ "port": 80 }] });
    let exposure = |number: usize| {
        let exposure = builders::host_port_exposure("shop", &format!("x-{number:02}"), &spec);
        Object::HostPortExposure(from_json(exposure))
    };
    index.reset(Watch::HostPortExposures, (0..40).map(exposure).collect());
    let found = collect_exposures(&index, &Settings::default());
    let opening: BTreeSet<&str> = found.exposures.iter().map(|one| one.intent.name.as_str()).collect();
    assert_eq!((found.exposures.len(), opening.len()), (50 * 32, 32));
    assert_eq!(opening.last(), Some(&"x-31"), "the first in order of name");
    let reported: Vec<&str> = found.problems.iter().map(|problem| problem.object.name.as_str()).collect();
    assert_eq!(reported.len(), 8 + 50, "those beyond, and each pod: {reported:?}");
    assert!(found.problems.iter().all(|problem| problem.reason == "TooManyExposures"));
    index.delete(&Watch::HostPortExposures, &exposure(0).name());
    let found = collect_exposures(&index, &Settings::default());
    assert!(found.exposures.iter().any(|one| one.intent.name == "x-32"), "the next takes its place");
}

#[test]
fn every_pod_is_told_of_its_own_mistake() {
    let annotations = json!({ "hostport-firewall.dev/expose": "absent" });
    let bad = |number: usize| pod(&format!("bad-{number}"), &annotations, &json!([host_port(80)]));
    let found = collect((0..400).map(bad));
    assert_eq!(found.problems.len(), 400);
}

#[test]
fn pod_with_more_ports_than_any_needs_is_rejected() {
    let with_ports = |count: u16| {
        let ports: Vec<Value> = (1..=count).map(|number| host_port(2 * number)).collect();
        collect([pod("web", &json!({ "hostport-firewall.dev/expose": "80" }), &json!(ports))])
    };
    assert_eq!(with_ports(2000).exposures.len(), 1);
    let problem = rejection(&with_ports(2001));
    assert!(problem.starts_with("InvalidPort Pod shop/web: ") && problem.contains("2000"), "{problem}");
}

#[test]
fn message_is_bounded_and_has_no_control_characters() {
    let mut pod = pod("web", &json!({ "hostport-firewall.dev/expose": "80" }), &json!([host_port(80)]));
    pod["spec"]["containers"][0]["name"] = json!(format!("a\nERROR \u{202e}{}", "é".repeat(100_000)));
    pod["spec"]["containers"][0]["ports"] = json!([{ "containerPort": 80, "hostPort": 99999 }]);
    let found = collect([pod]);
    let [problem] = &found.problems.iter().collect::<Vec<_>>()[..] else {
        panic!("{:?}", found.problems.len())
    };
    assert!(
        problem.message.len() <= 2048 && problem.message.starts_with("container a\\nERROR \\u{202e}é"),
        "{problem:?}"
    );
}

/// Each range has other pieces between the declared ports, so that a hundred ranges would make 400,000.
#[test]
fn pieces_of_ranges_on_the_host_network_are_bounded() {
    let ports: Vec<Value> = (0..2000).map(|number| host_port(10_000 + 2 * number)).collect();
    let mut pod = pod("relay", &json!({}), &json!(ports));
    pod["spec"]["hostNetwork"] = json!(true);
    pod["metadata"]["labels"] = json!({ "app": "relay" });
    let found = |ranges: usize| {
        let range = |number: usize| json!({ "port": format!("{}-{}", 10_001 + number, 60_000 - number) });
        let spec = json!({
            "podSelector": { "matchLabels": { "app": "relay" } },
            "ports": (0..ranges).map(range).collect::<Vec<_>>(),
            "sourceRanges": ["192.0.2.0/24"],
        });
        let mut index = cluster([pod.clone()]);
        let exposure = builders::host_port_exposure("shop", "x", &spec);
        index.reset(Watch::HostPortExposures, vec![Object::HostPortExposure(from_json(exposure))]);
        let settings = parse("allowedPorts: [1-65535]").expect("guardrails");
        collect_exposures(&index, &Settings { guardrails: settings, ..Settings::default() })
    };
    assert_eq!(opened(&found(1)), ["tcp/10001-60000 from 192.0.2.0/24"]);
    assert!(rejection(&found(3)).contains("more than 4000"));
}
