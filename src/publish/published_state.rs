//! The published state: the last results of each cloud, and the statuses written from them. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use firewall_core::InstanceId;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::cluster_now::ClusterNow;
use super::outcomes::Outcomes;
use super::readiness::{GateUpdate, plan_gate_updates};
use super::served_machines::ServedMachines;
use super::status::joined::JoinedStatus;
use super::status::{WrittenStatuses, compute_statuses, retract_addresses, truncate_lists};
use super::touched::{Concerned, Touched};
use crate::desired::snapshot::ClusterDemand;
use crate::intents::exposure::Exposure;
use crate::intents::port_owner::PortOwners;
use crate::k8s::host_port_exposure::ControllerStatus;
use crate::k8s::index::Index;
use crate::k8s::objects::ObjectRef;
use crate::k8s::problem::Problem;
use crate::reconcile::outcome::Membership;

/// The result of a pass of one cloud.
pub(super) struct CloudResult {
    /// All problems found
    pub(super) problems: BTreeSet<Problem>,
    /// The instances that the pass was about; none if it was about all
    pub(super) scope: Option<BTreeSet<InstanceId>>,
    /// The state of each workload's ports on the nodes in scope
    pub(super) memberships: Vec<Arc<Membership>>,
    /// The demand that the pass was planned for
    pub(super) demand: ClusterDemand,
}

/// The last results of a cloud, joined.
#[derive(Default)]
struct LastResults {
    problems: BTreeSet<Problem>,
    memberships: BTreeMap<InstanceId, Vec<Arc<Membership>>>,
    demand: ClusterDemand,
}

impl LastResults {
    /// Takes over the problems and memberships of a result: outside of its scope those before hold.
    fn join(&mut self, result: CloudResult, touched: &mut Touched) {
        let CloudResult { problems, scope, memberships, .. } = result;
        for problem in self.problems.symmetric_difference(&problems) {
            touched.add_object(&problem.object);
        }
        self.problems = problems;
        let mut before = BTreeMap::new();
        match &scope {
            None => self.memberships.clear(),
            Some(scope) => before.extend(scope.iter().filter_map(|one| self.memberships.remove_entry(one))),
        }
        for membership in memberships {
            let there = self.memberships.entry(membership.instance.clone()).or_default();
            there.reserve_exact(1);
            there.push(membership);
        }
        let Some(scope) = scope else { return touched.add_everything() };
        for instance in &scope {
            let [before, now] = [before.get(instance), self.memberships.get(instance)]
                .map(|memberships| memberships.map_or(&[][..], Vec::as_slice));
            // Few: those of one machine.
            let has =
                |all: &[Arc<Membership>], one: &Membership| all.iter().any(|other| is_told_alike(other, one));
            let differing = before.iter().filter(|one| !has(now, one));
            let differing = differing.chain(now.iter().filter(|one| !has(before, one)));
            differing.for_each(|membership| touched.add_membership(membership));
        }
    }
}

/// Returns true if statuses and gates tell the same of both. Which pass has opened a membership is told by Events.
fn is_told_alike(one: &Membership, other: &Membership) -> bool {
    *one == Membership { opened: one.opened, ..other.clone() }
}

/// Holds the last result of each cloud, the newest demand, and the statuses written last.
pub(super) struct PublishedState {
    /// The name of this controller
    controller: String,
    machines: ServedMachines,
    cloud_count: usize,
    by_cloud: BTreeMap<&'static str, LastResults>,
    /// The clouds that could not be observed by their last pass
    unobserved: BTreeSet<&'static str>,
    /// The newest demand of all clouds
    demand: ClusterDemand,
    statuses: WrittenStatuses,
    /// The times at which long statuses were written
    written_at: BTreeMap<ObjectRef, Time>,
    /// True if a status differs and is not written yet
    is_waiting: bool,
    touched: Touched,
    /// True if the outcomes were incomplete when something was published last
    was_incomplete: bool,
}

impl PublishedState {
    /// Least time between two writes of a status that may wait: each is tens of kilobytes to every watcher.
    pub(super) const STATUS_INTERVAL: Duration = Duration::from_secs(10);

    pub(super) fn new(controller: &str, cloud_count: usize, machines: ServedMachines) -> Self {
        Self {
            controller: controller.to_owned(),
            machines,
            cloud_count,
            by_cloud: BTreeMap::new(),
            unobserved: BTreeSet::new(),
            demand: ClusterDemand::default(),
            statuses: WrittenStatuses::new(),
            written_at: BTreeMap::new(),
            is_waiting: false,
            touched: Touched::default(),
            was_incomplete: false,
        }
    }

    /// Records the result of a cloud.
    pub(super) fn record(&mut self, cloud: &'static str, result: CloudResult) {
        if self.unobserved.remove(cloud) {
            self.touched.add_everything();
        }
        let demand = result.demand.clone();
        self.by_cloud.entry(cloud).or_default().join(result, &mut self.touched);
        self.replace_demand(cloud, demand);
    }

