//! Changes in backoff: other changes are made, except those that rely on them.

use std::collections::BTreeSet;

use firewall_core::testing::conformance::{desired, group, rule};
use firewall_core::{Desired, Effect, RuleSet, WithheldReason};

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
    let updated = plan.steps.iter().find(|step| step.action.key() == web).expect("the group is updated");
    assert_eq!(updated.effect, Effect::Open, "the group opens to its desired sources");
    let attachment = &state_after(&case, &plan)[&attachment_key(&ids[1])];
    assert!(!attachment.groups.contains(&web), "{attachment:?}");
    let waiting: BTreeSet<_> = plan.withheld.iter().map(|withheld| withheld.reason.clone()).collect();
    assert_eq!(waiting, BTreeSet::from([WithheldReason::Backoff]));
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
    for rules in [&["tcp/80 0.0.0.0/0", "tcp/81 0.0.0.0/0"][..], &["tcp/80 10.0.0.0/8"]] {
        let to = desired([group("later", rules, &[&ids[0]])]);
        let desired: RuleSet = rules.iter().map(|text| rule(text)).collect();
        let both = RuleSet::from_iter([rule(HTTP[0])]).intersection(&desired);
        for waiting in [&attachment, &group_key("later", rules)] {
            let mut case = Case::between(1, &web(HTTP, &[&ids[0]]), &to);
            case.backoff.insert((waiting.clone(), Effect::Open));
            let state = state_after(&case, &case.plan());
            assert_eq!(state.reach(&ids[0]).rules, both, "{waiting}: what was open and is desired, no more");
            case.observed = state;
            assert_eq!(verbs(&case.plan()), [""; 0], "nothing changes until the other can be tried again");
        }
    }
}

#[test]
fn ended_part_closes_while_the_rest_waits_for_another() {
    let ids = instances(1);
    let from = web(&["tcp/80 0.0.0.0/0", "tcp/443 0.0.0.0/0"], &[&ids[0]]);
    let to = desired([group("later", HTTP, &[&ids[0]])]);
    let mut case = Case::between(1, &from, &to);
    case.backoff.insert((group_key("later", HTTP), Effect::Open));
    let state = state_after(&case, &case.plan());
    assert_eq!(state.reach(&ids[0]).rules, RuleSet::from_iter([rule(HTTP[0])]));
}

#[test]
fn group_that_is_kept_for_one_member_is_kept_for_no_other() {
    let ids = instances(2);
    let from = web(&["tcp/80 10.0.0.0/8"], &[&ids[0], &ids[1]]);
    let later = group("later", &["tcp/80 10.0.0.0/8"], &[&ids[0]]);
    let to = desired([later, group("web", &["tcp/80 192.0.2.0/24"], &[&ids[1]])]);
    let mut case = Case::between(2, &from, &to);
    let keys = case.desired.keys().chain(case.observed.keys());
    case.backoff = keys.map(|key| (key.clone(), Effect::Open)).collect();
    let state = state_after(&case, &case.plan());
    let open: Vec<String> = ids.iter().map(|id| state.reach(id).rules.to_string()).collect();
    assert_eq!(open, ["tcp/80 from 10.0.0.0/8", ""], "asked for by another workload; no longer asked for");
}
