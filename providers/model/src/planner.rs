//! Planning: from desired and observed resources to ordered steps.
//!
//! Order comes from one rule, not from knowledge of any cloud: a step is taken only if every instance then
//! admits no more than it admits now or is asked to admit. Among the steps that keep the rule, opening goes
//! before closing. The four stages below are the whole of it: settle the goal, split it into actions, order
//! them, let openings and closings alternate.

mod attainable;

use std::collections::{BTreeMap, BTreeSet};

use crate::order::Order;
use crate::{Action, Owner, Plan, PlanInput, Policy, Resource, Waiting, Withheld, World, closings, diff};
use attainable::attainable;

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
