//! What fails: who is reported, what it holds up, and when it is tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use firewall_core::testing::memory::Fault;
use firewall_core::{ErrorKind, ProviderError};
use hostport_firewall::k8s::index::{Object, Watch};
use hostport_firewall::k8s::objects::ObjectRef;
use hostport_firewall::reconcile::outcome::Membership;
use hostport_firewall::reconcile::pass::{NextPass, Pass, WakeReason};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{LINGER, TestCluster, other, pod};

#[tokio::test(start_paused = true)]
async fn failure_is_reported_on_the_pod_and_retried_later() {
    let mut cluster = TestCluster::new(1);
    let denied =
        ProviderError::new(ErrorKind::PermissionDenied, "memory:Create", "group", "UnauthorizedOperation")
            .with_manual_command("create --now".into());
    cluster.cloud.inject([Fault::CallFails(denied)]);
    let pass = cluster.pass().await;
    assert_eq!((pass.applied, pass.not_applied), (0, 2), "what needs the failed step is left out");
    for (reason, text) in [("PermissionDenied", "memory:Create"), ("ManualChangeRequired", "create --now")] {
        let problems = pass.problems();
        let reported = problems.iter().filter(|problem| problem.reason == reason);
        let reported: Vec<(&str, bool)> =
            reported.map(|problem| (problem.object.name.as_str(), problem.message.contains(text))).collect();
        assert_eq!(reported, [("n-0", true), ("web-0", true)]);
    }

    let pass = cluster.pass().await;
    assert_eq!(pass.applied, 0, "it is left alone for a while");
    assert!(!pass.problems().is_empty(), "and still reported");
    tokio::time::advance(pass.next.expect("a time to try again").after).await;
    let pass = cluster.pass().await;
    assert_eq!((pass.applied, pass.problems().len()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn briefly_used_resource_is_no_problem() {
    let mut cluster = TestCluster::new(1);
    cluster.index.update(|index| index.apply(&Watch::Pods, other()));
    cluster.pass().await;
    cluster.index.update(|index| index.reset(Watch::Pods, vec![other()]));
    cluster.pass().await;
    tokio::time::advance(LINGER).await;
    let in_use = ProviderError::new(ErrorKind::InUse, "memory:Update", "x", "an interface has it");
    for reported in [false, true] {
        cluster.cloud.inject([Fault::CallFails(in_use.clone())]);
        let pass = cluster.pass().await;
        assert_eq!(!pass.problems().is_empty(), reported, "{:?}", pass.problems());
        tokio::time::advance(Duration::from_mins(3)).await;
    }
    assert_eq!(cluster.pass().await.problems(), BTreeSet::new());
}

#[tokio::test(start_paused = true)]
async fn failure_on_one_node_leaves_the_others_open() {
    let mut cluster = TestCluster::new(3);
    let throttled = ProviderError::new(ErrorKind::Throttled, "memory:Attach", "x", "slow down");
    // The group, and then an attachment for each node
    cluster.cloud.inject([Fault::None, Fault::None, Fault::CallFails(throttled)]);
    let pass = cluster.pass().await;
    let closed: Vec<&Arc<Membership>> = pass.memberships.iter().filter(|one| one.open.is_err()).collect();
    let [closed] = &closed[..] else { panic!("one is closed: {:?}", pass.memberships) };
    let reported: BTreeSet<ObjectRef> = pass.problems().into_iter().map(|problem| problem.object).collect();
    assert_eq!(reported, closed.port_owners.iter().chain([&closed.node]).cloned().collect());
}

#[tokio::test(start_paused = true)]
async fn failed_workload_closes_nothing_of_its_neighbour() {
    let mut cluster = TestCluster::new(1);
    cluster.pass().await;
    cluster.index.update(|index| index.apply(&Watch::Pods, other()));
    let full = ProviderError::new(ErrorKind::QuotaReached, "memory:Create", "x", "full");
    cluster.cloud.inject([Fault::CallFails(full)]);
    let pass = cluster.pass().await;
    let open: BTreeMap<&str, bool> = pass
        .memberships
        .iter()
        .flat_map(|one| one.port_owners.iter().map(|owner| (owner.name.as_str(), one.open.is_ok())))
        .collect();
    assert_eq!(open, BTreeMap::from([("web-0", true), ("other", false)]));
    assert!(pass.problems().iter().all(|problem| problem.object.name != "web-0"), "{:?}", pass.problems());
    assert!(pass.memberships.iter().all(|one| !one.opened), "nothing has opened in this pass");
}

/// An object that selects the pods, and names who may connect.
fn selecting(sources: &[&str]) -> Object {
    let exposure = json!({
        "metadata": { "name": "web", "namespace": "default", "uid": "web", "generation": 1 },
        "spec": {
            "podSelector": { "matchLabels": { "app": "web" } },
            "ports": [{ "port": 80 }],
            "sourceRanges": sources,
        },
    });
    Object::HostPortExposure(serde_json::from_value(exposure).expect("an exposure"))
}

/// What becomes of an edit of sources of which the opening part fails.
async fn edited(before: &[&str], after: &[&str]) -> (TestCluster, Pass) {
    let mut cluster = TestCluster::new(1);
    let mut selected = pod(0);
    if let Object::Pod(pod) = &mut selected {
        pod.metadata.annotations = None;
        pod.metadata.labels = Some(BTreeMap::from([("app".to_owned(), "web".to_owned())]));
    }
    cluster.index.update(|index| index.reset(Watch::Pods, vec![selected]));
    cluster.index.update(|index| index.reset(Watch::HostPortExposures, vec![selecting(before)]));
    assert!(cluster.pass().await.memberships[0].open.is_ok());
    cluster.index.update(|index| index.reset(Watch::HostPortExposures, vec![selecting(after)]));
    cluster.cloud.inject([Fault::CallFails(ProviderError::new(
        ErrorKind::QuotaReached,
        "memory:Update",
        "x",
        "full",
    ))]);
    let pass = cluster.pass().await;
    let [membership] = &pass.memberships[..] else { panic!("one: {:?}", pass.memberships) };
    assert_eq!(membership.open.as_ref().expect_err("not all are let in").0, "QuotaReached");
    assert!(
        pass.problems().iter().any(|problem| problem.object.kind == "HostPortExposure"),
        "{:?}",
        pass.problems()
    );
    (cluster, pass)
}

#[tokio::test(start_paused = true)]
async fn replaced_sources_are_revoked_when_the_new_ones_fail() {
    let (mut cluster, pass) = edited(&["10.0.0.0/8"], &["192.168.0.0/16"]).await;
    assert_eq!((pass.applied, pass.not_applied), (1, 1), "the former are taken away all the same");
    assert!(!pass.memberships[0].partly_open, "nobody is let in: its gate turns");
    let around = pass.next.expect("the rest is planned around it");
    assert_eq!(around, NextPass::at_once(WakeReason::ChangeFailed));
    let pass = cluster.pass().await;
    tokio::time::advance(pass.next.expect("it is tried again").after).await;
    let pass = cluster.pass().await;
    assert!(pass.memberships[0].open.is_ok() && pass.problems().is_empty(), "{pass:?}");
}

#[tokio::test(start_paused = true)]
async fn failed_addition_keeps_the_present_sources() {
    for more in ["192.168.0.0/16", "2001:db8::/32"] {
        let (_, pass) = edited(&["10.0.0.0/8"], &["10.0.0.0/8", more]).await;
        assert!(pass.memberships[0].partly_open, "{more}");
    }
}

#[tokio::test(start_paused = true)]
async fn retry_due_during_a_pass_follows_at_once() {
    let mut cluster = TestCluster::new(1);
    cluster.cloud.inject([Fault::CallFails(ProviderError::new(
        ErrorKind::Unavailable,
        "memory:Create",
        "x",
        "for now",
    ))]);
    cluster.pass().await;
    let due = cluster.pass().await.next.expect("a time");
    assert_eq!(due.reason, WakeReason::RetryDue);
    let planned = cluster.plan().await;
    tokio::time::advance(due.after).await;
    let pass = cluster.reconciler.execute_plan(planned, &CancellationToken::new()).await;
    assert_eq!((pass.applied, pass.next), (0, Some(NextPass::at_once(WakeReason::RetryDue))));
    assert_eq!(cluster.pass().await.applied, 2);
}

#[tokio::test(start_paused = true)]
async fn lost_reply_is_reported_only_until_the_next_read() {
    let mut cluster = TestCluster::new(1);
    let lost = ProviderError::new(ErrorKind::Unavailable, "memory:Create", "x", "no answer");
    cluster.cloud.inject([Fault::ReplyLost(lost)]);
    assert!(!cluster.pass().await.problems().is_empty());
    let mut pass = cluster.pass().await;
    let next = Some(NextPass::at_once(WakeReason::RetryDue));
    assert_eq!(pass.next, next, "what the failure held back is planned once it is found to be none");
    while pass.not_applied > 0 || pass.applied > 0 {
        tokio::time::advance(Duration::from_mins(10)).await;
        pass = cluster.pass().await;
    }
    assert_eq!(pass.problems(), BTreeSet::new());
    assert_eq!(cluster.open(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_failure_begins_no_pass_before_it() {
    let mut cluster = TestCluster::new(1);
    cluster.pass().await;
    cluster.leave(0..0);
    cluster.pass().await;
    tokio::time::advance(LINGER).await;
    cluster.cloud.inject([Fault::CallFails(ProviderError::new(
        ErrorKind::Unavailable,
        "memory:Update",
        "x",
        "for now",
    ))]);
    assert_eq!(cluster.pass().await.next, Some(NextPass::at_once(WakeReason::ChangeFailed)));
    let next = cluster.pass().await.next.expect("a time");
    assert_eq!((next.reason, next.after.is_zero()), (WakeReason::RetryDue, false), "the group waits too");
}
