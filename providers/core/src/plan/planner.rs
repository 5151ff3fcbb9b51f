//! Planning: from desired and observed resources to ordered steps.
//!
//! Order comes from one rule, not from knowledge of any cloud: a step is taken only if every instance then
//! admits no more than it admits now or is asked to admit. Among the steps that keep the rule, opening goes
//! before closing. The four stages below are the whole of it: settle the goal, split it into actions, order
//! them, let openings and closings interleave.

use std::collections::BTreeSet;

use super::attainable::drop_unattainable;
use super::guards::why_closing_is_blocked;
use super::order::Order;
use super::split::split_into_actions;
use crate::{Owner, Plan, PlanInput, Policy, Resource, ResourceSet, Withheld, WithheldReason, diff};

/// Plans all changes that may be made now, and says of every other difference why it stays.
///
/// Pure and deterministic. Planning again after every step succeeded yields no steps.
#[must_use]
pub fn plan<R: Resource>(input: &PlanInput<'_, R>) -> Plan<R> {
    let mut withheld = Vec::new();
    let wanted = drop_unattainable(input, &mut withheld);
    let goal = apply_policy(input, &wanted, &mut withheld);
    let mut order = Order::new(input.observed, input.desired);
    for action in order.schedule_all(split_into_actions(&goal, input.observed)) {
        withheld.push(Withheld { key: action.key(), reason: WithheldReason::BlockedByOrder });
    }
    // A change in two stages waits twice.
    let mut told = BTreeSet::new();
    withheld.retain(|one| told.insert((one.key.clone(), one.reason.clone())));
    Plan { steps: order.into_steps(), withheld }
}

/// The state that this plan may end in: `wanted`, less the closings that must not be made.
fn apply_policy<R: Resource>(
    input: &PlanInput<'_, R>,
    wanted: &ResourceSet<R>,
    withheld: &mut Vec<Withheld<R>>,
) -> ResourceSet<R> {
    if input.policy == Policy::Observe {
        let difference = diff(wanted, input.observed);
        let changed = difference
            .update
            .iter()
            .map(|change| &change.from)
            .chain(&difference.create)
            .chain(&difference.delete);
        withheld
            .extend(changed.map(|resource| Withheld { key: resource.key(), reason: WithheldReason::Policy }));
        return input.observed.clone();
    }
    match why_closing_is_blocked(input, wanted) {
        None => wanted.clone(),
        Some(reason) => without_closings(input.observed, wanted, &reason, withheld),
    }
}

fn without_closings<R: Resource>(
    observed: &ResourceSet<R>,
    wanted: &ResourceSet<R>,
    reason: &WithheldReason,
    withheld: &mut Vec<Withheld<R>>,
) -> ResourceSet<R> {
    let mut goal = wanted.clone();
    for (key, now) in observed.iter().filter(|(_, now)| now.owner() == Owner::Ours) {
        let Some(later) = wanted.get(key) else {
            withheld.push(Withheld { key: key.clone(), reason: reason.clone() });
            goal.insert(key.clone(), now.clone());
            continue;
        };
        if now.has_same_spec(later) {
            continue;
        }
        let both = now.union(later);
        match &both {
            None => withheld.push(Withheld { key: key.clone(), reason: WithheldReason::CapacityExceeded }),
            Some(both) if !both.has_same_spec(later) => {
                withheld.push(Withheld { key: key.clone(), reason: reason.clone() });
            }
            Some(_) => {}
        }
        goal.insert(key.clone(), both.unwrap_or_else(|| now.clone()));
    }
    goal
}
