//! Tests of the addresses of hostnames, and of the `DNSEndpoint`s written for them.

use std::sync::Arc;
use std::time::Duration;

use firewall_core::testing::conformance::rule;
use firewall_core::{GroupKey, InstanceId, PortRange, Protocol, RuleSet, Workload};
use serde_json::{Value, json};

use super::*;
use crate::desired::snapshot::Snapshot;
use crate::intents::exposure::Exposure;
use crate::intents::settings::Settings;
use crate::k8s::index::{Object, Watch};
use crate::k8s::objects::ObjectRef;
use crate::k8s::objects::builders::{from_json, object_ref};
use crate::k8s::objects::object_set::ObjectSet;
use crate::reconcile::outcome::Membership;

const HOSTNAME: &str = "game.example.com";

fn object(kind: &'static str, name: &str) -> ObjectRef {
    object_ref(kind, if kind == "Node" { "" } else { "games" }, name)
}

/// An exposure on a node.
fn exposure(node: &str, sources: &[&str]) -> Exposure {
    Exposure {
        port_owner: object("Pod", node),
        node: object("Node", node),
        provider_id: String::new(),
        intent: object("Pod", node),
        group: GroupKey {
            workload: Workload { kind: "DaemonSet".into(), namespace: "games".into(), name: "game".into() }
                .into(),
            ports: BTreeSet::from([(Protocol::Udp, PortRange::single(7000).expect("a port"))]).into(),
            variant: "".into(),
        },
        rules: sources.iter().map(|source| rule(&format!("udp/7000 {source}"))).collect::<RuleSet>().into(),
        hostname: Some(HOSTNAME.to_owned()),
    }
}

fn membership(exposure: &Exposure, open: bool, partly_open: bool) -> Arc<Membership> {
    Arc::new(Membership {
        group: exposure.group.clone(),
        instance: InstanceId::new(exposure.node.name.as_str()),
        intents: ObjectSet::default(),
        node: exposure.node.clone(),
        port_owners: [exposure.port_owner.clone()].into(),
        resources: [].into(),
        open: if open { Ok(()) } else { Err(("Pending".to_owned(), String::new())) },
        partly_open,
        opened: false,
    })
}

/// Nodes `a` and `b` with a ready pod each; `b` has an external address too, and IPv6.
fn index() -> Index {
    let mut index = Index::default();
    let node = |name: &str, addresses: &[(&str, &str)]| {
        let addresses: Vec<Value> =
            addresses.iter().map(|(kind, address)| json!({ "type": kind, "address": address })).collect();
        let node = json!({ "metadata": { "name": name }, "status": { "addresses": addresses } });
        Object::Node(from_json(node))
    };
    let b = [("InternalIP", "10.0.0.2"), ("ExternalIP", "192.0.2.2"), ("InternalIP", "2001:db8::2")];
    index.reset(
        Watch::Nodes,
        vec![node("a", &[("InternalIP", "10.0.0.1"), ("Hostname", "a")]), node("b", &b)],
    );
    index.reset(Watch::Pods, vec![pod("a", &json!({})), pod("b", &json!({}))]);
    index
}

fn pod(name: &str, metadata: &Value) -> Object {
    let mut pod = json!({
        "metadata": { "name": name, "namespace": "games" },
        "spec": { "containers": [{ "name": "main", "ports": [{ "containerPort": 7000, "hostPort": 7000 }] }] },
        "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
    });
    for (key, value) in metadata.as_object().expect("an object") {
        pod["metadata"][key] = value.clone();
    }
    Object::Pod(from_json(pod))
}

fn outcomes(memberships: Vec<Arc<Membership>>, is_incomplete: bool) -> Outcomes {
    let exposures = [exposure("a", &["0.0.0.0/0"]), exposure("b", &["0.0.0.0/0"])].into_iter().collect();
    Outcomes { memberships, exposures, is_incomplete, ..Outcomes::default() }
}

fn both_open() -> Outcomes {
    let open = |node: &str| membership(&exposure(node, &[]), true, true);
    outcomes(vec![open("a"), open("b")], false)
}

fn addresses(targets: &Targets) -> Vec<String> {
    targets.values().flatten().map(ToString::to_string).collect()
}

