//! The published state: the last results of each cloud, and the statuses written from them. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use firewall_core::InstanceId;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::outcomes::Outcomes;
use super::served_machines::ServedMachines;
use super::status::joined::JoinedStatus;
use super::status::{WrittenStatuses, compute_statuses, retract_addresses, truncate_lists};
use crate::desired::snapshot::ClusterDemand;
use crate::intents::exposure::Exposure;
use crate::intents::port_owner::PortOwners;
use crate::k8s::host_port_exposure::{ControllerStatus, HostPortExposure};
use crate::k8s::index::Index;
use crate::k8s::objects::ObjectRef;
use crate::k8s::problem::Problem;
use crate::reconcile::outcome::Membership;

/// Least time between two writes of a status that may wait: each is tens of kilobytes to every watcher.
const STATUS_INTERVAL_SECONDS: i64 = 10;

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
    /// Takes over a result: outside of its scope the one before holds.
    fn join(&mut self, result: CloudResult) {
        let CloudResult { problems, scope, memberships, demand } = result;
        match scope {
            None => self.memberships.clear(),
            Some(scope) => scope.iter().for_each(|instance| drop(self.memberships.remove(instance))),
        }
        for membership in memberships {
            self.memberships.entry(membership.instance.clone()).or_default().push(membership);
        }
        (self.problems, self.demand) = (problems, demand);
    }
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
}

