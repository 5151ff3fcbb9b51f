//! One pass: from what is known of the cluster to a cloud that follows it.
//!
//! Everything that decides is called from here and is pure; what is left is moving data.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use firewall_core::{
    Desired, FirewallProvider, OpenPort, Plan, PlanInput, ProviderError, Resource, ResourceSet, Step,
    Withheld, WithheldReason, check, closings, plan,
};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::executor::{StepOutcome, execute};
use super::failures::{Failures, infeasible_problems};
use super::membership::{memberships, world_after};
use super::outcome::Membership;
use super::pass::{Key, Options, Pass, PlannedPass};
use super::step_log::{in_doubt, log, stopped, unsettled};
use crate::desired::claims;
use crate::desired::grouping::grouped;
use crate::desired::linger::Linger;
use crate::desired::snapshot::Snapshot;
use crate::intents::settings::Settings;
use crate::k8s::index::shared_index::SharedIndex;

/// How soon the cloud is read again where it has no place for something: a new machine that it does not list yet, a slot
/// that somebody frees.
const REFUSED: Duration = Duration::from_mins(1);

/// A pass that is expected to take longer than this is announced.
const LONG: Duration = Duration::from_secs(10);

/// Brings one cloud in line, pass by pass. What it remembers between passes can be lost: that costs a
/// repetition, never correctness.
pub struct Reconciler<P: FirewallProvider> {
    provider: P,
    options: Options,
    linger: Linger,
    failures: Failures<Key<P>>,
    /// What a plan that is held as a mass close would close, each since when.
    held: BTreeMap<OpenPort, Instant>,
    started: Instant,
}

impl<P: FirewallProvider> Reconciler<P> {
    /// A reconciler without memory.
    pub fn new(provider: P, options: Options) -> Self {
        let linger = Linger::new(options.linger);
        Self {
            provider,
            options,
            linger,
            failures: Failures::none(),
            held: BTreeMap::new(),
            started: Instant::now(),
        }
    }

