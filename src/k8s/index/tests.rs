//! Tests of which objects the index holds, which changes it reports, and when it is complete.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::k8s::objects::builders::{from_json, object_ref};
use crate::k8s::objects::{Node, ObjectRef};
use crate::k8s::problem::Verdict;
use crate::k8s::reasons::UNREADABLE;

fn pod(name: &str, extra: &serde_json::Value) -> Object {
    let mut pod = json!({
        "metadata": { "name": name, "namespace": "default", "resourceVersion": "1" },
        "spec": { "containers": [{ "name": "main", "ports": [{ "containerPort": 80, "hostPort": 80 }] }] },
    });
    pod.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    Object::Pod(from_json(pod))
}

#[test]
fn index_is_complete_from_last_list_until_a_watch_breaks() {
    let mut index = Index::expecting([Watch::Pods, Watch::Nodes]);
    let gaps = vec!["pods: not listed yet".to_owned(), "nodes: not listed yet".to_owned()];
    assert_eq!(index.gaps(), gaps);
    index.reset(Watch::Pods, vec![]);
    assert!(!index.is_synced());
    index.reset(Watch::Nodes, vec![Object::Node(from_json(json!({ "metadata": { "name": "n" } })))]);
    assert!(index.is_synced());
    index.mark_incomplete(Watch::Pods, "403".into());
    assert_eq!(index.gaps(), ["pods: 403"]);
    index.reset(Watch::Pods, vec![]);
    assert!(index.is_synced());
}

#[test]
fn broken_watch_keeps_its_objects() {
    let mut index = Index::expecting([Watch::Pods]);
    index.reset(Watch::Pods, vec![pod("a", &json!({}))]);
    index.mark_incomplete(Watch::Pods, "gone".into());
    assert_eq!(index.pods().count(), 1);
}

#[test]
fn list_replaces_earlier_objects() {
    let mut index = Index::expecting([Watch::Pods]);
    index.reset(Watch::Pods, vec![pod("a", &json!({}))]);
    assert!(index.reset(Watch::Pods, vec![pod("b", &json!({}))]));
    let names: Vec<_> = index.pods().filter_map(|pod| pod.metadata.name.as_deref()).collect();
    assert_eq!(names, ["b"]);
}

#[test]
fn only_relevant_fields_make_a_change() {
    let mut index = Index::expecting([Watch::Pods]);
    assert!(index.apply(&Watch::Pods, pod("a", &json!({}))));
    let newer = json!({ "metadata": { "name": "a", "namespace": "default", "resourceVersion": "2" } });
    assert!(!index.apply(&Watch::Pods, pod("a", &newer)), "a status update");
    assert!(index.apply(&Watch::Pods, pod("a", &json!({ "status": { "phase": "Failed" } }))));
    assert!(index.delete(&Watch::Pods, &pod("a", &json!({})).name()));
    assert!(!index.delete(&Watch::Pods, &pod("a", &json!({})).name()));
}

#[test]
fn pods_that_can_never_be_exposed_are_not_held() {
    let bare = json!({ "containers": [{ "name": "main", "ports": [{ "containerPort": 80 }] }] });
    let on_host = json!({ "hostNetwork": true, "containers": bare["containers"] });
    let annotated = json!({ "name": "a", "annotations": { "hostport-firewall.dev/expose": "80" } });
    let cases = [
        (json!({ "spec": bare }), false),
        (json!({ "spec": on_host }), true),
        (json!({ "spec": bare, "metadata": annotated }), true),
        (json!({}), true),
    ];
    for (extra, is_held) in cases {
        let mut index = Index::expecting([Watch::Pods]);
        index.apply(&Watch::Pods, pod("a", &extra));
        assert_eq!(index.pods().count() == 1, is_held, "{extra}");
    }
}

fn ingress(name: &str, host_port: bool) -> Object {
    let kind = if host_port { "HostPort" } else { "LoadBalancer" };
    let annotations = json!({ "ingress.appscode.com/type": kind });
    let ingress = json!({ "metadata": { "name": name, "namespace": "shop", "annotations": annotations } });
    Object::Ingress(from_json(ingress))
}

fn node(resource_version: &str, provider_id: &str) -> Object {
    let node = json!({
        "metadata": { "name": "a", "resourceVersion": resource_version },
        "spec": { "providerID": provider_id },
    });
    Object::Node(from_json(node))
}

#[test]
fn ingresses_of_one_name_in_two_groups_are_kept_apart() {
    let groups = ["networking.k8s.io", "voyager.appscode.com"];
    let watches = groups.map(|group| Watch::Ingresses(group.to_owned()));
    let mut index = Index::expecting(watches.clone());
    for watch in &watches {
        assert!(index.apply(watch, ingress("shop", true)));
    }
    let found = |index: &Index| -> Vec<String> {
        index.ingresses("shop", "shop").map(|(group, _)| group.to_owned()).collect()
    };
    assert_eq!(found(&index), groups);
    assert!(index.delete(&watches[0], &ingress("shop", true).name()));
    assert_eq!(found(&index), groups[1..]);
    assert_eq!(index.ingresses("other", "shop").count(), 0, "another namespace");
}

#[test]
fn dropped_kind_loses_its_objects_and_its_gap() {
    let watch = Watch::Ingresses("voyager.appscode.com".into());
    let mut index = Index::expecting([Watch::Pods]);
    index.reset(Watch::Pods, vec![]);
    assert!(index.expect_kind(watch.clone()) && !index.expect_kind(watch.clone()));
    assert!(!index.is_synced(), "an API that appears has to be listed first");
    index.reset(watch.clone(), vec![ingress("shop", true)]);
    assert!(index.drop_kind(&watch));
    assert_eq!(index.take_changes().named(), None, "anything may have changed");
    assert!(!index.drop_kind(&watch));
    assert_eq!(
        index.take_changes().named(),
        Some(&BTreeSet::new()),
        "it is found not to be there every minute"
    );
    assert!(index.is_synced());
    assert_eq!(index.ingresses("shop", "shop").count(), 0);
}

