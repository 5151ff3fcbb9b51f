//! Reconciles one cloud once: observe, plan and check against a snapshot; then execute.
//!
//! Everything that decides is called from here and is pure; the rest moves data.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use firewall_core::{
    Action, Closings, Compiled, Effect, FirewallProvider, InFlight, OpenPort, Plan, PlanInput, ProviderError,
    Resource, ResourceSet, Step, Withheld, WithheldReason, check, find_closings, plan,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::executor::{Allowance, StepOutcome, execute};
use super::failures::{Failures, infeasible_problems};
use super::in_flight::{EndedStep, StepsInFlight};
use super::known_cloud::{KnownCloud, is_certain, observe};
use super::membership::{memberships, state_after};
use super::outcome::Membership;
use super::pass::{Key, NextPass, Options, Pass, PlannedPass, WakeReason};
use super::step_log::{differing, log, mark_untried, untried};
use crate::desired::claims;
use crate::desired::grouping::grouped;
use crate::desired::linger::Linger;
use crate::desired::snapshot::Snapshot;
use crate::desired::unknown::place_unknown;
use crate::intents::settings::Settings;
use crate::k8s::problem::Problem;

/// Time until the cloud is read again where it had no capacity for something, or did not say whether a machine
/// exists: it may list a new machine by then, or somebody may have freed a slot.
const CAPACITY_RECHECK: Duration = Duration::from_mins(1);

/// Time for which steps under way are waited for while none of them ends and no other can begin. Then the pass
/// ends, and what has opened is told.
const PATIENCE: Duration = Duration::from_secs(3);

/// A pass that is expected to take longer than this is announced in the log.
const LONG_PASS: Duration = Duration::from_secs(10);

/// Reconciles one cloud, pass by pass. Its memory of earlier passes can be lost: that costs a repetition,
/// never correctness.
pub struct Reconciler<P: FirewallProvider> {
    provider: Arc<P>,
    options: Options,
    in_flight: StepsInFlight<P>,
    known: Option<KnownCloud<P>>,
    /// The resources that a step has changed which an earlier pass left under way
    changed_late: BTreeSet<Key<P>>,
    /// The settings of the last snapshot
    settings: Option<Settings>,
    linger: Linger,
    failures: Failures<Key<P>>,
    /// The open ports that a held mass close would close, by namespace, each since when
    held: BTreeMap<(String, OpenPort), Instant>,
    started: Instant,
    /// The start of the last pass
    planned_at: Instant,
}

