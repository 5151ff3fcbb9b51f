//! Voyager's Ingresses: the ports they ask for, the sources they name, and whose pods are theirs.

use serde_json::{Value, json};

use super::{Collected, cluster, opened, refused, rules, told};
use crate::intents::collect::collect_exposures;
use crate::intents::exposure::Exposure;
use crate::intents::settings::Settings;
use crate::k8s::index::{Object, Watch};
use crate::k8s::objects::builders::{self, from_json, named_host_port};

const VOYAGER: &str = "voyager.appscode.com";
const KUBERNETES: &str = "networking.k8s.io";

/// An `HAProxy` pod as Voyager's operator makes it, with the stats page and the exporter.
fn haproxy() -> Value {
    let mut ports = [80, 443, 8080, 9000].map(|port| named_host_port(&format!("tcp-{port}"), port)).to_vec();
    ports.push(named_host_port("stats", 56789));
    let labels = json!({ "origin": "voyager", "origin-name": "shop", "origin-api-group": VOYAGER });
    json!({
        "metadata": { "name": "voyager-shop-1", "namespace": "shop", "labels": labels },
        "spec": { "nodeName": "node-a", "hostNetwork": true, "containers": [
            { "name": "haproxy", "ports": ports },
            { "name": "exporter", "ports": [named_host_port("http", 56790), named_host_port("debug", 7070)] },
        ] },
    })
}

/// An Ingress of type `HostPort` that requests for 8080 and 9000 beside 80 and 443.
fn ingress() -> Value {
    let rules =
        json!([{ "http": { "port": 8080 } }, { "tcp": { "port": "9000" } }, { "http": { "paths": [] } }]);
    builders::ingress("shop", "shop", "HostPort", &rules)
}

fn annotated(annotations: &Value) -> Value {
    builders::annotated(ingress(), annotations)
}

fn behind(pods: &[Value], ingresses: &[(&str, Value)]) -> Collected {
    let mut index = cluster(pods.to_vec());
    for (group, ingress) in ingresses {
        let ingress = Object::Ingress(from_json(ingress.clone()));
        index.apply(&Watch::Ingresses((*group).to_owned()), ingress);
    }
    collect_exposures(&index, &Settings::default())
}

fn with(ingress: Value) -> Collected {
    behind(&[haproxy()], &[(VOYAGER, ingress)])
}

/// The exposed ports.
fn ports(exposure: &Exposure) -> Vec<u16> {
    exposure.ports.iter().map(|(_, port)| *port).collect()
}

fn open_ports(found: &Collected) -> Vec<u16> {
    found.exposures.iter().flat_map(ports).collect()
}

#[test]
fn what_the_ingress_asks_for_and_haproxy_binds_is_opened() {
    let found = with(ingress());
    let expected = ["tcp/80", "tcp/443", "tcp/8080", "tcp/9000"];
    let expected: Vec<String> = expected
        .iter()
        .flat_map(|port| [format!("{port} from 0.0.0.0/0"), format!("{port} from ::/0")])
        .collect();
    assert_eq!(opened(&found), expected);
    assert_eq!(found.exposures[0].intent.to_string(), "Ingress shop/shop");
    assert_eq!(found.exposures[0].workload.to_string(), "Ingress.voyager.appscode.com shop/shop");
}

#[test]
fn a_port_that_haproxy_does_not_bind_is_not_opened() {
    let mut pod = haproxy();
    pod["spec"]["containers"][0]["ports"] = json!([{ "name": "tcp-80", "containerPort": 80 }]);
    assert_eq!(open_ports(&behind(&[pod], &[(VOYAGER, ingress())])), [80]);
}