#[test]
fn hostname_has_addresses_of_open_nodes_with_a_ready_pod() {
    let all = desired_targets(&index(), &both_open(), &Targets::new());
    assert_eq!(all.keys().collect::<Vec<_>>(), [&("games".to_owned(), HOSTNAME.to_owned())]);
    assert_eq!(addresses(&all), ["10.0.0.1", "192.0.2.2"], "the external address where there is one");
    let mut unready = index();
    unready.apply(&Watch::Pods, pod("a", &json!({ "deletionTimestamp": "2026-05-04T10:00:00Z" })));
    assert_eq!(
        addresses(&desired_targets(&unready, &both_open(), &all)),
        ["192.0.2.2"],
        "a pod that is ending"
    );
    unready.delete(&Watch::Pods, &("games".to_owned(), "b".to_owned()));
    assert_eq!(desired_targets(&unready, &both_open(), &all), Targets::new(), "and one that is gone");
}

#[test]
fn node_ports_are_published_for_every_ready_node() {
    let mut index = index();
    let service = json!({ "metadata": { "name": "web", "namespace": "games" }, "spec": { "type": "NodePort", "ports": [
        { "port": 7000, "nodePort": 30000, "protocol": "UDP" },
    ] } });
    index.reset(Watch::Services, vec![Object::Service(from_json(service))]);
    let on = |node: &str| Exposure { port_owner: object("Service", "web"), ..exposure(node, &["0.0.0.0/0"]) };
    let port_owners = Snapshot::take(&index, &Settings::default(), Duration::ZERO).port_owners;
    let exposures = [on("a"), on("b")].into_iter().collect();
    let outcomes = Outcomes { exposures, port_owners, ..both_open() };
    let published = |index: &Index| addresses(&desired_targets(index, &outcomes, &Targets::new()));
    assert_eq!(published(&index), ["10.0.0.1", "192.0.2.2"]);
    for (status, expected) in [("True", 2), ("False", 1), ("Unknown", 1)] {
        let mut node = index.node("a").expect("the node").clone();
        node.status.conditions = from_json(json!([{ "type": "Ready", "status": status }]));
        index.apply(&Watch::Nodes, Object::Node(node));
        assert_eq!(published(&index).len(), expected, "{status}");
    }
}

#[test]
fn replaced_pod_of_the_same_name_is_not_published() {
    let mut index = index();
    index.apply(&Watch::Pods, pod("a", &json!({ "uid": "another" })));
    assert_eq!(addresses(&desired_targets(&index, &both_open(), &Targets::new())), ["192.0.2.2"]);
}

#[test]
fn only_families_of_the_sources_are_published() {
    let published = |sources: &[&str]| {
        let exposure = exposure("b", sources);
        let open = membership(&exposure, true, true);
        let outcomes = Outcomes {
            memberships: vec![open],
            exposures: [exposure].into_iter().collect(),
            ..Outcomes::default()
        };
        addresses(&desired_targets(&index(), &outcomes, &Targets::new()))
    };
    assert_eq!(published(&["0.0.0.0/0"]), ["192.0.2.2"]);
    assert_eq!(published(&["::/0"]), ["2001:db8::2"]);
    assert_eq!(published(&["0.0.0.0/0", "::/0"]), ["192.0.2.2", "2001:db8::2"]);
}

#[test]
fn address_of_unknown_state_stays_but_is_not_added() {
    let before = desired_targets(&index(), &both_open(), &Targets::new());
    let b = || membership(&exposure("b", &[]), true, true);
    let cases = [
        ("about to change", membership(&exposure("a", &[]), false, true), 2, 1),
        ("removed by hand", membership(&exposure("a", &[]), false, false), 1, 1),
    ];
    for (case, a, with_before, without) in cases {
        let outcomes = outcomes(vec![a, b()], false);
        assert_eq!(addresses(&desired_targets(&index(), &outcomes, &before)).len(), with_before, "{case}");
        assert_eq!(
            addresses(&desired_targets(&index(), &outcomes, &Targets::new())).len(),
            without,
            "{case}"
        );
    }
    let unobserved = outcomes(vec![b()], true);
    assert_eq!(
        addresses(&desired_targets(&index(), &unobserved, &before)).len(),
        2,
        "its cloud has not been observed yet"
    );
    let closed = outcomes(vec![b()], false);
    assert_eq!(addresses(&desired_targets(&index(), &closed, &before)).len(), 1, "it is no longer exposed");
}

