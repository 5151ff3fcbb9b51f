//! Voyager's Ingresses: the ports they request, the sources they name, and the pods that belong to them.

mod node_ports;

use serde_json::{Value, json};

use super::{Collected, cluster, only_problem, opened, rejection, rules};
use crate::intents::demand::collect_exposures;
use crate::intents::exposure::Exposure;
use crate::intents::settings::Settings;
use crate::k8s::index::{Object, Watch};
use crate::k8s::objects::builders::{self, from_json, named_host_port};

const VOYAGER: &str = "voyager.appscode.com";
const KUBERNETES: &str = "networking.k8s.io";

/// Returns an `HAProxy` pod as Voyager's operator manages it, with the stats page and the exporter.
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

/// Returns an Ingress of type `HostPort` that requests 8080 and 9000 beside 80 and 443.
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

/// Returns the exposed ports.
fn ports(exposure: &Exposure) -> Vec<u16> {
    exposure.group.ports.iter().flat_map(|(_, ports)| ports.first()..=ports.last()).collect()
}

fn open_ports(found: &Collected) -> Vec<u16> {
    found.exposures.iter().flat_map(ports).collect()
}

#[test]
fn ports_of_the_ingress_that_haproxy_binds_are_opened() {
    let found = with(ingress());
    let expected = ["tcp/80", "tcp/443", "tcp/8080", "tcp/9000"];
    let expected: Vec<String> = expected
        .iter()
        .flat_map(|port| [format!("{port} from 0.0.0.0/0"), format!("{port} from ::/0")])
        .collect();
    assert_eq!(opened(&found), expected);
    assert_eq!(found.exposures[0].intent.to_string(), "Ingress shop/shop");
    assert_eq!(found.exposures[0].group.workload.to_string(), "Ingress.voyager.appscode.com shop/shop");
}

#[test]
fn port_that_haproxy_does_not_bind_stays_closed() {
    let mut pod = haproxy();
    pod["spec"]["containers"][0]["ports"] = json!([{ "name": "tcp-80", "containerPort": 80 }]);
    assert_eq!(open_ports(&behind(&[pod], &[(VOYAGER, ingress())])), [80]);
}

#[test]
fn stats_and_exporter_ports_are_never_opened() {
    let requesting = |ports: &[u16], annotations: &Value| {
        let mut ingress = annotated(annotations);
        let rules: Vec<Value> = ports.iter().map(|port| json!({ "http": { "port": port } })).collect();
        ingress["spec"]["rules"] = json!(rules);
        ingress
    };
    let stats = |value: &str| json!({ "ingress.appscode.com/stats": value });
    let moved = json!({ "ingress.appscode.com/stats": "true", "ingress.appscode.com/stats-port": "8080" });
    let cases = [
        ("the exporter's", requesting(&[56790, 7070], &stats("true")), vec![80, 443]),
        ("the stats page's default", requesting(&[56789], &stats("true")), vec![80, 443]),
        (
            "the stats page by its name alone, before a rollout",
            requesting(&[56789], &stats("false")),
            vec![80, 443],
        ),
        ("the stats page's own number", requesting(&[8080, 9000], &moved), vec![80, 443, 9000]),
    ];
    for (what, ingress, expected) in cases {
        assert_eq!(open_ports(&with(ingress)), expected, "{what}");
    }
    for (value, on) in
        [("true", true), ("1", true), ("True", true), ("yes", true), ("false", false), ("0", false)]
    {
        let mut pod = haproxy();
        pod["spec"]["containers"][0]["ports"][4]["name"] = json!("tcp-56789");
        let found = behind(&[pod], &[(VOYAGER, requesting(&[56789], &stats(value)))]);
        assert_eq!(open_ports(&found).contains(&56789), !on, "{value}");
    }
    let unreadable =
        json!({ "ingress.appscode.com/stats": "true", "ingress.appscode.com/stats-port": "80a" });
    assert!(rejection(&with(annotated(&unreadable))).starts_with("InvalidStatsPort Ingress shop/shop"));
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
            assert!(
                only_problem(&found).contains(&format!("VoyagerInternalPort {kind}")),
                "{}",
                only_problem(&found)
            );
        }
    }
}

#[test]
fn only_an_ingress_of_type_host_port_opens_host_ports() {
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
fn labels_of_the_pod_select_the_ingress_in_either_group() {
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
        (labelled("origin", "another"), vec![VOYAGER], ""),
        (labelled("origin-name", "other"), vec![VOYAGER], ""),
    ];
    for (pod, groups, expected) in cases {
        let ingresses: Vec<_> = groups.iter().map(|group| (*group, ingress())).collect();
        let found = behind(std::slice::from_ref(&pod), &ingresses);
        let kinds: Vec<&str> =
            found.exposures.iter().map(|exposure| exposure.group.workload.kind.as_str()).collect();
        let expected = if expected.is_empty() { vec![] } else { vec![format!("Ingress.{expected}")] };
        assert_eq!(kinds, expected, "{groups:?} {}", pod["metadata"]["labels"]);
        assert!(found.problems.is_empty(), "{:?}", found.problems);
    }
    let unlabelled = labelled("origin-api-version", "v1beta1");
    let both = [(VOYAGER, ingress()), (KUBERNETES, ingress())];
    assert!(rejection(&behind(&[unlabelled], &both)).starts_with("AmbiguousIngress Pod shop/voyager-shop-1"));
}

