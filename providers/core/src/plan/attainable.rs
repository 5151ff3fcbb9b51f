//! The attainable part of the desired state: without foreign keys and without changes in backoff.

use std::collections::BTreeSet;

use super::split::{Rank, rank};
use crate::{Effect, Owner, PlanInput, Resource, ResourceSet, Withheld, WithheldReason};

/// Returns the desired state without what cannot be reached now: keys of foreign resources, and changes that
/// failed a moment ago.
///
/// Post-condition: no key of the result is foreign, and every reference leads to a resource of the result.
pub(super) fn drop_unattainable<R: Resource>(
    input: &PlanInput<'_, R>,
    withheld: &mut Vec<Withheld<R>>,
) -> ResourceSet<R> {
    let mut goal = ResourceSet::<R>::new();
    let mut still_attached = BTreeSet::new();
    let waiting = input.backoff.iter().map(|(key, _)| key).chain(input.in_flight.keys());
    for key in waiting.chain(input.desired.keys()).collect::<BTreeSet<_>>() {
        let desired = input.desired.get(key);
        let observed = input.observed.get(key);
        if observed.is_some_and(|observed| observed.owner() == Owner::Foreign) {
            if desired.is_some() {
                withheld.push(Withheld { key: key.clone(), reason: WithheldReason::Foreign });
            }
            continue;
        }
        let reachable = without_waiting_changes(input, key, observed, desired);
        if !have_same_spec(reachable.as_ref(), desired) {
            withheld.push(Withheld { key: key.clone(), reason: waiting_reason(input, key) });
        }
        if let Some(reachable) = reachable {
            if must_wait(input, key, Effect::Close) {
                still_attached.extend(reachable.refers_to());
            }
            goal.insert(key.clone(), reachable);
        }
    }
    retain_attached(input, still_attached, &mut goal, withheld);
    drop_dangling_references(&mut goal);
    goal
}

/// Panics if a key of the goal is foreign, or a reference leads to nothing.
pub(super) fn assert_attainable_post_condition<R: Resource>(input: &PlanInput<'_, R>, goal: &ResourceSet<R>) {
    for (key, resource) in goal {
        let is_foreign = input.observed.get(key).is_some_and(|observed| observed.owner() == Owner::Foreign);
        assert!(!is_foreign, "{key} is foreign, and a goal");
        let dangling = resource.refers_to().into_iter().find(|other| !goal.contains_key(other));
        assert!(dangling.is_none(), "{key} refers to {dangling:?}, which is not in the goal");
    }
}

/// Returns the state that a resource may reach before its failed changes are tried again, and those under way
/// have ended: only the closing part of the change if an opening failed, only the opening part if a closing
/// failed, and without references to what changes.
fn without_waiting_changes<R: Resource>(
    input: &PlanInput<'_, R>,
    key: &R::Key,
    observed: Option<&R>,
    desired: Option<&R>,
) -> Option<R> {
    let leave_out = desired.map(|desired| input.in_flight.references_to_leave_out(observed, desired));
    let reduced = leave_out.filter(|keys| !keys.is_empty()).map(|keys| desired?.without_references(&keys));
    let desired = reduced.as_ref().map_or(desired, Option::as_ref);
    match (must_wait(input, key, Effect::Open), must_wait(input, key, Effect::Close)) {
        (false, false) => desired.cloned(),
        (true, true) => observed.cloned(),
        (true, false) => {
            let (observed, desired) = (observed?, desired?);
            match observed.restrict_to(desired) {
                // A change that neither opens nor closes is made together with the opening.
                Some(rest) if rank(observed, &rest) != Rank::Narrow => Some(observed.clone()),
                rest => rest,
            }
        }
        (false, true) => match (observed, desired) {
            (Some(observed), Some(desired)) => {
                Some(observed.union(desired).unwrap_or_else(|| observed.clone()))
            }
            (observed, desired) => observed.or(desired).cloned(),
        },
    }
}

/// Returns true if this change of the resource failed and must not be tried again yet, or has to wait for a
/// change under way.
pub(super) fn must_wait<R: Resource>(input: &PlanInput<'_, R>, key: &R::Key, effect: Effect) -> bool {
    input.backoff.contains(&(key.clone(), effect)) || input.in_flight.holds(key)
}

/// Returns the reason why a resource that does not reach the desired state waits.
fn waiting_reason<R: Resource>(input: &PlanInput<'_, R>, key: &R::Key) -> WithheldReason {
    let has_failed = |effect| input.backoff.contains(&(key.clone(), effect));
    if has_failed(Effect::Open) || has_failed(Effect::Close) {
        WithheldReason::Backoff
    } else {
        WithheldReason::InFlight
    }
}

fn have_same_spec<R: Resource>(one: Option<&R>, other: Option<&R>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.has_same_spec(other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

/// Keeps resources that cannot be detached yet: they cannot be deleted either.
fn retain_attached<R: Resource>(
    input: &PlanInput<'_, R>,
    still_attached: BTreeSet<R::Key>,
    goal: &mut ResourceSet<R>,
    withheld: &mut Vec<Withheld<R>>,
) {
    for key in still_attached {
        if let Some(observed) = input.observed.get(&key).filter(|_| !goal.contains_key(&key)) {
            withheld.push(Withheld { key: key.clone(), reason: WithheldReason::Backoff });
            goal.insert(key, observed.clone());
        }
    }
}

/// Removes references to resources that are not part of the goal, and resources of which nothing is left
/// then.
fn drop_dangling_references<R: Resource>(goal: &mut ResourceSet<R>) {
    let dangling: BTreeSet<R::Key> =
        goal.values().flat_map(Resource::refers_to).filter(|key| !goal.contains_key(key)).collect();
    if !dangling.is_empty() {
        let resources = std::mem::take(goal).into_values();
        *goal = resources.filter_map(|resource| resource.without_references(&dangling)).collect();
    }
}
