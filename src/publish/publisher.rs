//! Writes the statuses of `HostPortExposure`s, the readiness gates of pods and the hostnames where they differ from what
//! the cluster has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::iter;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::dns_publisher::Hostnames;
use super::dns_records;
use super::outcomes::Outcomes;
use super::readiness::gates;
use super::status::{self, statuses};
use super::status_writer::{Writer, now};
use crate::desired::snapshot::ClusterDemand;
use crate::k8s::dns_zone::Zone;
use crate::k8s::host_port_exposure::HostPortExposure;
use crate::k8s::index::shared_index::SharedIndex;
use crate::k8s::problem::Problem;
use crate::reconcile::outcome::Membership;

/// How long what has to be written before anything closes may take: a port must not stay open because the API server
/// does not answer.
const WITHDRAWING: Duration = Duration::from_secs(10);

/// How many gates are written at once: a rollout can turn thousands.
const AT_ONCE: usize = 16;

/// What one cloud has come to.
pub(crate) struct CloudResult {
    pub(crate) problems: BTreeSet<Problem>,
    pub(crate) memberships: Vec<Membership>,
    pub(crate) demand: ClusterDemand,
}

/// The statuses, put together from what each cloud has come to. Clones write as one.
#[derive(Clone)]
pub(crate) struct Publisher(Arc<Mutex<PublishedState>>);

struct PublishedState {
    /// None where there is no cluster to write to
    writer: Option<Writer>,
    hostnames: Hostnames,
    /// How many clouds there are
    clouds: usize,
    by_cloud: BTreeMap<&'static str, CloudResult>,
    /// Those that could not be observed when they were last asked
    unobserved: BTreeSet<&'static str>,
    /// What was asked for when it was last looked
    demand: ClusterDemand,
    statuses: status::Statuses,
}

/// What has come of writing.
pub(crate) struct PublishOutcome {
    /// Whether nothing has to be tried again
    pub(crate) all: bool,
    /// The hostnames that are not published, and why
    pub(crate) unpublished: BTreeSet<Problem>,
}

impl PublishOutcome {
    const NOTHING_TO_DO: Self = Self { all: true, unpublished: BTreeSet::new() };
}

impl Publisher {
    pub(crate) fn new(writer: Option<Writer>, zone: Option<Zone>, clouds: usize) -> Self {
        Self(Arc::new(Mutex::new(PublishedState {
            writer,
            hostnames: Hostnames::new(zone),
            clouds,
            by_cloud: BTreeMap::new(),
            unobserved: BTreeSet::new(),
            demand: ClusterDemand::default(),
            statuses: BTreeMap::new(),
        })))
    }

    /// Requirements addresses back that lead to what one cloud is about to close.
    pub(crate) async fn retract_addresses(
        &self,
        cloud: &'static str,
        projected_memberships: CloudResult,
        index: &SharedIndex,
    ) {
        let withdrawn = async {
            // Held while statuses are written, so that an older one never overwrites a newer.
            let mut known = self.0.lock().await;
            known.record(cloud, projected_memberships);
            known.retract_addresses(index).await;
        };
        if timeout(WITHDRAWING, withdrawn).await.is_err() {
            tracing::warn!(cloud, "addresses could not be taken back in time; ports are closed nevertheless");
        }
    }

    /// Writes what has changed, now that one cloud has come to this.
    pub(crate) async fn publish(
        &self,
        cloud: &'static str,
        findings: CloudResult,
        index: &SharedIndex,
    ) -> PublishOutcome {
        let mut known = self.0.lock().await;
        known.record(cloud, findings);
        known.write(index).await
    }

    /// Writes what has changed in the cluster since one cloud was last looked at, with nothing else asked of it.
    pub(crate) async fn refresh(
        &self,
        cloud: &'static str,
        demand: ClusterDemand,
        index: &SharedIndex,
    ) -> PublishOutcome {
        let mut known = self.0.lock().await;
        known.replace_demand(cloud, demand);
        known.write(index).await
    }

    /// Writes what has changed although one cloud cannot be observed.
    pub(crate) async fn mark_unobserved(&self, cloud: &'static str, index: &SharedIndex) {
        let mut known = self.0.lock().await;
        known.unobserved.insert(cloud);
        known.write(index).await;
    }
}

impl PublishedState {
    fn record(&mut self, cloud: &'static str, findings: CloudResult) {
        self.unobserved.remove(cloud);
        let demand = findings.demand.clone();
        self.by_cloud.insert(cloud, findings);
        self.replace_demand(cloud, demand);
    }