#[test]
fn equal_list_is_a_change_only_if_it_closes_a_gap() {
    let mut index = Index::expecting([Watch::Nodes]);
    assert!(index.reset(Watch::Nodes, vec![]), "it is complete now");
    assert!(index.reset(Watch::Nodes, vec![node("1", "aws:///z/i-0")]));
    assert!(!index.reset(Watch::Nodes, vec![node("2", "aws:///z/i-0")]), "a heartbeat");
    assert!(!index.apply(&Watch::Nodes, node("3", "aws:///z/i-0")), "a heartbeat");
    assert!(index.apply(&Watch::Nodes, node("4", "aws:///z/i-1")), "a replaced machine of the same name");
    assert!(
        index.mark_incomplete(Watch::Nodes, "410".into())
            && !index.mark_incomplete(Watch::Nodes, "410".into())
    );
    assert!(index.reset(Watch::Nodes, vec![node("5", "aws:///z/i-1")]), "it is complete again");
}

#[test]
fn object_without_namespace_is_in_the_default_one() {
    let mut index = Index::default();
    let spec = json!({ "containers": [{ "ports": [{ "hostPort": 80, "containerPort": 80 }] }] });
    let unnamed = json!({ "metadata": { "name": "a" }, "spec": spec });
    let named = json!({ "metadata": { "name": "a", "namespace": "default" }, "spec": spec });
    assert!(index.apply(&Watch::Pods, Object::Pod(from_json(unnamed))));
    assert!(!index.apply(&Watch::Pods, Object::Pod(from_json(named))), "the same");
    let pod = index.pod("default", "a").expect("the pod");
    assert_eq!(pod.metadata.namespace.as_deref(), Some("default"));
}

#[test]
fn pod_without_host_port_any_more_is_dropped() {
    let mut index = Index::expecting([Watch::Pods]);
    index.apply(&Watch::Pods, pod("a", &json!({})));
    let bare = json!({ "spec": { "containers": [] } });
    assert!(index.apply(&Watch::Pods, pod("a", &bare)));
    assert!(!index.apply(&Watch::Pods, pod("a", &bare)));
    assert_eq!(index.pods().count(), 0);
}

#[test]
fn unreadable_object_is_reported_until_readable_or_deleted() {
    let watch = Watch::Ingresses("voyager.appscode.com".to_owned());
    let name = || ingress("shop", true).name();
    let problem = |message: &str| Problem {
        object: ObjectRef {
            api_version: "voyager.appscode.com/v1".into(),
            ..object_ref("Ingress", &name().0, &name().1)
        },
        verdict: Verdict::Rejected,
        reason: UNREADABLE.to_owned(),
        message: message.to_owned(),
    };
    let mut index = Index::expecting([watch.clone()]);
    index.reset(watch.clone(), vec![ingress("shop", true)]);
    assert!(index.mark_unreadable(&watch, name(), problem("a")));
    assert!(!index.mark_unreadable(&watch, name(), problem("a")), "the same problem again");
    assert_eq!((index.all_ingresses().count(), index.unreadable().count()), (0, 1));
    assert!(index.apply(&watch, ingress("shop", true)));
    assert_eq!((index.all_ingresses().count(), index.unreadable().count()), (1, 0));
    index.mark_unreadable(&watch, name(), problem("a"));
    assert!(index.delete(&watch, &name()));
    index.mark_unreadable(&watch, name(), problem("a"));
    assert!(index.reset(watch, vec![ingress("shop", true)]));
    assert_eq!(index.unreadable().count(), 0);
}

#[test]
fn object_gone_before_it_became_unreadable_is_forgotten() {
    let watch = Watch::HostPortExposures;
    let exposure = Object::HostPortExposure(from_json(json!({
        "metadata": { "name": "turn", "namespace": "games" },
        "spec": { "podSelector": { "matchLabels": { "app": "turn" } }, "ports": [{ "port": 3478 }] },
    })));
    let name = exposure.name();
    let problem = || Problem {
        object: object_ref("HostPortExposure", &name.0, &name.1),
        verdict: Verdict::Rejected,
        reason: UNREADABLE.to_owned(),
        message: String::new(),
    };
    for (lists_without_it, is_known) in [(1, true), (2, false)] {
        let mut index = Index::expecting([watch.clone()]);
        index.reset(watch.clone(), vec![exposure.clone()]);
        for _ in 0..lists_without_it {
            index.reset(watch.clone(), vec![]);
        }
        index.mark_unreadable(&watch, name.clone(), problem());
        let found = index.unreadable_exposure(&name);
        assert_eq!(found.map(|(_, last)| last.is_some()), Some(is_known), "{lists_without_it}");
    }
}

#[test]
fn cluster_without_a_node_is_no_knowledge() {
    let mut index = Index::expecting([Watch::Pods, Watch::Nodes]);
    index.reset(Watch::Pods, vec![]);
    index.reset(Watch::Nodes, vec![]);
    assert!(!index.is_synced());
    let gaps = index.gaps();
    assert!(!gaps.is_empty() && gaps[0].starts_with("nodes: ") && gaps[0].contains("kubeconfig"), "{gaps:?}");
    let node: Node = from_json(json!({ "metadata": { "name": "n" } }));
    index.apply(&Watch::Nodes, Object::Node(node));
    assert!(index.is_synced());
    index.delete(&Watch::Nodes, &(String::new(), "n".to_owned()));
    assert!(!index.is_synced(), "the last node is gone");
}