#[test]
fn stats_and_exporter_ports_are_never_opened() {
    let asking = |ports: &[u16], annotations: &Value| {
        let mut ingress = annotated(annotations);
        let rules: Vec<Value> = ports.iter().map(|port| json!({ "http": { "port": port } })).collect();
        ingress["spec"]["rules"] = json!(rules);
        ingress
    };
    let stats = |value: &str| json!({ "ingress.appscode.com/stats": value });
    let moved = json!({ "ingress.appscode.com/stats": "true", "ingress.appscode.com/stats-port": "8080" });
    let cases = [
        ("the exporter's", asking(&[56790, 7070], &stats("true")), vec![80, 443]),
        ("the stats page's default", asking(&[56789], &stats("true")), vec![80, 443]),
        (
            "the stats page by its name alone, before a rollout",
            asking(&[56789], &stats("false")),
            vec![80, 443],
        ),
        ("the stats page's own number", asking(&[8080, 9000], &moved), vec![80, 443, 9000]),
    ];
    for (what, ingress, expected) in cases {
        assert_eq!(open_ports(&with(ingress)), expected, "{what}");
    }
    for (value, on) in
        [("true", true), ("1", true), ("True", true), ("yes", true), ("false", false), ("0", false)]
    {
        let mut pod = haproxy();
        pod["spec"]["containers"][0]["ports"][4]["name"] = json!("tcp-56789");
        let found = behind(&[pod], &[(VOYAGER, asking(&[56789], &stats(value)))]);
        assert_eq!(open_ports(&found).contains(&56789), !on, "{value}");
    }
    let unreadable =
        json!({ "ingress.appscode.com/stats": "true", "ingress.appscode.com/stats-port": "80a" });
    assert!(refused(&with(annotated(&unreadable))).starts_with("InvalidStatsPort Ingress shop/shop"));
}

#[test]
fn no_other_intent_opens_stats_and_exporter_ports_either() {
    let exposing = |kind: &str, ports: &str| {
        let mut pod = haproxy();
        let mut index = cluster([]);
        if kind == "Pod" {
            pod["metadata"]["annotations"] = json!({ "hostport-firewall.dev/expose": ports });
        } else {
            let exposure = json!({
                "metadata": { "name": "web", "namespace": "shop" },
                "spec": {
                    "podSelector": { "matchLabels": { "origin": "voyager" } },
                    "ports": [{ "port": ports }],
                },
            });
            let exposure = Object::HostPortExposure(from_json(exposure));
            index.apply(&Watch::HostPortExposures, exposure);
        }
        index.apply(&Watch::Pods, Object::Pod(from_json(pod)));
        collect_exposures(&index, &Settings::default())
    };
    for kind in ["Pod", "HostPortExposure"] {
        assert_eq!(open_ports(&exposing(kind, "8080")), [8080]);
        for ports in ["stats", "56790", "7070", "8080-57000"] {
            let found = exposing(kind, ports);
            assert_eq!(found.exposures, [], "{kind} {ports}");
            assert!(told(&found).contains(&format!("VoyagerInternalPort {kind}")), "{}", told(&found));
        }
    }
}

#[test]
fn only_an_ingress_of_type_host_port_opens_anything() {
    for (kind, count) in
        [("HostPort", 1), ("Daemon", 1), ("LoadBalancer", 0), ("NodePort", 0), ("hostport", 0)]
    {
        let found = with(annotated(&json!({ "ingress.appscode.com/type": kind })));
        assert_eq!((found.exposures.len(), found.problems.len()), (count, 0), "{kind}");
    }
    let mut untyped = ingress();
    untyped["metadata"]["annotations"] = json!(null);
    assert_eq!(with(untyped), Collected::default());
    assert_eq!(behind(&[haproxy()], &[]), Collected::default(), "without an Ingress");
}

#[test]
fn the_pods_labels_find_the_ingress_in_either_group() {
    let labelled = |label: &str, value: &str| {
        let mut pod = haproxy();
        pod["metadata"]["labels"] = json!({ "origin": "voyager", "origin-name": "shop" });
        pod["metadata"]["labels"][label] = json!(value);
        pod
    };
    let cases = [
        (labelled("origin-api-group", VOYAGER), vec![VOYAGER, KUBERNETES], VOYAGER),
        (labelled("origin-api-group", KUBERNETES), vec![VOYAGER, KUBERNETES], KUBERNETES),
        (labelled("origin-api-group", "extensions"), vec![VOYAGER, KUBERNETES], KUBERNETES),
        (labelled("origin-api-group", "extensions"), vec!["extensions", KUBERNETES], KUBERNETES),
        (labelled("origin-api-group", KUBERNETES), vec!["extensions"], KUBERNETES),
        (labelled("origin-api-group", VOYAGER), vec![KUBERNETES], ""),
        (labelled("origin-api-version", "v1beta1"), vec![VOYAGER], VOYAGER),
        (labelled("origin-api-version", "v1beta1"), vec![KUBERNETES], KUBERNETES),
        (labelled("origin", "voyager"), vec!["extensions", KUBERNETES], KUBERNETES),
        (labelled("origin", "somebody"), vec![VOYAGER], ""),
        (labelled("origin-name", "other"), vec![VOYAGER], ""),
    ];
    for (pod, groups, expected) in cases {
        let ingresses: Vec<_> = groups.iter().map(|group| (*group, ingress())).collect();
        let found = behind(std::slice::from_ref(&pod), &ingresses);
        let kinds: Vec<&str> =
            found.exposures.iter().map(|exposure| exposure.workload.kind.as_str()).collect();
        let expected = if expected.is_empty() { vec![] } else { vec![format!("Ingress.{expected}")] };
        assert_eq!(kinds, expected, "{groups:?} {}", pod["metadata"]["labels"]);
        assert!(found.problems.is_empty(), "{:?}", found.problems);
    }
    let unlabelled = labelled("origin-api-version", "v1beta1");
    let both = [(VOYAGER, ingress()), (KUBERNETES, ingress())];
    assert!(refused(&behind(&[unlabelled], &both)).starts_with("AmbiguousIngress Pod shop/voyager-shop-1"));
}

