//! Executes a planned pass, and records what it leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use firewall_core::{Action, FirewallProvider, Plan, ResourceSet, Step, Withheld};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Reconciler;
use crate::reconcile::executor::{Allowance, StepOutcome, execute};
use crate::reconcile::held_closings::is_held;
use crate::reconcile::in_flight::EndedStep;
use crate::reconcile::known_cloud::{Key, is_certain};
use crate::reconcile::membership::{memberships, state_after};
use crate::reconcile::outcome::Membership;
use crate::reconcile::pass::{NextPass, Pass, PlannedPass, WakeReason};
use crate::reconcile::step_log::{differing, log, mark_untried, untried};
use crate::reconcile::unsettled::{Unsettled, find_unsettled};

/// Time until the cloud is read again where it had no capacity for something, or did not say whether a machine
/// exists: it may list a new machine by then, or somebody may have freed a slot.
const CAPACITY_RECHECK: Duration = Duration::from_mins(1);

/// Time for which steps under way are waited for while none of them ends and no other can begin. Then the pass
/// ends, and what has opened is told.
const PATIENCE: Duration = Duration::from_secs(3);

/// A pass that is expected to take longer than this is announced in the log.
const LONG_PASS: Duration = Duration::from_secs(10);

impl<P: FirewallProvider + 'static> Reconciler<P> {
    /// Returns the memberships as they will be after the plan; used to retract addresses before ports close.
    #[must_use]
    pub fn projected_memberships(&self, planned: &PlannedPass<P>) -> Vec<Arc<Membership>> {
        let mut memberships = memberships(&*self.provider, &self.failures, planned, &planned.observed);
        let all = planned.compiled.resources.keys().cloned().collect();
        mark_untried(&mut memberships, &planned.compiled, &all);
        memberships
    }

    /// Executes the plan until `leave`, or until those of its steps that are under way keep the others waiting.
    /// These go on. A step that fails becomes a problem, and is tried again in a later pass.
    pub async fn execute_plan(&mut self, mut planned: PlannedPass<P>, leave: &CancellationToken) -> Pass {
        self.announce(&planned.plan);
        let failures = &mut self.failures;
        let (mut has_failed, mut late) = (false, Vec::new());
        let record = |step: &Step<P::Resource>, outcome: &StepOutcome, is_late| {
            log(step, outcome);
            failures.record(step, outcome);
            has_failed |= matches!(outcome, StepOutcome::Failed(_));
            if is_late {
                late.push((step.action.clone(), outcome.clone()));
            }
        };
        let (plan, allowance) =
            ((&planned.plan, &planned.violations), Allowance { leave, patience: PATIENCE });
        let outcomes = execute(&self.provider, plan, &mut self.in_flight, &allowance, record).await;
        let applied = outcomes.iter().filter(|outcome| matches!(outcome, StepOutcome::Applied(_))).count();
        let state = state_after(&planned.observed, &planned.plan, &outcomes);
        self.failures.retain(&state, &planned.compiled.resources, &planned.plan);
        let mut memberships = memberships(&*self.provider, &self.failures, &planned, &state);
        let mut untried = untried(&planned.plan, &outcomes);
        untried.extend(planned.in_flight.keys().cloned());
        mark_untried(&mut memberships, &planned.compiled, &untried);
        // Of one that is open in part it stays known what was open before.
        for membership in memberships.iter().filter(|one| one.open.is_ok() || !one.partly_open) {
            self.linger.record_open(&membership.group, &membership.instance, membership.open.is_ok());
        }
        let mut withheld = BTreeMap::new();
        for Withheld { reason, .. } in &planned.plan.withheld {
            *withheld.entry(reason.as_str()).or_default() += 1;
        }
        let mut differing = differing(&planned.plan, &outcomes);
        differing.extend(planned.in_flight.keys().map(ToString::to_string));
        let failed = self.failures.problems(&planned, &memberships);
        // What does not need the failed change must not wait until that is tried again, nor for one that takes long:
        // one step can be about several workloads.
        let around = if has_failed {
            Some(NextPass::at_once(WakeReason::ChangeFailed))
        } else {
            let waits = waits_needlessly(&planned, &outcomes);
            waits.then_some(NextPass::at_once(WakeReason::ChangeSlow))
        };
        let ended = (!late.is_empty()).then_some(NextPass::at_once(WakeReason::ChangeEnded));
        let mut own_problems = std::mem::take(&mut planned.own_problems);
        own_problems.extend(failed);
        let next = around.or(ended).or_else(|| self.next_pass(&planned));
        let (snapshot, scope) = (Arc::clone(&planned.snapshot), planned.scope.clone());
        let still_open = planned.compiled.requirements.keys().cloned().collect();
        let endings = self.linger.endings().clone();
        if outcomes.iter().all(is_certain) {
            self.remember(planned, &outcomes, state);
        }
        for (action, outcome) in &late {
            self.follow_late(action, outcome);
        }
        Pass {
            own_problems,
            next,
            applied,
            not_applied: outcomes.len() - applied,
            memberships,
            differing,
            withheld,
            still_open,
            endings,
            snapshot,
            scope,
        }
    }

    /// Drops a plan: the next is made of all that this one was made of.
    pub fn abandon(&mut self, planned: PlannedPass<P>) {
        let PlannedPass { observed, mut known, in_flight, changed_late, scope, .. } = planned;
        if scope.is_none() {
            known.observed.resources = observed;
            // The next pass sets this.
            known.lasts = self.options.resync;
        }
        known.restore(in_flight);
        self.known = Some(known);
        self.changed_late.extend(changed_late);
    }

    /// Remembers the cloud as a pass has left it.
    fn remember(
        &mut self,
        planned: PlannedPass<P>,
        outcomes: &[StepOutcome],
        state: ResourceSet<P::Resource>,
    ) {
        let lasts = if is_to_be_rechecked(&planned) { CAPACITY_RECHECK } else { self.options.resync };
        let PlannedPass { plan, violations, compiled, observed, scope, mut known, in_flight, .. } = planned;
        known.lasts = lasts.min(self.options.resync);
        let unsettled = find_unsettled(&plan, outcomes, in_flight.keys(), (&state, &compiled.resources));
        known.record_requirements(compiled.requirements, scope.as_ref());
        known.infeasible = compiled.infeasible;
        known.record_state(&observed, state, scope.is_some());
        known.restore(in_flight);
        // A part that was planned wrongly is not planned again, but the whole.
        let unsettled =
            unsettled.filter(|_| known.observed.unknown_instances.is_empty() && violations.is_empty());
        let unsettled =
            unsettled.map(|keys| Unsettled::of(keys, &known.requirements, &known.observed.resources));
        // What nobody needs has failed to close: whom to tell is known where the whole is planned.
        known.unsettled = unsettled.filter(|unsettled| self.failures.is_of(&unsettled.needed));
        if known.unsettled.as_ref().is_some_and(Unsettled::is_empty) {
            self.linger.forget_endings();
        }
        self.known = Some(known);
    }

    /// Waits until a change that an earlier pass left under way has ended, and records it; for ever if there is
    /// none. Cancel-safe.
    pub async fn wait_for_ended_change(&mut self) {
        match self.in_flight.next().await {
            Some(ended) => self.record_late(ended),
            None => pending().await,
        }
    }

    /// Waits until every change under way has ended, and records them.
    pub async fn end_all_changes(&mut self) {
        while let Some(ended) = self.in_flight.next().await {
            self.record_late(ended);
        }
    }

    pub(super) fn record_late(&mut self, EndedStep { step, result, .. }: EndedStep<P>) {
        let outcome = result.map_or_else(StepOutcome::Failed, StepOutcome::Applied);
        log(&step, &outcome);
        self.failures.record(&step, &outcome);
        self.follow_late(&step.action, &outcome);
    }

    /// Takes over what a change has left that an earlier pass left under way.
    fn follow_late(&mut self, action: &Action<P::Resource>, outcome: &StepOutcome) {
        self.known.take_if(|known| !is_certain(outcome) || !known.record_late(action));
        self.changed_late.insert(action.key());
    }

    /// Logs what the plan leaves as it is, and how long a long one takes.
    fn announce(&self, plan: &Plan<P::Resource>) {
        for withheld in &plan.withheld {
            tracing::info!(resource = %withheld.key, "stays as it is: {}", withheld.reason);
        }
        let backlog = self.provider.estimate_duration(plan.steps.len());
        if backlog >= LONG_PASS {
            let (steps, seconds) = (plan.steps.len(), backlog.as_secs());
            tracing::info!(steps, "the cloud's call rate lets this take about {seconds} s");
        }
    }

    /// Returns the earliest pass that is due although nothing changes.
    fn next_pass(&self, planned: &PlannedPass<P>) -> Option<NextPass> {
        let now = Instant::now();
        let hold_ends = is_held(&planned.plan).then(|| self.held.ends(self.options.mass_close_hold, now));
        let retry = self.failures.backoff.next(self.planned_at, now);
        // What was held back for a failure that has been forgotten since, because nobody needs the change.
        let mut failing = planned.backoff.iter();
        let forgotten = failing.any(|change| !self.failures.backoff.has(change)).then_some(Duration::ZERO);
        let recheck = is_to_be_rechecked(planned).then_some(CAPACITY_RECHECK);
        let resync = self.options.resync;
        let resync = (!resync.is_zero()).then(|| resync.saturating_sub(now - planned.known.read_at));
        let due = [
            (planned.linger_ends, WakeReason::LingerEnded),
            (retry, WakeReason::RetryDue),
            (forgotten, WakeReason::RetryDue),
            (hold_ends, WakeReason::HoldEnded),
            (recheck, WakeReason::CapacityRecheck),
            (resync, WakeReason::Resync),
        ];
        due.into_iter().filter_map(|(after, reason)| Some(NextPass { after: after?, reason })).min()
    }
}

