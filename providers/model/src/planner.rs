//! Planning: from desired and observed resources to ordered steps.
//!
//! Order comes from one rule, not from knowledge of any cloud: a step is taken only if every instance then
//! admits no more than it admits now or is asked to admit. Among the steps that keep the rule, opening goes
//! before closing. The four stages below are the whole of it: settle the goal, split it into actions, order
//! them, let openings and closings alternate.

use std::collections::{BTreeMap, BTreeSet};

use crate::order::Order;
use crate::{
    Action, Effect, Owner, Plan, PlanInput, Policy, Resource, Waiting, Withheld, World, closings, diff,
};

/// Plans all changes that may be made now, and says of every other difference why it stays.
///
/// Pure and deterministic. Planning again after every step succeeded yields no steps.
#[must_use]
pub fn plan<R: Resource>(input: &PlanInput<'_, R>) -> Plan<R> {
    let mut withheld = Vec::new();
    let wanted = attainable(input, &mut withheld);
    let goal = permitted(input, &wanted, &mut withheld);
    let mut order = Order::new(input.observed, input.desired);
    for action in order.arrange(actions(&goal, input.observed)) {
        withheld.push(Withheld { key: action.key(), waiting: Waiting::Order });
    }
    // A change in two stages waits twice.
    let mut told = BTreeSet::new();
    withheld.retain(|one| told.insert((one.key.clone(), one.waiting.clone())));
    Plan { steps: order.into_steps(), withheld }
}

/// What is desired, less what cannot be had now: keys that others hold, and what failed a moment ago.
fn attainable<R: Resource>(input: &PlanInput<'_, R>, withheld: &mut Vec<Withheld<R>>) -> World<R> {
    let mut wanted = World::<R>::new();
    let mut kept = BTreeSet::new();
    let failed: BTreeSet<&R::Key> = input.backoff.iter().map(|(key, _)| key).collect();
    for key in failed.union(&input.desired.keys().collect()).copied() {
        let later = input.desired.get(key);
        let now = input.observed.get(key);
        if now.is_some_and(|now| now.owner() == Owner::Foreign) {
            if later.is_some() {
                withheld.push(Withheld { key: key.clone(), waiting: Waiting::Foreign });
            }
            continue;
        }
        let meanwhile = meanwhile(input, key, now, later);
        if !same(meanwhile.as_ref(), later) {
            withheld.push(Withheld { key: key.clone(), waiting: Waiting::Backoff });
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
            withheld.push(Withheld { key: key.clone(), waiting: Waiting::Backoff });
            wanted.insert(key, now.clone());
        }
    }
    let missing: BTreeSet<R::Key> =
        wanted.values().flat_map(Resource::refers_to).filter(|key| !wanted.contains_key(key)).collect();
    if !missing.is_empty() {
        wanted = wanted
            .into_values()
            .filter_map(|resource| resource.without(&missing))
            .map(|r| (r.key(), r))
            .collect();
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
            match now.within(later) {
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
        (Some(one), Some(two)) => one.same_spec(two),
        (one, two) => one.is_none() && two.is_none(),
    }
}

/// What takes the place of something else waits: so the former stays where it lets in no more than is asked for anyway.
/// Else a port that is open, and asked for, would close because another rule for it cannot be had.
fn keep_what_is_replaced<R: Resource>(
    input: &PlanInput<'_, R>,
    wanted: &mut World<R>,
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
        let Some(kept) = now.without(&others).filter(|_| !former.is_empty()) else { continue };
        let merged = match wanted.get(key) {
            None => Some(kept),
            Some(later) => kept.union(later),
        };
        let Some(merged) = merged else { continue };
        wanted.insert(key.clone(), merged);
        for other in former {
            withheld.push(Withheld { key: other.clone(), waiting: Waiting::Backoff });
            wanted.insert(other.clone(), input.observed[&other].clone());
        }
    }
}

/// The same for what applies by itself: where less would be open than is asked for, what lets in no more than that stays.
fn keep_what_is_asked_for<R: Resource>(
    input: &PlanInput<'_, R>,
    wanted: &mut World<R>,
    withheld: &mut Vec<Withheld<R>>,
) {
    if input.backoff.iter().all(|(_, effect)| *effect == Effect::Close) {
        return;
    }
    let mut kept = Vec::new();
    for (key, now) in input.observed.iter().filter(|(_, now)| now.owner() == Owner::Ours) {
        let both = match wanted.get(key) {
            None => Some(now.clone()),
            Some(later) => now.union(later).filter(|both| !both.same_spec(later)),
        };
        let Some(both) = both else { continue };
        let (alone, together) =
            (World::from([(key.clone(), now.clone())]), World::from([(key.clone(), both.clone())]));
        let instances = now.instances(input.observed);
        let asked_for = || {
            let asked = |instance| R::reach(input.desired, instance).covers(&R::reach(&together, instance));
            both.instances(input.observed).iter().all(asked)
        };
        let lost = |instance| !R::reach(wanted, instance).covers(&R::reach(&alone, instance));
        if instances.iter().any(lost) && asked_for() {
            kept.push(both);
        }
    }
    for resource in kept {
        withheld.push(Withheld { key: resource.key(), waiting: Waiting::Backoff });
        wanted.insert(resource.key(), resource);
    }
}

