//! Splits the difference between goal and observed into actions, each of which only opens or only closes.

use std::collections::BTreeMap;

use super::diff::diff;
use crate::{Action, Resource, ResourceSet};

/// How early an action is tried: what opens first, what closes last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    Create,
    Widen,
    Move,
    Narrow,
    Delete,
}

pub(super) fn split_into_actions<R: Resource>(
    goal: &ResourceSet<R>,
    observed: &ResourceSet<R>,
) -> BTreeMap<Rank, Vec<Action<R>>> {
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
    if from.is_replaced_at_once() {
        return vec![(from, to)];
    }
    let mut states = vec![from];
    let differs = |state: &R, last: &R| !state.has_same_spec(last) && !state.has_same_spec(&to);
    let between = states[0].union(&to).or_else(|| states[0].intersection(&to));
    states.extend(between.filter(|between| differs(between, &states[0])));
    let last = &states[states.len() - 1];
    let asked_for = last.restrict_to(&to).filter(|rest| differs(rest, last));
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
        Some(rest) if rest.has_same_spec(&from) || rest.has_same_spec(&to) => None,
        Some(rest) => Some([Action::Update { from, to: rest.clone() }, Action::Update { from: rest, to }]),
        None => Some([Action::Delete(from), Action::Create(to)]),
    }
}

pub(crate) fn rank<R: Resource>(from: &R, to: &R) -> Rank {
    match from.union(to) {
        Some(both) if both.has_same_spec(to) => Rank::Widen,
        Some(both) if both.has_same_spec(from) => Rank::Narrow,
        _ => Rank::Move,
    }
}
