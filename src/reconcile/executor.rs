//! Executes a checked plan: steps in parallel where they do not wait for each other. Makes no choices.

use std::collections::BTreeSet;

use firewall_core::{Applied, Dependency, FirewallProvider, Plan, ProviderError, Resource, Step};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;

/// Steps under way at once. Calls are paced by the provider; this only bounds what is in flight when the
/// process has to stop.
const IN_FLIGHT: usize = 16;

/// The outcome of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepOutcome {
    /// The cloud accepted it.
    Applied(Applied),
    /// The cloud did not.
    Failed(ProviderError),
    /// It must not go ahead because a step before it failed, or it violates a promise.
    LeftOut,
    /// The pass was ended before it began.
    Stopped,
}

/// Applies every step but those with a violation, each after those it waits for, calls `ended` for each as it
/// ends, and returns the outcome of all. On `stop`, steps under way are finished and no others begin.
pub async fn execute<P: FirewallProvider>(
    provider: &P,
    plan: &Plan<P::Resource>,
    violations: &BTreeSet<usize>,
    stop: &CancellationToken,
    mut ended: impl FnMut(&Step<P::Resource>, &StepOutcome),
) -> Vec<StepOutcome> {
    let mut schedule = Schedule::new(plan, violations);
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < IN_FLIGHT {
            let Some(position) = schedule.next(stop.is_cancelled()) else { break };
            let action = &plan.steps[position].action;
            running.push(async move { (position, provider.apply(action).await) });
        }
        let Some((position, result)) = running.next().await else { return schedule.outcomes() };
        let outcome = result.map_or_else(StepOutcome::Failed, StepOutcome::Applied);
        ended(&plan.steps[position], &outcome);
        schedule.ended(position, outcome);
    }
}

/// Holds which steps have ended, and which may begin.
struct Schedule<'a, R: Resource> {
    plan: &'a Plan<R>,
    violations: &'a BTreeSet<usize>,
    /// Number of steps that each step waits for and that have not ended
    waits_for: Vec<usize>,
    followers: Vec<Vec<usize>>,
    ready: BTreeSet<usize>,
    outcomes: Vec<Option<StepOutcome>>,
}

impl<'a, R: Resource> Schedule<'a, R> {
    fn new(plan: &'a Plan<R>, violations: &'a BTreeSet<usize>) -> Self {
        let count = plan.steps.len();
        let mut schedule = Self {
            plan,
            violations,
            waits_for: plan.steps.iter().map(|step| step.depends_on.len()).collect(),
            followers: vec![Vec::new(); count],
            ready: BTreeSet::new(),
            outcomes: vec![None; count],
        };
        for (position, step) in plan.steps.iter().enumerate() {
            for other in &step.depends_on {
                schedule.followers[other.step].push(position);
            }
            if step.depends_on.is_empty() {
                schedule.ready.insert(position);
            }
        }
        schedule
    }

    /// The lowest step that may begin now.
    fn next(&mut self, stopping: bool) -> Option<usize> {
        while let Some(position) = self.ready.pop_first() {
            let failed = |other: &Dependency| {
                other.must_succeed && !matches!(self.outcomes[other.step], Some(StepOutcome::Applied(_)))
            };
            if stopping {
                self.ended(position, StepOutcome::Stopped);
            } else if self.violations.contains(&position)
                || self.plan.steps[position].depends_on.iter().any(failed)
            {
                self.ended(position, StepOutcome::LeftOut);
            } else {
                return Some(position);
            }
        }
        None
    }

    fn ended(&mut self, position: usize, outcome: StepOutcome) {
        self.outcomes[position] = Some(outcome);
        for &follower in &self.followers[position] {
            self.waits_for[follower] -= 1;
            if self.waits_for[follower] == 0 {
                self.ready.insert(follower);
            }
        }
    }

    fn outcomes(self) -> Vec<StepOutcome> {
        // A step that never became ready would wait for itself; plans wait only for earlier steps.
        self.outcomes.into_iter().map(|outcome| outcome.unwrap_or(StepOutcome::LeftOut)).collect()
    }
}

#[cfg(test)]
mod tests {
    use firewall_core::testing::conformance::{desired, group, observe_and_plan};
    use firewall_core::testing::memory::{Fault, MemoryCloud};
    use firewall_core::{Desired, InstanceId};

    use firewall_core::ErrorKind;

    use super::*;

    fn two_groups() -> (MemoryCloud, Desired) {
        let ids = [InstanceId::new("i-0"), InstanceId::new("i-1")];
        let web = group("web", &["tcp/80 0.0.0.0/0"], &[&ids[0]]);
        let dns = group("dns", &["udp/53 ::/0"], &[&ids[1]]);
        (MemoryCloud::new(ids.clone()), desired([web, dns]))
    }

    async fn outcomes(cloud: &MemoryCloud, desired: &Desired, stop: &CancellationToken) -> Vec<StepOutcome> {
        let provider = cloud.provider("c");
        let (plan, _) = observe_and_plan(&provider, desired).await.unwrap();
        execute(&provider, &plan, &BTreeSet::new(), stop, |_, _| {}).await
    }

    #[tokio::test]
    async fn failed_group_skips_only_its_dependents() {
        let (cloud, desired) = two_groups();
        let error = ProviderError::new(ErrorKind::Unavailable, "x", "x", "x");
        cloud.inject([Fault::CallFails(error.clone())]);
        let outcomes = outcomes(&cloud, &desired, &CancellationToken::new()).await;
        let count =
            |wanted: fn(&StepOutcome) -> bool| outcomes.iter().filter(|outcome| wanted(outcome)).count();
        assert_eq!(count(|outcome| matches!(outcome, StepOutcome::Failed(_))), 1);
        assert_eq!(count(|outcome| matches!(outcome, StepOutcome::LeftOut)), 1);
        assert_eq!(count(|outcome| matches!(outcome, StepOutcome::Applied(_))), 2);
    }

    #[tokio::test]
    async fn after_a_stop_nothing_begins() {
        let (cloud, desired) = two_groups();
        let stop = CancellationToken::new();
        stop.cancel();
        assert_eq!(outcomes(&cloud, &desired, &stop).await, vec![StepOutcome::Stopped; 4]);
        assert_eq!(cloud.mutations(), 0);
    }
}
