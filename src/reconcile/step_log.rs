//! The steps of a plan once they have been tried: what to log of each, and what is not settled by them.

use std::collections::BTreeSet;

use firewall_core::{Compiled, Plan, Resource, Step};

use super::executor::StepOutcome;
use super::outcome::Membership;

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
        StepOutcome::LeftOut | StepOutcome::Stopped => {}
    }
}

/// What was not tried is not known to be closed: nobody is to be sent elsewhere for it.
pub(super) fn mark_untried<R: Resource>(
    memberships: &mut [Membership],
    compiled: &Compiled<R>,
    untried: &BTreeSet<R::Key>,
) {
    for membership in memberships {
        let id = (membership.group.clone(), membership.instance.clone());
        let takes = compiled.requirements.get(&id);
        membership.partly_open |= takes.is_some_and(|takes| !takes.resources.is_disjoint(untried));
    }
}

/// What the pass was ended before.
pub(super) fn untried<R: Resource>(plan: &Plan<R>, outcomes: &[StepOutcome]) -> BTreeSet<R::Key> {
    let steps = plan.steps.iter().zip(outcomes);
    steps
        .filter(|(_, outcome)| matches!(outcome, StepOutcome::Stopped))
        .map(|(step, _)| step.action.key())
        .collect()
}

pub(super) fn differing<R: Resource>(plan: &Plan<R>, outcomes: &[StepOutcome]) -> BTreeSet<String> {
    let steps = plan.steps.iter().zip(outcomes);
    let undone = steps.filter(|(_, outcome)| !matches!(outcome, StepOutcome::Applied(_)));
    let undone = undone.map(|(step, _)| step.action.key().to_string());
    undone.chain(plan.withheld.iter().map(|withheld| withheld.key.to_string())).collect()
}