    /// Replaces the demand of a cloud's result: it holds for the new demand too.
    pub(super) fn replace_demand(&mut self, cloud: &'static str, demand: ClusterDemand) {
        if let Some(result) = self.by_cloud.get_mut(cloud) {
            let before = std::mem::replace(&mut result.demand, demand.clone());
            self.touched.add_generations(&before, &demand);
        }
        self.note_demand(demand);
    }

    /// Takes over the demand of all clouds, if it is the newest.
    pub(super) fn note_demand(&mut self, demand: ClusterDemand) {
        // A pass can take minutes, and another cloud have recorded a newer snapshot since.
        if demand.taken_at >= self.demand.taken_at {
            let before = std::mem::replace(&mut self.demand, demand);
            let is_anothers = |exposure: &Exposure| self.machines.are_anothers(&exposure.provider_id);
            self.touched.add_demand(&before, &self.demand, is_anothers);
        }
    }

    /// Records that a cloud could not be observed. Its last result stays.
    pub(super) fn mark_unobserved(&mut self, cloud: &'static str) {
        if self.unobserved.insert(cloud) {
            self.touched.add_everything();
        }
    }

    /// Returns true once each cloud has a result or could not be observed, and at least one has a result.
    /// Before, ports of a cloud that answers a little later would look closed.
    pub(super) fn can_publish(&self) -> bool {
        let without_result =
            self.unobserved.iter().filter(|cloud| !self.by_cloud.contains_key(*cloud)).count();
        !self.by_cloud.is_empty() && self.by_cloud.len() + without_result >= self.cloud_count
    }

    /// Records what has changed in the cluster since it was read last.
    pub(super) fn note_cluster(&mut self, now: &ClusterNow) {
        self.touched.add_changes(&now.changes);
    }

    /// Returns the objects whose status or gate may be outdated; none if those of any may be.
    pub(super) fn find_concerned(&self, now: &ClusterNow) -> Option<Concerned> {
        if self.is_incomplete() != self.was_incomplete {
            return None;
        }
        let results = self.by_cloud.values().flat_map(|result| result.memberships.values().flatten());
        self.touched.find(&now.index, &self.demand.exposures, results.map(|membership| &**membership))
    }

    /// Records that nothing is outdated now.
    pub(super) fn settle(&mut self, now: &ClusterNow) {
        self.was_incomplete = self.is_incomplete();
        self.touched.settle(&now.index);
    }

    fn is_incomplete(&self) -> bool {
        self.by_cloud.len() < self.cloud_count || !self.unobserved.is_empty() || self.has_outdated_result()
    }

    /// Returns true if the exposures have changed since a cloud's result.
    fn has_outdated_result(&self) -> bool {
        let current = &self.demand.exposures;
        self.by_cloud.values().any(|result| result.demand.exposures != *current)
    }

    /// Joins the results of all clouds, as far as they are about machines that this controller serves, or that
    /// none does: another one reports on its own. With `only`, everything that the statuses and gates of these
    /// depend on.
    pub(super) fn assemble_outcomes(&self, port_owners: &PortOwners, only: Option<&Concerned>) -> Outcomes {
        let all = &self.demand.exposures;
        let is_anothers = |exposure: &&Exposure| self.machines.are_anothers(&exposure.provider_id);
        let is_concerned = |object: &ObjectRef| only.is_none_or(|only| only.has(object));
        let others: Vec<&Exposure> = all.iter().filter(is_anothers).collect();
        let others_nodes: BTreeSet<&str> =
            others.iter().map(|exposure| exposure.node.name.as_str()).collect();
        let elsewhere = others.iter().filter(|exposure| is_concerned(&exposure.intent));
        // A part is on one node.
        let is_own = |part: &[Exposure]| {
            part.iter().any(|exposure| !is_anothers(&exposure) && is_concerned(&exposure.intent))
        };
        let exposures = if only.is_none() && others.is_empty() { all.clone() } else { all.select(is_own) };
        let mut outcomes = Outcomes {
            controller: self.controller.clone(),
            machines: self.machines.clone(),
            elsewhere: elsewhere
                .map(|exposure| (exposure.intent.clone(), exposure.node.name.clone()))
                .collect(),
            port_owners: port_owners.clone(),
            pods_with_gate: self.demand.pods_with_gate.clone(),
            generations: self.covered_generations(is_concerned),
            is_incomplete: self.is_incomplete(),
            ..Outcomes::default()
        };
        let nodes: BTreeSet<&str> = match only {
            Some(_) => exposures.iter().map(|exposure| exposure.node.name.as_str()).collect(),
            None => BTreeSet::new(),
        };
        let is_needed = |membership: &&Arc<Membership>| {
            let Membership { node, intents, port_owners, .. } = &***membership;
            !others_nodes.contains(node.name.as_str())
                && (only.is_none()
                    || nodes.contains(node.name.as_str())
                    || intents.iter().chain(port_owners).any(is_concerned))
        };
        for LastResults { problems, memberships, .. } in self.by_cloud.values() {
            outcomes.problems.extend(problems.iter().filter(|one| is_concerned(&one.object)).cloned());
            outcomes.memberships.extend(memberships.values().flatten().filter(is_needed).cloned());
        }
        outcomes.exposures = exposures;
        outcomes
    }