fn zone() -> Zone {
    Zone::new("prod", Duration::from_mins(1))
}

/// Returns the `DNSEndpoint` after a change has been written.
fn written(change: &EndpointChange) -> Object {
    let metadata = json!({ "namespace": change.namespace, "name": change.name });
    let endpoint = json!({ "metadata": metadata, "spec": change.spec });
    Object::DNSEndpoint(from_json(endpoint))
}

#[test]
fn hostname_has_one_record_per_address_family() {
    let key = ("games".to_owned(), HOSTNAME.to_owned());
    let addresses = ["192.0.2.2", "10.0.0.1", "2001:db8::2"].map(|text| text.parse().expect("an address"));
    let desired = Targets::from([(key, BTreeSet::from(addresses))]);
    let changes = diff_endpoints(&Index::default(), &zone(), &Targets::new(), &desired);
    let [change] = &changes[..] else { panic!("one change: {changes:?}") };
    let spec = json!({ "endpoints": [
        { "dnsName": HOSTNAME, "recordType": "A", "recordTTL": 60, "targets": ["10.0.0.1", "192.0.2.2"] },
        { "dnsName": HOSTNAME, "recordType": "AAAA", "recordTTL": 60, "targets": ["2001:db8::2"] },
    ] });
    assert_eq!(json!(change.spec), spec);
    assert_ne!(
        zone().name(HOSTNAME),
        Zone::new("test", Duration::ZERO).name(HOSTNAME),
        "another controller's"
    );
}

#[test]
fn only_differences_are_written_and_undesired_are_deleted() {
    let desired = desired_targets(&index(), &both_open(), &Targets::new());
    let mut index = Index::default();
    assert_eq!(read_published(&index), None, "it has not been listed");
    index.reset(Watch::DNSEndpoints, vec![]);
    let first = diff_endpoints(&index, &zone(), &Targets::new(), &desired);
    assert_eq!(first.len(), 1);
    index.apply(&Watch::DNSEndpoints, written(&first[0]));
    index.mark_incomplete(Watch::DNSEndpoints, "a break".to_owned());
    assert_eq!(read_published(&index), Some(desired.clone()), "the last observed ones stay");
    assert_eq!(diff_endpoints(&index, &zone(), &desired, &desired), [], "it is up to date");
    let deleted = diff_endpoints(&index, &zone(), &desired, &Targets::new());
    assert_eq!(deleted, [EndpointChange { spec: None, ..first[0].clone() }]);

    let mut drifted = first[0].clone();
    drifted.spec.as_mut().expect("a spec").endpoints[0].targets.push("203.0.113.1".to_owned());
    index.apply(&Watch::DNSEndpoints, written(&drifted));
    assert_eq!(diff_endpoints(&index, &zone(), &desired, &desired), first, "it was changed by hand");
}

#[test]
fn written_address_missing_from_the_index_is_deleted() {
    let desired = desired_targets(&index(), &both_open(), &Targets::new());
    let written = desired.clone();
    let unseen = Index::default();
    assert_eq!(
        diff_endpoints(&unseen, &zone(), &written, &Targets::new())[0].spec,
        None,
        "it is deleted nevertheless"
    );
}

#[test]
fn retraction_removes_addresses_and_adds_none() {
    let key = |name: &str| ("games".to_owned(), name.to_owned());
    let set = |addresses: &[&str]| addresses.iter().map(|text| text.parse().expect("an address")).collect();
    let before = Targets::from([(key("a"), set(&["10.0.0.1", "10.0.0.2"])), (key("b"), set(&["10.0.0.1"]))]);
    let desired = Targets::from([(key("a"), set(&["10.0.0.2", "10.0.0.3"])), (key("c"), set(&["10.0.0.4"]))]);
    assert_eq!(retract(&before, &desired), Targets::from([(key("a"), set(&["10.0.0.2"]))]));
}
