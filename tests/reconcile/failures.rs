//! What fails: who is told, what it holds up, and when it is tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use firewall_core::testing::memory::Fault;
use firewall_core::{ErrorKind, ProviderError};
use hostport_firewall::k8s::index::{Object, Watch};
use hostport_firewall::k8s::objects::ObjectRef;
use hostport_firewall::reconcile::outcome::Membership;
use hostport_firewall::reconcile::pass::{NextPass, Pass, WakeReason};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{LINGER, World, other, pod};

#[tokio::test(start_paused = true)]
async fn what_fails_is_told_on_the_pod_and_tried_again_when_its_time_has_come() {
    let mut world = World::new(1);
    let denied =
        ProviderError::new(ErrorKind::PermissionDenied, "memory:Create", "group", "UnauthorizedOperation")
            .with_manual_command("create --now".into());
    world.cloud.inject([Fault::Before(denied)]);
    let pass = world.pass().await;
    assert_eq!((pass.applied, pass.not_applied), (0, 2), "what needs the failed step is left out");
    for (reason, text) in [("PermissionDenied", "memory:Create"), ("ManualChangeRequired", "create --now")] {
        let told = pass.problems.iter().filter(|notice| notice.reason == reason);
        let told: Vec<(&str, bool)> =
            told.map(|notice| (notice.object.name.as_str(), notice.message.contains(text))).collect();
        assert_eq!(told, [("n-0", true), ("web-0", true)]);
    }

    let pass = world.pass().await;
    assert_eq!(pass.applied, 0, "it is left alone for a while");
    assert!(!pass.problems.is_empty(), "and still told");
    tokio::time::advance(pass.next.expect("a time to try again").after).await;
    let pass = world.pass().await;
    assert_eq!((pass.applied, pass.problems.len()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn what_stays_in_use_for_a_moment_is_no_problem() {
    let mut world = World::new(1);
    world.index.update(|index| index.apply(&Watch::Pods, other()));
    world.pass().await;
    world.index.update(|index| index.reset(Watch::Pods, vec![other()]));
    world.pass().await;
    tokio::time::advance(LINGER).await;
    let in_use = ProviderError::new(ErrorKind::InUse, "memory:Update", "x", "an interface has it");
    for told in [false, true] {
        world.cloud.inject([Fault::Before(in_use.clone())]);
        let pass = world.pass().await;
        assert_eq!(!pass.problems.is_empty(), told, "{:?}", pass.problems);
        tokio::time::advance(Duration::from_mins(3)).await;
    }
    assert_eq!(world.pass().await.problems, BTreeSet::new());
}

#[tokio::test(start_paused = true)]
async fn what_fails_on_one_node_is_told_there_and_leaves_the_others_open() {
    let mut world = World::new(3);
    let throttled = ProviderError::new(ErrorKind::Throttled, "memory:Attach", "x", "slow down");
    // The group, and then an attachment for each node
    world.cloud.inject([Fault::None, Fault::None, Fault::Before(throttled)]);
    let pass = world.pass().await;
    let closed: Vec<&Membership> = pass.memberships.iter().filter(|one| one.open.is_err()).collect();
    let [closed] = &closed[..] else { panic!("one is closed: {:?}", pass.memberships) };
    let told: BTreeSet<&ObjectRef> = pass.problems.iter().map(|notice| &notice.object).collect();
    assert_eq!(told, closed.port_owners.iter().chain([&closed.node]).collect());
}

#[tokio::test(start_paused = true)]
async fn what_fails_for_one_workload_closes_nothing_of_another_on_the_node() {
    let mut world = World::new(1);
    world.pass().await;
    world.index.update(|index| index.apply(&Watch::Pods, other()));
    let full = ProviderError::new(ErrorKind::QuotaReached, "memory:Create", "x", "full");
    world.cloud.inject([Fault::Before(full)]);
    let pass = world.pass().await;
    let open: BTreeMap<&str, bool> = pass
        .memberships
        .iter()
        .flat_map(|one| one.port_owners.iter().map(|owner| (owner.name.as_str(), one.open.is_ok())))
        .collect();
    assert_eq!(open, BTreeMap::from([("web-0", true), ("other", false)]));
    assert!(pass.problems.iter().all(|notice| notice.object.name != "web-0"), "{:?}", pass.problems);
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
async fn edited(before: &[&str], after: &[&str]) -> (World, Pass) {
    let mut world = World::new(1);
    let mut selected = pod(0);
    if let Object::Pod(pod) = &mut selected {
        pod.metadata.annotations = None;
        pod.metadata.labels = Some(BTreeMap::from([("app".to_owned(), "web".to_owned())]));
    }
    world.index.update(|index| index.reset(Watch::Pods, vec![selected]));
    world.index.update(|index| index.reset(Watch::HostPortExposures, vec![selecting(before)]));
    assert!(world.pass().await.memberships[0].open.is_ok());
    world.index.update(|index| index.reset(Watch::HostPortExposures, vec![selecting(after)]));
    world.cloud.inject([Fault::Before(ProviderError::new(
        ErrorKind::QuotaReached,
        "memory:Update",
        "x",
        "full",
    ))]);
    let pass = world.pass().await;
    let [membership] = &pass.memberships[..] else { panic!("one: {:?}", pass.memberships) };
    assert_eq!(membership.open.as_ref().expect_err("not all are let in").0, "QuotaReached");
    assert!(
        pass.problems.iter().any(|notice| notice.object.kind == "HostPortExposure"),
        "{:?}",
        pass.problems
    );
    (world, pass)
}

#[tokio::test(start_paused = true)]
async fn sources_that_could_not_be_let_in_are_not_open_because_the_former_were_taken_away() {
    let (mut world, pass) = edited(&["10.0.0.0/8"], &["192.168.0.0/16"]).await;
    assert_eq!((pass.applied, pass.not_applied), (1, 1), "the former are taken away all the same");
    assert!(!pass.memberships[0].partly_open, "nobody is let in: its gate turns");
    tokio::time::advance(pass.next.expect("it is tried again").after).await;
    let pass = world.pass().await;
    assert!(pass.memberships[0].open.is_ok() && pass.problems.is_empty(), "{pass:?}");
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_let_in_beside_others_takes_nothing_from_them() {
    for more in ["192.168.0.0/16", "2001:db8::/32"] {
        let (_, pass) = edited(&["10.0.0.0/8"], &["10.0.0.0/8", more]).await;
        assert!(pass.memberships[0].partly_open, "{more}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_falls_due_while_a_pass_lasts_is_tried_right_after() {
    let mut world = World::new(1);
    world.cloud.inject([Fault::Before(ProviderError::new(
        ErrorKind::Unavailable,
        "memory:Create",
        "x",
        "for now",
    ))]);
    let planned = world.plan().await;
    let due = world.reconciler.execute_plan(planned, &CancellationToken::new()).await.next.expect("a time");
    let planned = world.plan().await;
    tokio::time::advance(due.after).await;
    let pass = world.reconciler.execute_plan(planned, &CancellationToken::new()).await;
    assert_eq!((pass.applied, pass.next), (0, Some(NextPass::at_once(WakeReason::RetryDue))));
    assert_eq!(world.pass().await.applied, 2);
}

#[tokio::test(start_paused = true)]
async fn what_took_effect_although_it_seemed_to_fail_is_told_no_longer_than_it_takes_to_see() {
    let mut world = World::new(1);
    let lost = ProviderError::new(ErrorKind::Unavailable, "memory:Create", "x", "no answer");
    world.cloud.inject([Fault::After(lost)]);
    assert!(!world.pass().await.problems.is_empty());
    let mut pass = world.pass().await;
    while pass.not_applied > 0 || pass.applied > 0 {
        tokio::time::advance(Duration::from_mins(10)).await;
        pass = world.pass().await;
    }
    assert_eq!(pass.problems, BTreeSet::new());
    assert_eq!(world.open(), 1);
}
