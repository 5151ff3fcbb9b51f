//! `HostPortExposure`s: the pods they select, the ports they open, and invalid specs.

use std::collections::BTreeSet;

use super::*;
use crate::k8s::objects::builders::object_ref;
use crate::k8s::problem::Verdict;
use crate::k8s::reasons;

fn exposure(name: &str, spec: &Value) -> Value {
    builders::host_port_exposure("shop", name, spec)
}

fn web(name: &str, node: &str) -> Value {
    let ports = json!([
        named_host_port("http", 80),
        { "name": "dns", "containerPort": 53, "hostPort": 53, "protocol": "UDP" },
        named_host_port("metrics", 9100),
    ]);
    let mut pod = pod(name, &json!({}), &ports);
    pod["metadata"]["labels"] = json!({ "app": "web" });
    pod["spec"]["nodeName"] = json!(node);
    pod
}

fn with(pods: impl IntoIterator<Item = Value>, selecting: impl IntoIterator<Item = Value>) -> Collected {
    let mut index = cluster(pods);
    let selecting = selecting.into_iter().map(|exposure| Object::HostPortExposure(from_json(exposure)));
    index.reset(Watch::HostPortExposures, selecting.collect());
    collect_exposures(&index, &Settings::default())
}

/// Returns the spec that selects `app: web`, with these ports.
fn spec(ports: &Value) -> Value {
    json!({ "podSelector": { "matchLabels": { "app": "web" } }, "ports": ports })
}

#[test]
fn ports_are_selected_by_name_number_or_range() {
    let table = [
        (json!([{ "port": "http" }]), vec!["tcp/80 from 0.0.0.0/0"]),
        (json!([{ "port": 80 }]), vec!["tcp/80 from 0.0.0.0/0"]),
        (json!([{ "port": "80" }]), vec!["tcp/80 from 0.0.0.0/0"]),
        (json!([{ "port": "1-100" }]), vec!["tcp/80 from 0.0.0.0/0"]),
        (json!([{ "port": "dns" }]), vec!["udp/53 from 0.0.0.0/0"]),
        (json!([{ "port": "1-100", "protocol": "UDP" }]), vec!["udp/53 from 0.0.0.0/0"]),
        (json!([{ "port": "http" }, { "port": 8080 }]), vec!["tcp/80 from 0.0.0.0/0"]),
        (
            json!([{ "port": "http", "sourceRanges": ["192.0.2.0/24"] }, { "port": "dns" }]),
            vec!["tcp/80 from 192.0.2.0/24", "udp/53 from 0.0.0.0/0"],
        ),
    ];
    for (ports, expected) in table {
        let found = with([web("web", "node-v4")], [exposure("x", &spec(&ports))]);
        assert_eq!(opened(&found), expected, "{ports}");
        assert_eq!(found.exposures[0].group.workload.to_string(), "HostPortExposure shop/x");
        assert_eq!(found.exposures[0].intent.kind, "HostPortExposure");
    }
}

/// A Gateway's listeners are no ports of the proxy's pod.
#[test]
fn exposure_opens_by_number_what_pods_on_the_host_network_bind() {
    let proxy = || {
        let mut pod = web("proxy", "node-v4");
        pod["spec"]["hostNetwork"] = json!(true);
        pod
    };
    let opening = |ports: Value| opened(&with([proxy()], [exposure("x", &spec(&ports))]));
    let anywhere = |ports: &str| format!("{ports} from 0.0.0.0/0");
    assert_eq!(opening(json!([{ "port": 443 }])), [anywhere("tcp/443")]);
    assert_eq!(
        opening(json!([{ "port": "http" }, { "port": 443 }])),
        [anywhere("tcp/80"), anywhere("tcp/443")]
    );
    let overlapping = json!([{ "port": "8000-8010" }, { "port": "8005-8020" }]);
    assert_eq!(opening(overlapping), [anywhere("tcp/8000-8020")]);

    let rejection = |ports: Value| rejection(&with([proxy()], [exposure("x", &spec(&ports))]));
    assert!(rejection(json!([{ "port": "https" }])).contains("write the number"));
    let sources = |range: &str, source: &str| json!({ "port": range, "sourceRanges": [source] });
    let contradicting = json!([
        sources("8000-8050", "10.0.0.0/8"),
        sources("8010-8012", "10.0.0.0/8"),
        sources("8020", "192.0.2.0/24"),
    ]);
    assert!(rejection(contradicting).contains("tcp/8020 is named twice, with different sources"));
}

