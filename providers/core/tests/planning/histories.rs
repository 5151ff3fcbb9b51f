//! Random desired states one after another, with calls that fail: every promise holds throughout.

use std::collections::{BTreeMap, BTreeSet};

use firewall_core::testing::conformance::{self, desired, group, observe_and_plan, reach_by_instance};
use firewall_core::testing::memory::{Fault, MemoryCloud, MemoryKey, MemoryProvider, MemoryResource};
use firewall_core::{
    Desired, Effect, ErrorKind, FirewallProvider, InstanceId, Plan, ProviderError, RuleSet, diff,
};
use futures::executor::block_on;
use proptest::prelude::*;

use crate::{CLUSTER, Case, converged, instances, state_after, verbs};

/// One moment of a history: the groups that exist, with their sources and instances.
pub(crate) type Moment = BTreeMap<usize, (BTreeSet<usize>, BTreeSet<usize>)>;

pub(crate) fn moment() -> impl Strategy<Value = Moment> {
    let sources = prop::collection::btree_set(0..4_usize, 1..3);
    prop::collection::btree_map(0..4_usize, (sources, prop::collection::btree_set(0..4_usize, 1..4)), 0..4)
}

pub(crate) fn at_moment(moment: &Moment, ids: &[InstanceId]) -> Desired {
    const SOURCES: [&str; 4] = ["10.0.0.0/8", "192.0.2.0/24", "0.0.0.0/0", "::/0"];
    desired(moment.iter().map(|(name, (sources, members))| {
        let rules: Vec<String> =
            sources.iter().map(|source| format!("tcp/{} {}", 80 + name % 3, SOURCES[*source])).collect();
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        let members: Vec<&InstanceId> = members.iter().map(|member| &ids[*member]).collect();
        group(&format!("w{name}"), &rules, &members)
    }))
}

pub(crate) fn fault() -> impl Strategy<Value = Fault> {
    let error = || ProviderError::new(ErrorKind::Unavailable, "call", "x", "injected");
    let (fails, lost) = (Just(Fault::CallFails(error())), Just(Fault::ReplyLost(error())));
    prop_oneof![3 => Just(Fault::None), 1 => fails, 1 => lost]
}

/// Applies the plan as the controller does: a step that relies on a failed one is left out. Asserts after
/// every call that no instance admits more than it did or than is desired.
fn apply_with_faults(
    provider: &MemoryProvider,
    cloud: &MemoryCloud,
    plan: &Plan<MemoryResource>,
    case: &Case,
) {
    let (before, desired) = (reach_by_instance(&case.observed), reach_by_instance(&case.desired));
    let mut failed = BTreeSet::new();
    for (position, step) in plan.steps.iter().enumerate() {
        let blocked = step.depends_on.iter().any(|other| other.must_succeed && failed.contains(&other.step));
        if blocked || block_on(provider.apply(&step.action)).is_err() {
            failed.insert(position);
        }
        for (instance, open) in reach_by_instance(&cloud.resources()) {
            let none = RuleSet::default();
            let allowed =
                before.get(&instance).unwrap_or(&none).union(desired.get(&instance).unwrap_or(&none));
            assert!(
                allowed.covers(&open),
                "{instance} admits {open} where {allowed} is desired, after {step:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn applying_the_diff_gives_the_desired(from in moment(), to in moment()) {
        let ids = instances(4);
        let (_, provider) = converged(4, &at_moment(&from, &ids));
        let case = Case::new(&provider, &at_moment(&to, &ids));
        let difference = diff(&case.desired, &case.observed);
        let mut state = case.observed.clone();
        for resource in difference.create.iter().chain(difference.update.iter().map(|change| &change.to)) {
            state.insert(resource.key.clone(), resource.clone());
        }
        for resource in &difference.delete {
            state.remove(&resource.key);
        }
        prop_assert!(diff(&case.desired, &state).is_empty());
        prop_assert_eq!(reach_by_instance(&state), reach_by_instance(&case.desired));
        prop_assert!(diff(&case.desired, &case.desired).is_empty());
    }

    #[test]
    fn every_plan_passes_the_check_and_leaves_nothing(from in moment(), to in moment()) {
        let ids = instances(4);
        let (_, provider) = converged(4, &at_moment(&from, &ids));
        let (plan, _) = block_on(observe_and_plan(&provider, &at_moment(&to, &ids))).unwrap();
        prop_assert_eq!(&plan.withheld, &vec![]);
        block_on(conformance::converge(&provider, &at_moment(&to, &ids)));
    }

    #[test]
    fn changes_in_backoff_are_not_planned_and_hold_up_no_closing(
        from in moment(),
        to in moment(),
        failing in prop::collection::vec((any::<bool>(), any::<bool>()), 32),
    ) {
        let ids = instances(4);
        let (_, provider) = converged(4, &at_moment(&from, &ids));
        let mut case = Case::new(&provider, &at_moment(&to, &ids));
        case.limits.mass_close_released = true;
        let keys: BTreeSet<MemoryKey> = case.desired.keys().chain(case.observed.keys()).cloned().collect();
        for (key, (opening, closing)) in keys.iter().zip(failing) {
            let effects = [(opening, Effect::Open), (closing, Effect::Close)];
            let effects = effects.into_iter().filter(|(fails, _)| *fails);
            case.backoff.extend(effects.map(|(_, effect)| (key.clone(), effect)));
        }
        let plan = case.plan();
        for step in &plan.steps {
            prop_assert!(!case.backoff.contains(&(step.action.key(), step.effect)), "{:?}", step);
        }

        case.backoff = keys.into_iter().map(|key| (key, Effect::Open)).collect();
        let state = state_after(&case, &case.plan());
        let desired = reach_by_instance(&case.desired);
        let before = reach_by_instance(&case.observed);
        for (instance, open) in reach_by_instance(&state) {
            let own = desired.get(&instance).cloned().unwrap_or_default();
            // What is open and asked for stays, with what it shares a rule or a group with.
            let allowed = if before[&instance].intersection(&own).is_empty() { &own } else { &before[&instance] };
            prop_assert!(allowed.covers(&open), "{instance} admits {open} where {allowed} is desired");
        }
        case.observed = state;
        prop_assert_eq!(verbs(&case.plan()), [""; 0], "closed ports are not opened and closed again");
    }

    #[test]
    fn faulty_histories_never_open_more_than_asked_and_converge(
        moments in prop::collection::vec(
            (moment(), any::<bool>(), prop::collection::vec(fault(), 0..12)),
            1..6,
        ),
    ) {
        let ids = instances(4);
        let cloud = MemoryCloud::new(ids.clone());
        let provider = cloud.provider(CLUSTER);
        let mut last = Desired::nothing();
        for (moment, complete, faults) in moments {
            let mut desired = at_moment(&moment, &ids);
            if !complete {
                desired.unknown.add_everything("a watch is broken".into());
            }
            let mut case = Case::new(&provider, &desired);
            case.limits.mass_close_released = true;
            cloud.inject(faults);
            apply_with_faults(&provider, &cloud, &case.plan(), &case);
            cloud.clear_faults();
            last = at_moment(&moment, &ids);
        }
        block_on(conformance::converge(&provider, &last));
        let case = Case::new(&provider, &last);
        prop_assert_eq!(reach_by_instance(&cloud.resources()), reach_by_instance(&case.desired));
    }
}