    /// The provider's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.provider.name()
    }

    /// Defaults and guardrails for intents, as they are now.
    #[must_use]
    pub fn settings(&self) -> watch::Receiver<Settings> {
        self.options.settings.clone()
    }

    /// Reads cluster and cloud, and plans. Changes nothing in the cloud.
    ///
    /// # Errors
    /// If the cloud cannot be observed; then nothing is known well enough to change anything.
    pub async fn observe_and_plan(&mut self, index: &SharedIndex) -> Result<PlannedPass<P>, ProviderError> {
        // What an administrator has just forbidden must not linger.
        if self.options.settings.has_changed().unwrap_or(false) {
            self.linger.forget();
        }
        let snapshot = Snapshot::take(&index.read(), &self.options.settings.borrow_and_update());
        let unclaimed = |id: &str| claims::unclaimed(id, &self.options.active);
        let instance = |id: &str| self.provider.instance(id);
        let mut grouped =
            grouped(&snapshot.demand.exposures, instance, unclaimed, snapshot.completeness.clone());
        let now = self.started.elapsed();
        let (desired, linger_ends) =
            self.linger.extend(&grouped, &snapshot.port_owners, &snapshot.fingerprints, now);
        grouped.desired = desired;
        let observed = self.provider.observe(&grouped.desired.members()).await?;
        let compiled = self.provider.compile(&grouped.desired, &observed.inventory);
        let (plan, refused) = self.plan(&grouped.desired, &compiled.resources, &observed.resources);
        let mut notices = snapshot.problems.clone();
        notices.extend(grouped.problems.iter().cloned());
        for infeasible in &compiled.infeasible {
            notices.extend(infeasible_problems(infeasible, &grouped));
        }
        let observed = observed.resources;
        let snapshot = Arc::new(snapshot);
        Ok(PlannedPass { compiled, observed, grouped, plan, refused, notices, snapshot, linger_ends })
    }

    /// Plans and checks; what has been held as a mass close for long enough is released.
    fn plan(
        &mut self,
        desired: &Desired,
        wanted: &ResourceSet<P::Resource>,
        observed: &ResourceSet<P::Resource>,
    ) -> (Plan<P::Resource>, BTreeSet<usize>) {
        let now = Instant::now();
        let mut limits = self.options.limits;
        // Slow, and needed only where something is held.
        let going = LazyCell::new(|| closings(observed, wanted));
        let mut released = false;
        if !self.held.is_empty() {
            let (open, closing) = &*going;
            self.hold(closing, now);
            let hold = self.options.mass_close_hold;
            let young = self.held.values().filter(|since| now - **since < hold).count();
            let old = self.held.len() - young;
            // Pods come and go meanwhile: what has come to it since does not begin it anew.
            released = old > 0 && !limits.is_mass_close(open.saturating_sub(old), young);
        }
        limits.mass_close_released |= released;
        let backoff = self.failures.backoff.waiting(now);
        let input = PlanInput {
            desired: wanted,
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
        // What is released stays so until it has closed: that can take several passes.
        if released || is_held(&plan) {
            self.hold(&going.1, now);
        } else {
            self.held.clear();
        }
        (plan, violations.into_iter().map(|violation| violation.step).collect())
    }

    /// Holds this and nothing else, from now on if not already.
    fn hold(&mut self, closing: &BTreeSet<OpenPort>, now: Instant) {
        self.held.retain(|open, _| closing.contains(open));
        for open in closing {
            self.held.entry(open.clone()).or_insert(now);
        }
    }

    /// How long until more of what is held has been held for long enough.
    fn hold_ends(&self, now: Instant) -> Duration {
        let left = self.held.values().map(|since| self.options.mass_close_hold.saturating_sub(now - *since));
        // Where that is all of it, the next plan goes ahead.
        left.filter(|left| !left.is_zero()).min().unwrap_or_default()
    }

    /// What is open, and what the plan does not close: addresses that lead there stay while it is carried out.
    #[must_use]
    pub fn projected_memberships(&self, planned: &PlannedPass<P>) -> Vec<Membership> {
        let mut memberships = memberships(&self.provider, &self.failures, planned, &planned.observed);
        let all = planned.compiled.resources.keys().cloned().collect();
        in_doubt(&mut memberships, &planned.compiled, &all);
        memberships
    }

    /// Carries the plan out until `stop`. Failures of single steps are notices, and tried again later.
    pub async fn execute_plan(&mut self, planned: PlannedPass<P>, stop: &CancellationToken) -> Pass {
        for withheld in &planned.plan.withheld {
            tracing::info!(resource = %withheld.key, "stays as it is: {}", withheld.reason);
        }
        let backlog = self.provider.backlog(planned.plan.steps.len());
        if backlog >= LONG {
            let (steps, seconds) = (planned.plan.steps.len(), backlog.as_secs());
            tracing::info!(steps, "the cloud's call rate lets this take about {seconds} s");
        }
        let (provider, failures) = (&self.provider, &mut self.failures);
        let learn = |step: &Step<P::Resource>, outcome: &StepOutcome| {
            log(step, outcome);
            failures.learn(step, outcome);
        };
        let outcomes = execute(provider, &planned.plan, &planned.refused, stop, learn).await;
        let applied = outcomes.iter().filter(|outcome| matches!(outcome, StepOutcome::Applied(_))).count();
        let undone = outcomes.len() - applied;
        let world = world_after(&planned.observed, &planned.plan, &outcomes);
        self.failures.retain(&world, &planned.compiled.resources);
        let mut memberships = memberships(&self.provider, &self.failures, &planned, &world);
        in_doubt(&mut memberships, &planned.compiled, &stopped(&planned.plan, &outcomes));
        let unsettled = unsettled(&planned.plan, &outcomes);
        let mut withheld = BTreeMap::new();
        for Withheld { reason, .. } in &planned.plan.withheld {
            *withheld.entry(reason.as_str()).or_default() += 1;
        }
        let told = self.failures.told(&planned, &memberships);
        let mut notices = planned.notices;
        notices.extend(told);
        let now = Instant::now();
        let hold_ends = is_held(&planned.plan).then(|| self.hold_ends(now));
        let planned_at = planned.snapshot.demand.at.unwrap_or(now);
        let retry = self.failures.backoff.next(planned_at, now);
        let refused = (!planned.compiled.infeasible.is_empty()).then_some(REFUSED);
        let again = [planned.linger_ends, retry, hold_ends, refused].into_iter().flatten().min();
        let standing = planned.compiled.requirements.into_keys().collect();
        let snapshot = planned.snapshot;
        Pass { notices, again, applied, undone, memberships, unsettled, withheld, standing, snapshot }
    }
}

fn is_held<R: Resource>(plan: &Plan<R>) -> bool {
    plan.withheld.iter().any(|withheld| matches!(withheld.reason, WithheldReason::MassClose { .. }))
}
