//! The steps of a plan once they have been tried: the log line of each, and the resources that still differ.

use std::collections::BTreeSet;
use std::sync::Arc;

use firewall_core::{Compiled, Plan, Resource, Step};

use super::executor::StepOutcome;
use super::outcome::Membership;

/// Logs the outcome of a step.
pub(super) fn log<R: Resource>(step: &Step<R>, outcome: &StepOutcome) {
    let (key, verb) = (step.action.key(), step.action.verb());
    match outcome {
        StepOutcome::Applied(applied) => {
            tracing::info!(resource = %key, ids = applied.ids.join(" "), "{verb}: {}", step.reason);
            for note in &applied.notes {
                tracing::warn!(resource = %key, "{note}");
            }
        }
        StepOutcome::Failed(error) => {
            tracing::warn!(resource = %key, reason = error.reason(), "{verb}: {error}");
            // What nobody asks for any more has no object to put an Event on.
            if let Some(command) = &error.manual_command {
                tracing::warn!(resource = %key, "somebody with the permission can run: {command}");
            }
        }
        StepOutcome::InFlight | StepOutcome::LeftOut | StepOutcome::Stopped => {}
    }
}

/// Marks memberships whose resources were not tried as partly open: they are not known to be closed, and no
/// client is to be sent elsewhere for them.
pub(super) fn mark_untried<R: Resource>(
    memberships: &mut [Arc<Membership>],
    compiled: &Compiled<R>,
    untried: &BTreeSet<R::Key>,
) {
    // Of a pass that has ended nothing is untried.
    for membership in memberships.iter_mut().filter(|_| !untried.is_empty()) {
        let id = (membership.group.clone(), membership.instance.clone());
        let requirements = compiled.requirements.get(&id);
        if requirements.is_some_and(|requirements| !requirements.resources.is_disjoint(untried)) {
            Arc::make_mut(membership).partly_open = true;
        }
    }
}

/// Returns the resources of the steps that did not begin, or did not end, before the pass ended.
pub(super) fn untried<R: Resource>(plan: &Plan<R>, outcomes: &[StepOutcome]) -> BTreeSet<R::Key> {
    let steps = plan.steps.iter().zip(outcomes);
    steps
        .filter(|(_, outcome)| matches!(outcome, StepOutcome::InFlight | StepOutcome::Stopped))
        .map(|(step, _)| step.action.key())
        .collect()
}

/// Returns the resources that differ from the desired ones and stay: failed, left out or withheld.
pub(super) fn differing<R: Resource>(plan: &Plan<R>, outcomes: &[StepOutcome]) -> BTreeSet<String> {
    let steps = plan.steps.iter().zip(outcomes);
    let not_applied = steps.filter(|(_, outcome)| !matches!(outcome, StepOutcome::Applied(_)));
    let not_applied = not_applied.map(|(step, _)| step.action.key().to_string());
    not_applied.chain(plan.withheld.iter().map(|withheld| withheld.key.to_string())).collect()
}
