//! Reconciles one cloud once: observe, plan and check against a snapshot; then execute.
//!
//! Everything that decides is called from here and is pure; the rest moves data.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use firewall_core::{
    Desired, FirewallProvider, OpenPort, Plan, PlanInput, ProviderError, Resource, ResourceSet, Step,
    Withheld, WithheldReason, check, find_closings, plan,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::executor::{StepOutcome, execute};
use super::failures::{Failures, infeasible_problems};
use super::membership::{memberships, state_after};
use super::outcome::Membership;
use super::pass::{Key, NextPass, Options, Pass, PlannedPass, WakeReason};
use super::step_log::{differing, log, mark_untried, untried};
use crate::desired::claims;
use crate::desired::grouping::grouped;
use crate::desired::linger::Linger;
use crate::desired::snapshot::Snapshot;
use crate::intents::settings::Settings;

/// Time until the cloud is read again where it had no capacity for something: it may list a new machine by
/// then, or somebody may have freed a slot.
const CAPACITY_RECHECK: Duration = Duration::from_mins(1);

/// A pass that is expected to take longer than this is announced in the log.
const LONG_PASS: Duration = Duration::from_secs(10);

/// Reconciles one cloud, pass by pass. Its memory of earlier passes can be lost: that costs a repetition,
/// never correctness.
pub struct Reconciler<P: FirewallProvider> {
    provider: P,
    options: Options,
    /// The settings of the last snapshot
    settings: Option<Settings>,
    linger: Linger,
    failures: Failures<Key<P>>,
    /// The open ports that a held mass close would close, each since when
    held: BTreeMap<OpenPort, Instant>,
    started: Instant,
    /// The start of the last pass
    planned_at: Instant,
}

impl<P: FirewallProvider> Reconciler<P> {
    /// Returns a reconciler without memory.
    pub fn new(provider: P, options: Options) -> Self {
        let linger = Linger::new(options.linger);
        let now = Instant::now();
        Self {
            provider,
            options,
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
    pub const fn provider(&self) -> &P {
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
            self.linger.forget();
        }
        let unclaimed = |id: &str| claims::unclaimed(id, &self.options.active);
        let instance = |id: &str| self.provider.parse_provider_id(id);
        let mut grouped =
            grouped(&snapshot.demand.exposures, instance, unclaimed, snapshot.completeness.clone());
        let now = self.started.elapsed();
        let (desired, linger_ends) =
            self.linger.extend(&grouped, &snapshot.port_owners, &snapshot.fingerprints, now);
        grouped.desired = desired;
        let observed = self.provider.observe(&grouped.desired.members()).await?;
        let compiled = self.provider.compile(&grouped.desired, &observed.inventory);
        let (plan, violations) = self.plan(&grouped.desired, &compiled.resources, &observed.resources);
        let mut problems = snapshot.problems.clone();
        problems.extend(grouped.problems.iter().cloned());
        for infeasible in &compiled.infeasible {
            problems.extend(infeasible_problems(infeasible, &grouped));
        }
        let (observed, snapshot) = (observed.resources, Arc::clone(snapshot));
        Ok(PlannedPass { compiled, observed, grouped, plan, violations, problems, snapshot, linger_ends })
    }

    /// Plans and checks; a mass close that has been held for long enough is released.
    fn plan(
        &mut self,
        desired: &Desired,
        resources: &ResourceSet<P::Resource>,
        observed: &ResourceSet<P::Resource>,
    ) -> (Plan<P::Resource>, BTreeSet<usize>) {
        let now = Instant::now();
        let mut limits = self.options.limits;
        // Slow, and needed only where something is held.
        let closing = LazyCell::new(|| find_closings(observed, resources));
        let mut released = false;
        if !self.held.is_empty() {
            let (open, closing) = &*closing;
            self.hold(closing, now);
            let hold = self.options.mass_close_hold;
            let young = self.held.values().filter(|since| now - **since < hold).count();
            let old = self.held.len() - young;
            // Pods come and go meanwhile: a closing that was added since does not begin the hold anew.
            released = old > 0 && !limits.is_mass_close(open.saturating_sub(old), young);
        }
        limits.mass_close_released |= released;
        let backoff = self.failures.backoff.waiting(now);
        let input = PlanInput {
            desired: resources,
            observed,
            completeness: &desired.completeness,
            policy: self.options.policy,
            limits,
            backoff: &backoff,
        };
        let plan = plan(&input);
        let violations = check(&input, &plan);
        for violation in &violations {
            tracing::error!("{violation}; the step is left out. This is a defect, please report it");
        }
        // A released closing stays released until it has closed: that can take several passes.
        if released || is_held(&plan) {
            self.hold(&closing.1, now);
        } else {
            self.held.clear();
        }
        (plan, violations.into_iter().map(|violation| violation.step).collect())
    }

    /// Holds these open ports and no others, from now on if not already.
    fn hold(&mut self, closing: &BTreeSet<OpenPort>, now: Instant) {
        self.held.retain(|open, _| closing.contains(open));
        for open in closing {
            self.held.entry(open.clone()).or_insert(now);
        }
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
        let mut memberships = memberships(&self.provider, &self.failures, planned, &planned.observed);
        let all = planned.compiled.resources.keys().cloned().collect();
        mark_untried(&mut memberships, &planned.compiled, &all);
        memberships
    }

    /// Executes the plan until `stop`. A step that fails becomes a problem, and is tried again in a later
    /// pass.
    pub async fn execute_plan(&mut self, planned: PlannedPass<P>, stop: &CancellationToken) -> Pass {
        self.announce(&planned.plan);
        let (provider, failures) = (&self.provider, &mut self.failures);
        let record = |step: &Step<P::Resource>, outcome: &StepOutcome| {
            log(step, outcome);
            failures.record(step, outcome);
        };
        let outcomes = execute(provider, &planned.plan, &planned.violations, stop, record).await;
        let applied = outcomes.iter().filter(|outcome| matches!(outcome, StepOutcome::Applied(_))).count();
        let state = state_after(&planned.observed, &planned.plan, &outcomes);
        self.failures.retain(&state, &planned.compiled.resources);
        let mut memberships = memberships(&self.provider, &self.failures, &planned, &state);
        mark_untried(&mut memberships, &planned.compiled, &untried(&planned.plan, &outcomes));
        let mut withheld = BTreeMap::new();
        for Withheld { reason, .. } in &planned.plan.withheld {
            *withheld.entry(reason.as_str()).or_default() += 1;
        }
        let failed = self.failures.problems(&planned, &memberships);
        let next = self.next_pass(&planned);
        let mut problems = planned.problems;
        problems.extend(failed);
        Pass {
            problems,
            next,
            applied,
            not_applied: outcomes.len() - applied,
            memberships,
            differing: differing(&planned.plan, &outcomes),
            withheld,
            still_open: planned.compiled.requirements.into_keys().collect(),
            snapshot: planned.snapshot,
        }
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
        let recheck = (!planned.compiled.infeasible.is_empty()).then_some(CAPACITY_RECHECK);
        let due = [
            (planned.linger_ends, WakeReason::LingerEnded),
            (retry, WakeReason::RetryDue),
            (hold_ends, WakeReason::HoldEnded),
            (recheck, WakeReason::CapacityRecheck),
        ];
        due.into_iter().filter_map(|(after, reason)| Some(NextPass { after: after?, reason })).min()
    }
}

fn is_held<R: Resource>(plan: &Plan<R>) -> bool {
    plan.withheld.iter().any(|withheld| matches!(withheld.reason, WithheldReason::MassClose { .. }))
}
