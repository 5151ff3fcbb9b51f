//! Executes a checked plan: steps in parallel where they do not wait for each other. Makes no choices.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use firewall_core::{Applied, Dependency, FirewallProvider, Plan, ProviderError, Resource, Step};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::in_flight::{EndedStep, StepNumber, StepsInFlight};

/// Steps of one plan under way at once. Calls are paced by the provider; this only bounds what is in flight
/// when the process has to stop.
const IN_FLIGHT: usize = 16;

/// The outcome of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepOutcome {
    /// The cloud accepted it.
    Applied(Applied),
    /// The cloud did not.
    Failed(ProviderError),
    /// It is still under way.
    InFlight,
    /// It must not go ahead because a step before it failed, or it violates a promise.
    LeftOut,
    /// The pass ended before it began.
    Stopped,
}

/// The time that a plan is given.
pub struct Allowance<'a> {
    /// On this, no step begins any more.
    pub leave: &'a CancellationToken,
    /// Where no step can begin, those under way are waited for as long as one of them ends within this time.
    pub patience: Duration,
}

/// Applies every step but those with a violation, each after those it waits for, and returns the outcome of
/// all. Calls `ended` for each as it ends, also, with `true`, for those that an earlier plan left under way.
/// Steps that are under way when the allowance ends are left so.
pub async fn execute<P: FirewallProvider + 'static>(
    provider: &Arc<P>,
    (plan, violations): (&Plan<P::Resource>, &BTreeSet<usize>),
    in_flight: &mut StepsInFlight<P>,
    allowance: &Allowance<'_>,
    mut ended: impl FnMut(&Step<P::Resource>, &StepOutcome, bool),
) -> Vec<StepOutcome> {
    let mut schedule = Schedule::new(plan, violations);
    let mut own: BTreeMap<StepNumber, usize> = BTreeMap::new();
    loop {
        while own.len() < IN_FLIGHT {
            let Some(position) = schedule.next(allowance.leave.is_cancelled()) else { break };
            own.insert(in_flight.begin(provider, &plan.steps[position]), position);
        }
        if own.is_empty() {
            break;
        }
        let is_stuck = schedule.ready.is_empty();
        let ended_step = tokio::select! {
            biased;
            ended_step = in_flight.next() => ended_step,
            () = allowance.leave.cancelled() => break,
            () = sleep(allowance.patience), if is_stuck => break,
        };
        let Some(EndedStep { number, step, result }) = ended_step else { break };
        let outcome = result.map_or_else(StepOutcome::Failed, StepOutcome::Applied);
        let position = own.remove(&number);
        ended(&step, &outcome, position.is_none());
        if let Some(position) = position {
            schedule.ended(position, outcome);
        }
    }
    schedule.outcomes(own.into_values())
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

    /// Returns the outcome of all, where these are under way: those that wait for them have not begun.
    fn outcomes(self, in_flight: impl IntoIterator<Item = usize>) -> Vec<StepOutcome> {
        let mut outcomes: Vec<_> =
            self.outcomes.into_iter().map(|outcome| outcome.unwrap_or(StepOutcome::Stopped)).collect();
        for position in in_flight {
            outcomes[position] = StepOutcome::InFlight;
        }
        outcomes
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

    async fn outcomes(cloud: &MemoryCloud, desired: &Desired, leave: &CancellationToken) -> Vec<StepOutcome> {
        let provider = Arc::new(cloud.provider("c"));
        let (plan, _) = observe_and_plan(&*provider, desired).await.unwrap();
        let allowance = Allowance { leave, patience: Duration::MAX };
        let mut in_flight = StepsInFlight::none();
        execute(&provider, (&plan, &BTreeSet::new()), &mut in_flight, &allowance, |_, _, _| {}).await
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