/// Each notation of sources in order of precedence: key, value, and the source that it names.
const NOTATIONS: [(&str, &str, &str); 3] = [
    ("hostport-firewall.dev/source-ranges", "10.1.0.0/16", "10.1.0.0/16"),
    (
        "ingress.appscode.com/annotations-service",
        r#"{ "service.beta.kubernetes.io/load-balancer-source-ranges": "10.2.0.0/16", "other": "1" }"#,
        "10.2.0.0/16",
    ),
    ("ingress.appscode.com/whitelist-source-range", "10.3.0.0/16", "10.3.0.0/16"),
];

#[test]
fn first_notation_of_sources_takes_precedence() {
    for first in 0..=NOTATIONS.len() {
        let mut ingress = ingress();
        ingress["spec"]["loadBalancerSourceRanges"] = json!(["10.4.0.0/16"]);
        for (name, value, _) in &NOTATIONS[first..] {
            ingress["metadata"]["annotations"][name] = json!(value);
        }
        let expected = NOTATIONS.get(first).map_or("10.4.0.0/16", |(_, _, source)| source);
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
fn whitelist_is_parsed_as_haproxy_parses_it() {
    let whitelist =
        json!({ "ingress.appscode.com/whitelist-source-range": "192.0.2.7 10.1.2.3/8, 2001:db8::1" });
    let found = with(annotated(&whitelist));
    let expected = ["tcp/80 from 10.0.0.0/8", "tcp/80 from 192.0.2.7/32", "tcp/80 from 2001:db8::1/128"];
    assert_eq!(opened(&found)[..3], expected);
}

#[test]
fn invalid_sources_never_fall_through_to_wider_ones() {
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
        let message = rejection(&with(annotated(&json!({ name: value }))));
        assert!(message.starts_with("InvalidSourceRanges Ingress shop/shop: "), "{message}");
        assert!(message.contains(part) && message.len() < 400, "{name}: {message}");
    }
    let mut ingress = ingress();
    ingress["spec"]["loadBalancerSourceRanges"] = json!(["10.0.0.0/8", "10.0.0.1"]);
    assert!(rejection(&with(ingress)).contains("write 10.0.0.1/32"));
}

#[test]
fn invalid_ingress_of_many_pods_is_reported_once() {
    let mut second = haproxy();
    second["metadata"]["name"] = json!("voyager-shop-2");
    let bad = annotated(&json!({ "hostport-firewall.dev/source-ranges": "" }));
    rejection(&behind(&[haproxy(), second], &[(VOYAGER, bad)]));
}

#[test]
fn invalid_rule_port_is_reported_and_the_others_are_opened() {
    for odd in [json!(0), json!(99999), json!("http"), json!(""), json!({}), json!(-1)] {
        let mut ingress = ingress();
        ingress["spec"]["rules"][0]["http"]["port"] = odd.clone();
        let found = with(ingress);
        assert!(only_problem(&found).starts_with("InvalidPort Ingress shop/shop"), "{odd}");
        assert_eq!(open_ports(&found), [80, 443, 9000], "{odd}");
    }
}

#[test]
fn sources_on_the_pod_alone_reject_the_pod() {
    let sources = json!({ "hostport-firewall.dev/source-ranges": "10.0.0.0/8" });
    let mut pod = haproxy();
    pod["metadata"]["annotations"] = sources.clone();
    let message = rejection(&behind(std::slice::from_ref(&pod), &[(VOYAGER, ingress())]));
    assert!(
        message.contains("Pod shop/voyager-shop-1") && message.contains("put it on Ingress shop"),
        "{message}"
    );
    let both = behind(&[pod], &[(VOYAGER, annotated(&sources))]);
    assert_eq!(opened(&both)[0], "tcp/80 from 10.0.0.0/8");
}

#[test]
fn misspelt_annotation_rejects_the_pod_or_the_ingress() {
    let mut pod = haproxy();
    pod["metadata"]["annotations"] = json!({ "hostport-firewall.dev/exposes": "80" });
    let found = behind(&[pod], &[(VOYAGER, ingress())]);
    assert!(rejection(&found).starts_with("UnknownAnnotation Pod"));
    for slip in ["hostport-firewall.dev/source-range", "hostport-firewall.dev/expose"] {
        let found = with(annotated(&json!({ slip: "10.0.0.0/8" })));
        assert!(rejection(&found).starts_with("UnknownAnnotation Ingress"), "{slip}");
    }
}

#[test]
fn list_on_the_pod_precedes_the_ingress() {
    let mut pod = haproxy();
    pod["metadata"]["annotations"] = json!({ "hostport-firewall.dev/expose": "tcp-443" });
    let found = behind(&[pod], &[(VOYAGER, ingress())]);
    assert_eq!(open_ports(&found), [443]);
    assert_eq!(found.exposures[0].intent.kind, "Pod");
}

#[test]
fn naming_sources_keeps_the_group() {
    let sources = json!({ "hostport-firewall.dev/source-ranges": "10.0.0.0/8" });
    let (before, after) = (with(ingress()), with(annotated(&sources)));
    assert_ne!(rules(&before.exposures[0]), rules(&after.exposures[0]));
    assert_eq!(before.exposures[0].group.variant, after.exposures[0].group.variant);
    let mut on_v4 = haproxy();
    on_v4["spec"]["nodeName"] = json!("node-v4");
    let narrower = behind(&[on_v4], &[(VOYAGER, ingress())]);
    assert_ne!(
        before.exposures[0].group.variant, narrower.exposures[0].group.variant,
        "the default differs by node"
    );
    let mut on_address = haproxy();
    on_address["spec"]["containers"][0]["ports"][0]["hostIP"] = json!("10.0.0.1");
    let narrower = behind(&[on_address], &[(VOYAGER, ingress())]);
    assert_ne!(
        before.exposures[0].group.variant, narrower.exposures[0].group.variant,
        "one port is bound to one address"
    );
}