    fn replace_demand(&mut self, cloud: &'static str, demand: ClusterDemand) {
        if let Some(findings) = self.by_cloud.get_mut(cloud) {
            findings.demand = demand.clone();
        }
        // A pass can take minutes, and another cloud have looked since.
        if demand.taken_at >= self.demand.taken_at {
            self.demand = demand;
        }
    }

    /// Whether something else is asked for by now than what one of the clouds has looked at.
    fn has_changed(&self) -> bool {
        let now = &self.demand.exposures;
        self.by_cloud.values().any(|cloud| {
            let then = &cloud.demand.exposures;
            !Arc::ptr_eq(then, now) && then != now
        })
    }

    fn outcomes(&self) -> Outcomes {
        let mut all = Outcomes {
            asked: Arc::clone(&self.demand.exposures),
            pods_with_gate: Arc::clone(&self.demand.pods_with_gate),
            unknown: self.by_cloud.len() < self.clouds || !self.unobserved.is_empty() || self.has_changed(),
            ..Outcomes::default()
        };
        for CloudResult { problems, memberships, .. } in self.by_cloud.values() {
            all.problems.extend(problems.iter().cloned());
            all.memberships.extend(memberships.iter().cloned());
        }
        // What holds for every cloud that can be read holds for the oldest version that one of them has looked at.
        let read = self.by_cloud.iter().filter(|(cloud, _)| !self.unobserved.contains(*cloud));
        let read: Vec<&CloudResult> = read.map(|(_, findings)| findings).collect();
        for (exposure, generation) in self.demand.generations.iter() {
            let seen = read.iter().map(|cloud| cloud.demand.generations.get(exposure));
            if let Some(seen) = seen.collect::<Option<Vec<_>>>() {
                let oldest = seen.into_iter().copied().min().unwrap_or(*generation);
                all.generations.insert(exposure.clone(), oldest);
            }
        }
        all
    }

    async fn retract_addresses(&mut self, index: &SharedIndex) {
        let Some(writer) = &self.writer else { return };
        writer.begin();
        let outcomes = self.outcomes();
        let (leaving, records) = {
            let index = index.read();
            let statuses = statuses(&index, &outcomes, &self.statuses, &now());
            (status::retracted(&statuses, &self.statuses), self.hostnames.leaving(&index, &outcomes))
        };
        for (exposure, status) in leaving {
            writer.status(&exposure, &status).await;
            self.statuses.insert(exposure, status);
        }
        if let Some(records) = records {
            self.hostnames.publish(writer, records).await;
        }
    }

    async fn write(&mut self, index: &SharedIndex) -> PublishOutcome {
        let Some(writer) = &self.writer else { return PublishOutcome::NOTHING_TO_DO };
        // What a cloud has that answers a little later would else look as if it were gone; and while none has, nothing
        // is known at all.
        let tried = self.unobserved.iter().filter(|cloud| !self.by_cloud.contains_key(*cloud)).count();
        if self.by_cloud.is_empty() || self.by_cloud.len() + tried < self.clouds {
            return PublishOutcome::NOTHING_TO_DO;
        }
        writer.begin();
        let outcomes = self.outcomes();
        let (outdated, gates, records) = {
            // Not held while anything is written.
            let index = index.read();
            let statuses = statuses(&index, &outcomes, &self.statuses, &now());
            let there: BTreeSet<_> = index.host_port_exposures().map(HostPortExposure::reference).collect();
            self.statuses.retain(|exposure, _| there.contains(exposure));
            let statuses =
                statuses.into_iter().map(|(exposure, status)| (exposure, status::truncate_lists(status)));
            let outdated = statuses.filter(|(exposure, status)| exposure.status.as_ref() != Some(status));
            let outdated: Vec<_> =
                outdated.map(|(exposure, status)| (exposure.reference(), status)).collect();
            (outdated, gates(&index, &outcomes), self.hostnames.wanted(&index, &outcomes))
        };
        let mut all = true;
        for (exposure, status) in outdated {
            all &= writer.status(&exposure, &status).await;
            self.statuses.insert(exposure, status);
        }
        let mut turned = iter(&gates).map(|gate| writer.gate(gate)).buffer_unordered(AT_ONCE);
        while let Some(turned) = turned.next().await {
            all &= turned;
        }
        let unpublished = match records {
            None => self.hostnames.none(&outcomes),
            Some(records) => {
                let failed = self.hostnames.publish(writer, records).await;
                all &= failed.is_empty();
                dns_records::unpublished(&outcomes, |hostname| failed.contains(hostname), "the log says why")
            }
        };
        PublishOutcome { all, unpublished }
    }
}
