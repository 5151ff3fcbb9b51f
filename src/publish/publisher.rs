//! Writes those statuses of `HostPortExposure`s, readiness gates of pods and hostnames that differ from the
//! cluster's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::iter;
use tokio::sync::{Mutex as AsyncMutex, Notify};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
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

/// Least time between two rounds of writing: in a rollout objects change all the time, and many of them more than once.
const PAUSE: Duration = Duration::from_secs(1);

/// First and longest delay after a status, a gate or a hostname could not be written.
const RETRY: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(5));

/// The number of gates that are written at once: a rollout can change thousands.
const CONCURRENT_GATE_WRITES: usize = 16;

/// Publishes the results of all clouds, beside the passes: no port waits for the API server. Clones share everything.
#[derive(Clone)]
pub(crate) struct Publisher(Arc<Shared>);

struct Shared {
    state: Mutex<PublishedState>,
    /// The clouds whose plans are executed with addresses removed, and how long that is waited for
    retracted: Mutex<BTreeMap<&'static str, Instant>>,
    /// Told when there may be something to write
    changed: Notify,
    /// The number of removals of addresses that wait or are under way, before which nothing else is written
    retracting: AtomicUsize,
    /// Whoever plans and writes: a plan must not be overtaken by an older one
    writing: AsyncMutex<Writing>,
}

struct Writing {
    /// None where there is no cluster to write to
    writer: Option<StatusWriter>,
    dns: DnsPublisher,
}

/// The outcome of writing.
struct PublishOutcome {
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
            retracting: AtomicUsize::new(0),
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
        shared.retracted().insert(cloud, Instant::now() + LONGEST_HOLD);
        let _first = Retracting::begin(&shared.retracting);
        let retracted = async {
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
        let mut next_round = Instant::now();
        let mut has_failed = false;
        loop {
            let wait = async {
                match due {
                    Some(after) => sleep(after).await,
                    None => std::future::pending().await,
                }
            };
            let (is_last, is_retry) = tokio::select! {
                biased;
                () = shared.changed.notified() => (false, false),
                () = wait => (false, true),
                () = done.cancelled() => (true, false),
            };
            sleep_until(next_round).await;
            shared.wait_for_plans().await;
            next_round = Instant::now() + PAUSE;
            // Boxed, because it is large and lies in all that calls this.
            let Some(outcome) = Box::pin(shared.write(cluster)).await else {
                // What has not been written is planned anew.
                due = Some(Duration::ZERO);
                continue;
            };
            tell(outcome.unpublished_hostnames);
            if is_last {
                return;
            }
            // What changes meanwhile is tried at once, and makes no later attempt of what has failed.
            retry = match outcome.is_written {
                true => RETRY.0,
                false if has_failed && is_retry => (retry * 2).min(RETRY.1),
                false => retry,
            };
            has_failed = !outcome.is_written;
            let waits = shared.state().is_waiting().then_some(PublishedState::STATUS_INTERVAL);
            due = waits.into_iter().chain(has_failed.then_some(retry)).min();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, PublishedState> {
        lock(&self.state)
    }

    fn retracted(&self) -> MutexGuard<'_, BTreeMap<&'static str, Instant>> {
        lock(&self.retracted)
    }

    /// Waits, within bounds, while plans are executed with addresses removed: what they open is neither open nor
    /// closed.
    async fn wait_for_plans(&self) {
        loop {
            let now = Instant::now();
            let held = self.retracted().values().filter(|until| **until > now).max().copied();
            let Some(until) = held else { return };
            _ = timeout_at(until, self.changed.notified()).await;
        }
    }

    /// Writes what differs; none if addresses had to be removed before all of it was written.
    async fn write(&self, cluster: ReadCluster<'_>) -> Option<PublishOutcome> {
        let mut writing = self.writing.lock().await;
        let now = cluster();
        writing.write(&self.state, &now, &|| !Retracting::is_any(&self.retracting)).await
    }
}

/// A removal of addresses, for as long as it lasts or waits.
struct Retracting<'a>(&'a AtomicUsize);

impl<'a> Retracting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }

    fn is_any(count: &AtomicUsize) -> bool {
        count.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Retracting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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
            let mut state = lock(state);
            state.note_cluster(now);
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
            dns.write(writer, update, &|| true).await;
        }
    }

    /// Writes while it `goes_on`: a write that has begun is waited for, because it may take effect although nobody
    /// waits. Returns none if that ended it.
    async fn write(
        &mut self,
        state: &Mutex<PublishedState>,
        now: &ClusterNow,
        goes_on: &(dyn Fn() -> bool + Sync),
    ) -> Option<PublishOutcome> {
        let Self { writer: Some(writer), dns } = self else { return Some(PublishOutcome::NOTHING_TO_DO) };
        let Some((outcomes, planned)) = plan_round(&mut lock(state), dns, now) else {
            return Some(PublishOutcome::NOTHING_TO_DO);
        };
        writer.begin_round();
        let mut is_written = true;
        for (exposure, status) in planned.statuses {
            if !goes_on() {
                return None;
            }
            let applied = status.applied();
            lock(state).record_status_at(exposure.clone(), status.own, current_time());
            is_written &= writer.write_status(&exposure, &applied).await;
        }
        let gates = iter(planned.gates.iter().take_while(|_| goes_on())).map(|gate| writer.write_gate(gate));
        let mut gates = gates.buffer_unordered(CONCURRENT_GATE_WRITES);
        while let Some(is_one_written) = gates.next().await {
            is_written &= is_one_written;
        }
        let unpublished_hostnames = match planned.dns {
            None => dns.report_unavailable(&outcomes),
            Some(update) => {
                let failed = dns.write(writer, update, goes_on).await;
                is_written &= failed.is_empty();
                let is_affected = |hostname: &dns_records::Hostname| failed.contains(hostname);
                dns_records::report_unpublished(&outcomes, is_affected, "the log has the reason")
            }
        };
        goes_on().then_some(PublishOutcome { is_written, unpublished_hostnames })
    }
}

/// Plans what is to be written of everything recorded; none if that is nothing.
fn plan_round(
    state: &mut PublishedState,
    dns: &DnsPublisher,
    now: &ClusterNow,
) -> Option<(Outcomes, PlannedWrites)> {
    state.note_cluster(now);
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

#[cfg(test)]
mod tests;
