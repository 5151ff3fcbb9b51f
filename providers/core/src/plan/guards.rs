//! Guards: whether anything may close in a plan.

use crate::{Completeness, PlanInput, Policy, Resource, Waiting, World, closings};

/// Why nothing may close in this plan, if so.
pub(crate) fn closing_forbidden<R: Resource>(input: &PlanInput<'_, R>, goal: &World<R>) -> Option<Waiting> {
    if let Completeness::Partial(gaps) = input.completeness {
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