/// Returns true if something waits for a step under way that it may not need: what closes, or a membership.
fn waits_needlessly<P: FirewallProvider>(planned: &PlannedPass<P>, outcomes: &[StepOutcome]) -> bool {
    let with = |outcome| planned.plan.steps.iter().zip(outcomes).filter(move |(_, own)| **own == outcome);
    let keys = |outcome| -> BTreeSet<Key<P>> { with(outcome).map(|(step, _)| step.action.key()).collect() };
    let (under_way, waiting) = (keys(StepOutcome::InFlight), keys(StepOutcome::Stopped));
    let mut memberships = planned.compiled.requirements.values().map(|required| &required.resources);
    let is_of = |needed: &BTreeSet<Key<P>>| !needed.is_disjoint(&waiting) && needed.is_disjoint(&under_way);
    let closes = with(StepOutcome::Stopped).any(|(step, _)| step.action.may_close());
    !under_way.is_empty() && (closes || memberships.any(is_of))
}

/// Returns true if the cloud has no capacity for something, or did not say whether a machine exists.
fn is_to_be_rechecked<P: FirewallProvider>(planned: &PlannedPass<P>) -> bool {
    planned.compiled.infeasible.iter().any(|infeasible| !infeasible.lasts)
        || !planned.known.observed.unknown_instances.is_empty()
}
