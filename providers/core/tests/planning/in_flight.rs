//! Changes under way: whenever they are made, no promise breaks, and what does not need them is planned.

use std::collections::{BTreeMap, BTreeSet};

use firewall_core::testing::conformance::{desired, group, reach_by_instance};
use firewall_core::testing::memory::MemoryResource;
use firewall_core::{Action, Desired, InFlight, InstanceId, Plan, ResourceSet, RuleSet, WithheldReason};
use proptest::prelude::*;

use crate::histories::{at_moment, moment};
use crate::{Case, HTTP, attachment_key, converged, group_key, instances, verbs, web};

const NARROW: &[&str] = &["tcp/80 10.0.0.0/8"];

/// Takes the first of this case's steps on the key for under way.
fn begin(case: &Case, wanted: &impl Fn(&Action<MemoryResource>) -> bool) -> Action<MemoryResource> {
    let mut actions = case.plan().steps.into_iter().map(|step| step.action);
    actions.find(wanted).expect("the plan has such a step")
}

/// Returns the case of what is desired now, while a change is under way.
fn during(observed: &Case, to: &Desired, change: &Action<MemoryResource>) -> Case {
    let (_, provider) = converged(4, &Desired::nothing());
    let mut case = Case::new(&provider, to);
    case.observed = observed.observed.clone();
    case.in_flight = InFlight::settle([(change.before(), change.after())], &mut case.observed);
    case.limits.mass_close_released = true;
    case
}

fn reasons(plan: &Plan<MemoryResource>) -> BTreeSet<WithheldReason> {
    plan.withheld.iter().map(|withheld| withheld.reason.clone()).collect()
}

#[test]
fn change_under_way_is_not_made_twice_and_holds_up_no_other() {
    let ids = instances(2);
    let before = Case::between(2, &Desired::nothing(), &web(HTTP, &[&ids[0]]));
    let create = begin(&before, &|action| action.key() == group_key("web", HTTP));
    let to = desired([group("web", HTTP, &[&ids[0]]), group("dns", &["udp/53 ::/0"], &[&ids[1]])]);
    let plan = during(&before, &to, &create).plan();
    let dns = group_key("dns", &["udp/53 ::/0"]);
    assert_eq!(verbs(&plan), [format!("create {dns}"), format!("create {}", attachment_key(&ids[1]))]);
    assert_eq!(reasons(&plan), BTreeSet::from([WithheldReason::InFlight]));
}

#[test]
fn no_member_joins_a_group_that_is_being_widened() {
    let ids = instances(2);
    let before = Case::between(2, &web(NARROW, &[&ids[0]]), &web(HTTP, &[&ids[0]]));
    let widen = begin(&before, &|action| action.key() == group_key("web", HTTP));
    let plan = during(&before, &web(NARROW, &[&ids[0], &ids[1]]), &widen).plan();
    assert_eq!(verbs(&plan), [""; 0], "it would admit what nobody asks for there");
    assert_eq!(reasons(&plan), BTreeSet::from([WithheldReason::InFlight]));
}

#[test]
fn group_that_is_being_attached_is_not_widened() {
    let ids = instances(2);
    let before = Case::between(2, &web(NARROW, &[&ids[0]]), &web(NARROW, &[&ids[0], &ids[1]]));
    let attach = begin(&before, &|action| action.key() == attachment_key(&ids[1]));
    let plan = during(&before, &web(HTTP, &[&ids[0]]), &attach).plan();
    assert_eq!(verbs(&plan), [""; 0], "the second instance has left, and would admit more than it ever did");
}

#[test]
fn what_is_being_closed_does_not_stand_in_for_another() {
    let ids = instances(1);
    let both = desired([group("web", HTTP, &[&ids[0]]), group("old", HTTP, &[&ids[0]])]);
    let before = Case::between(1, &both, &desired([group("old", HTTP, &[&ids[0]])]));
    let detach = begin(&before, &|action| action.key() == attachment_key(&ids[0]));
    // The attachment is under way to `old` alone; now `web` alone is asked for.
    let plan = during(&before, &web(HTTP, &[&ids[0]]), &detach).plan();
    assert_eq!(verbs(&plan), [""; 0], "`old` may be all that still lets it in");
}

/// Returns what must stay, and what may be, open on each instance.
fn bounds(
    states: &[&ResourceSet<MemoryResource>],
    desired: &ResourceSet<MemoryResource>,
    ids: &[InstanceId],
) -> BTreeMap<InstanceId, (RuleSet, RuleSet)> {
    let bounds = |id: &InstanceId| {
        let asked = desired.reach(id).rules;
        let reaches = states.iter().map(|state| state.reach(id).rules);
        let must = reaches.clone().fold(asked.clone(), |all, reach| all.intersection(&reach));
        (id.clone(), (must, reaches.fold(asked, |all, reach| all.union(&reach))))
    };
    ids.iter().map(bounds).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn change_that_is_made_at_any_time_breaks_no_promise(
        from in moment(), via in moment(), to in moment(), chosen in 0..12_usize,
    ) {
        let ids = instances(4);
        let (_, provider) = converged(4, &at_moment(&from, &ids));
        let mut before = Case::new(&provider, &at_moment(&via, &ids));
        before.limits.mass_close_released = true;
        let steps = before.plan().steps;
        prop_assume!(!steps.is_empty());
        // The steps before it have been made.
        let chosen = chosen % steps.len();
        for step in &steps[..chosen] {
            step.action.apply_to(&mut before.observed);
        }
        let change = &steps[chosen].action;
        let mut made = before.observed.clone();
        change.apply_to(&mut made);
        let case = during(&before, &at_moment(&to, &ids), change);
        let plan = case.plan();
        let bounds = bounds(&[&before.observed, &made], &case.desired, &ids);
        // Made before any step, after any, or never.
        for at in 0..=plan.steps.len() + 1 {
            let mut state = before.observed.clone();
            for position in 0..=plan.steps.len() {
                if position == at {
                    change.apply_to(&mut state);
                }
                for (id, open) in reach_by_instance(&state) {
                    let (must, may) = &bounds[&id];
                    prop_assert!(open.covers(must), "{id}: {open} has lost some of {must}, {:?}", verbs(&plan));
                    prop_assert!(may.covers(&open), "{id}: {open} is more than {may}, {:?}", verbs(&plan));
                }
                if let Some(step) = plan.steps.get(position) {
                    step.action.apply_to(&mut state);
                }
            }
        }
    }
}