impl<P: FirewallProvider + 'static> Reconciler<P> {
    /// Returns a reconciler without memory.
    pub fn new(provider: P, options: Options) -> Self {
        let linger = Linger::new(options.linger);
        let now = Instant::now();
        Self {
            provider: Arc::new(provider),
            options,
            in_flight: StepsInFlight::none(),
            known: None,
            changed_late: BTreeSet::new(),
            settings: None,
            linger,
            failures: Failures::none(),
            held: BTreeMap::new(),
            started: now,
            planned_at: now,
        }
    }

    /// Returns the provider.
    #[must_use]
    pub fn provider(&self) -> &P {
        &self.provider
    }

    pub(super) const fn shared_provider(&self) -> &Arc<P> {
        &self.provider
    }

    /// Observes the cloud, and plans what would bring it to what the snapshot asks for. Changes nothing in
    /// the cloud.
    ///
    /// # Errors
    /// If the cloud cannot be observed; then nothing is known well enough to change anything.
    pub async fn observe_and_plan(
        &mut self,
        snapshot: &Arc<Snapshot>,
    ) -> Result<PlannedPass<P>, ProviderError> {
        self.planned_at = Instant::now();
        // What an administrator has just forbidden must not linger.
        if self.settings.replace(snapshot.settings.clone()).is_some_and(|before| before != snapshot.settings)
        {
            self.linger.end_all();
        }
        let unclaimed = |id: &str| claims::unclaimed(id, &self.options.active);
        let instance = |id: &str| self.provider.parse_provider_id(id);
        let unknown = place_unknown(snapshot, instance);
        let mut grouped = grouped(snapshot.demand.exposures.iter(), instance, unclaimed, unknown);
        let (desired, linger_ends) = self.linger.extend(&grouped, snapshot, self.started.elapsed());
        grouped.desired = desired;
        while let Some(ended) = self.in_flight.next_ended() {
            self.record_late(ended);
        }
        // Those that end while the cloud is read may or may not be in the answer.
        let changing = self.in_flight.actions();
        let known = self.known.take();
        let (mut observed, read_at) =
            observe(&*self.provider, known, &grouped.desired.members(), snapshot).await?;
        let left: BTreeSet<String> = observed.resources.values().flat_map(Resource::serves).collect();
        self.linger.retain_endings(|group| left.contains(&group.to_string()));
        let compiled = self.provider.compile(&grouped.desired, &observed.inventory);
        let in_flight = InFlight::settle(
            changing.iter().map(|change| (change.before(), change.after())),
            &mut observed.resources,
        );
        let backoff = self.failures.backoff.waiting(Instant::now());
        let (plan, violations) = self.plan(&compiled, &observed.resources, &backoff, &in_flight);
        let mut problems: BTreeSet<Problem> = snapshot.problems.iter().cloned().collect();
        problems.extend(grouped.problems.iter().cloned());
        for infeasible in &compiled.infeasible {
            problems.extend(infeasible_problems(infeasible, &grouped));
        }
        let in_flight = changing.iter().map(Action::key).collect();
        Ok(PlannedPass {
            compiled,
            observed,
            grouped,
            plan,
            violations,
            problems,
            snapshot: Arc::clone(snapshot),
            read_at,
            backoff,
            in_flight,
            changed_late: std::mem::take(&mut self.changed_late),
            linger_ends,
        })
    }

    /// Plans and checks; a mass close that has been held for long enough is released.
    fn plan(
        &mut self,
        compiled: &Compiled<P::Resource>,
        observed: &ResourceSet<P::Resource>,
        backoff: &BTreeSet<(Key<P>, Effect)>,
        in_flight: &InFlight<Key<P>>,
    ) -> (Plan<P::Resource>, BTreeSet<usize>) {
        let now = Instant::now();
        // Slow, and needed only where something is held.
        let closings = LazyCell::new(|| find_closings(observed, &compiled.resources));
        let released = if self.held.is_empty() { BTreeSet::new() } else { self.released(&closings, now) };
        let input = PlanInput {
            desired: &compiled.resources,
            observed,
            unknown: &compiled.unknown,
            policy: self.options.policy,
            limits: self.options.limits,
            released: &released,
            endings: self.linger.endings(),
            backoff,
            in_flight,
        };
        let plan = plan(&input);
        let violations = check(&input, &plan);
        for violation in &violations {
            tracing::error!("{violation}; the step is left out. This is a defect, please report it");
        }
        // A released closing stays released until it has closed: that can take several passes.
        if released.is_empty() && !is_held(&plan) {
            self.held.clear();
        } else {
            self.hold(&closings, &plan, &released, now);
        }
        (plan, violations.into_iter().map(|violation| violation.step).collect())
    }

    /// Returns the namespaces whose held closings have been held for long enough. Pods come and go meanwhile: a
    /// closing that was added since does not begin the hold anew.
    fn released(&self, closings: &BTreeMap<String, Closings>, now: Instant) -> BTreeSet<String> {
        let hold = self.options.mass_close_hold;
        let is_released = |(namespace, closings): &(&String, &Closings)| {
            let since = |port: &&OpenPort| self.held.get(&((*namespace).clone(), (*port).clone()));
            let is_old = |port: &&OpenPort| since(port).is_some_and(|since| now - *since >= hold);
            let count =
                |ports: Vec<&OpenPort>| ports.iter().map(|(_, _, range)| range.count()).sum::<usize>();
            let (old, young): (Vec<_>, Vec<_>) = closings.closing.iter().partition(is_old);
            let (old, young) = (count(old), count(young));
            old > 0 && !self.options.limits.is_mass_close(closings.open.saturating_sub(old), young)
        };
        let released = closings.iter().filter(is_released);
        released.map(|(namespace, _)| namespace.clone()).collect()
    }

    /// Holds the closings of these namespaces and no others, from now on if not already.
    fn hold(
        &mut self,
        closings: &BTreeMap<String, Closings>,
        plan: &Plan<P::Resource>,
        released: &BTreeSet<String>,
        now: Instant,
    ) {
        let mut held: BTreeSet<&String> = released.iter().collect();
        for withheld in &plan.withheld {
            match &withheld.reason {
                WithheldReason::MassClose { namespace: Some(namespace), .. } => _ = held.insert(namespace),
                WithheldReason::MassClose { namespace: None, .. } => held.extend(closings.keys()),
                _ => {}
            }
        }
        let ports = closings.iter().filter(|(namespace, _)| held.contains(namespace));
        let ports = ports.flat_map(|(namespace, closings)| {
            closings.closing.iter().map(|port| (namespace.clone(), port.clone()))
        });
        let before = std::mem::take(&mut self.held);
        self.held = ports
            .map(|port| (before.get(&port).copied().unwrap_or(now), port))
            .map(|(since, port)| (port, since))
            .collect();
    }

    /// Returns the time until more of the held closings have been held for long enough.
    fn hold_ends(&self, now: Instant) -> Duration {
        let left = self.held.values().map(|since| self.options.mass_close_hold.saturating_sub(now - *since));
        // Where that is all of it, the next plan goes ahead.
        left.filter(|left| !left.is_zero()).min().unwrap_or_default()
    }

    /// Returns the memberships as they will be after the plan; used to retract addresses before ports close.
    #[must_use]
    pub fn projected_memberships(&self, planned: &PlannedPass<P>) -> Vec<Membership> {
        let mut memberships =
            memberships(&*self.provider, &self.failures, planned, &planned.observed.resources);
        let all = planned.compiled.resources.keys().cloned().collect();
        mark_untried(&mut memberships, &planned.compiled, &all);
        memberships
    }

    /// Executes the plan until `leave`, or until those of its steps that are under way keep the others waiting.
    /// These go on. A step that fails becomes a problem, and is tried again in a later pass.
    pub async fn execute_plan(&mut self, mut planned: PlannedPass<P>, leave: &CancellationToken) -> Pass {
        self.announce(&planned.plan);
        let (failures, changed_late) = (&mut self.failures, &mut self.changed_late);
        let mut has_failed = false;
        let record = |step: &Step<P::Resource>, outcome: &StepOutcome, is_late| {
            log(step, outcome);
            failures.record(step, outcome);
            has_failed |= matches!(outcome, StepOutcome::Failed(_));
            if is_late {
                changed_late.insert(step.action.key());
            }
        };
        let (plan, allowance) =
            ((&planned.plan, &planned.violations), Allowance { leave, patience: PATIENCE });
        let outcomes = execute(&self.provider, plan, &mut self.in_flight, &allowance, record).await;
        // Those of before are in the plan.
        let has_ended_late = !self.changed_late.is_empty();
        let applied = outcomes.iter().filter(|outcome| matches!(outcome, StepOutcome::Applied(_))).count();
        let state = state_after(&planned.observed.resources, &planned.plan, &outcomes);
        self.failures.retain(&state, &planned.compiled.resources, &planned.plan);
        let mut memberships = memberships(&*self.provider, &self.failures, &planned, &state);
        let untried = &untried(&planned.plan, &outcomes) | &planned.in_flight;
        mark_untried(&mut memberships, &planned.compiled, &untried);
        // Of one that is open in part it stays known what was open before.
        for membership in memberships.iter().filter(|one| one.open.is_ok() || !one.partly_open) {
            let asked = planned.grouped.desired.groups.get(&membership.group);
            let rules = asked.filter(|_| membership.open.is_ok()).map(|group| &group.rules);
            self.linger.record_open((membership.group.clone(), membership.instance.clone()), rules);
        }
        let mut withheld = BTreeMap::new();
        for Withheld { reason, .. } in &planned.plan.withheld {
            *withheld.entry(reason.as_str()).or_default() += 1;
        }
        let differing = differing(&planned.plan, &outcomes);
        let failed = self.failures.problems(&planned, &memberships);
        // What did not need the failed change must not wait until that is tried again.
        let around = has_failed.then_some(NextPass::at_once(WakeReason::ChangeFailed));
        let late = has_ended_late.then_some(NextPass::at_once(WakeReason::ChangeEnded));
        let mut problems = std::mem::take(&mut planned.problems);
        problems.extend(failed);
        let lasts = if is_to_be_rechecked(&planned) { CAPACITY_RECHECK } else { self.options.resync };
        let next = around.or(late).or_else(|| self.next_pass(&planned));
        let PlannedPass { compiled, mut observed, snapshot, read_at, in_flight, .. } = planned;
        if in_flight.is_empty() && !has_ended_late && is_certain(&outcomes) {
            observed.resources = state;
            let lasts = lasts.min(self.options.resync);
            self.known = Some(KnownCloud { observed, read_at, lasts, snapshot: Arc::clone(&snapshot) });
        }
        Pass {
            problems,
            next,
            applied,
            not_applied: outcomes.len() - applied,
            memberships,
            differing,
            withheld,
            still_open: compiled.requirements.into_keys().collect(),
            endings: self.linger.endings().clone(),
            snapshot,
        }
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

    fn record_late(&mut self, EndedStep { step, result, .. }: EndedStep<P>) {
        let outcome = result.map_or_else(StepOutcome::Failed, StepOutcome::Applied);
        log(&step, &outcome);
        self.failures.record(&step, &outcome);
        self.changed_late.insert(step.action.key());
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
        let hold_ends = is_held(&planned.plan).then(|| self.hold_ends(now));
        let retry = self.failures.backoff.next(self.planned_at, now);
        // What was held back for a failure that has been forgotten since, because nobody needs the change.
        let mut failing = planned.backoff.iter();
        let forgotten = failing.any(|change| !self.failures.backoff.has(change)).then_some(Duration::ZERO);
        let recheck = is_to_be_rechecked(planned).then_some(CAPACITY_RECHECK);
        let resync = self.options.resync;
        let resync = (!resync.is_zero()).then(|| resync.saturating_sub(now - planned.read_at));
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

/// Returns true if the cloud has no capacity for something, or did not say whether a machine exists.
fn is_to_be_rechecked<P: FirewallProvider>(planned: &PlannedPass<P>) -> bool {
    planned.compiled.infeasible.iter().any(|infeasible| !infeasible.lasts)
        || !planned.observed.unknown_instances.is_empty()
}

fn is_held<R: Resource>(plan: &Plan<R>) -> bool {
    plan.withheld.iter().any(|withheld| matches!(withheld.reason, WithheldReason::MassClose { .. }))
}