#[test]
fn only_selected_pods_on_selected_nodes_are_opened() {
    let http = json!([{ "port": "http" }]);
    let mut other = web("other", "node-a");
    other["metadata"]["labels"] = json!({ "app": "db" });
    let mut elsewhere = web("elsewhere", "node-a");
    elsewhere["metadata"]["namespace"] = json!("blog");
    let found = with([web("web", "node-a"), other, elsewhere], [exposure("x", &spec(&http))]);
    let pods: Vec<&str> = found.exposures.iter().map(|exposure| exposure.port_owner.name.as_str()).collect();
    assert_eq!(pods, ["web"]);

    let mut on_edge = spec(&http);
    on_edge["nodeSelector"] = json!({ "matchLabels": { "edge": "yes" } });
    let found = with([web("web", "node-a")], [exposure("x", &on_edge)]);
    assert_eq!((found.exposures.len(), found.problems.len()), (0, 0), "no node has the label");
    on_edge["nodeSelector"] = json!({ "matchExpressions": [{ "key": "edge", "operator": "DoesNotExist" }] });
    assert_eq!(with([web("web", "node-a")], [exposure("x", &on_edge)]).exposures.len(), 1);
}

#[test]
fn intents_of_one_pod_open_ports_independently() {
    let mut pod = web("web", "node-v4");
    pod["metadata"]["annotations"] = json!({ "hostport-firewall.dev/expose": "http" });
    let dns = exposure("dns", &spec(&json!([{ "port": "dns" }])));
    let broken = exposure("broken", &spec(&json!([{ "port": "99999" }])));
    let found = with([pod], [dns, broken]);
    let mut rules: Vec<String> = found.exposures.iter().flat_map(rules).collect();
    rules.sort();
    assert_eq!(rules, ["tcp/80 from 0.0.0.0/0", "udp/53 from 0.0.0.0/0"]);
    assert!(only_problem(&found).contains("HostPortExposure shop/broken"), "{:?}", found.problems);
}

#[test]
fn invalid_exposure_opens_nothing_and_is_reported() {
    let http = json!([{ "port": "http" }]);
    let sources = |ranges: Value| {
        let mut spec = spec(&http);
        spec["sourceRanges"] = ranges;
        spec
    };
    let everything = json!({ "podSelector": {}, "ports": http });
    let unknown = json!({
        "podSelector": { "matchExpressions": [{ "key": "app", "operator": "Like", "values": ["web"] }] }, "ports": http,
    });
    let table = [
        (spec(&json!([{ "port": 0 }])), "InvalidExposure", "0"),
        (spec(&json!([{ "port": "90-80" }])), "InvalidExposure", "90-80"),
        (spec(&json!([{ "port": 70000 }])), "InvalidExposure", "70000"),
        (spec(&json!([{ "port": "absent" }])), "InvalidExposure", "http (80/tcp)"),
        (spec(&json!([{ "port": "http", "protocol": "UDP" }])), "InvalidExposure", "none of them"),
        (sources(json!(["10.0.0.0/33"])), "InvalidExposure", "10.0.0.0/33"),
        (sources(json!(["10.0.0.1/8"])), "InvalidExposure", "write 10.0.0.0/8"),
        (sources(json!([])), "InvalidExposure", "empty"),
        (
            spec(&json!([{ "port": "http", "sourceRanges": ["x"] }])),
            "InvalidExposure",
            "ports[0].sourceRanges",
        ),
        (
            spec(&json!([{ "port": "http" }, { "port": 80, "sourceRanges": ["192.0.2.0/24"] }])),
            "InvalidExposure",
            "named twice",
        ),
        (everything, "InvalidSelector", "every pod"),
        (unknown, "InvalidSelector", "podSelector"),
    ];
    for (spec, reason, part) in table {
        let rejection = rejection(&with([web("web", "node-a")], [exposure("x", &spec)]));
        let start = format!("{reason} HostPortExposure shop/x: ");
        assert!(rejection.starts_with(&start) && rejection.contains(part), "{spec}: {rejection}");
    }
}

