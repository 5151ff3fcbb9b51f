//! What is not known stays as it is: nodes, intents and kinds that go missing, and what closes with a fact.

use hostport_firewall::k8s::index::{Object, Watch};
use hostport_firewall::reconcile::pass::{NextPass, WakeReason};
use serde_json::json;

use firewall_core::testing::memory::Fault;
use firewall_core::{ErrorKind, ProviderError};

use crate::{LINGER, TestCluster, node, other, pod};

/// Lets time pass, and plans often enough for everything that lingers to go.
async fn settle(cluster: &mut TestCluster) {
    for _ in 0..4 {
        cluster.pass().await;
        tokio::time::advance(LINGER).await;
    }
}

fn node_without_machine(number: usize) -> Object {
    let mut node = node(number);
    if let Object::Node(node) = &mut node {
        node.spec.provider_id = None;
    }
    node
}

#[tokio::test(start_paused = true)]
async fn deleted_node_keeps_the_ports_of_its_pods() {
    let mut cluster = TestCluster::new(3);
    cluster.pass().await;
    cluster.index.update(|index| index.delete(&Watch::Nodes, &(String::new(), "n-0".to_owned())));
    cluster.leave(0..2);
    settle(&mut cluster).await;
    assert_eq!(cluster.open(), 2, "pod 0 runs, pod 2 is gone");
    let pass = cluster.pass().await;
    assert!(pass.problems().iter().any(|problem| problem.reason == "UnknownNode"), "{:?}", pass.problems());
    cluster.leave(1..2);
    settle(&mut cluster).await;
    assert_eq!(cluster.open(), 1, "once the pod is gone too");
}

#[tokio::test(start_paused = true)]
async fn node_without_provider_id_keeps_the_ports_of_its_pods() {
    let mut cluster = TestCluster::new(2);
    cluster.pass().await;
    cluster.index.update(|index| index.apply(&Watch::Nodes, node_without_machine(0)));
    settle(&mut cluster).await;
    assert_eq!(cluster.open(), 2);
    cluster.index.update(|index| index.apply(&Watch::Nodes, node(0)));
    let pass = cluster.pass().await;
    assert_eq!((cluster.open(), pass.applied), (2, 0), "nothing had to be opened again");
}

#[tokio::test(start_paused = true)]
async fn unknown_node_opens_nothing_new() {
    let mut cluster = TestCluster::new(1);
    cluster.index.update(|index| index.reset(Watch::Nodes, vec![]));
    let pass = cluster.pass().await;
    assert_eq!((cluster.open(), pass.applied), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn restarted_controller_keeps_the_ports_of_an_unknown_node() {
    let mut cluster = TestCluster::new(2);
    cluster.pass().await;
    cluster.index.update(|index| index.delete(&Watch::Nodes, &(String::new(), "n-0".to_owned())));
    cluster.restart();
    settle(&mut cluster).await;
    assert_eq!(cluster.open(), 2);
}

#[tokio::test(start_paused = true)]
async fn kind_that_cannot_be_listed_holds_up_no_annotated_pod() {
    let mut cluster = TestCluster::new(2);
    let ingresses = Watch::Ingresses("voyager.appscode.com".to_owned());
    cluster
        .index
        .update(|index| index.mark_incomplete(ingresses, "500: conversion webhook failed".to_owned()));
    cluster.pass().await;
    assert_eq!(cluster.open(), 2, "they open");
    cluster.leave(0..1);
    settle(&mut cluster).await;
    assert_eq!(cluster.open(), 1, "and close");
}

#[tokio::test(start_paused = true)]
async fn group_that_cannot_be_made_holds_up_no_other_pod() {
    let mut cluster = TestCluster::new(1);
    cluster.index.update(|index| index.apply(&Watch::Pods, other()));
    let full = || ProviderError::new(ErrorKind::QuotaReached, "memory:Create", "group", "no more groups");
    // The first group, and whatever is tried again of it.
    cluster.cloud.inject([Fault::CallFails(full())]);
    let pass = cluster.pass().await;
    assert_eq!(pass.next, Some(NextPass::at_once(WakeReason::ChangeFailed)));
    cluster.pass().await;
    assert_eq!(cluster.open(), 1, "the group that can be made is attached");
}

#[tokio::test(start_paused = true)]
async fn closing_names_the_fact_that_ended_the_demand() {
    let mut cluster = TestCluster::new(1);
    cluster.pass().await;
    cluster.leave(0..0);
    cluster.pass().await;
    tokio::time::advance(LINGER).await;
    let planned = cluster.plan().await;
    let reasons: Vec<&str> = planned.plan.steps.iter().map(|step| step.reason.as_str()).collect();
    let fact = "Pod default/web-0 was deleted or has finished";
    assert!(reasons.len() == 2 && reasons.iter().all(|reason| reason.contains(fact)), "{reasons:?}");
}

#[tokio::test(start_paused = true)]
async fn machine_behind_a_node_that_changes_is_a_fact() {
    let mut cluster = TestCluster::new(2);
    cluster.index.update(|index| index.reset(Watch::Pods, vec![pod(0)]));
    cluster.pass().await;
    let moved = json!({
        "metadata": { "name": "n-0" },
        "spec": { "providerID": "memory://i-1" },
        "status": { "addresses": [{ "type": "InternalIP", "address": "10.0.0.1" }] },
    });
    let moved = Object::Node(serde_json::from_value(moved).expect("a node"));
    cluster.index.update(|index| index.reset(Watch::Nodes, vec![moved]));
    let planned = cluster.plan().await;
    let closing = planned.plan.steps.iter().find(|step| step.effect == firewall_core::Effect::Close);
    let reason = &closing.expect("the former machine closes").reason;
    assert!(reason.contains("node n-0 is another machine now"), "{reason}");
}
