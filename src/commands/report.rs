//! Reports: a plan as text for people and as JSON for machines.

use std::collections::BTreeSet;
use std::fmt::Write;

use firewall_core::{Effect, Plan, Resource};
use serde::Serialize;

use crate::k8s::problem::Problem;

/// The plans for all clouds. The JSON of `plan -o json`.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// One plan for each cloud
    pub plans: Vec<ReportedPlan>,
    /// What is wrong with objects of the cluster
    pub notices: BTreeSet<Problem>,
}

/// A plan in a form that does not depend on the cloud.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportedPlan {
    /// The provider
    pub provider: &'static str,
    /// What would be done, in order
    pub steps: Vec<ReportedStep>,
    /// What differs and stays
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
    /// Whether it opens or closes
    pub effect: Effect,
    /// The reason
    pub reason: String,
    /// What it lets in or attaches that was not
    pub adds: BTreeSet<String>,
    /// What it let in or attached before
    pub removes: BTreeSet<String>,
    /// Positions of the steps that it waits for, from 1
    pub after: Vec<usize>,
}

/// A difference that stays.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportedWithheld {
    /// The cloud's object
    pub resource: String,
    /// The reason
    pub reason: String,
}

impl Report {
    /// Adds the plan for one cloud.
    pub fn add<R: Resource>(&mut self, provider: &'static str, plan: &Plan<R>, notices: BTreeSet<Problem>) {
        self.plans.push(ReportedPlan::new(provider, plan));
        self.notices.extend(notices);
    }

    /// Whether nothing would be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.plans.iter().all(|plan| plan.steps.is_empty())
    }

    /// The report for a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for plan in &self.plans {
            if self.plans.len() > 1 {
                // Writing to a String cannot fail.
                _ = writeln!(text, "{}:", plan.provider);
            }
            plan.write(&mut text);
        }
        for notice in &self.notices {
            _ = writeln!(text, "  {}: {}: {}", notice.reason, notice.object, notice.message);
        }
        _ = match self.plans.iter().map(|plan| plan.steps.len()).sum() {
            0 => writeln!(text, "No changes."),
            1 => writeln!(text, "1 change."),
            count => writeln!(text, "{count} changes."),
        };
        text
    }
}

impl ReportedPlan {
    fn new<R: Resource>(provider: &'static str, plan: &Plan<R>) -> Self {
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
                after: step.after.iter().map(|other| other.step + 1).collect(),
            }
        });
        let withheld = plan.withheld.iter().map(|withheld| ReportedWithheld {
            resource: withheld.key.to_string(),
            reason: withheld.reason.to_string(),
        });
        Self { provider, steps: steps.collect(), withheld: withheld.collect() }
    }

    fn write(&self, text: &mut String) {
        for (position, step) in self.steps.iter().enumerate() {
            _ = writeln!(text, "{:>3}. {} {}, {}", position + 1, step.verb, step.resource, step.reason);
            for (sign, details) in [('+', &step.adds), ('-', &step.removes)] {
                for detail in details {
                    _ = writeln!(text, "       {sign} {detail}");
                }
            }
        }
        for withheld in &self.withheld {
            _ = writeln!(text, "  stays: {}: {}", withheld.resource, withheld.reason);
        }
    }
}