#[test]
fn guardrail_limits_a_host_port_exposure() {
    let mut pod = web("web", "node-a");
    pod["spec"]["containers"][0]["ports"] = json!([host_port(22)]);
    let rejection = rejection(&with([pod], [exposure("x", &spec(&json!([{ "port": 22 }])))]));
    assert!(rejection.starts_with("PortDenied HostPortExposure shop/x: "), "{rejection}");
}

#[test]
fn port_under_names_with_different_sources_gets_two_groups() {
    let pod_with = |name: &str, node: &str, port: &str| {
        let mut pod = web(name, node);
        pod["spec"]["containers"][0]["ports"] = json!([named_host_port(port, 8080)]);
        pod
    };
    let ports = |ranges: &str| json!([{ "port": "http" }, { "port": "metrics", "sourceRanges": [ranges] }]);
    let collect_from = |ranges: &str| {
        let pods = [pod_with("a", "node-a", "http"), pod_with("b", "node-b", "metrics")];
        with(pods, [exposure("x", &spec(&ports(ranges)))])
    };
    let before = collect_from("10.0.0.0/8");
    assert_ne!(before.exposures[0].group, before.exposures[1].group);
    let after = collect_from("192.0.2.0/24");
    let groups =
        |found: &Collected| found.exposures.iter().map(|exposure| exposure.group.clone()).collect::<Vec<_>>();
    assert_eq!(groups(&before), groups(&after), "other sources attach no node anew");
}

#[test]
fn pods_that_bind_a_number_twice_get_a_group_of_their_own() {
    let bound = |name: &str, node: &str, ports: &[(&str, &str)]| {
        let ports: Vec<Value> = ports
            .iter()
            .map(|(name, address)| json!({ "name": name, "containerPort": 80, "hostPort": 80, "hostIP": address }))
            .collect();
        let mut pod = web(name, node);
        pod["spec"]["containers"][0]["ports"] = json!(ports);
        pod
    };
    let narrow = json!([{ "port": "a", "sourceRanges": ["10.0.0.0/8"] }, { "port": "b" }]);
    let numbered = json!([{ "port": 80 }]);
    let tables = [
        (narrow, [("a", "10.0.0.1"), ("b", "10.0.0.2")], "tcp/80 from 0.0.0.0/0"),
        (numbered, [("a", "10.0.0.1"), ("b", "")], "tcp/80 from ::/0"),
    ];
    for (ports, twice, wide) in tables {
        let pods = [bound("once", "node-a", &twice[..1]), bound("twice", "node-b", &twice)];
        let found = with(pods, [exposure("x", &spec(&ports))]);
        let [once, both] = &found.exposures[..] else { panic!("two exposures: {found:?}") };
        assert_eq!(
            [once, both].map(|found| rules(found).contains(&wide.to_owned())),
            [false, true],
            "{ports}"
        );
        assert_ne!(once.group, both.group, "{ports}");
    }
}

#[test]
fn invalid_selector_is_reported_without_any_pod() {
    let everything = json!({ "podSelector": {}, "ports": [{ "port": "http" }] });
    assert!(rejection(&with([], [exposure("x", &everything)])).starts_with("InvalidSelector"));
}

