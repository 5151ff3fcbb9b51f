//! A plan in a form that does not depend on the cloud: what `plan` prints.

use std::collections::BTreeSet;

use firewall_core::{Effect, Plan, Resource};
use serde::Serialize;

/// The plan for one cloud.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportedPlan {
    /// The cloud's name
    pub provider: &'static str,
    /// The steps, in order
    pub steps: Vec<ReportedStep>,
    /// The differences that stay for now
    pub withheld: Vec<ReportedWithheld>,
}

/// One step of a plan.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportedStep {
    /// `create`, `update` or `delete`
    pub verb: &'static str,
    /// The cloud's object
    pub resource: String,
    /// Opens or closes
    pub effect: Effect,
    /// The reason
    pub reason: String,
    /// Rules and attachments that are new
    pub adds: BTreeSet<String>,
    /// Rules and attachments that go
    pub removes: BTreeSet<String>,
    /// Positions of the steps that it waits for, from 1
    pub after: Vec<usize>,
}

/// A difference that stays for now.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportedWithheld {
    /// The cloud's object
    pub resource: String,
    /// The reason
    pub reason: String,
}

impl ReportedPlan {
    /// Returns the plan of one cloud, without its types.
    #[must_use]
    pub fn new<R: Resource>(provider: &'static str, plan: &Plan<R>) -> Self {
        let details = |resource: Option<&R>| resource.map(Resource::details).unwrap_or_default();
        let steps = plan.steps.iter().map(|step| {
            let (before, after) = (details(step.action.before()), details(step.action.after()));
            ReportedStep {
                verb: step.action.verb(),
                resource: step.action.key().to_string(),
                effect: step.effect,
                reason: step.reason.clone(),
                adds: &after - &before,
                removes: &before - &after,
                after: step.depends_on.iter().map(|other| other.step + 1).collect(),
            }
        });
        let withheld = plan.withheld.iter().map(|withheld| ReportedWithheld {
            resource: withheld.key.to_string(),
            reason: withheld.reason.to_string(),
        });
        Self { provider, steps: steps.collect(), withheld: withheld.collect() }
    }
}
