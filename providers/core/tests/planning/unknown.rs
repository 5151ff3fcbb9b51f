//! Unknown demand keeps what is open where it may be asked for, and nowhere else; a mass close is held by
//! namespace.

use std::sync::Arc;

use firewall_core::testing::conformance::{desired, group, rule};
use firewall_core::{
    Desired, Effect, FirewallGroup, GroupKey, InstanceId, Limits, RuleSet, WithheldReason, find_closings,
};

use crate::{Case, HTTP, assert_relies_on, effects, instances, state_after, verbs, web};

fn http() -> RuleSet {
    RuleSet::from_iter([rule(HTTP[0])])
}

#[test]
fn unknown_instance_keeps_its_port_and_others_close() {
    let ids = instances(3);
    let all: Vec<&InstanceId> = ids.iter().collect();
    let mut to = Desired::nothing();
    to.unknown.add_elsewhere(&http(), "node n-0 is not known");
    to.unknown.locate(ids[1].clone());
    to.unknown.add_at(&ids[1], &RuleSet::from_iter([rule("tcp/443 ::/0")]), "Ingress web cannot be read");
    to.unknown.locate(ids[2].clone());
    let case = Case::between(3, &web(HTTP, &all), &to);
    let plan = case.plan();
    let state = state_after(&case, &plan);
    let open: Vec<bool> = ids.iter().map(|id| !state.reach(id).rules.is_empty()).collect();
    assert_eq!(open, [true, false, false], "{:?}", verbs(&plan));
    let reasons: Vec<String> = plan.withheld.iter().map(|withheld| withheld.reason.to_string()).collect();
    assert!(reasons.iter().all(|reason| reason.contains("node n-0 is not known")), "{reasons:?}");
    let kept = Case { observed: state, ..case };
    assert_eq!(verbs(&kept.plan()), [""; 0], "nothing changes as long as it is unknown");
}

#[test]
fn unknown_port_keeps_its_part_of_a_resource() {
    let ids = instances(1);
    let mut to = Desired::nothing();
    to.unknown.add_at(
        &ids[0],
        &RuleSet::from_iter([rule("tcp/443 0.0.0.0/0")]),
        "Ingress web cannot be read",
    );
    let case = Case::between(1, &web(&["tcp/80 0.0.0.0/0", "tcp/443 10.0.0.0/8"], &[&ids[0]]), &to);
    let state = state_after(&case, &case.plan());
    assert_eq!(state.reach(&ids[0]).rules.to_string(), "tcp/443 from 10.0.0.0/8");
}

#[test]
fn unknown_demand_opens_nothing() {
    let ids = instances(1);
    let mut to = Desired::nothing();
    to.unknown.add_at(&ids[0], &http(), "Ingress web cannot be read");
    let case = Case::between(1, &Desired::nothing(), &to);
    assert_eq!(verbs(&case.plan()), [""; 0]);
}

#[test]
fn what_may_be_asked_for_is_let_in_before_its_rule_closes() {
    // The sources are narrowed while the node has no machine. If the narrower rule cannot be made, the wider one
    // must stay.
    let ids = instances(1);
    let mut to = Desired::nothing();
    to.unknown.add_at(&ids[0], &RuleSet::from_iter([rule("tcp/80 10.0.0.0/8")]), "node n-0 is not known");
    let plan = Case::between(1, &web(HTTP, &[&ids[0]]), &to).plan();
    assert_eq!(effects(&plan), [Effect::Open, Effect::Close], "{:?}", verbs(&plan));
    assert_relies_on(&plan, 1, 0);
}

/// Returns a group of a workload in this namespace, with these ports on these instances.
fn in_namespace(namespace: &str, ports: &str, members: &[InstanceId]) -> (GroupKey, FirewallGroup) {
    let members: Vec<&InstanceId> = members.iter().collect();
    let (mut key, group) = group("web", &[&format!("tcp/{ports} 0.0.0.0/0")], &members);
    namespace.clone_into(&mut Arc::make_mut(&mut key.workload).namespace);
    (key, group)
}

#[test]
fn mass_close_in_one_namespace_holds_no_other() {
    let ids = instances(20);
    let from = desired([in_namespace("shop", "80", &ids), in_namespace("games", "7777", &ids)]);
    let to = desired([in_namespace("games", "7777", &ids[..19])]);
    let mut case = Case::between(20, &from, &to);
    let plan = case.plan();
    let state = state_after(&case, &plan);
    let open = |port: &str| {
        let rules = RuleSet::from_iter([rule(&format!("tcp/{port} 0.0.0.0/0"))]);
        ids.iter().filter(|id| state.reach(id).rules.covers(&rules)).count()
    };
    assert_eq!((open("80"), open("7777")), (20, 19), "{:?}", verbs(&plan));
    let held = |reason: &WithheldReason| matches!(reason, WithheldReason::MassClose { namespace: Some(name), .. } if name == "shop");
    assert!(plan.withheld.iter().any(|withheld| held(&withheld.reason)), "{:?}", plan.withheld);
    case.released.insert("shop".to_owned());
    assert!(effects(&case.plan()).iter().filter(|effect| **effect == Effect::Close).count() >= 21);
}

#[test]
fn range_does_not_count_as_one_port() {
    let ids = instances(3);
    let from = desired([in_namespace("media", "30000-30005", &ids)]);
    let case = Case::between(3, &from, &Desired::nothing());
    let closings = find_closings(case.limits, &case.observed, &case.desired);
    assert_eq!((closings["media"].open, closings["media"].closing.len()), (12, 3), "at most 4 of each");
    assert_eq!(verbs(&case.plan()), [""; 0], "18 ports on three nodes are held");
}

#[test]
fn nearly_everything_at_once_is_held_in_every_namespace() {
    let ids = instances(4);
    let each = ["a", "b", "c", "d"].map(|namespace| in_namespace(namespace, "80", &ids[..1]));
    let others = ["e", "f", "g"].map(|namespace| in_namespace(namespace, "81", &ids[1..]));
    let from = desired(each.into_iter().chain(others));
    let mut case = Case::between(4, &from, &Desired::nothing());
    case.limits = Limits { mass_close_least: 4, ..Limits::default() };
    assert_eq!(verbs(&case.plan()), [""; 0], "although no namespace alone is held");
    case.limits.mass_close_released = true;
    assert!(!case.plan().steps.is_empty());
}
