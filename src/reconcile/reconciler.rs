//! Reconciles one cloud once: observe, plan and check against a snapshot; then execute.
//!
//! Everything that decides is called from here and is pure; the rest moves data.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use firewall_core::{
    Closings, Compiled, FirewallProvider, OpenPort, Plan, PlanInput, ProviderError, Resource, ResourceSet,
    Step, Withheld, WithheldReason, check, find_closings, plan,
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
use crate::desired::unknown::place_unknown;
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
    /// The open ports that a held mass close would close, by namespace, each since when
    held: BTreeMap<(String, OpenPort), Instant>,
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
            self.linger.end_all();
        }
        let unclaimed = |id: &str| claims::unclaimed(id, &self.options.active);
        let instance = |id: &str| self.provider.parse_provider_id(id);
        let unknown = place_unknown(snapshot, instance);
        let mut grouped = grouped(&snapshot.demand.exposures, instance, unclaimed, unknown);
        let (desired, linger_ends) = self.linger.extend(&grouped, snapshot, self.started.elapsed());
        grouped.desired = desired;
        let observed = self.provider.observe(&grouped.desired.members()).await?;
        let left: BTreeSet<String> = observed.resources.values().flat_map(Resource::serves).collect();
        self.linger.retain_endings(|group| left.contains(&group.to_string()));
        let compiled = self.provider.compile(&grouped.desired, &observed.inventory);
        let (plan, violations) = self.plan(&compiled, &observed.resources);
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
        compiled: &Compiled<P::Resource>,
        observed: &ResourceSet<P::Resource>,
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
            backoff: &self.failures.backoff.waiting(now),
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
        let has_failed = outcomes.iter().any(|outcome| matches!(outcome, StepOutcome::Failed(_)));
        // What did not need the failed change must not wait until that is tried again.
        let around = has_failed.then_some(NextPass::at_once(WakeReason::ChangeFailed));
        let next = around.or_else(|| self.next_pass(&planned));
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
            endings: self.linger.endings().clone(),
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