/// Whether what a resource lets in through another is no more than what is desired there.
fn is_asked_for<R: Resource>(input: &PlanInput<'_, R>, resource: &R, through: &R::Key) -> bool {
    let Some(other) = input.observed.get(through).filter(|other| other.owner() == Owner::Ours) else {
        return false;
    };
    let alone = World::from([(resource.key(), resource.clone()), (through.clone(), other.clone())]);
    resource
        .instances(input.observed)
        .iter()
        .all(|instance| R::reach(input.desired, instance).covers(&R::reach(&alone, instance)))
}

/// The state that this plan may end in: `wanted`, less the closings that must not be made.
fn permitted<R: Resource>(
    input: &PlanInput<'_, R>,
    wanted: &World<R>,
    withheld: &mut Vec<Withheld<R>>,
) -> World<R> {
    if input.policy == Policy::Observe {
        let difference = diff(wanted, input.observed);
        let changed = difference
            .update
            .iter()
            .map(|change| &change.from)
            .chain(&difference.create)
            .chain(&difference.delete);
        withheld.extend(changed.map(|resource| Withheld { key: resource.key(), waiting: Waiting::Policy }));
        return input.observed.clone();
    }
    match closing_forbidden(input, wanted) {
        None => wanted.clone(),
        Some(waiting) => widened_only(input.observed, wanted, &waiting, withheld),
    }
}

/// Why nothing may close in this plan, if so.
pub(crate) fn closing_forbidden<R: Resource>(input: &PlanInput<'_, R>, goal: &World<R>) -> Option<Waiting> {
    if let crate::Completeness::Partial(gaps) = input.completeness {
        return Some(Waiting::Knowledge(gaps.clone()));
    }
    if input.policy != Policy::Sync {
        return Some(Waiting::Policy);
    }
    let (open, closing) = closings(input.observed, goal);
    let closing = closing.len();
    let held = input.limits.is_mass_close(open, closing) && !input.limits.mass_close_released;
    held.then_some(Waiting::MassClose { closing, open })
}

fn widened_only<R: Resource>(
    observed: &World<R>,
    wanted: &World<R>,
    waiting: &Waiting,
    withheld: &mut Vec<Withheld<R>>,
) -> World<R> {
    let mut goal = wanted.clone();
    for (key, now) in observed.iter().filter(|(_, now)| now.owner() == Owner::Ours) {
        let Some(later) = wanted.get(key) else {
            withheld.push(Withheld { key: key.clone(), waiting: waiting.clone() });
            goal.insert(key.clone(), now.clone());
            continue;
        };
        if now.same_spec(later) {
            continue;
        }
        let both = now.union(later);
        match &both {
            None => withheld.push(Withheld { key: key.clone(), waiting: Waiting::Room }),
            Some(both) if !both.same_spec(later) => {
                withheld.push(Withheld { key: key.clone(), waiting: waiting.clone() });
            }
            Some(_) => {}
        }
        goal.insert(key.clone(), both.unwrap_or_else(|| now.clone()));
    }
    goal
}

/// How early an action is tried: what opens first, what closes last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    Create,
    Widen,
    Move,
    Narrow,
    Delete,
}

fn actions<R: Resource>(goal: &World<R>, observed: &World<R>) -> BTreeMap<Rank, Vec<Action<R>>> {
    let diff = diff(goal, observed);
    let mut ranked: BTreeMap<Rank, Vec<Action<R>>> = BTreeMap::new();
    ranked.entry(Rank::Create).or_default().extend(diff.create.into_iter().map(Action::Create));
    ranked.entry(Rank::Delete).or_default().extend(diff.delete.into_iter().map(Action::Delete));
    for change in diff.update {
        for (from, to) in stages(change.from, change.to) {
            ranked.entry(rank(&from, &to)).or_default().push(Action::Update { from, to });
        }
    }
    ranked
}

/// An update in one call, or through the states between: all of both if the limits leave room for it, else what both
/// have in common; then without what nobody asks for, so that what else goes can wait for what takes its place.
fn stages<R: Resource>(from: R, to: R) -> Vec<(R, R)> {
    if from.replaced_at_once() {
        return vec![(from, to)];
    }
    let mut states = vec![from];
    let differs = |state: &R, last: &R| !state.same_spec(last) && !state.same_spec(&to);
    let between = states[0].union(&to).or_else(|| states[0].intersection(&to));
    states.extend(between.filter(|between| differs(between, &states[0])));
    let last = &states[states.len() - 1];
    let asked_for = last.within(&to).filter(|rest| differs(rest, last));
    states.extend(asked_for);
    states.push(to);
    states.windows(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

/// A move with its closing half first: nothing more is ever open, but what moves is closed for a moment. `None` for what
/// is no move, or has no such half.
pub(crate) fn closed_first<R: Resource>(action: &Action<R>) -> Option<[Action<R>; 2]> {
    let Action::Update { from, to } = action else { return None };
    if rank(from, to) != Rank::Move {
        return None;
    }
    let (from, to) = (from.clone(), to.clone());
    match from.intersection(&to) {
        Some(rest) if rest.same_spec(&from) || rest.same_spec(&to) => None,
        Some(rest) => Some([Action::Update { from, to: rest.clone() }, Action::Update { from: rest, to }]),
        None => Some([Action::Delete(from), Action::Create(to)]),
    }
}

pub(crate) fn rank<R: Resource>(from: &R, to: &R) -> Rank {
    match from.union(to) {
        Some(both) if both.same_spec(to) => Rank::Widen,
        Some(both) if both.same_spec(from) => Rank::Narrow,
        _ => Rank::Move,
    }
}
