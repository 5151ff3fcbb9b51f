//! Writes those statuses of `HostPortExposure`s, readiness gates of pods and hostnames that differ from the
//! cluster's.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::StreamExt;
use futures::stream::iter;
use tokio::sync::{Mutex as AsyncMutex, Notify};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

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

/// The time for which writing waits for a plan to end after that: until then it is not known what the plan opens.
const LONGEST_HOLD: Duration = Duration::from_secs(10);

/// First and longest delay after a status, a gate or a hostname could not be written.
const RETRY: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(5));

/// The number of gates that are written at once: a rollout can change thousands.
const CONCURRENT_GATE_WRITES: usize = 16;

/// Publishes the results of all clouds, beside the passes: no port waits for the API server. Clones share everything.
#[derive(Clone)]
pub(crate) struct Publisher(Arc<Shared>);

struct Shared {
    state: Mutex<PublishedState>,
    /// The clouds whose plans are executed with addresses removed
    retracted: Mutex<BTreeSet<&'static str>>,
    /// Told when there may be something to write
    changed: Notify,
    /// Told when addresses are to be removed, which goes before everything else
    retracting: Notify,
    /// Whoever plans and writes: a plan must not be overtaken by an older one
    writing: AsyncMutex<Writing>,
}

struct Writing {
    /// None where there is no cluster to write to
    writer: Option<StatusWriter>,
    dns: DnsPublisher,
}

/// The outcome of writing.
pub(super) struct PublishOutcome {
    /// True if nothing has failed; else it has to be tried again
    is_written: bool,
    /// A problem for each intent whose hostname is not published
    unpublished_hostnames: BTreeSet<Problem>,
}

