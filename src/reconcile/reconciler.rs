//! Reconciles one cloud once: observe, plan and check against a snapshot; then execute.
//!
//! Everything that decides is called from here and is pure; the rest moves data.

mod execution;

use std::cell::LazyCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use firewall_core::{
    Compiled, Desired, Effect, FirewallProvider, InFlight, InstanceId, Plan, PlanInput, ProviderError,
    Resource, ResourceSet, Unknown, check, find_closings, may_be_mass_close, plan,
};
use tokio::time::Instant;

use super::failures::{Failures, infeasible_problems};
use super::held_closings::{HeldClosings, is_held};
use super::in_flight::{Changing, StepsInFlight, settle};
use super::known_cloud::{Key, KnownCloud};
use super::membership::find_closed;
use super::pass::{Options, PlannedPass};
use super::scope::{Scoped, select};
use crate::desired::claims;
use crate::desired::few::Few;
use crate::desired::grouping::{Grouped, grouped};
use crate::desired::linger::Linger;
use crate::desired::placement::{Placement, Touched};
use crate::desired::snapshot::Snapshot;
use crate::desired::unknown::{machines_in_doubt, place_unknown};
use crate::intents::settings::Settings;
use crate::k8s::problem::Problem;

/// Reconciles one cloud, pass by pass. Its memory of earlier passes can be lost: that costs a repetition,
/// never correctness.
pub struct Reconciler<P: FirewallProvider> {
    provider: Arc<P>,
    options: Options,
    in_flight: StepsInFlight<P>,
    known: Option<KnownCloud<P>>,
    /// The exposures of the last snapshot, by machine
    placement: Placement,
    placed: Option<Arc<Snapshot>>,
    /// The resources that a step has changed which an earlier pass left under way
    changed_late: BTreeSet<Key<P>>,
    /// The settings of the last snapshot
    settings: Option<Settings>,
    linger: Linger,
    failures: Failures<Key<P>>,
    held: HeldClosings,
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
            placement: Placement::default(),
            placed: None,
            changed_late: BTreeSet::new(),
            settings: None,
            linger,
            failures: Failures::none(),
            held: HeldClosings::default(),
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
    /// Only what has changed since the last pass, or was not as it should be after it, is planned, unless that may
    /// be anything.
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
        while let Some(ended) = self.in_flight.next_ended() {
            self.record_late(ended);
        }
        let touched = self.place(snapshot);
        let mut known = self.known.take();
        known.take_if(|known| !known.holds_for(&*self.provider, snapshot, self.planned_at));
        if let Some(touched) = touched.filter(|_| self.held.is_empty())
            && let Some(last) = known.take_if(|known| known.unsettled.is_some())
        {
            match self.plan_scoped(snapshot, touched, last).await? {
                Ok(planned) => match self.read_again(planned).await? {
                    Ok(planned) => return Ok(planned),
                    Err(surprised) => known = Some(surprised),
                },
                Err(of_no_use) => known = Some(of_no_use),
            }
        }
        self.plan_whole(snapshot, known).await
    }

    /// Places what the snapshot asks for on machines. Returns what has changed; `None` if that may be anything.
    fn place(&mut self, snapshot: &Arc<Snapshot>) -> Option<Touched> {
        let instance = |id: &str| find_instance(&*self.provider, &self.options, id);
        let exposures = &snapshot.demand.exposures;
        let before = self.placed.replace(Arc::clone(snapshot));
        let changes = before.and_then(|before| snapshot.changes_since(&before));
        let touched = changes.map(|changes| self.placement.update(exposures, &changes.parts, instance));
        if touched.is_none() {
            self.placement = Placement::of(exposures, instance);
        }
        touched
    }

    fn group(&self, snapshot: &Snapshot, scope: Option<&BTreeSet<InstanceId>>) -> Grouped {
        let instance = |id: &str| find_instance(&*self.provider, &self.options, id);
        match scope {
            None => {
                let unknown = place_unknown(snapshot, instance);
                grouped(snapshot.demand.exposures.iter(), instance, unknown)
            }
            Some(scope) => grouped(self.placement.at(scope, instance), instance, Unknown::default()),
        }
    }

    /// Plans the whole cluster.
    async fn plan_whole(
        &mut self,
        snapshot: &Arc<Snapshot>,
        known: Option<KnownCloud<P>>,
    ) -> Result<PlannedPass<P>, ProviderError> {
        let mut grouped = self.group(snapshot, None);
        let now = self.started.elapsed();
        let (desired, linger_ends) = self.linger.extend(&grouped, snapshot, now, None);
        grouped.desired = desired;
        // Those that end while the cloud is read may or may not be in the answer.
        let changing = self.in_flight.actions();
        let mut members = grouped.desired.members();
        let instance = |id: &str| find_instance(&*self.provider, &self.options, id);
        let ended = self.linger.ended_machines();
        // What was left before the cloud was last read whole may be anywhere.
        let is_read = |id: &InstanceId| known.as_ref().is_none_or(|known| known.members.contains(id));
        let is_left = |id: &InstanceId| is_read(id) || ended.contains(id);
        let is_left = self.provider.places_by_facts().then_some(&is_left);
        members.extend(machines_in_doubt(snapshot, instance, is_left));
        let mut known = match known {
            Some(mut known) => {
                known.follow(&*self.provider, &members, true).await?;
                known
            }
            None => KnownCloud::read(&*self.provider, &members, snapshot).await?,
        };
        (known.snapshot, known.unsettled) = (Arc::clone(snapshot), None);
        let mut observed = std::mem::take(&mut known.observed.resources);
        let left: BTreeSet<String> = observed.values().flat_map(Resource::serves).collect();
        self.linger.retain_endings(|group| left.contains(&group.to_string()));
        let mut compiled = self.provider.compile(&grouped.desired, &known.observed.inventory);
        // Somebody else has closed them, and nothing opens for a pod that is gone.
        let closed = find_closed(self.linger.leaving(), &grouped.desired, &compiled, &observed);
        if !closed.is_empty() {
            self.linger.end(&closed, snapshot, &mut grouped.desired);
            compiled = self.provider.compile(&grouped.desired, &known.observed.inventory);
        }
        let in_flight = settle(&changing, &mut observed);
        Ok(self.finish_plan((compiled, observed, grouped), known, in_flight, (None, linger_ends)))
    }

    /// Plans what these changes can reach, and what is unsettled: all else is as it should be. Returns what is known of the cloud
    /// if the whole has to be planned.
    async fn plan_scoped(
        &mut self,
        snapshot: &Arc<Snapshot>,
        touched: Touched,
        mut known: KnownCloud<P>,
    ) -> Result<Result<PlannedPass<P>, KnownCloud<P>>, ProviderError> {
        let Some(mut unsettled) = known.unsettled.take() else { return Ok(Err(known)) };
        let touched = self.add_unsettled(touched, &known, std::mem::take(&mut unsettled.memberships));
        let changing = self.in_flight.actions();
        let mut instances: BTreeSet<InstanceId> = touched.values().flatten().cloned().collect();
        let is_surprised = known.follow(&*self.provider, &instances, false).await?;
        if is_surprised || !known.observed.unknown_instances.is_empty() {
            return Ok(Err(known));
        }
        // Also those that are no members any more: what is left there.
        instances.extend(unsettled.instances.iter().cloned());
        let Some(scope) = self.provider.find_affected(&instances, &known.observed.inventory) else {
            return Ok(Err(known));
        };
        let mut grouped = self.group(snapshot, Some(&scope));
        let now = self.started.elapsed();
        let (desired, linger_ends) = self.linger.extend(&grouped, snapshot, now, Some(&scope));
        grouped.desired = desired;
        let mut compiled = self.compile_scoped(&grouped.desired, &known, &scope, &touched);
        let resources = &known.observed.resources;
        // Nothing opens for a pod that is gone.
        if !find_closed(self.linger.leaving(), &grouped.desired, &compiled, resources).is_empty() {
            return Ok(Err(known));
        }
        let last = (&known.requirements, &unsettled.resources);
        let groups = touched.keys().collect();
        let Scoped { desired, mut observed } = select(resources, last, &compiled, &scope, &groups);
        // That is counted in all of a namespace, and of the cluster.
        if may_be_mass_close(self.options.limits, &observed, &desired) {
            return Ok(Err(known));
        }
        compiled.resources = desired;
        let members = grouped.desired.members();
        known.left.extend(scope.difference(&members).cloned());
        known.snapshot = Arc::clone(snapshot);
        // All of this is planned anew if the plan is abandoned.
        unsettled.memberships = touched;
        known.unsettled = Some(unsettled);
        let in_flight = settle(&changing, &mut observed);
        Ok(Ok(self.finish_plan((compiled, observed, grouped), known, in_flight, (Some(scope), linger_ends))))
    }

    /// Reads what a plan relies on. Returns the plan, or what is known of the cloud if that is something else: then the
    /// whole has to be planned.
    async fn read_again(
        &mut self,
        mut planned: PlannedPass<P>,
    ) -> Result<Result<PlannedPass<P>, KnownCloud<P>>, ProviderError> {
        let relied_on = planned.plan.relied_on(&planned.observed);
        if relied_on.is_empty() || !planned.known.read_again(&*self.provider, relied_on).await? {
            return Ok(Ok(planned));
        }
        self.changed_late = planned.changed_late;
        Ok(Err(planned.known))
    }

    /// Compiles what is asked for in scope. Where rules name members, those of a group that is not touched cannot be
    /// compiled, because not all of its members are in scope: they are as they were.
    fn compile_scoped(
        &self,
        desired: &Desired,
        known: &KnownCloud<P>,
        scope: &BTreeSet<InstanceId>,
        touched: &Touched,
    ) -> Compiled<P::Resource> {
        let inventory = &known.observed.inventory;
        if !self.provider.rules_name_members() {
            return self.provider.compile(desired, inventory);
        }
        let mut desired = desired.clone();
        desired.groups.retain(|group, _| touched.contains_key(group));
        let mut compiled = self.provider.compile(&desired, inventory);
        for instance in scope {
            let required = known.requirements.get(instance).into_iter().flat_map(Few::iter);
            let others = required.filter(|(group, _)| !touched.contains_key(*group));
            compiled.requirements.extend(
                others.map(|(group, required)| ((group.clone(), instance.clone()), required.clone())),
            );
        }
        compiled
    }

    /// Adds what is unsettled, what lingers, what could not be had, and, where rules name members, all members of the
    /// groups.
    fn add_unsettled(&self, mut touched: Touched, known: &KnownCloud<P>, unsettled: Touched) -> Touched {
        for (group, instances) in unsettled {
            touched.entry(group).or_default().extend(instances);
        }
        for (group, instance) in self.linger.leaving() {
            touched.entry(group.clone()).or_default().insert(instance.clone());
        }
        let mut whole = BTreeSet::new();
        for infeasible in &known.infeasible {
            let instances = touched.entry(infeasible.group.clone()).or_default();
            match &infeasible.instance {
                Some(instance) => _ = instances.insert(instance.clone()),
                None => _ = whole.insert(infeasible.group.clone()),
            }
        }
        let names_members = self.provider.rules_name_members();
        for (group, instances) in &mut touched {
            if names_members || whole.contains(group) {
                instances.extend(self.placement.members(group).cloned());
            }
        }
        touched
    }

    /// Plans and checks, once the cloud is observed.
    fn finish_plan(
        &mut self,
        (compiled, observed, grouped): (Compiled<P::Resource>, ResourceSet<P::Resource>, Grouped),
        known: KnownCloud<P>,
        (in_flight, changing): (InFlight<Key<P>>, Changing<P::Resource>),
        (scope, linger_ends): (Option<BTreeSet<InstanceId>>, Option<Duration>),
    ) -> PlannedPass<P> {
        let backoff = self.failures.backoff.waiting(Instant::now());
        let (plan, violations) = self.plan(&compiled, &observed, &backoff, &in_flight);
        let mut own_problems: BTreeSet<Problem> = grouped.problems.clone();
        for infeasible in &compiled.infeasible {
            own_problems.extend(infeasible_problems(infeasible, &grouped));
        }
        PlannedPass {
            compiled,
            observed,
            grouped,
            plan,
            violations,
            own_problems,
            snapshot: Arc::clone(&known.snapshot),
            scope,
            known,
            backoff,
            in_flight: changing,
            changed_late: std::mem::take(&mut self.changed_late),
            linger_ends,
        }
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
        let closings = LazyCell::new(|| find_closings(self.options.limits, observed, &compiled.resources));
        let Options { limits, mass_close_hold: hold, policy, .. } = &self.options;
        let released = if self.held.is_empty() {
            BTreeSet::new()
        } else {
            self.held.released(&closings, (limits, *hold), now)
        };
        let input = PlanInput {
            desired: &compiled.resources,
            observed,
            unknown: &compiled.unknown,
            policy: *policy,
            limits: *limits,
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
            self.held.hold(&closings, &plan, &released, now);
        }
        (plan, violations.into_iter().map(|violation| violation.step).collect())
    }
}

/// Reads a providerID. One that no active cloud claims is an error; one that another does is nobody's problem
/// here, and `None`.
fn find_instance<P: FirewallProvider>(
    provider: &P,
    options: &Options,
    id: &str,
) -> Option<Result<InstanceId, String>> {
    provider.parse_provider_id(id).or_else(|| claims::unclaimed(id, &options.active).map(Err))
}
