//! What can be had now of what is desired: less what others hold, what failed a moment ago, and what would close without
//! need because of these.

use std::collections::BTreeSet;

use super::split::{Rank, rank};
use crate::{Effect, Owner, PlanInput, Resource, ResourceSet, Withheld, WithheldReason};

/// What is desired, less what cannot be had now: keys that others hold, and what failed a moment ago.
pub(super) fn drop_unattainable<R: Resource>(
    input: &PlanInput<'_, R>,
    withheld: &mut Vec<Withheld<R>>,
) -> ResourceSet<R> {
    let mut wanted = ResourceSet::<R>::new();
    let mut kept = BTreeSet::new();
    let failed: BTreeSet<&R::Key> = input.backoff.iter().map(|(key, _)| key).collect();
    for key in failed.union(&input.desired.keys().collect()).copied() {
        let later = input.desired.get(key);
        let now = input.observed.get(key);
        if now.is_some_and(|now| now.owner() == Owner::Foreign) {
            if later.is_some() {
                withheld.push(Withheld { key: key.clone(), reason: WithheldReason::Foreign });
            }
            continue;
        }
        let meanwhile = meanwhile(input, key, now, later);
        if !same(meanwhile.as_ref(), later) {
            withheld.push(Withheld { key: key.clone(), reason: WithheldReason::Backoff });
        }
        if let Some(meanwhile) = meanwhile {
            if waits(input, key, Effect::Close) {
                kept.extend(meanwhile.refers_to());
            }
            wanted.insert(key.clone(), meanwhile);
        }
    }
    for key in kept {
        // What cannot be detached yet cannot be deleted either.
        if let Some(now) = input.observed.get(&key).filter(|_| !wanted.contains_key(&key)) {
            withheld.push(Withheld { key: key.clone(), reason: WithheldReason::Backoff });
            wanted.insert(key, now.clone());
        }
    }
    let missing: BTreeSet<R::Key> =
        wanted.values().flat_map(Resource::refers_to).filter(|key| !wanted.contains_key(key)).collect();
    if !missing.is_empty() {
        wanted = wanted.into_values().filter_map(|resource| resource.without_references(&missing)).collect();
    }
    keep_what_is_replaced(input, &mut wanted, withheld);
    keep_what_is_asked_for(input, &mut wanted, withheld);
    wanted
}

/// What a resource may become before what failed can be tried again: of an opening that failed only the closing goes
/// ahead, and of a closing only the opening.
fn meanwhile<R: Resource>(
    input: &PlanInput<'_, R>,
    key: &R::Key,
    now: Option<&R>,
    later: Option<&R>,
) -> Option<R> {
    match (waits(input, key, Effect::Open), waits(input, key, Effect::Close)) {
        (false, false) => later.cloned(),
        (true, true) => now.cloned(),
        (true, false) => {
            let (now, later) = (now?, later?);
            match now.restrict_to(later) {
                // A change that is neither is made with the opening.
                Some(rest) if rank(now, &rest) != Rank::Narrow => Some(now.clone()),
                rest => rest,
            }
        }
        (false, true) => match (now, later) {
            (Some(now), Some(later)) => Some(now.union(later).unwrap_or_else(|| now.clone())),
            (now, later) => now.or(later).cloned(),
        },
    }
}

fn waits<R: Resource>(input: &PlanInput<'_, R>, key: &R::Key, effect: Effect) -> bool {
    input.backoff.contains(&(key.clone(), effect))
}

fn same<R: Resource>(one: Option<&R>, two: Option<&R>) -> bool {
    match (one, two) {
        (Some(one), Some(two)) => one.has_same_spec(two),
        (one, two) => one.is_none() && two.is_none(),
    }
}

/// What takes the place of something else waits: so the former stays where it lets in no more than is asked for anyway.
/// Else a port that is open, and asked for, would close because another rule for it cannot be had.
fn keep_what_is_replaced<R: Resource>(
    input: &PlanInput<'_, R>,
    wanted: &mut ResourceSet<R>,
    withheld: &mut Vec<Withheld<R>>,
) {
    let put_off = |resource: &R| {
        resource.refers_to().into_iter().chain([resource.key()]).any(|key| waits(input, &key, Effect::Open))
    };
    for (key, _) in input.desired.iter().filter(|(_, resource)| put_off(resource)) {
        let Some(now) = input.observed.get(key).filter(|now| now.owner() == Owner::Ours) else { continue };
        let (former, others): (BTreeSet<R::Key>, BTreeSet<R::Key>) = now
            .refers_to()
            .into_iter()
            .partition(|other| !wanted.contains_key(other) && is_asked_for(input, now, other));
        let Some(kept) = now.without_references(&others).filter(|_| !former.is_empty()) else { continue };
        let merged = match wanted.get(key) {
            None => Some(kept),
            Some(later) => kept.union(later),
        };
        let Some(merged) = merged else { continue };
        wanted.insert(key.clone(), merged);
        for other in former {
            withheld.push(Withheld { key: other.clone(), reason: WithheldReason::Backoff });
            wanted.insert(other.clone(), input.observed[&other].clone());
        }
    }
}

/// The same for what applies by itself: where less would be open than is asked for, what lets in no more than that stays.
fn keep_what_is_asked_for<R: Resource>(
    input: &PlanInput<'_, R>,
    wanted: &mut ResourceSet<R>,
    withheld: &mut Vec<Withheld<R>>,
) {
    if input.backoff.iter().all(|(_, effect)| *effect == Effect::Close) {
        return;
    }
    let mut kept = Vec::new();
    for (key, now) in input.observed.iter().filter(|(_, now)| now.owner() == Owner::Ours) {
        let both = match wanted.get(key) {
            None => Some(now.clone()),
            Some(later) => now.union(later).filter(|both| !both.has_same_spec(later)),
        };
        let Some(both) = both else { continue };
        let (alone, together) = (ResourceSet::from([now.clone()]), ResourceSet::from([both.clone()]));
        let lost = |instance| !wanted.reach(instance).covers(&alone.reach(instance));
        let is_asked_for = || input.desired.admits(&together, &both.instances(input.observed));
        if now.instances(input.observed).iter().any(lost) && is_asked_for() {
            kept.push(both);
        }
    }
    for resource in kept {
        withheld.push(Withheld { key: resource.key(), reason: WithheldReason::Backoff });
        wanted.insert(resource.key(), resource);
    }
}

/// Whether what a resource lets in through another is no more than what is desired there.
fn is_asked_for<R: Resource>(input: &PlanInput<'_, R>, resource: &R, through: &R::Key) -> bool {
    let Some(other) = input.observed.get(through).filter(|other| other.owner() == Owner::Ours) else {
        return false;
    };
    let alone = ResourceSet::from([resource.clone(), other.clone()]);
    input.desired.admits(&alone, &resource.instances(input.observed))
}
