//! Planning: from desired and observed resources to ordered steps.
//!
//! Order comes from one rule, not from knowledge of any cloud: a step is taken only if every instance then
//! admits no more than it admits now or is asked to admit. Among the steps that keep the rule, opening goes
//! before closing. The four stages below are the whole of it: settle the goal, split it into actions, order
//! them, let openings and closings alternate.

use std::collections::BTreeSet;

use super::attainable::attainable;
use super::guards::closing_forbidden;
use super::order::Order;
use super::split::actions;
use crate::{Owner, Plan, PlanInput, Policy, Resource, Waiting, Withheld, World, diff};

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