    /// Returns the generation of each `HostPortExposure` that is meant and that the results cover: the oldest that a cloud
    /// which can be observed was planned for. One that is missing from such a cloud's demand is not covered.
    fn covered_generations(&self, is_meant: impl Fn(&ObjectRef) -> bool) -> BTreeMap<ObjectRef, i64> {
        let observed = self.by_cloud.iter().filter(|(cloud, _)| !self.unobserved.contains(*cloud));
        let observed: Vec<&LastResults> = observed.map(|(_, result)| result).collect();
        let mut covered = BTreeMap::new();
        for (exposure, generation) in self.demand.generations.iter().filter(|(one, _)| is_meant(one)) {
            let planned = observed.iter().map(|result| result.demand.generations.get(exposure));
            if let Some(planned) = planned.collect::<Option<Vec<_>>>() {
                let oldest = planned.into_iter().copied().min().unwrap_or(*generation);
                covered.insert(exposure.clone(), oldest);
            }
        }
        covered
    }

    /// Plans the statuses and gates to write, of all objects or of those that are concerned.
    pub(super) fn plan(
        &mut self,
        now: &ClusterNow,
        outcomes: &Outcomes,
        only: Option<&Concerned>,
        time: &Time,
    ) -> (Vec<(ObjectRef, JoinedStatus)>, Vec<GateUpdate>) {
        self.settle(now);
        self.forget_deleted(&now.index, only);
        let gates = plan_gate_updates(&now.index, outcomes, only);
        // Until the cluster shows it, it may be outdated.
        for gate in &gates {
            self.touched.add_unwritten_gate(gate);
        }
        (self.plan_statuses(&now.index, outcomes, only, time), gates)
    }

    /// Plans the statuses to write: those that differ from the index. One that [may
    /// wait](JoinedStatus::may_wait) does so until some time after the last.
    pub(super) fn plan_statuses(
        &mut self,
        index: &Index,
        outcomes: &Outcomes,
        only: Option<&Concerned>,
        now: &Time,
    ) -> Vec<(ObjectRef, JoinedStatus)> {
        self.is_waiting = false;
        let mut outdated = Vec::new();
        for (exposure, own) in compute_statuses(index, outcomes, only, &self.statuses, now) {
            let current = exposure.status.as_ref();
            let status = JoinedStatus::new(truncate_lists(own), current);
            let reference = exposure.reference();
            // What was written last may not be seen yet: then it is what is there.
            let is_last = self.statuses.get(&reference).is_none_or(|last| *last == status.own);
            if is_last && status.is_written(current) {
                continue;
            }
            self.touched.add_unwritten(&reference);
            let interval = Self::STATUS_INTERVAL.as_secs().cast_signed();
            // A clock that was set back must not keep it waiting.
            let is_recent = |at: &Time| (0..interval).contains(&(now.0.as_second() - at.0.as_second()));
            if status.may_wait(current) && self.written_at.get(&reference).is_some_and(is_recent) {
                self.is_waiting = true;
                continue;
            }
            outdated.push((reference, status));
        }
        outdated
    }

    /// Returns true if a status of the last plan waits to be written.
    pub(super) const fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// Plans the statuses to write before anything closes: those with addresses whose ports are about to
    /// close.
    pub(super) fn plan_retraction(
        &self,
        index: &Index,
        outcomes: &Outcomes,
        only: Option<&Concerned>,
        now: &Time,
    ) -> Vec<(ObjectRef, JoinedStatus)> {
        retract_addresses(&compute_statuses(index, outcomes, only, &self.statuses, now), &self.statuses)
    }

    /// Records an own report that is written now.
    pub(super) fn record_status_at(&mut self, exposure: ObjectRef, own: ControllerStatus, now: Time) {
        self.written_at.insert(exposure.clone(), now);
        self.record_status(exposure, own);
    }

    /// Records an own report that is written. What it is compared with has changed by that.
    pub(super) fn record_status(&mut self, exposure: ObjectRef, own: ControllerStatus) {
        self.touched.add_unwritten(&exposure);
        self.statuses.insert(exposure, own);
    }

    /// Forgets the written statuses of objects that no longer exist, of all or of those that are concerned.
    pub(super) fn forget_deleted(&mut self, index: &Index, only: Option<&Concerned>) {
        let exists = |exposure: &ObjectRef| {
            let name = || (exposure.namespace.clone(), exposure.name.clone());
            only.is_some_and(|only| !only.has(exposure))
                || index.host_port_exposure(&name()).is_some_and(|now| now.reference() == *exposure)
        };
        self.statuses.retain(|exposure, _| exists(exposure));
        self.written_at.retain(|exposure, _| exists(exposure));
    }
}

#[cfg(test)]
mod tests;
