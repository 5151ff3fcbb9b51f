//! Open stays open: what is let in before and asked for after is let in throughout, whatever fails.

use std::collections::BTreeSet;

use firewall_core::testing::conformance::{desired, group, reach_by_instance};
use firewall_core::testing::memory::{Fault, MemoryKey, MemoryResource};
use firewall_core::{Action, Desired, Effect, FirewallProvider, InstanceId, ResourceSet, RuleSet};
use futures::executor::block_on;
use proptest::prelude::*;

use crate::histories::{Moment, at_moment, fault, moment};
use crate::{
    Case, HTTP, assert_relies_on, attachment_key, converged, group_key, instances, state_after, web,
};

const WITHIN: &[&str] = &["tcp/80 10.0.0.0/8"];

/// Returns, for each instance, what is open in `before` and is or may be desired.
fn kept(case: &Case) -> Vec<(InstanceId, RuleSet)> {
    let desired = reach_by_instance(&case.desired);
    let kept = reach_by_instance(&case.observed).into_iter().map(|(instance, open)| {
        let desired = desired.get(&instance).cloned().unwrap_or_default();
        let kept = open.intersection(&desired.union(&case.unknown.at(&instance).rules));
        (instance, kept)
    });
    kept.collect()
}

/// Returns the resources after the plan. Asserts after each step that nothing is closed that is or may be desired.
pub(crate) fn apply_without_loss(case: &Case) -> ResourceSet<MemoryResource> {
    let kept = kept(case);
    let mut state = case.observed.clone();
    for step in case.plan().steps {
        step.action.apply_to(&mut state);
        for (instance, rules) in &kept {
            let open = state.reach(instance).rules;
            assert!(open.covers(rules), "{instance} admits {open}, not {rules}, after {step:?}");
        }
    }
    state
}

/// Returns the desired state of a moment in which the machines of some instances are not known: what is asked
/// for there may be asked for.
fn at_moment_without(moment: &Moment, lost: &BTreeSet<usize>, ids: &[InstanceId]) -> Desired {
    let mut desired = at_moment(moment, ids);
    let lost: BTreeSet<InstanceId> = lost.iter().map(|number| ids[*number].clone()).collect();
    for group in desired.groups.values_mut() {
        for instance in group.members.intersection(&lost) {
            desired.unknown.add_at(instance, &group.rules, "the node's machine is not known");
        }
        group.members.retain(|instance| !lost.contains(instance));
    }
    desired.groups.retain(|_, group| !group.members.is_empty());
    desired
}

