//! Retains what is open and must stay open: what is asked for where its replacement cannot be had, what may
//! be asked for, and what a mass close is held for.

use std::collections::{BTreeMap, BTreeSet};

use super::attainable::must_wait;
use super::diff::diff;
use crate::{
    Effect, InstanceId, Owner, PlanInput, Reach, Resource, ResourceSet, RuleSet, Withheld, WithheldReason,
};

/// Traffic that must stay open on an instance where it is open, and the reason.
pub(super) type Kept = (RuleSet, WithheldReason);

/// Returns what is asked for on the instance, and what may be.
pub(super) fn asked_or_unknown<R: Resource>(input: &PlanInput<'_, R>, instance: &InstanceId) -> Vec<Kept> {
    let doubt = input.unknown.at(instance);
    let unknown = WithheldReason::IncompleteState(doubt.missing.into_iter().collect());
    vec![(input.desired.reach(instance).rules, WithheldReason::Backoff), (doubt.rules, unknown)]
}

/// Adds to the goal the parts of observed resources of ours that let in what is kept and the goal does not.
///
/// A part is of one resource, and no larger than what is kept, as far as the cloud can express that: what has
/// ended closes although it shares a resource with what stays. Where the part and the goal's own do not fit
/// into one resource, the part stays with what the resource has of the goal's own.
pub(super) fn retain_open<R: Resource>(
    input: &PlanInput<'_, R>,
    mut goal: ResourceSet<R>,
    kept_at: impl Fn(&InstanceId) -> Vec<Kept>,
    withheld: &mut Vec<Withheld<R>>,
) -> ResourceSet<R> {
    let parts = find_parts(input, &goal, kept_at);
    for (key, part) in &parts.standing {
        let Some(retained) = part_of(input, &input.observed[key], &part.ids, &part.rules) else { continue };
        insert(&mut goal, &retained, &part.reason, withheld, |retained, target| {
            let present = || retained.union(&input.observed[key].intersection(target)?);
            retained.union(target).ok_or_else(|| present().unwrap_or_else(|| retained.clone()))
        });
        detach_others(input, &mut goal, key, part, withheld);
    }
    for (key, references) in &parts.references {
        let current = &input.observed[key];
        let present = references.keys().filter(|other| goal.contains_key(other)).cloned().collect();
        let Some(retained) = current.without_references(&(&current.refers_to() - &present)) else { continue };
        let Some(reason) = references.values().next() else { continue };
        insert(&mut goal, &retained, reason, withheld, join_references);
    }
    goal
}

/// Detaches a resource that is kept for some instances from the others of the goal where it would let in more
/// than is asked for, unless it lets in there now what is.
fn detach_others<R: Resource>(
    input: &PlanInput<'_, R>,
    goal: &mut ResourceSet<R>,
    key: &R::Key,
    part: &Part,
    withheld: &mut Vec<Withheld<R>>,
) {
    let (Some(kept), Some(current)) = (goal.get(key), input.observed.get(key)) else { return };
    let alone = BTreeSet::from([key.clone()]);
    let lets_in = |resource: &R, user: &R, instance: &InstanceId| -> RuleSet {
        ResourceSet::from([resource.clone(), user.clone()]).reach(instance).rules
    };
    let is_excessive = |user: &R, instance: &InstanceId| {
        let asked = asked_or_unknown(input, instance);
        let asked = asked.iter().fold(RuleSet::default(), |all, (rules, _)| all.union(rules));
        let now = input.observed.get(&user.key());
        let serves = now.is_some_and(|now| !lets_in(current, now, instance).intersection(&asked).is_empty());
        !asked.covers(&lets_in(kept, user, instance)) && !serves
    };
    let users = goal.referrers(key).filter(|user| !must_wait(input, &user.key(), Effect::Close));
    let excessive = users.filter(|user| {
        let others = user.instances(goal).into_iter().filter(|instance| !part.ids.contains(instance));
        others.into_iter().any(|instance| is_excessive(user, &instance))
    });
    let excessive: Vec<R> = excessive.cloned().collect();
    for user in excessive {
        withheld.push(Withheld { key: user.key(), reason: part.reason.clone() });
        match user.without_references(&alone) {
            Some(rest) => goal.insert(user.key(), rest),
            None => goal.remove(&user.key()),
        };
    }
}

/// The parts of observed resources that must stay.
struct Parts<K> {
    /// Of resources that let in traffic
    standing: BTreeMap<K, Part>,
    /// Of resources that make others apply: the references to keep, each with the reason
    references: BTreeMap<K, BTreeMap<K, WithheldReason>>,
}

/// The part of one resource that must stay.
struct Part {
    ids: BTreeSet<InstanceId>,
    rules: RuleSet,
    reason: WithheldReason,
}

