//! Tests of the conditions, nodes and addresses of statuses.

use std::sync::Arc;

use firewall_core::{GroupKey, InstanceId, PortRange, Protocol, RuleSet, Workload};
use rpds::RedBlackTreeSetSync;
use serde_json::{Value, json};

use super::*;
use crate::k8s::index::{Object, Watch};
use crate::k8s::objects::builders::{from_json, object_ref};

pub(crate) fn time(second: i64) -> Time {
    Time(k8s_openapi::jiff::Timestamp::from_second(second).expect("a time"))
}

fn object(kind: &'static str, name: &str) -> ObjectRef {
    object_ref(kind, if kind == "Node" { "" } else { "shop" }, name)
}

const KIND: &str = "HostPortExposure";

/// Returns a status with this report of the controller alone.
fn reported(mut report: Value) -> Value {
    report["name"] = json!("test");
    json!({ "controllers": [report] })
}

/// One exposure, on a node with a pod of the same name each; `ready` are the ready ones.
pub(crate) fn index(nodes: &[&str], ready: &[&str], status: &Value) -> Index {
    let mut index = Index::default();
    let node = |name: &&str| {
        let addresses = json!([
            { "type": "InternalIP", "address": format!("10.0.0.{}", name.len()) },
            { "type": "Hostname", "address": name },
        ]);
        let node = json!({ "metadata": { "name": name }, "status": { "addresses": addresses } });
        Object::Node(from_json(node))
    };
    index.reset(Watch::Nodes, nodes.iter().map(node).collect());
    let pod = |name: &&str| {
        let status = if ready.contains(name) { "True" } else { "False" };
        let pod = json!({
            "metadata": { "name": name, "namespace": "shop" },
            "spec": { "containers": [{ "name": "main", "ports": [{ "containerPort": 80, "hostPort": 80 }] }] },
            "status": { "conditions": [{ "type": "Ready", "status": status }] },
        });
        Object::Pod(from_json(pod))
    };
    index.reset(Watch::Pods, nodes.iter().map(pod).collect());
    let exposure = json!({
        "metadata": { "name": "web", "namespace": "shop", "generation": 3 },
        "spec": { "podSelector": { "matchLabels": { "app": "web" } }, "ports": [{ "port": 80 }] },
        "status": status,
    });
    let exposure = from_json(exposure);
    index.reset(Watch::HostPortExposures, vec![Object::HostPortExposure(exposure)]);
    index
}

fn reference() -> ObjectRef {
    ObjectRef { api_version: "hostport-firewall.dev/v1alpha1".into(), ..object(KIND, "web") }
}

fn group() -> GroupKey {
    GroupKey {
        workload: Workload { kind: KIND.into(), namespace: "shop".into(), name: "web".into() }.into(),
        ports: BTreeSet::from([(Protocol::Tcp, PortRange::single(80).expect("a port"))]).into(),
        variant: "".into(),
    }
}

/// Outcomes of an exposure on each of these nodes, open but for the failed ones.
pub(crate) fn outcomes(nodes: &[&str], failed: &[&str]) -> Outcomes {
    let membership = |name: &&str| {
        Arc::new(Membership {
            group: group(),
            instance: InstanceId::new(*name),
            intents: [object(KIND, "web")].into(),
            opened: false,
            partly_open: false,
            node: object("Node", name),
            port_owners: [object("Pod", name)].into(),
            resources: [(format!("group of {name}"), Some("sg-1".to_owned()))].into(),
            open: if failed.contains(name) {
                Err(("QuotaReached".into(), "it is full".into()))
            } else {
                Ok(())
            },
        })
    };
    Outcomes {
        controller: "test".to_owned(),
        problems: BTreeSet::new(),
        memberships: nodes.iter().map(membership).collect(),
        exposures: nodes.iter().map(|name| exposure(name)).collect(),
        generations: BTreeMap::from([(reference(), 3)]),
        pods_with_gate: RedBlackTreeSetSync::default(),
        ..Outcomes::default()
    }
}

/// An exposure on a node.
fn exposure(node: &str) -> Exposure {
    Exposure {
        port_owner: object("Pod", node),
        node: object("Node", node),
        provider_id: String::new(),
        intent: object(KIND, "web"),
        group: group(),
        rules: RuleSet::default().into(),
        hostname: None,
    }
}

fn the_status(index: &Index, outcomes: &Outcomes, now: i64) -> ControllerStatus {
    compute_statuses(index, outcomes, None, &WrittenStatuses::new(), &time(now)).pop().expect("a status").1
}

/// The conditions as `Type=Status Reason`.
fn conditions(status: &ControllerStatus) -> Vec<String> {
    let text =
        |condition: &Condition| format!("{}={} {}", condition.type_, condition.status, condition.reason);
    status.conditions.iter().map(text).collect()
}