impl PublishOutcome {
    const NOTHING_TO_DO: Self = Self { is_written: true, unpublished_hostnames: BTreeSet::new() };
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
        let machines = ServedMachines::new(clouds.concat());
        Self(Arc::new(Shared {
            state: Mutex::new(PublishedState::new(controller, clouds.len(), machines)),
            retracted: Mutex::default(),
            changed: Notify::new(),
            retracting: Notify::new(),
            writing: AsyncMutex::new(Writing { writer, dns: DnsPublisher::new(zone) }),
        }))
    }

    /// Removes addresses from statuses and DNS before their ports close. `projected` has the memberships as
    /// they will be after the plan. Nothing else is written before the result of the plan is recorded, for a while.
    pub(super) async fn retract_addresses(
        &self,
        cloud: &'static str,
        projected: CloudResult,
        cluster: ReadCluster<'_>,
    ) {
        let shared = &*self.0;
        shared.state().record(cloud, projected);
        shared.retracted().insert(cloud);
        let retracted = async {
            shared.retracting.notify_one();
            let mut writing = shared.writing.lock().await;
            writing.retract_addresses(&shared.state, &cluster()).await;
        };
        if timeout(RETRACT_TIMEOUT, retracted).await.is_err() {
            tracing::warn!(
                cloud,
                "addresses could not be removed in time from statuses and DNS; their ports are closed nevertheless"
            );
        }
    }

    /// Records the result of a pass, which is to be published.
    pub(super) fn record(&self, cloud: &'static str, result: CloudResult) {
        self.0.state().record(cloud, result);
        self.0.retracted().remove(cloud);
        self.0.changed.notify_one();
    }

    /// Records changes of the cluster which change no plan. The result of the last pass of the cloud, if one is
    /// given, holds for them too.
    pub(super) fn refresh(&self, cloud: Option<&'static str>, demand: ClusterDemand) {
        match cloud {
            Some(cloud) => self.0.state().replace_demand(cloud, demand),
            None => self.0.state().note_demand(demand),
        }
        self.0.changed.notify_one();
    }

    /// Records that a cloud cannot be observed.
    pub(super) fn mark_unobserved(&self, cloud: &'static str) {
        self.0.state().mark_unobserved(cloud);
        self.0.retracted().remove(cloud);
        self.0.changed.notify_one();
    }

    /// Writes whatever is recorded until all is `done`, and then once more what is left. Tells which hostnames are not
    /// published.
    pub(super) async fn keep_written(
        &self,
        cluster: ReadCluster<'_>,
        done: &CancellationToken,
        mut tell: impl FnMut(BTreeSet<Problem>),
    ) {
        let (shared, mut retry, mut due) = (&*self.0, RETRY.0, None);
        loop {
            let wait = async {
                match due {
                    Some(after) => sleep(after).await,
                    None => std::future::pending().await,
                }
            };
            let is_last = tokio::select! {
                biased;
                () = shared.changed.notified() => false,
                () = wait => false,
                () = done.cancelled() => true,
            };
            shared.wait_for_plans().await;
            let Some(outcome) = shared.write(cluster).await else {
                // What has not been written is planned anew.
                due = Some(Duration::ZERO);
                continue;
            };
            tell(outcome.unpublished_hostnames);
            if is_last {
                return;
            }
            let waits = shared.state().is_waiting().then_some(PublishedState::STATUS_INTERVAL);
            let failed = (!outcome.is_written).then_some(retry);
            retry = if outcome.is_written { RETRY.0 } else { (retry * 2).min(RETRY.1) };
            due = waits.into_iter().chain(failed).min();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, PublishedState> {
        lock(&self.state)
    }

    fn retracted(&self) -> MutexGuard<'_, BTreeSet<&'static str>> {
        lock(&self.retracted)
    }

    /// Waits, within bounds, while plans are executed with addresses removed: what they open is neither open nor
    /// closed.
    async fn wait_for_plans(&self) {
        let ended = async {
            while !self.retracted().is_empty() {
                self.changed.notified().await;
            }
        };
        _ = timeout(LONGEST_HOLD, ended).await;
    }

    /// Writes what differs, unless addresses have to be removed meanwhile.
    async fn write(&self, cluster: ReadCluster<'_>) -> Option<PublishOutcome> {
        let mut writing = self.writing.lock().await;
        // Those that have asked by now have been removed.
        _ = self.retracting.notified().now_or_never();
        let now = cluster();
        tokio::select! {
            biased;
            () = self.retracting.notified() => None,
            outcome = writing.write(&self.state, &now) => Some(outcome),
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that holds one of these locks can leave half a change: a panic ends the process.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Writing {
    async fn retract_addresses(&mut self, state: &Mutex<PublishedState>, now: &ClusterNow) {
        let Self { writer: Some(writer), dns } = self else { return };
        writer.begin_round();
        let (statuses, dns_update) = {
            let state = lock(state);
            let only = state.find_concerned(now);
            let outcomes = state.assemble_outcomes(&now.port_owners, dns.narrow(only.as_ref()));
            let statuses = state.plan_retraction(&now.index, &outcomes, only.as_ref(), &current_time());
            (statuses, dns.plan_retraction(&now.index, &outcomes))
        };
        for (exposure, status) in statuses {
            // Before it is written: a writer that is dropped midway may have reached the API server.
            let applied = status.applied();
            lock(state).record_status(exposure.clone(), status.own);
            writer.write_status(&exposure, &applied).await;
        }
        if let Some(update) = dns_update {
            dns.write(writer, update).await;
        }
    }

    async fn write(&mut self, state: &Mutex<PublishedState>, now: &ClusterNow) -> PublishOutcome {
        let Self { writer: Some(writer), dns } = self else { return PublishOutcome::NOTHING_TO_DO };
        let Some((outcomes, planned)) = plan_round(&mut lock(state), dns, now) else {
            return PublishOutcome::NOTHING_TO_DO;
        };
        writer.begin_round();
        let mut is_written = true;
        for (exposure, status) in planned.statuses {
            let applied = status.applied();
            lock(state).record_status(exposure.clone(), status.own);
            is_written &= writer.write_status(&exposure, &applied).await;
        }
        let gates = iter(&planned.gates).map(|gate| writer.write_gate(gate));
        let mut gates = gates.buffer_unordered(CONCURRENT_GATE_WRITES);
        while let Some(is_one_written) = gates.next().await {
            is_written &= is_one_written;
        }
        let unpublished_hostnames = match planned.dns {
            None => dns.report_unavailable(&outcomes),
            Some(update) => {
                let failed = dns.write(writer, update).await;
                is_written &= failed.is_empty();
                let is_affected = |hostname: &dns_records::Hostname| failed.contains(hostname);
                dns_records::report_unpublished(&outcomes, is_affected, "the log has the reason")
            }
        };
        PublishOutcome { is_written, unpublished_hostnames }
    }
}

/// Plans what is to be written of everything recorded; none if that is nothing.
fn plan_round(
    state: &mut PublishedState,
    dns: &DnsPublisher,
    now: &ClusterNow,
) -> Option<(Outcomes, PlannedWrites)> {
    if !state.can_publish() {
        return None;
    }
    let only = state.find_concerned(now);
    if only.as_ref().is_some_and(Concerned::is_empty) && !dns.is_enabled() {
        state.settle(now);
        return None;
    }
    let outcomes = state.assemble_outcomes(&now.port_owners, dns.narrow(only.as_ref()));
    let planned = plan_writes((state, dns), &outcomes, now, only.as_ref());
    Some((outcomes, planned))
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