#[test]
fn malformed_selector_opens_nothing() {
    let http = json!([{ "port": "http" }]);
    let selector = |one: Value| json!({ "matchExpressions": [one] });
    let malformed = [
        selector(json!({ "key": "app", "operator": "NotIn", "values": [] })),
        selector(json!({ "key": "app", "operator": "NotIn" })),
        selector(json!({ "key": "a b", "operator": "DoesNotExist" })),
        selector(json!({ "key": "app", "operator": "Exists", "values": ["web"] })),
        selector(json!({ "key": "app", "operator": "NotIn", "values": ["not a value"] })),
    ];
    for selector in malformed {
        let for_pods = json!({ "podSelector": selector, "ports": http });
        let mut for_nodes = spec(&http);
        for_nodes["nodeSelector"] = selector;
        for (spec, field) in [(for_pods, "podSelector"), (for_nodes, "nodeSelector")] {
            let rejection = rejection(&with([web("web", "node-a")], [exposure("x", &spec)]));
            let start = format!("InvalidSelector HostPortExposure shop/x: {field}: ");
            assert!(rejection.starts_with(&start), "{spec}: {rejection}");
        }
    }
}

#[test]
fn unreadable_exposure_keeps_only_what_it_selected() {
    let mut other = web("other", "node-a");
    other["metadata"]["labels"] = json!({ "app": "db" });
    other["spec"]["containers"][0]["ports"] = json!([named_host_port("sql", 5432)]);
    let readable = || Object::HostPortExposure(from_json(exposure("x", &spec(&json!([{ "port": "http" }])))));
    let (watch, name) = (Watch::HostPortExposures, ("shop".to_owned(), "x".to_owned()));
    let object = || object_ref("HostPortExposure", "shop", "x");
    let problem = || Problem::new(object(), Verdict::Rejected, reasons::UNREADABLE, "no".to_owned());
    let kept = |index: &Index| {
        let unknown = collect_exposures(index, &Settings::default()).unknown;
        let rules = unknown.iter().flat_map(|unknown| unknown.rules.iter());
        rules.map(|rule| rule.ports.first()).collect::<BTreeSet<_>>()
    };
    let mut index = cluster([web("web", "node-v4"), other]);
    index.reset(watch.clone(), vec![readable()]);
    index.mark_unreadable(&watch, name.clone(), problem());
    assert_eq!(kept(&index), BTreeSet::from([53, 80, 9100]), "by an event");
    index.reset(watch.clone(), vec![readable()]);
    index.reset(watch.clone(), vec![]);
    index.mark_unreadable(&watch, name.clone(), problem());
    assert_eq!(kept(&index), BTreeSet::from([53, 80, 9100]), "by a list");
    index.delete(&watch, &name);
    index.mark_unreadable(&watch, name, problem());
    assert_eq!(kept(&index), BTreeSet::from([53, 80, 5432, 9100]), "one that has never been read");
}

#[test]
fn unreadable_exposure_keeps_undeclared_ports_too() {
    let mut proxy = web("proxy", "node-v4");
    proxy["spec"]["hostNetwork"] = json!(true);
    let asked = spec(&json!([{ "port": "8000-8010", "protocol": "UDP" }]));
    let (watch, name) = (Watch::HostPortExposures, ("shop".to_owned(), "x".to_owned()));
    let object = object_ref("HostPortExposure", "shop", "x");
    let problem = Problem::new(object, Verdict::Rejected, reasons::UNREADABLE, "no".to_owned());
    let kept = |index: &Index| {
        let unknown = collect_exposures(index, &Settings::default()).unknown;
        let rules = unknown.iter().flat_map(|unknown| unknown.rules.iter());
        rules.map(|rule| format!("{}/{}", rule.protocol, rule.ports)).collect::<BTreeSet<_>>()
    };
    let mut index = cluster([proxy]);
    index.reset(watch.clone(), vec![Object::HostPortExposure(from_json(exposure("x", &asked)))]);
    index.mark_unreadable(&watch, name.clone(), problem.clone());
    let texts = |ports: &[&str]| ports.iter().map(|&text| text.to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(kept(&index), texts(&["tcp/80", "tcp/9100", "udp/53", "udp/8000-8010"]), "what it asked for");
    index.delete(&watch, &name);
    index.mark_unreadable(&watch, name, problem);
    let anything = kept(&index);
    assert!(anything.contains("sctp/1-65535"), "{anything:?}");
    assert!(
        anything.contains("tcp/1-21") && !anything.contains("tcp/1-65535"),
        "but for guardrails: {anything:?}"
    );
}
