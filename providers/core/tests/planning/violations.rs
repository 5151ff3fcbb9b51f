//! The plan check: hand-made plans that break a promise, which the planner would not make.

use firewall_core::testing::conformance::{desired, group, rule};
use firewall_core::testing::memory::MemoryResource;
use firewall_core::{
    Action, Dependency, Desired, Effect, InstanceId, Owner, Plan, Policy, Promise, Step, Unknown, check,
};

use crate::{Case, HTTP, attachment_key, group_key, instances, web};

/// Returns a plan of these actions, one after another, without dependencies.
fn plan_of(actions: impl IntoIterator<Item = Action<MemoryResource>>) -> Plan<MemoryResource> {
    let step = |action| Step { action, effect: Effect::Close, reason: String::new(), depends_on: Vec::new() };
    Plan { steps: actions.into_iter().map(step).collect(), withheld: Vec::new() }
}

/// Returns the promises that the check finds broken, with the step of each.
fn broken(case: &Case, plan: &Plan<MemoryResource>) -> Vec<(usize, Promise)> {
    check(&case.input(), plan).into_iter().map(|violation| (violation.step, violation.promise)).collect()
}

/// Returns the case of `web` on all instances of which only the first `left` stay, and the plan that detaches
/// the others.
fn detach(count: usize, left: usize) -> (Case, Plan<MemoryResource>) {
    let ids = instances(count);
    let all: Vec<&InstanceId> = ids.iter().collect();
    let case = Case::between(count, &web(HTTP, &all), &web(HTTP, &all[..left]));
    let attachments = ids[left..].iter().map(|id| case.observed[&attachment_key(id)].clone());
    let plan = plan_of(attachments.map(Action::Delete));
    (case, plan)
}

#[test]
fn closing_within_the_limits_is_no_violation() {
    for (count, left) in [(2, 0), (9, 0), (20, 10), (20, 15)] {
        let (case, plan) = detach(count, left);
        assert_eq!(broken(&case, &plan), [], "{left} of {count} left");
    }
}

#[test]
fn closing_on_partial_knowledge_is_a_violation() {
    let (mut case, plan) = detach(2, 1);
    case.unknown.add_everything("pods: 403".into());
    assert_eq!(broken(&case, &plan), [(0, Promise::KnowledgeFirst)]);
}

#[test]
fn closing_against_the_policy_is_a_violation() {
    let (mut case, plan) = detach(2, 1);
    for policy in [Policy::OpenOnly, Policy::Observe] {
        case.policy = policy;
        assert_eq!(broken(&case, &plan), [(0, Promise::KnowledgeFirst)], "{policy:?}");
    }
}

#[test]
fn narrowing_where_nothing_may_close_is_a_violation() {
    let ids = instances(1);
    let rules = ["tcp/80 10.0.0.0/8", "tcp/80 192.0.2.0/24"];
    let mut case = Case::between(1, &web(&rules, &[&ids[0]]), &web(&rules[..1], &[&ids[0]]));
    let key = group_key("web", &rules);
    let (from, to) = (case.observed[&key].clone(), case.desired[&key].clone());
    let plan = plan_of([Action::Update { from, to }]);
    assert_eq!(broken(&case, &plan), []);
    case.policy = Policy::OpenOnly;
    assert_eq!(broken(&case, &plan), [(0, Promise::KnowledgeFirst)]);
}

#[test]
fn mass_close_that_was_not_released_is_a_violation() {
    let (mut case, plan) = detach(20, 9);
    let every_step: Vec<_> = (0..11).map(|step| (step, Promise::KnowledgeFirst)).collect();
    assert_eq!(broken(&case, &plan), every_step);
    case.limits.mass_close_released = true;
    assert_eq!(broken(&case, &plan), []);
}

#[test]
fn mass_close_limit_is_exact() {
    let (mut case, plan) = detach(10, 7);
    case.limits.mass_close_least = 3;
    for (percent, is_held) in [(29, true), (30, false), (31, false)] {
        case.limits.mass_close_percent = percent;
        assert_eq!(!broken(&case, &plan).is_empty(), is_held, "3 of 10 at {percent} percent");
    }
    case.limits.mass_close_percent = 0;
    case.limits.mass_close_least = 4;
    assert_eq!(broken(&case, &plan), [], "fewer than the least");
}

#[test]
fn ports_that_stay_open_elsewhere_do_not_count_as_closing() {
    let ids = instances(1);
    let two = [group("web", HTTP, &[&ids[0]]), group("api", HTTP, &[&ids[0]])];
    let mut case = Case::between(1, &desired(two), &web(HTTP, &[&ids[0]]));
    case.limits.mass_close_least = 1;
    case.limits.mass_close_percent = 0;
    let attachment = attachment_key(&ids[0]);
    let (from, to) = (case.observed[&attachment].clone(), case.desired[&attachment].clone());
    assert_eq!(broken(&case, &plan_of([Action::Update { from, to }])), []);
}

#[test]
fn opening_more_than_asked_is_a_violation() {
    let ids = instances(1);
    let case = Case::between(1, &web(HTTP, &[&ids[0]]), &web(HTTP, &[&ids[0]]));
    let from = case.observed[&group_key("web", HTTP)].clone();
    let mut to = from.clone();
    to.rules.insert(rule("tcp/22 0.0.0.0/0"));
    let plan = plan_of([Action::Update { from, to }]);
    assert_eq!(broken(&case, &plan), [(0, Promise::NeverMoreThanAsked)]);
}

#[test]
fn change_of_a_foreign_resource_is_a_violation() {
    let ids = instances(1);
    let mut case = Case::between(1, &web(HTTP, &[&ids[0]]), &Desired::nothing());
    let key = attachment_key(&ids[0]);
    case.observed.change(&key, |resource| resource.owner = Owner::Foreign);
    let plan = plan_of([Action::Delete(case.observed[&key].clone())]);
    assert_eq!(broken(&case, &plan), [(0, Promise::OnlyItsOwn)]);
}

#[test]
fn step_from_another_state_is_a_violation() {
    let ids = instances(1);
    let case = Case::between(1, &Desired::nothing(), &web(HTTP, &[&ids[0]]));
    let create = Action::Create(case.desired[&group_key("web", HTTP)].clone());
    assert_eq!(broken(&case, &plan_of([create.clone(), create])), [(1, Promise::Consistent)]);
}

#[test]
fn step_that_waits_for_a_later_one_is_a_violation() {
    let ids = instances(1);
    let case = Case::between(1, &Desired::nothing(), &web(HTTP, &[&ids[0]]));
    let mut plan = case.plan();
    plan.steps[0].depends_on.push(Dependency { step: 1, must_succeed: true });
    assert_eq!(broken(&case, &plan), [(0, Promise::Consistent)]);
}

#[test]
fn closing_on_partial_knowledge_is_a_violation_at_each_step() {
    let ids = instances(2);
    let case = Case::between(2, &web(HTTP, &[&ids[0]]), &web(HTTP, &[&ids[0]]));
    let closing = Case::between(2, &web(HTTP, &[&ids[0]]), &Desired::nothing()).plan();
    let partial = Case { unknown: Unknown::everything(["pods: 403".into()]), ..case };
    assert_eq!(check(&partial.input(), &closing).len(), closing.steps.len());
}