impl PublishedState {
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
        }
    }

    /// Records the result of a cloud.
    pub(super) fn record(&mut self, cloud: &'static str, result: CloudResult) {
        self.unobserved.remove(cloud);
        let demand = result.demand.clone();
        self.by_cloud.entry(cloud).or_default().join(result);
        self.replace_demand(cloud, demand);
    }

    /// Replaces the demand of a cloud's result: it holds for the new demand too.
    pub(super) fn replace_demand(&mut self, cloud: &'static str, demand: ClusterDemand) {
        if let Some(result) = self.by_cloud.get_mut(cloud) {
            result.demand = demand.clone();
        }
        // A pass can take minutes, and another cloud have recorded a newer snapshot since.
        if demand.taken_at >= self.demand.taken_at {
            self.demand = demand;
        }
    }

    /// Records that a cloud could not be observed. Its last result stays.
    pub(super) fn mark_unobserved(&mut self, cloud: &'static str) {
        self.unobserved.insert(cloud);
    }

    /// Returns true once each cloud has a result or could not be observed, and at least one has a result.
    /// Before, ports of a cloud that answers a little later would look closed.
    pub(super) fn can_publish(&self) -> bool {
        let without_result =
            self.unobserved.iter().filter(|cloud| !self.by_cloud.contains_key(*cloud)).count();
        !self.by_cloud.is_empty() && self.by_cloud.len() + without_result >= self.cloud_count
    }

    /// Returns true if the exposures have changed since a cloud's result.
    fn has_outdated_result(&self) -> bool {
        let current = &self.demand.exposures;
        self.by_cloud.values().any(|result| result.demand.exposures != *current)
    }

    /// Joins the results of all clouds, as far as they are about machines that this controller serves, or that
    /// none does: another one reports on its own.
    pub(super) fn assemble_outcomes(&self, port_owners: &PortOwners) -> Outcomes {
        let all = &self.demand.exposures;
        let is_anothers = |exposure: &&Exposure| self.machines.are_anothers(&exposure.provider_id);
        let others: Vec<&Exposure> = all.iter().filter(is_anothers).collect();
        let exposures = if others.is_empty() {
            all.clone()
        } else {
            all.iter().filter(|exposure| !is_anothers(exposure)).cloned().collect()
        };
        let others_nodes: BTreeSet<&str> =
            others.iter().map(|exposure| exposure.node.name.as_str()).collect();
        let elsewhere =
            others.iter().map(|exposure| (exposure.intent.clone(), exposure.node.name.clone())).collect();
        let mut outcomes = Outcomes {
            controller: self.controller.clone(),
            machines: self.machines.clone(),
            exposures,
            elsewhere,
            port_owners: port_owners.clone(),
            pods_with_gate: self.demand.pods_with_gate.clone(),
            generations: self.covered_generations(),
            is_incomplete: self.by_cloud.len() < self.cloud_count
                || !self.unobserved.is_empty()
                || self.has_outdated_result(),
            ..Outcomes::default()
        };
        for LastResults { problems, memberships, .. } in self.by_cloud.values() {
            outcomes.problems.extend(problems.iter().cloned());
            let memberships = memberships.values().flatten();
            let own = memberships.filter(|membership| !others_nodes.contains(membership.node.name.as_str()));
            outcomes.memberships.extend(own.cloned());
        }
        outcomes
    }

    /// Returns the generation of each `HostPortExposure` that the results cover: the oldest that a cloud
    /// which can be observed was planned for. One that is missing from such a cloud's demand is not covered.
    fn covered_generations(&self) -> BTreeMap<ObjectRef, i64> {
        let observed = self.by_cloud.iter().filter(|(cloud, _)| !self.unobserved.contains(*cloud));
        let observed: Vec<&LastResults> = observed.map(|(_, result)| result).collect();
        let mut covered = BTreeMap::new();
        for (exposure, generation) in &self.demand.generations {
            let planned = observed.iter().map(|result| result.demand.generations.get(exposure));
            if let Some(planned) = planned.collect::<Option<Vec<_>>>() {
                let oldest = planned.into_iter().copied().min().unwrap_or(*generation);
                covered.insert(exposure.clone(), oldest);
            }
        }
        covered
    }

    /// Plans the statuses to write: those that differ from the index. One that [may
    /// wait](JoinedStatus::may_wait) does so until some time after the last.
    pub(super) fn plan_statuses(
        &mut self,
        index: &Index,
        outcomes: &Outcomes,
        now: &Time,
    ) -> Vec<(ObjectRef, JoinedStatus)> {
        self.is_waiting = false;
        let mut outdated = Vec::new();
        for (exposure, own) in compute_statuses(index, outcomes, &self.statuses, now) {
            let current = exposure.status.as_ref();
            let status = JoinedStatus::new(truncate_lists(own), current);
            if status.is_written(current) {
                continue;
            }
            let reference = exposure.reference();
            let is_recent = |at: &Time| now.0.as_second() - at.0.as_second() < STATUS_INTERVAL_SECONDS;
            if status.may_wait(current) && self.written_at.get(&reference).is_some_and(is_recent) {
                self.is_waiting = true;
                continue;
            }
            self.written_at.insert(reference.clone(), now.clone());
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
        now: &Time,
    ) -> Vec<(ObjectRef, JoinedStatus)> {
        retract_addresses(&compute_statuses(index, outcomes, &self.statuses, now), &self.statuses)
    }

    /// Records an own report that is written.
    pub(super) fn record_status(&mut self, exposure: ObjectRef, own: ControllerStatus) {
        self.statuses.insert(exposure, own);
    }

    /// Forgets the written statuses of objects that no longer exist.
    pub(super) fn forget_deleted(&mut self, index: &Index) {
        let existing: BTreeSet<_> = index.host_port_exposures().map(HostPortExposure::reference).collect();
        self.statuses.retain(|exposure, _| existing.contains(exposure));
        self.written_at.retain(|exposure, _| existing.contains(exposure));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::Value;

    use super::*;
    use crate::k8s::objects::builders::object_ref;
    use crate::publish::status::tests::{index, outcomes, time};

    fn exposure() -> ObjectRef {
        object_ref("HostPortExposure", "shop", "web")
    }

    /// Returns the result of a pass whose snapshot was taken at this second, of this generation.
    fn result(second: u64, generation: i64) -> CloudResult {
        let demand = ClusterDemand {
            taken_at: Duration::from_secs(second),
            generations: [(exposure(), generation)].into_iter().collect(),
            ..ClusterDemand::default()
        };
        CloudResult { problems: BTreeSet::new(), scope: None, memberships: Vec::new(), demand }
    }

    fn generation(state: &PublishedState) -> Option<i64> {
        state.assemble_outcomes(&PortOwners::default()).generations.get(&exposure()).copied()
    }

    #[test]
    fn nothing_is_published_before_every_cloud_has_been_tried() {
        let mut state = PublishedState::new("test", 2, ServedMachines::default());
        state.mark_unobserved("gce");
        assert!(!state.can_publish(), "no cloud has a result");
        state.record("aws", result(0, 1));
        assert!(state.can_publish() && state.assemble_outcomes(&PortOwners::default()).is_incomplete);
        state.record("gce", result(0, 1));
        assert!(state.can_publish() && !state.assemble_outcomes(&PortOwners::default()).is_incomplete);
        state.mark_unobserved("aws");
        assert!(state.can_publish() && state.assemble_outcomes(&PortOwners::default()).is_incomplete);
    }

    #[test]
    fn covered_generation_is_the_oldest_of_observed_clouds() {
        let mut state = PublishedState::new("test", 2, ServedMachines::default());
        state.record("aws", result(0, 1));
        state.record("gce", result(1, 2));
        assert_eq!(generation(&state), Some(1));
        state.mark_unobserved("aws");
        assert_eq!(generation(&state), Some(2));
    }

    /// A pod's ownerReferences are free text: the intent counts, not the workload that a pod says it is of.
    #[test]
    fn ports_on_anothers_machine_are_left_to_it() {
        let programmed = |provider_ids: [&str; 2], intent: ObjectRef| {
            let planned = outcomes(&["a", "bb"], &[]);
            let mut exposures = planned.exposures.iter().cloned().collect::<Vec<_>>();
            for (exposure, id) in exposures.iter_mut().zip(provider_ids) {
                id.clone_into(&mut exposure.provider_id);
                exposure.intent = intent.clone();
            }
            let index = index(&["a", "bb"], &["a", "bb"], &Value::Null);
            let web = index.host_port_exposures().next().expect("the exposure").reference();
            let mut result = CloudResult { memberships: planned.memberships, ..result(0, 3) };
            result.demand.exposures = exposures.into_iter().collect();
            result.demand.generations = [(web, 3)].into_iter().collect();
            let machines = ServedMachines::new(vec!["gce://own/".to_owned()]);
            let mut state = PublishedState::new("test", 1, machines);
            state.record("gce", result);
            let (_, status) = state
                .plan_statuses(&index, &state.assemble_outcomes(&PortOwners::default()), &time(1))
                .remove(0);
            (status.own.conditions[1].reason.clone(), status.own.addresses.len())
        };
        let (own, anothers) = ("gce://own/z/n", "gce://another/z/n");
        assert_eq!(programmed([own, own], exposure()), ("Programmed".to_owned(), 2));
        assert_eq!(programmed([own, anothers], exposure()), ("Programmed".to_owned(), 1));
        assert_eq!(programmed([anothers, anothers], exposure()), ("OnOtherNodes".to_owned(), 0));
        let pod = object_ref("Pod", "shop", "a");
        assert_eq!(programmed([anothers, anothers], pod), ("NoPods".to_owned(), 0));
    }

    #[test]
    fn only_readiness_of_many_pods_waits() {
        let names: Vec<String> = (0..20).map(|number| format!("n{number:02}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut state = PublishedState::new("test", 1, ServedMachines::default());
        // The index has the status that was written before.
        let mut written = Value::Null;
        let mut write = |open: &[&str], ready: &[&str], second: i64| {
            let index = index(&names, ready, &written);
            let planned = state.plan_statuses(&index, &outcomes(open, &[]), &time(second));
            if let Some((_, status)) = planned.first() {
                written = serde_json::to_value(status.applied()).expect("JSON");
            }
            (planned.len(), state.is_waiting())
        };
        assert_eq!(write(&names, &names, 0), (1, false));
        assert_eq!(write(&names, &names, 1), (0, false), "nothing differs");
        assert_eq!(write(&names, &names[1..], 2), (0, true));
        assert_eq!(write(&names[1..], &names[1..], 3), (1, false), "a node has closed");
        assert_eq!(write(&names[1..], &names[2..], 12), (0, true));
        assert_eq!(write(&names[1..], &names[2..], 13), (1, false));
        assert_eq!(write(&names[1..], &names[..8], 14), (1, false), "few addresses");
    }

    #[test]
    fn older_demand_does_not_replace_a_newer_one() {
        let mut state = PublishedState::new("test", 2, ServedMachines::default());
        state.record("aws", result(5, 2));
        state.record("gce", result(1, 1));
        assert_eq!(state.demand.taken_at, Duration::from_secs(5));
        assert_eq!(generation(&state), Some(1), "one cloud was planned for the older demand");
    }
}
