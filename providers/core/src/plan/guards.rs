//! Guards: whether anything may close in a plan.

use crate::{Completeness, PlanInput, Policy, Resource, ResourceSet, WithheldReason, find_closings};

/// Why nothing may close in this plan, if so.
pub(crate) fn why_closing_is_blocked<R: Resource>(
    input: &PlanInput<'_, R>,
    goal: &ResourceSet<R>,
) -> Option<WithheldReason> {
    if let Completeness::Partial(gaps) = input.completeness {
        return Some(WithheldReason::IncompleteState(gaps.clone()));
    }
    if input.policy != Policy::Sync {
        return Some(WithheldReason::Policy);
    }
    let (open, closing) = find_closings(input.observed, goal);
    let closing = closing.len();
    let held = input.limits.is_mass_close(open, closing) && !input.limits.mass_close_released;
    held.then_some(WithheldReason::MassClose { closing, open })
}