#[test]
fn confirmed_exposure_is_programmed() {
    let status = the_status(&index(&["a", "bb"], &["a"], &Value::Null), &outcomes(&["a", "bb"], &[]), 7);
    assert_eq!(conditions(&status), ["Accepted=True Accepted", "Programmed=True Programmed"]);
    assert_eq!((status.ports.as_str(), status.node_count), ("tcp/80", 2));
    assert_eq!(status.nodes[0].resources, ["group of a (sg-1)"]);
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(3)));
}

#[test]
fn listed_addresses_have_open_ports_and_a_ready_pod() {
    let found = |ready: &[&str], failed: &[&str]| {
        let status =
            the_status(&index(&["a", "bb"], ready, &Value::Null), &outcomes(&["a", "bb"], failed), 7);
        status.addresses.into_iter().map(|address| address.address).collect::<Vec<_>>()
    };
    assert_eq!(found(&["a", "bb"], &[]), ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(found(&["a"], &[]), ["10.0.0.1"], "the other pod is not ready");
    assert_eq!(found(&["a", "bb"], &["a"]), ["10.0.0.2"], "the other port is closed");
}

#[test]
fn programmed_gives_the_reason_if_it_is_not_met() {
    let index = index(&["a", "bb"], &[], &Value::Null);
    let failed = the_status(&index, &outcomes(&["a", "bb"], &["bb"]), 7);
    assert_eq!(conditions(&failed)[1], "Programmed=False QuotaReached");
    assert_eq!(failed.conditions[1].message, "on node bb: it is full");
    assert_eq!(failed.node_count, 1);

    let unconfirmed = Outcomes {
        exposures: [exposure("a"), exposure("bb")].into_iter().collect(),
        ..outcomes(&["a"], &[])
    };
    assert_eq!(conditions(&the_status(&index, &unconfirmed, 7))[1], "Programmed=False NotConfirmed");
    let mut node_problem = outcomes(&["a"], &[]);
    node_problem.problems.insert(Problem {
        object: object(KIND, "web"),
        verdict: Verdict::Failed,
        reason: "NoProviderId".to_owned(),
        message: "Node bb: has none".to_owned(),
    });
    assert_eq!(conditions(&the_status(&index, &node_problem, 7))[1], "Programmed=False NoProviderId");
    let unobserved = Outcomes { is_incomplete: true, ..unconfirmed };
    assert_eq!(conditions(&the_status(&index, &unobserved, 7))[1], "Programmed=Unknown NotConfirmed");
    assert_eq!(conditions(&the_status(&index, &outcomes(&[], &[]), 7))[1], "Programmed=False NoPods");
}

#[test]
fn status_has_the_generation_and_object_of_the_snapshot() {
    let index = index(&["a"], &[], &Value::Null);
    let of = |generations| {
        let outcomes = Outcomes { generations, ..outcomes(&["a"], &[]) };
        let statuses = compute_statuses(&index, &outcomes, None, &WrittenStatuses::new(), &time(7));
        statuses.into_iter().map(|(_, status)| status.conditions[0].observed_generation).collect::<Vec<_>>()
    };
    assert_eq!(of(BTreeMap::from([(reference(), 2)])), [Some(2)], "it is at generation 3 by now");
    let another = ObjectRef { uid: "another".to_owned(), ..reference() };
    assert_eq!(of(BTreeMap::from([(another, 3)])), [], "one of the same name that is gone");
}

#[test]
fn rejected_intent_is_not_accepted() {
    let mut rejected = outcomes(&[], &[]);
    let problem = |verdict: Verdict, reason: &str| Problem {
        object: object(KIND, "web"),
        verdict,
        reason: reason.to_owned(),
        message: "no such port".to_owned(),
    };
    rejected.problems.insert(problem(Verdict::Failed, "QuotaReached"));
    let index = index(&[], &[], &Value::Null);
    assert_eq!(
        conditions(&the_status(&index, &rejected, 7))[0],
        "Accepted=True Accepted",
        "no fault of its own"
    );
    rejected.problems.insert(problem(Verdict::Rejected, "InvalidExposure"));
    assert_eq!(conditions(&the_status(&index, &rejected, 7))[0], "Accepted=False InvalidExposure");
    assert_eq!(conditions(&the_status(&index, &rejected, 7))[1], "Programmed=False Invalid");
}

#[test]
fn transition_time_changes_only_with_the_status() {
    let first = the_status(&index(&["a"], &[], &Value::Null), &outcomes(&["a"], &["a"]), 10);
    let before = reported(serde_json::to_value(first).expect("JSON"));
    let index = index(&["a"], &[], &before);
    let times = |status: &ControllerStatus| {
        status
            .conditions
            .iter()
            .map(|condition| condition.last_transition_time.0.as_second())
            .collect::<Vec<_>>()
    };
    assert_eq!(times(&the_status(&index, &outcomes(&["a"], &["a"]), 20)), [10, 10]);
    assert_eq!(times(&the_status(&index, &outcomes(&["a"], &[]), 20)), [10, 20]);
}

#[test]
fn address_of_unknown_state_stays_but_is_not_added() {
    let addresses = |before: &[&str], pending: &[&str]| {
        let before: Vec<Value> = before
            .iter()
            .map(|name| json!({ "type": "InternalIP", "address": format!("10.0.0.{}", name.len()), "node": name }))
            .collect();
        let index = index(&["a", "bb"], &["a", "bb"], &reported(json!({ "addresses": before })));
        let mut outcomes = outcomes(&["a", "bb"], pending);
        for membership in &mut outcomes.memberships {
            Arc::make_mut(membership).partly_open = true;
        }
        the_status(&index, &outcomes, 7).addresses.len()
    };
    assert_eq!(addresses(&["a", "bb"], &[]), 2);
    assert_eq!(addresses(&["a", "bb"], &["a"]), 2, "its rule is there, and about to change");
    assert_eq!(addresses(&["bb"], &["a"]), 1);
}

#[test]
fn retraction_removes_addresses_and_nothing_else() {
    let index = index(&["a", "bb"], &["a", "bb"], &Value::Null);
    let before = the_status(&index, &outcomes(&["a", "bb"], &[]), 7);
    let exposure = index.host_port_exposures().next().expect("the exposure").reference();
    let written = WrittenStatuses::from([(exposure.clone(), before.clone())]);
    let retracted = |outcomes: &Outcomes| {
        let desired = compute_statuses(&index, outcomes, None, &written, &time(8));
        retract_addresses(&desired, &written)
    };
    assert_eq!(retracted(&outcomes(&["a", "bb"], &[])), []);
    let kept = ControllerStatus { addresses: vec![before.addresses[1].clone()], ..before.clone() };
    assert_eq!(retracted(&outcomes(&["bb"], &[])), [(exposure, JoinedStatus::new(kept, None))]);
}

#[test]
fn status_lists_the_first_nodes_and_counts_all() {
    let names: Vec<String> = (0..=MOST_NODES).map(|number| format!("n{number:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let index = index(&names, &names, &Value::Null);
    let all = the_status(&index, &outcomes(&names, &[]), 7);
    let written = truncate_lists(all.clone());
    assert_eq!((all.nodes.len(), all.addresses.len()), (MOST_NODES + 1, MOST_NODES + 1));
    assert_eq!((written.nodes.len(), written.addresses.len()), (MOST_NODES, MOST_NODES));
    assert_eq!((written.node_count, &written.conditions), (101, &all.conditions));
    assert!(written.nodes.iter().all(|node| node.name != names[MOST_NODES]));
    assert!(written.addresses.iter().all(|address| address.node != names[MOST_NODES]));
    assert_eq!(truncate_lists(written.clone()), written);

    // An address that the truncation drops is not about to close.
    let exposure = index.host_port_exposures().next().expect("the exposure").reference();
    let later = WrittenStatuses::from([(
        exposure,
        ControllerStatus { addresses: all.addresses[1..].to_vec(), ..written.clone() },
    )]);
    let desired = compute_statuses(&index, &outcomes(&names, &[]), None, &later, &time(8));
    assert_eq!(retract_addresses(&desired, &later), []);

    let mut many = written;
    many.addresses = (0..=MOST_ADDRESSES)
        .map(|number| OpenAddress { address: format!("{number:04}"), ..OpenAddress::default() })
        .collect();
    assert_eq!(
        truncate_lists(many).addresses.len(),
        MOST_ADDRESSES,
        "a node can have any number of addresses"
    );
}

/// A pod's ownerReferences are free text: they once made its ports and addresses those of the object they
/// name.
#[test]
fn ports_of_another_intent_are_not_in_the_status() {
    let index = index(&["a", "bb"], &["a", "bb"], &Value::Null);
    let mut outcomes = outcomes(&["a", "bb"], &[]);
    let mut exposures = outcomes.exposures.iter().cloned().collect::<Vec<_>>();
    exposures[1].intent = object("Pod", "bb");
    exposures[1].hostname = Some("forged.example".to_owned());
    outcomes.exposures = exposures.into_iter().collect();
    Arc::make_mut(&mut outcomes.memberships[0]).intents = [reference()].into();
    Arc::make_mut(&mut outcomes.memberships[1]).intents = [object("Pod", "bb")].into();
    let status = the_status(&index, &outcomes, 7);
    let nodes: Vec<&str> = status.nodes.iter().map(|node| node.name.as_str()).collect();
    let addresses: Vec<&str> = status.addresses.iter().map(|address| address.node.as_str()).collect();
    assert_eq!((nodes, addresses, status.node_count), (vec!["a"], vec!["a"], 1));
}
