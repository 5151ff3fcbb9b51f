//! Splits the difference between goal and observed into actions, each of which only opens or only closes
//! where the cloud allows that.

use std::collections::BTreeMap;

use super::diff::diff;
use crate::{Action, Resource, ResourceSet};

/// The kind of an action, in the order in which actions are tried: openings first, closings last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// Creates a resource.
    Create,
    /// Lets in more, and nothing less.
    Widen,
    /// Lets in both more and less, or other traffic.
    Move,
    /// Lets in less, and nothing more.
    Narrow,
    /// Deletes a resource.
    Delete,
}

/// Returns the actions that turn `observed` into `goal`, by rank.
///
/// Post-condition: every difference, and nothing else, has actions; they lead from the observed resource to
/// that of the goal.
pub(super) fn split_into_actions<R: Resource>(
    goal: &ResourceSet<R>,
    observed: &ResourceSet<R>,
) -> BTreeMap<Rank, Vec<Action<R>>> {
    let diff = diff(goal, observed);
    let mut ranked: BTreeMap<Rank, Vec<Action<R>>> = BTreeMap::new();
    ranked.entry(Rank::Create).or_default().extend(diff.create.into_iter().map(Action::Create));
    ranked.entry(Rank::Delete).or_default().extend(diff.delete.into_iter().map(Action::Delete));
    for change in diff.update {
        for (from, to) in intermediate_states(change.from, change.to) {
            ranked.entry(rank(&from, &to)).or_default().push(Action::Update { from, to });
        }
    }
    ranked
}

/// Returns the pairs of states through which an update goes, one pair for each call.
///
/// Between the two states comes their union if the cloud's limits can hold it, else their intersection; then
/// that without the traffic that is not asked for, so that the rest can wait for what replaces it.
fn intermediate_states<R: Resource>(from: R, to: R) -> Vec<(R, R)> {
    if from.is_replaced_at_once() {
        return vec![(from, to)];
    }
    let mut states = vec![from];
    let differs = |state: &R, last: &R| !state.has_same_spec(last) && !state.has_same_spec(&to);
    let between = states[0].union(&to).or_else(|| states[0].intersection(&to));
    states.extend(between.filter(|between| differs(between, &states[0])));
    let last = &states[states.len() - 1];
    let restricted = last.restrict_to(&to).filter(|restricted| differs(restricted, last));
    states.extend(restricted);
    states.push(to);
    states.windows(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

/// Splits a move into its closing half and its opening half: no more is ever open than before or after, but
/// traffic that moves is closed for a moment. Returns `None` for other actions, and for a move without such a
/// half.
pub(super) fn split_move_closing_first<R: Resource>(action: &Action<R>) -> Option<[Action<R>; 2]> {
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

/// Splits a move into its opening half and its closing half: what is open before and after stays open, and
/// for a moment both are. Returns `None` for other actions, and where no single resource can hold both.
pub(super) fn split_move_opening_first<R: Resource>(action: &Action<R>) -> Option<[Action<R>; 2]> {
    let Action::Update { from, to } = action else { return None };
    let both = from.union(to).filter(|both| !both.has_same_spec(from) && !both.has_same_spec(to))?;
    let (from, to) = (from.clone(), to.clone());
    Some([Action::Update { from, to: both.clone() }, Action::Update { from: both, to }])
}

impl<R: Resource> Action<R> {
    /// Returns true if the action can close anything: also one that opens more than it closes.
    #[must_use]
    pub fn may_close(&self) -> bool {
        match self {
            Self::Create(_) => false,
            Self::Update { from, to } => rank(from, to) > Rank::Widen,
            Self::Delete(_) => true,
        }
    }
}

/// Returns the rank of an update.
pub(super) fn rank<R: Resource>(from: &R, to: &R) -> Rank {
    match from.union(to) {
        Some(both) if both.has_same_spec(to) => Rank::Widen,
        Some(both) if both.has_same_spec(from) => Rank::Narrow,
        _ => Rank::Move,
    }
}

/// Panics unless the actions of each key lead from `observed` to `goal`.
pub(super) fn assert_split_post_condition<R: Resource>(
    actions: &BTreeMap<Rank, Vec<Action<R>>>,
    goal: &ResourceSet<R>,
    observed: &ResourceSet<R>,
) {
    let mut by_key: BTreeMap<R::Key, Vec<&Action<R>>> = BTreeMap::new();
    for action in actions.values().flatten() {
        by_key.entry(action.key()).or_default().push(action);
    }
    let diff = diff(goal, observed);
    let differences = diff.create.len() + diff.update.len() + diff.delete.len();
    assert_eq!(by_key.len(), differences, "each difference has actions, and nothing else has");
    for (key, actions) in by_key {
        let starts = actions.iter().any(|action| action.before() == observed.get(&key));
        let ends = actions.iter().any(|action| action.after() == goal.get(&key));
        assert!(starts && ends, "the actions on {key} do not lead from what is observed to the goal");
    }
}