fn find_parts<R: Resource>(
    input: &PlanInput<'_, R>,
    goal: &ResourceSet<R>,
    kept_at: impl Fn(&InstanceId) -> Vec<Kept>,
) -> Parts<R::Key> {
    let observed = input.observed;
    let mut parts = Parts { standing: BTreeMap::new(), references: BTreeMap::new() };
    for (instance, resources) in touched_instances(observed, goal) {
        let (before, after) = (observed.reach(&instance).rules, goal.reach(&instance).rules);
        if after.covers(&before) {
            continue;
        }
        for (rules, reason) in kept_at(&instance) {
            let kept = before.intersection(&rules);
            if after.covers(&kept) {
                continue;
            }
            for &resource in &resources {
                let own = own_reach(resource, &resources, &instance).rules.intersection(&kept);
                if own.is_empty() || after.covers(&own) {
                    continue;
                }
                add_part(&mut parts, resource, &instance, &own, &reason);
                let key = resource.key();
                for user in resources.iter().filter(|user| user.refers_to().contains(&key)) {
                    let references = parts.references.entry(user.key()).or_default();
                    references.entry(key.clone()).or_insert_with(|| reason.clone());
                }
            }
        }
    }
    parts
}

fn add_part<R: Resource>(
    parts: &mut Parts<R::Key>,
    resource: &R,
    instance: &InstanceId,
    rules: &RuleSet,
    reason: &WithheldReason,
) {
    let none = || Part { ids: BTreeSet::new(), rules: RuleSet::default(), reason: reason.clone() };
    let part = parts.standing.entry(resource.key()).or_insert_with(none);
    part.ids.insert(instance.clone());
    part.rules = part.rules.union(rules);
}

/// Returns the instances that a difference between the two concerns, each with the observed resources of ours
/// that it depends on.
fn touched_instances<'a, R: Resource>(
    observed: &'a ResourceSet<R>,
    goal: &ResourceSet<R>,
) -> BTreeMap<InstanceId, Vec<&'a R>> {
    let difference = diff(goal, observed);
    let closing = difference.delete.iter().chain(difference.update.iter().map(|change| &change.from));
    let touched: BTreeSet<InstanceId> = closing.flat_map(|resource| resource.instances(observed)).collect();
    if touched.is_empty() {
        return BTreeMap::new();
    }
    let mut by_instance = observed.by_instance();
    by_instance.retain(|instance, _| touched.contains(instance));
    for resources in by_instance.values_mut() {
        resources.retain(|resource| resource.owner() == Owner::Ours);
    }
    by_instance
}

/// Returns what the resource itself lets in to the instance; nothing for one that only makes others apply.
fn own_reach<R: Resource>(resource: &R, all: &[&R], instance: &InstanceId) -> Reach {
    let key = resource.key();
    if !resource.refers_to().is_empty() {
        return Reach::default();
    }
    let users = all.iter().filter(|user| user.refers_to().contains(&key));
    let set: ResourceSet<R> = users.map(|user| (*user).clone()).chain([resource.clone()]).collect();
    set.reach(instance)
}

/// Returns the part of a resource that lets in these rules at these ids. Where that would open anything (of a
/// rule for all sources only some are kept) and its opening failed a moment ago, it stays as it is.
pub(super) fn part_of<R: Resource>(
    input: &PlanInput<'_, R>,
    current: &R,
    ids: &BTreeSet<InstanceId>,
    rules: &RuleSet,
) -> Option<R> {
    let part = current.retain(ids, rules)?;
    let opens = || current.union(&part).is_none_or(|both| !both.has_same_spec(current));
    Some(if must_wait(input, &part.key(), Effect::Open) && opens() { current.clone() } else { part })
}

/// Puts the part into the goal, together with what the goal has under the key; `join` returns the two, or, as
/// an error, what can be had of them.
fn insert<R: Resource>(
    goal: &mut ResourceSet<R>,
    part: &R,
    reason: &WithheldReason,
    withheld: &mut Vec<Withheld<R>>,
    join: impl Fn(&R, &R) -> Result<R, R>,
) {
    let key = part.key();
    let joined = match goal.get(&key) {
        None => part.clone(),
        Some(target) => match join(part, target) {
            Ok(both) if both.has_same_spec(target) => return,
            Ok(both) => both,
            Err(left) => {
                withheld.push(Withheld { key: key.clone(), reason: WithheldReason::CapacityExceeded });
                left
            }
        },
    };
    withheld.push(Withheld { key: key.clone(), reason: reason.clone() });
    goal.insert(key, joined);
}

/// Adds to the part the references of the target, one by one where all together are too many.
pub(super) fn join_references<R: Resource>(part: &R, target: &R) -> Result<R, R> {
    if let Some(both) = part.union(target) {
        return Ok(both);
    }
    let all = target.refers_to();
    let one_by_one = all.iter().filter_map(|one| {
        let others = all.iter().filter(|other| *other != one).cloned().collect();
        target.without_references(&others)
    });
    Err(one_by_one.fold(part.clone(), |joined, one| joined.union(&one).unwrap_or(joined)))
}
