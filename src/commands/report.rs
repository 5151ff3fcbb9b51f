//! The report of `plan` and `cleanup`: text for people, JSON for machines.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde::Serialize;

use crate::k8s::plain_text::escape_unprintable;
use crate::k8s::problem::Problem;
use crate::reconcile::reported_plan::ReportedPlan;

/// The plans for all clouds. The JSON of `plan -o json`.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// One plan for each cloud
    pub plans: Vec<ReportedPlan>,
    /// Everything wrong with objects of the cluster
    pub problems: BTreeSet<Problem>,
}

impl Report {
    /// Adds the plan for one cloud.
    pub fn add(&mut self, plan: ReportedPlan, problems: BTreeSet<Problem>) {
        self.plans.push(plan);
        self.problems.extend(problems);
    }

    /// Returns true if nothing would be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.plans.iter().all(|plan| plan.steps.is_empty())
    }

    /// Returns the report for a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for plan in &self.plans {
            if self.plans.len() > 1 {
                // Writing to a String cannot fail.
                _ = writeln!(text, "{}:", plan.provider);
            }
            write_plan(plan, &mut text);
        }
        for problem in &self.problems {
            let line = format!("  {}: {}: {}", problem.reason, problem.object, problem.message);
            _ = writeln!(text, "{}", escape_unprintable(&line));
        }
        _ = match self.plans.iter().map(|plan| plan.steps.len()).sum() {
            0 => writeln!(text, "No changes."),
            1 => writeln!(text, "1 change."),
            count => writeln!(text, "{count} changes."),
        };
        text
    }
}

fn write_plan(plan: &ReportedPlan, text: &mut String) {
    for (position, step) in plan.steps.iter().enumerate() {
        let line = format!("{:>3}. {} {}, {}", position + 1, step.verb, step.resource, step.reason);
        _ = writeln!(text, "{}", escape_unprintable(&line));
        for (sign, details) in [('+', &step.adds), ('-', &step.removes)] {
            for detail in details {
                _ = writeln!(text, "       {sign} {}", escape_unprintable(detail));
            }
        }
    }
    for withheld in &plan.withheld {
        let line = format!("  stays: {}: {}", withheld.resource, withheld.reason);
        _ = writeln!(text, "{}", escape_unprintable(&line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::k8s::objects::builders::object_ref;
    use crate::k8s::problem::Verdict;

    #[test]
    fn untrusted_text_adds_no_line() {
        let object = object_ref("Pod", "shop", "a\nNo changes.\n");
        let message = "container \u{202e}x\u{1b}[2J\u{2028}: 99999".to_owned();
        let problem =
            Problem { object, verdict: Verdict::Rejected, reason: "InvalidPort".to_owned(), message };
        let report = Report { plans: Vec::new(), problems: BTreeSet::from([problem]) };
        assert_eq!(
            report.text(),
            "  InvalidPort: Pod shop/a\\nNo changes.\\n: container \\u{202e}x\\u{1b}[2J\\u{2028}: 99999\nNo changes.\n"
        );
    }
}
