//! Writes those statuses of `HostPortExposure`s, readiness gates of pods and hostnames that differ from the
//! cluster's.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::iter;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::cluster_now::{ClusterNow, ReadCluster};
use super::dns_publisher::{DnsPublisher, DnsUpdate};
use super::dns_records;
use super::outcomes::Outcomes;
use super::published_state::{CloudResult, PublishedState};
use super::readiness::GateUpdate;
use super::served_machines::ServedMachines;
use super::status::joined::JoinedStatus;
use super::status_writer::{StatusWriter, current_time};
use super::touched::Concerned;
use crate::desired::snapshot::ClusterDemand;
use crate::k8s::dns_zone::Zone;
use crate::k8s::objects::ObjectRef;
use crate::k8s::problem::Problem;

/// The time that removing addresses before a plan may take: a port must not stay open because the API server
/// does not answer.
const RETRACT_TIMEOUT: Duration = Duration::from_secs(10);

/// The number of gates that are written at once: a rollout can change thousands.
const CONCURRENT_GATE_WRITES: usize = 16;

/// Publishes the results of all clouds. Clones share the published state, so that one cloud's writes never
/// overwrite newer ones of another.
#[derive(Clone)]
pub(crate) struct Publisher(Arc<Mutex<Shared>>);

struct Shared {
    /// None where there is no cluster to write to
    writer: Option<StatusWriter>,
    dns: DnsPublisher,
    state: PublishedState,
}

/// The outcome of publishing.
pub(super) struct PublishOutcome {
    /// True if everything is written; else publishing has to be retried
    pub(super) is_complete: bool,
    /// A problem for each intent whose hostname is not published
    pub(super) unpublished_hostnames: BTreeSet<Problem>,
}

impl PublishOutcome {
    const NOTHING_TO_DO: Self = Self { is_complete: true, unpublished_hostnames: BTreeSet::new() };
}

/// Everything that differs from the cluster's.
struct PlannedWrites {
    statuses: Vec<(ObjectRef, JoinedStatus)>,
    gates: Vec<GateUpdate>,
    /// None if hostnames are not published, or the published ones are unknown
    dns: Option<DnsUpdate>,
}

impl Publisher {
    /// Returns a publisher of the controller with this name, for these clouds: each by how the providerIDs of
    /// its machines begin. Without a writer it publishes nothing.
    pub(crate) fn new(
        writer: Option<StatusWriter>,
        zone: Option<Zone>,
        controller: &str,
        clouds: &[Vec<String>],
    ) -> Self {
        let (count, machines) = (clouds.len(), ServedMachines::new(clouds.concat()));
        let (dns, state) = (DnsPublisher::new(zone), PublishedState::new(controller, count, machines));
        Self(Arc::new(Mutex::new(Shared { writer, dns, state })))
    }

    /// Removes addresses from statuses and DNS before their ports close. `projected` has the memberships as
    /// they will be after the plan.
    pub(super) async fn retract_addresses(
        &self,
        cloud: &'static str,
        projected: CloudResult,
        cluster: ReadCluster<'_>,
    ) {
        let retracted = async {
            let mut shared = self.0.lock().await;
            shared.state.record(cloud, projected);
            shared.retract_addresses(&cluster()).await;
        };
        if timeout(RETRACT_TIMEOUT, retracted).await.is_err() {
            tracing::warn!(
                cloud,
                "addresses could not be removed in time from statuses and DNS; their ports are closed nevertheless"
            );
        }
    }

    /// Publishes the result of a pass.
    pub(super) async fn publish(
        &self,
        cloud: &'static str,
        result: CloudResult,
        cluster: ReadCluster<'_>,
    ) -> PublishOutcome {
        let mut shared = self.0.lock().await;
        shared.state.record(cloud, result);
        shared.write(&cluster()).await
    }

    /// Publishes changes of the cluster which change no plan. The result of the last pass of the cloud, if one is
    /// given, holds for them too.
    pub(super) async fn refresh(
        &self,
        cloud: Option<&'static str>,
        demand: ClusterDemand,
        cluster: ReadCluster<'_>,
    ) -> PublishOutcome {
        let mut shared = self.0.lock().await;
        match cloud {
            Some(cloud) => shared.state.replace_demand(cloud, demand),
            None => shared.state.note_demand(demand),
        }
        shared.write(&cluster()).await
    }

    /// Publishes that a cloud cannot be observed.
    pub(super) async fn mark_unobserved(&self, cloud: &'static str, cluster: ReadCluster<'_>) {
        let mut shared = self.0.lock().await;
        shared.state.mark_unobserved(cloud);
        shared.write(&cluster()).await;
    }
}

impl Shared {
    async fn retract_addresses(&mut self, now: &ClusterNow) {
        let Self { writer: Some(writer), dns, state } = self else { return };
        writer.begin_round();
        let only = state.find_concerned(now);
        let outcomes = state.assemble_outcomes(&now.port_owners, dns.narrow(only.as_ref()));
        let statuses = state.plan_retraction(&now.index, &outcomes, only.as_ref(), &current_time());
        let dns_update = dns.plan_retraction(&now.index, &outcomes);
        for (exposure, status) in statuses {
            // Before it is written: a writer that is dropped midway may have reached the API server.
            let applied = status.applied();
            state.record_status(exposure.clone(), status.own);
            writer.write_status(&exposure, &applied).await;
        }
        if let Some(update) = dns_update {
            dns.write(writer, update).await;
        }
    }

    async fn write(&mut self, now: &ClusterNow) -> PublishOutcome {
        let Self { writer: Some(writer), dns, state } = self else { return PublishOutcome::NOTHING_TO_DO };
        if !state.can_publish() {
            return PublishOutcome::NOTHING_TO_DO;
        }
        writer.begin_round();
        let only = state.find_concerned(now);
        if only.as_ref().is_some_and(Concerned::is_empty) && !dns.is_enabled() {
            state.settle(now);
            return PublishOutcome::NOTHING_TO_DO;
        }
        let outcomes = state.assemble_outcomes(&now.port_owners, dns.narrow(only.as_ref()));
        let planned = plan_writes((state, dns), &outcomes, now, only.as_ref());
        let mut is_complete = !state.is_waiting();
        for (exposure, status) in planned.statuses {
            let applied = status.applied();
            state.record_status(exposure.clone(), status.own);
            is_complete &= writer.write_status(&exposure, &applied).await;
        }
        let gates = iter(&planned.gates).map(|gate| writer.write_gate(gate));
        let mut gates = gates.buffer_unordered(CONCURRENT_GATE_WRITES);
        while let Some(is_written) = gates.next().await {
            is_complete &= is_written;
        }
        let unpublished_hostnames = match planned.dns {
            None => dns.report_unavailable(&outcomes),
            Some(update) => {
                let failed = dns.write(writer, update).await;
                is_complete &= failed.is_empty();
                let is_affected = |hostname: &dns_records::Hostname| failed.contains(hostname);
                dns_records::report_unpublished(&outcomes, is_affected, "the log has the reason")
            }
        };
        PublishOutcome { is_complete, unpublished_hostnames }
    }
}

/// Plans everything to write. Pure.
fn plan_writes(
    (state, dns): (&mut PublishedState, &DnsPublisher),
    outcomes: &Outcomes,
    now: &ClusterNow,
    only: Option<&Concerned>,
) -> PlannedWrites {
    let dns = dns.plan_update(&now.index, outcomes);
    let (statuses, gates) = state.plan(now, outcomes, only, &current_time());
    PlannedWrites { statuses, gates, dns }
}