/// Each way to name sources, the first that counts first, with the source it names.
const WAYS: [(&str, &str, &str); 3] = [
    ("hostport-firewall.dev/source-ranges", "10.1.0.0/16", "10.1.0.0/16"),
    (
        "ingress.appscode.com/annotations-service",
        r#"{ "service.beta.kubernetes.io/load-balancer-source-ranges": "10.2.0.0/16", "other": "1" }"#,
        "10.2.0.0/16",
    ),
    ("ingress.appscode.com/whitelist-source-range", "10.3.0.0/16", "10.3.0.0/16"),
];

#[test]
fn the_first_way_that_names_sources_counts() {
    for first in 0..=WAYS.len() {
        let mut ingress = ingress();
        ingress["spec"]["loadBalancerSourceRanges"] = json!(["10.4.0.0/16"]);
        for (name, value, _) in &WAYS[first..] {
            ingress["metadata"]["annotations"][name] = json!(value);
        }
        let expected = WAYS.get(first).map_or("10.4.0.0/16", |(_, _, source)| source);
        let found = with(ingress);
        assert_eq!(opened(&found)[0], format!("tcp/80 from {expected}"));
    }
    let others = json!({ "ingress.appscode.com/annotations-service": r#"{ "other": "1" }"# });
    assert_eq!(
        opened(&with(annotated(&others)))[0],
        "tcp/80 from 0.0.0.0/0",
        "annotations of another purpose"
    );
}

#[test]
fn a_whitelist_is_read_as_haproxy_reads_it() {
    let whitelist =
        json!({ "ingress.appscode.com/whitelist-source-range": "192.0.2.7 10.1.2.3/8, 2001:db8::1" });
    let found = with(annotated(&whitelist));
    let expected = ["tcp/80 from 10.0.0.0/8", "tcp/80 from 192.0.2.7/32", "tcp/80 from 2001:db8::1/128"];
    assert_eq!(opened(&found)[..3], expected);
}

#[test]
fn sources_that_cannot_be_understood_never_fall_through_to_wider_ones() {
    let service = "ingress.appscode.com/annotations-service";
    let service_sources = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let cases = [
        ("hostport-firewall.dev/source-ranges", "10.0.0.1/8".to_owned(), "write 10.0.0.0/8"),
        ("hostport-firewall.dev/source-ranges", "10.0.0.1".to_owned(), "write 10.0.0.1/32"),
        ("hostport-firewall.dev/source-ranges", String::new(), "empty"),
        ("hostport-firewall.dev/source-ranges.80", "10.0.0.0/8".to_owned(), "for all its ports"),
        (service, "not JSON".to_owned(), "not a JSON object"),
        (service, format!("\"{}\"", "x".repeat(10_000)), "not a JSON object"),
        (service, format!(r#"{{ "{service_sources}": ["10.0.0.0/8"] }}"#), "not a text"),
        (service, format!(r#"{{ "{service_sources}": "10.0.0.0/33" }}"#), "10.0.0.0/33"),
        (service, format!(r#"{{ "{service_sources}": "" }}"#), "empty"),
        ("ingress.appscode.com/whitelist-source-range", "10.0.0.0/33".to_owned(), "10.0.0.0/33"),
        ("ingress.appscode.com/whitelist-source-range", ",".to_owned(), "empty"),
    ];
    for (name, value, part) in cases {
        let message = refused(&with(annotated(&json!({ name: value }))));
        assert!(message.starts_with("InvalidSourceRanges Ingress shop/shop: "), "{message}");
        assert!(message.contains(part) && message.len() < 400, "{name}: {message}");
    }
    let mut ingress = ingress();
    ingress["spec"]["loadBalancerSourceRanges"] = json!(["10.0.0.0/8", "10.0.0.1"]);
    assert!(refused(&with(ingress)).contains("write 10.0.0.1/32"));
}

#[test]
fn one_bad_ingress_is_told_once_however_many_pods_it_has() {
    let mut second = haproxy();
    second["metadata"]["name"] = json!("voyager-shop-2");
    let bad = annotated(&json!({ "hostport-firewall.dev/source-ranges": "" }));
    refused(&behind(&[haproxy(), second], &[(VOYAGER, bad)]));
}

#[test]
fn a_rule_port_that_is_none_is_told_and_the_others_are_opened() {
    for odd in [json!(0), json!(99999), json!("http"), json!(""), json!({}), json!(-1)] {
        let mut ingress = ingress();
        ingress["spec"]["rules"][0]["http"]["port"] = odd.clone();
        let found = with(ingress);
        assert!(told(&found).starts_with("InvalidPort Ingress shop/shop"), "{odd}");
        assert_eq!(open_ports(&found), [80, 443, 9000], "{odd}");
    }
}

#[test]
fn sources_on_the_pod_alone_refuse_it_rather_than_being_overlooked() {
    let sources = json!({ "hostport-firewall.dev/source-ranges": "10.0.0.0/8" });
    let mut pod = haproxy();
    pod["metadata"]["annotations"] = sources.clone();
    let message = refused(&behind(std::slice::from_ref(&pod), &[(VOYAGER, ingress())]));
    assert!(
        message.contains("Pod shop/voyager-shop-1") && message.contains("put it on Ingress shop"),
        "{message}"
    );
    let both = behind(&[pod], &[(VOYAGER, annotated(&sources))]);
    assert_eq!(opened(&both)[0], "tcp/80 from 10.0.0.0/8");
}

#[test]
fn a_misspelt_annotation_refuses_the_pod_or_the_ingress_that_carries_it() {
    let mut pod = haproxy();
    pod["metadata"]["annotations"] = json!({ "hostport-firewall.dev/exposes": "80" });
    let found = behind(&[pod], &[(VOYAGER, ingress())]);
    assert!(refused(&found).starts_with("UnknownAnnotation Pod"));
    for slip in ["hostport-firewall.dev/source-range", "hostport-firewall.dev/expose"] {
        let found = with(annotated(&json!({ slip: "10.0.0.0/8" })));
        assert!(refused(&found).starts_with("UnknownAnnotation Ingress"), "{slip}");
    }
}

#[test]
fn the_pods_own_list_of_ports_counts_before_the_ingress() {
    let mut pod = haproxy();
    pod["metadata"]["annotations"] = json!({ "hostport-firewall.dev/expose": "tcp-443" });
    let found = behind(&[pod], &[(VOYAGER, ingress())]);
    assert_eq!(open_ports(&found), [443]);
    assert_eq!(found.exposures[0].intent.kind, "Pod");
}

#[test]
fn naming_sources_does_not_change_what_tells_groups_apart() {
    let sources = json!({ "hostport-firewall.dev/source-ranges": "10.0.0.0/8" });
    let (before, after) = (with(ingress()), with(annotated(&sources)));
    assert_ne!(rules(&before.exposures[0]), rules(&after.exposures[0]));
    assert_eq!(before.exposures[0].variant, after.exposures[0].variant);
    let mut on_v4 = haproxy();
    on_v4["spec"]["nodeName"] = json!("node-v4");
    let narrower = behind(&[on_v4], &[(VOYAGER, ingress())]);
    assert_ne!(before.exposures[0].variant, narrower.exposures[0].variant, "the default differs by node");
    let mut on_address = haproxy();
    on_address["spec"]["containers"][0]["ports"][0]["hostIP"] = json!("10.0.0.1");
    let narrower = behind(&[on_address], &[(VOYAGER, ingress())]);
    assert_ne!(
        before.exposures[0].variant, narrower.exposures[0].variant,
        "one port is bound to one address"
    );
}

/// The Service that Voyager's operator makes for an Ingress of type `NodePort`.
fn node_port_service(name: &str) -> Value {
    let port =
        |port: u16| json!({ "name": format!("tcp-{port}"), "port": port, "nodePort": 30000 + port / 10 });
    json!({
        "metadata": { "name": name, "namespace": "shop", "labels": {
            "origin": "voyager", "origin-name": "shop", "origin-api-group": VOYAGER,
        } },
        "spec": { "type": "NodePort", "ports": [port(80), port(8080), port(9000), port(7000), port(56789)] },
    })
}

/// What the Ingress of type `NodePort` opens on a node by this Service.
fn by_node_ports(annotations: &Value, service: Value) -> Collected {
    let mut ingress = annotated(annotations);
    ingress["metadata"]["annotations"]["ingress.appscode.com/type"] = json!("NodePort");
    let mut index = cluster([]);
    let ingress = Object::Ingress(from_json(ingress));
    index.apply(&Watch::Ingresses(VOYAGER.to_owned()), ingress);
    index.apply(&Watch::Services, Object::Service(from_json(service)));
    collect_exposures(&index, &Settings::default())
}

#[test]
fn an_ingress_of_type_node_port_opens_the_node_ports_of_what_it_asks_for_on_every_node() {
    let whitelist = json!({ "ingress.appscode.com/whitelist-source-range": "192.0.2.0/24" });
    let found = by_node_ports(&whitelist, node_port_service("voyager-shop"));
    assert!(found.problems.is_empty(), "{:?}", found.problems);
    let nodes: Vec<&str> = found.exposures.iter().map(|exposure| exposure.node.name.as_str()).collect();
    assert_eq!(nodes, ["node-a", "node-b", "node-v4"]);
    for exposure in &found.exposures {
        assert_eq!(
            rules(exposure),
            ["tcp/30008 from 192.0.2.0/24", "tcp/30808 from 192.0.2.0/24", "tcp/30900 from 192.0.2.0/24"]
        );
        assert_eq!(exposure.intent.to_string(), "Ingress shop/shop");
    }
}

#[test]
fn node_ports_of_the_stats_page_stay_closed_even_if_a_rule_asks_for_its_number() {
    let open = |annotations: &Value, stats_port: &Value| {
        let mut asking = annotated(annotations);
        asking["metadata"]["annotations"]["ingress.appscode.com/type"] = json!("NodePort");
        asking["spec"]["rules"] = json!([{ "http": { "port": stats_port["port"] } }]);
        let mut service = node_port_service("voyager-shop");
        service["spec"]["ports"] = json!([stats_port]);
        let mut index = cluster([]);
        let asking = Object::Ingress(from_json(asking));
        index.apply(&Watch::Ingresses(VOYAGER.to_owned()), asking);
        index.apply(&Watch::Services, Object::Service(from_json(service)));
        !collect_exposures(&index, &Settings::default()).exposures.is_empty()
    };
    let port = |name: &str, port: u16| json!({ "name": name, "port": port, "nodePort": 31000 });
    let stats = |value: &str| json!({ "ingress.appscode.com/stats": value });
    let moved = json!({ "ingress.appscode.com/stats": "true", "ingress.appscode.com/stats-port": "7000" });
    let table = [
        (stats("true"), port("tcp-56789", 56789), false),
        (stats("false"), port("tcp-56789", 56789), true),
        (stats("false"), port("stats", 56789), false),
        (moved.clone(), port("tcp-7000", 7000), false),
        (moved, port("tcp-56789", 56789), true),
    ];
    for (annotations, port, expected) in table {
        assert_eq!(open(&annotations, &port), expected, "{annotations} {port}");
    }
    let stats_service = by_node_ports(&json!({}), node_port_service("voyager-shop-stats"));
    assert_eq!(stats_service, Collected::default());

    let mut annotated = node_port_service("voyager-shop");
    annotated["metadata"]["annotations"] = json!({ "hostport-firewall.dev/expose-node-ports": "stats" });
    annotated["spec"]["ports"] = json!([port("stats", 56789)]);
    assert!(refused(&by_node_ports(&json!({}), annotated)).starts_with("VoyagerInternalPort Service"));
}

#[test]
fn an_ingress_of_another_type_opens_no_node_ports() {
    let mut index = cluster([]);
    let host_port = Object::Ingress(from_json(ingress()));
    index.apply(&Watch::Ingresses(VOYAGER.to_owned()), host_port);
    let service = Object::Service(from_json(node_port_service("voyager-shop")));
    index.apply(&Watch::Services, service);
    assert_eq!(collect_exposures(&index, &Settings::default()), Collected::default());
}

#[test]
fn a_service_whose_ingress_is_gone_opens_nothing() {
    let mut index = cluster([]);
    let service = Object::Service(from_json(node_port_service("voyager-shop")));
    index.apply(&Watch::Services, service);
    assert_eq!(collect_exposures(&index, &Settings::default()), Collected::default());
}