/// The instances whose machines are not known: mostly none.
fn lost() -> impl Strategy<Value = BTreeSet<usize>> {
    prop_oneof![2 => Just(BTreeSet::new()), 1 => prop::collection::btree_set(0..4_usize, 1..3)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_step_closes_what_is_asked_for(from in moment(), to in moment(), lost in lost()) {
        let ids = instances(4);
        let (_, provider) = converged(4, &at_moment(&from, &ids));
        let mut case = Case::new(&provider, &at_moment_without(&to, &lost, &ids));
        case.limits.mass_close_released = true;
        apply_without_loss(&case);
    }

    #[test]
    fn no_failure_closes_what_is_asked_for(
        from in moment(),
        to in moment(),
        lost in lost(),
        faults in prop::collection::vec(prop::collection::vec(fault(), 0..12), 1..4),
    ) {
        let ids = instances(4);
        let (cloud, provider) = converged(4, &at_moment(&from, &ids));
        let asked = at_moment_without(&to, &lost, &ids);
        let before = kept(&Case::new(&provider, &asked));
        let mut backoff: BTreeSet<(MemoryKey, Effect)> = BTreeSet::new();
        for faults in faults {
            let mut case = Case::new(&provider, &asked);
            case.limits.mass_close_released = true;
            case.backoff = std::mem::take(&mut backoff);
            cloud.inject(faults);
            let mut failed = BTreeSet::new();
            for (position, step) in case.plan().steps.iter().enumerate() {
                let relies_on_failed =
                    step.depends_on.iter().any(|other| other.must_succeed && failed.contains(&other.step));
                if relies_on_failed {
                    failed.insert(position);
                } else if block_on(provider.apply(&step.action)).is_err() {
                    failed.insert(position);
                    backoff.insert((step.action.key(), step.effect));
                }
                for (instance, rules) in &before {
                    let open = cloud.resources().reach(instance).rules;
                    prop_assert!(open.covers(rules), "{instance} admits {open}, not {rules}, after {step:?}");
                }
            }
            cloud.clear_faults();
        }
    }
}

#[test]
fn combined_group_stays_when_its_successor_fails() {
    // What a combined group is to EC2: one group with the ports of several workloads.
    let ids = instances(1);
    let combined = |ports: &[&str]| {
        let rules: Vec<String> = ports.iter().map(|port| format!("tcp/{port} 0.0.0.0/0")).collect();
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        desired([group("combined", &rules, &[&ids[0]])])
    };
    let mut case = Case::between(1, &combined(&["80", "443", "8080"]), &combined(&["80", "443", "9090"]));
    let created = case.desired.keys().find(|key| !case.observed.contains_key(key)).expect("a successor");
    case.backoff.insert((created.clone(), Effect::Open));
    let state = state_after(&case, &case.plan());
    let open = state.reach(&ids[0]).rules.to_string();
    assert_eq!(open, "tcp/80 from 0.0.0.0/0, tcp/443 from 0.0.0.0/0", "8080 is no longer asked for");
}

#[test]
fn group_that_cannot_be_made_keeps_no_other_closed() {
    let ids = instances(1);
    let both = desired([group("fine", HTTP, &[&ids[0]]), group("luckless", &["tcp/9090 ::/0"], &[&ids[0]])]);
    let mut case = Case::between(1, &Desired::nothing(), &both);
    case.backoff.insert((group_key("luckless", &["tcp/9090 ::/0"]), Effect::Open));
    let plan = case.plan();
    let attached = plan.steps.iter().find(|step| step.action.key() == attachment_key(&ids[0]));
    assert!(attached.is_some(), "{plan:?}");
}

#[test]
fn sources_stay_for_a_new_member_until_others_replace_them() {
    // The second group takes the place of the first on instance 0, and lets in more there at the end. That some
    // other instance cannot join it puts the widening off, and with it the narrowing that follows.
    let ids = instances(3);
    let from = desired([group("first", WITHIN, &[&ids[0]]), group("second", WITHIN, &[&ids[1]])]);
    let to = desired([group("second", HTTP, &[&ids[0], &ids[2]])]);
    let case = Case::between(3, &from, &to);
    let plan = case.plan();
    let position = |action: fn(&Action<MemoryResource>) -> bool| {
        plan.steps
            .iter()
            .position(|step| step.action.key() == group_key("second", HTTP) && action(&step.action))
    };
    let widening = position(|action| !action.may_close()).expect("a widening");
    let narrowing = position(Action::may_close).expect("a narrowing");
    assert_relies_on(&plan, narrowing, widening);
}

#[test]
fn groups_that_exchange_members_and_sources_close_nothing() {
    // No order of the changes themselves is safe: each group has to lose its sources before the other's member joins it.
    let ids = instances(2);
    let of = |one: &[&str], first: &InstanceId, two: &[&str], second: &InstanceId| {
        desired([group("one", one, &[first]), group("two", two, &[second])])
    };
    let from = of(HTTP, &ids[0], WITHIN, &ids[1]);
    let case = Case::between(2, &from, &of(WITHIN, &ids[1], HTTP, &ids[0]));
    let state = apply_without_loss(&case);
    assert_eq!(reach_by_instance(&state), reach_by_instance(&case.desired));
}

#[test]
fn no_failure_in_a_circle_closes_what_is_asked_for() {
    const OTHER: &[&str] = &["tcp/80 192.0.2.0/24"];
    let ids = instances(4);
    let from = desired([group("one", WITHIN, &[&ids[0], &ids[3]]), group("two", OTHER, &[&ids[1], &ids[2]])]);
    let to = desired([group("one", OTHER, &[&ids[0], &ids[1], &ids[3]]), group("two", WITHIN, &[&ids[3]])]);
    let steps = Case::between(4, &from, &to).plan().steps.len();
    for failing in 0..steps {
        let (cloud, provider) = converged(4, &from);
        let case = Case::new(&provider, &to);
        let mut failed = BTreeSet::from([failing]);
        for (position, step) in case.plan().steps.iter().enumerate() {
            let is_left_out =
                step.depends_on.iter().any(|other| other.must_succeed && failed.contains(&other.step));
            if position == failing || is_left_out || block_on(provider.apply(&step.action)).is_err() {
                failed.insert(position);
            }
            for (instance, rules) in kept(&case) {
                let open = cloud.resources().reach(&instance).rules;
                assert!(open.covers(&rules), "step {failing} failed: {instance} admits {open}, not {rules}");
            }
        }
    }
}

#[test]
fn lost_reply_of_an_opening_closes_nothing() {
    let ids = instances(1);
    let (cloud, provider) = converged(1, &web(HTTP, &[&ids[0]]));
    let later = desired([group("later", HTTP, &[&ids[0]])]);
    let error = firewall_core::ProviderError::new(firewall_core::ErrorKind::Unavailable, "x", "x", "lost");
    cloud.inject([Fault::ReplyLost(error)]);
    let plan = Case::new(&provider, &later).plan();
    let [first, ..] = &plan.steps[..] else { panic!("steps") };
    assert!(block_on(provider.apply(&first.action)).is_err());
    assert_eq!(cloud.resources().reach(&ids[0]).rules.to_string(), "tcp/80 from 0.0.0.0/0");
}
