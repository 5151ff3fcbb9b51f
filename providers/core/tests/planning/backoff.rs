//! Changes in backoff: other changes are made, except those that rely on them.

use std::collections::BTreeSet;

use firewall_core::testing::conformance::{desired, group};
use firewall_core::{Desired, Effect, WithheldReason};

use crate::{Case, HTTP, attachment_key, group_key, instances, state_after, verbs, web};

#[test]
fn change_in_backoff_waits_and_holds_up_no_other() {
    let ids = instances(1);
    let to = desired([group("web", HTTP, &[&ids[0]]), group("dns", &["udp/53 ::/0"], &[&ids[0]])]);
    let mut case = Case::between(1, &Desired::nothing(), &to);
    case.backoff.insert((group_key("web", HTTP), Effect::Open));
    let plan = case.plan();
    assert_eq!(plan.steps.len(), 2, "{:?}", verbs(&plan));
    assert_eq!(plan.withheld[0].reason, WithheldReason::Backoff);
}

#[test]
fn no_member_joins_a_group_that_could_not_be_narrowed() {
    let ids = instances(2);
    let to = web(&["tcp/80 10.0.0.0/8"], &[&ids[0], &ids[1]]);
    let mut case = Case::between(2, &web(HTTP, &[&ids[0]]), &to);
    let web = group_key("web", HTTP);
    case.backoff.insert((web.clone(), Effect::Close));
    let plan = case.plan();
    assert_eq!(verbs(&plan), [format!("update {web}")], "the group opens to its desired sources");
    assert_eq!(plan.steps[0].effect, Effect::Open);
    let waiting: BTreeSet<_> = plan.withheld.iter().map(|withheld| withheld.reason.clone()).collect();
    assert_eq!(waiting, BTreeSet::from([WithheldReason::Backoff, WithheldReason::BlockedByOrder]));
}

#[test]
fn closing_goes_ahead_where_the_opening_failed() {
    let ids = instances(1);
    let from = desired([group("web", HTTP, &[&ids[0]]), group("dns", &["udp/53 ::/0"], &[&ids[0]])]);
    let to = desired([group("web", HTTP, &[&ids[0]]), group("new", &["tcp/81 ::/0"], &[&ids[0]])]);
    let mut case = Case::between(1, &from, &to);
    let attachment = attachment_key(&ids[0]);
    case.backoff.insert((attachment.clone(), Effect::Open));
    let plan = case.plan();
    let detached = plan.steps.iter().find(|step| step.action.key() == attachment).unwrap();
    assert_eq!(detached.effect, Effect::Close, "{:?}", verbs(&plan));
    assert_eq!(detached.action.after().unwrap().groups.len(), 1, "the group that is open and desired stays");
}

#[test]
fn group_that_could_not_be_detached_is_not_deleted() {
    let ids = instances(2);
    let mut case = Case::between(2, &web(HTTP, &[&ids[0], &ids[1]]), &Desired::nothing());
    case.backoff.insert((attachment_key(&ids[0]), Effect::Close));
    assert_eq!(verbs(&case.plan()), [format!("delete {}", attachment_key(&ids[1]))]);
}

#[test]
fn desired_port_stays_open_while_its_replacement_waits() {
    let ids = instances(1);
    let attachment = attachment_key(&ids[0]);
    let replaced = group_key("web", HTTP);
    for (rules, stays) in
        [(&["tcp/80 0.0.0.0/0", "tcp/81 0.0.0.0/0"][..], true), (&["tcp/80 10.0.0.0/8"], false)]
    {
        let to = desired([group("later", rules, &[&ids[0]])]);
        for waiting in [&attachment, &group_key("later", rules)] {
            let mut case = Case::between(1, &web(HTTP, &[&ids[0]]), &to);
            case.backoff.insert((waiting.clone(), Effect::Open));
            let plan = case.plan();
            let state = state_after(&case, &plan);
            assert_eq!(state.contains_key(&replaced), stays, "{waiting}: {:?}", verbs(&plan));
            assert_eq!(state.reach(&ids[0]).rules.is_empty(), !stays);
            case.observed = state;
            assert_eq!(verbs(&case.plan()), [""; 0], "nothing changes until the other can be tried again");
        }
    }
}
