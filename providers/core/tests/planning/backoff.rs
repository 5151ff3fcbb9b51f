//! What has failed waits for its next try: what else may be done, and what must not.

use std::collections::BTreeSet;

use firewall_core::testing::conformance::{desired, group};
use firewall_core::testing::memory::{MemoryKey, MemoryResource};
use firewall_core::{Desired, Effect, GroupKey, Resource, WithheldReason};

use crate::{Case, OPEN, converged, instances, verbs};

#[test]
fn what_failed_waits_and_holds_nothing_else_up() {
    let ids = instances(1);
    let (_, provider) = converged(1, &Desired::nothing());
    let mut case = Case::new(
        &provider,
        &desired([group("web", OPEN, &[&ids[0]]), group("dns", &["udp/53 ::/0"], &[&ids[0]])]),
    );
    let (web, _) = group("web", OPEN, &[]);
    case.backoff.insert((MemoryKey::Group("c".into(), web.digest()), Effect::Open));
    let plan = case.plan();
    assert_eq!(plan.steps.len(), 2, "{:?}", verbs(&plan));
    assert_eq!(plan.withheld[0].reason, WithheldReason::Backoff);
}

#[test]
fn nobody_joins_a_group_that_could_not_be_narrowed() {
    let ids = instances(2);
    let (_, provider) = converged(2, &desired([group("web", OPEN, &[&ids[0]])]));
    let mut case =
        Case::new(&provider, &desired([group("web", &["tcp/80 10.0.0.0/8"], &[&ids[0], &ids[1]])]));
    let (web, _) = group("web", OPEN, &[]);
    let web = MemoryKey::Group("c".into(), web.digest());
    case.backoff.insert((web.clone(), Effect::Close));
    let plan = case.plan();
    assert_eq!(verbs(&plan), [format!("update {web}")], "the group opens to whom it should be open");
    assert_eq!(plan.steps[0].effect, Effect::Open);
    let waiting: BTreeSet<_> = plan.withheld.iter().map(|withheld| withheld.reason.clone()).collect();
    assert_eq!(waiting, BTreeSet::from([WithheldReason::Backoff, WithheldReason::BlockedByOrder]));
}

#[test]
fn what_could_not_be_opened_is_closed_all_the_same() {
    let ids = instances(1);
    let two = || desired([group("web", OPEN, &[&ids[0]]), group("dns", &["udp/53 ::/0"], &[&ids[0]])]);
    let (_, provider) = converged(1, &two());
    let later = desired([group("web", OPEN, &[&ids[0]]), group("new", &["tcp/81 ::/0"], &[&ids[0]])]);
    let mut case = Case::new(&provider, &later);
    let attachment = MemoryKey::Attachment("c".into(), ids[0].clone());
    case.backoff.insert((attachment.clone(), Effect::Open));
    let plan = case.plan();
    let detached = plan.steps.iter().find(|step| step.action.key() == attachment).unwrap();
    assert_eq!(detached.effect, Effect::Close, "{:?}", verbs(&plan));
    assert_eq!(detached.action.after().unwrap().groups.len(), 1, "what stays open and is asked for");
}

#[test]
fn what_could_not_be_detached_is_not_deleted() {
    let ids = instances(2);
    let (_, provider) = converged(2, &desired([group("web", OPEN, &[&ids[0], &ids[1]])]));
    let mut case = Case::new(&provider, &Desired::nothing());
    case.backoff.insert((MemoryKey::Attachment("c".into(), ids[0].clone()), Effect::Close));
    let other = MemoryKey::Attachment("c".into(), ids[1].clone());
    assert_eq!(verbs(&case.plan()), [format!("delete {other}")]);
}

#[test]
fn what_is_open_and_asked_for_stays_while_what_is_to_replace_it_waits() {
    let ids = instances(1);
    let former = || desired([group("web", OPEN, &[&ids[0]])]);
    let (former_key, _) = group("web", OPEN, &[]);
    let attachment = MemoryKey::Attachment("c".into(), ids[0].clone());
    let group_of = |key: &GroupKey| MemoryKey::Group("c".into(), key.digest());
    for (rules, stays) in
        [(&["tcp/80 0.0.0.0/0", "tcp/81 0.0.0.0/0"][..], true), (&["tcp/80 10.0.0.0/8"], false)]
    {
        let (later_key, _) = group("later", rules, &[]);
        for waiting in [&attachment, &group_of(&later_key)] {
            let (_, provider) = converged(1, &former());
            let mut case = Case::new(&provider, &desired([group("later", rules, &[&ids[0]])]));
            case.backoff.insert((waiting.clone(), Effect::Open));
            let plan = case.plan();
            let mut world = case.observed.clone();
            for step in &plan.steps {
                step.action.apply_to(&mut world);
            }
            assert_eq!(world.contains_key(&group_of(&former_key)), stays, "{waiting}: {:?}", verbs(&plan));
            assert_eq!(MemoryResource::reach(&world, &ids[0]).rules.is_empty(), !stays);
            case.observed = world;
            assert_eq!(verbs(&case.plan()), [""; 0], "it stays so until the other can be tried again");
        }
    }
}
