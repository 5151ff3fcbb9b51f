//! Leader election: one writer at a time, by a Lease. Makes the calls that the [candidate](Candidate) decides
//! on, and moves the end of the fence.

use std::time::Duration;

use firewall_core::Fence;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::candidate::{Action, Candidate, Event, Loss, RETRY};
use crate::publish::metrics::{LeaseState, Metrics};

/// Longest time of one round: a look, and a write if it leads to one.
const ROUND: Duration = Duration::from_secs(4);

/// Time after which a candidate that waits for another cluster's controller says so again.
const REMINDER: Duration = Duration::from_mins(1);

/// The HTTP status of a write that found another version than was read.
const CONFLICT: u16 = 409;

/// Tries to give up the Lease while something else writes it.
const RELEASES: usize = 3;

/// The election of one candidate.
pub(super) struct Election {
    api: Api<Lease>,
    candidate: Candidate,
    fence: Fence,
    metrics: Metrics,
    /// The epoch of the candidate's times
    started: Instant,
    /// The time of the next round
    due: Duration,
}

impl Election {
    /// Returns the election of a candidate, which opens the fence while it leads.
    pub(super) fn new(
        client: Client,
        namespace: &str,
        candidate: Candidate,
        fence: Fence,
        metrics: Metrics,
    ) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, candidate, fence, metrics, started: Instant::now(), due: Duration::ZERO }
    }

    /// Waits until this candidate leads.
    pub(super) async fn acquire(&mut self) {
        let mut said: Option<Instant> = None;
        loop {
            // One that does not lead loses nothing.
            _ = self.round().await;
            let (lease, identity) = (self.candidate.name(), self.candidate.identity());
            if self.candidate.leads_until().is_some() {
                tracing::info!(lease, identity, "leading");
                self.metrics.set_lease(LeaseState::Leading);
                return;
            }
            let is_another = self.candidate.is_held_by_another_cluster();
            self.metrics.set_lease(if is_another { LeaseState::OtherCluster } else { LeaseState::Waiting });
            if let Some(rival) = self.candidate.rival() {
                let holder = &rival.identity;
                if is_another && said.is_none_or(|said| said.elapsed() >= REMINDER) {
                    let cluster = rival.cluster.as_deref().unwrap_or_default();
                    tracing::error!(
                        lease,
                        holder,
                        "the lease is held for the cluster name {cluster:?}: this controller changes nothing while \
                         that one runs; give it a --lease-name of its own, and name that in its Role"
                    );
                    said = Some(Instant::now());
                } else if said.is_none() {
                    tracing::info!(lease, holder, "another replica leads; waiting");
                    said = Some(Instant::now());
                }
            }
            sleep_until(self.started + self.due).await;
        }
    }

    /// Renews until the lease is lost: taken by another, or not renewed in time. The fence is closed then.
    pub(super) async fn hold(&mut self) {
        loop {
            sleep_until(self.started + self.due).await;
            let Err(loss) = self.round().await else { continue };
            let (lease, message) = (self.candidate.name(), "stopping all writes");
            match loss {
                Loss::Taken(holder) => {
                    tracing::error!(
                        lease,
                        holder = holder.identity,
                        "another has taken the lease; {message}"
                    );
                }
                Loss::NotRenewed => {
                    tracing::error!(lease, "could not renew the lease in time; {message}");
                }
            }
            self.metrics.set_lease(LeaseState::Waiting);
            return;
        }
    }

    /// Lets others take over at once, if this candidate has the Lease. Called when all writing has ended.
    pub(super) async fn release(&mut self) {
        self.fence.close();
        let released = async {
            for _ in 0..RELEASES {
                let Some(mut lease) = self.api.get_opt(self.candidate.name()).await? else { break };
                let spec = lease.spec.get_or_insert_default();
                if spec.holder_identity.as_deref() != Some(self.candidate.identity()) {
                    break;
                }
                spec.holder_identity = None;
                let name = self.candidate.name();
                match self.api.replace(name, &PostParams::default(), &lease).await {
                    // A renewal of its own that was still under way, or somebody's annotation.
                    Err(kube::Error::Api(status)) if status.code == CONFLICT => {}
                    released => return released.map(drop),
                }
            }
            Ok::<_, kube::Error>(())
        };
        if let Ok(Err(error)) = timeout(RETRY, released).await {
            tracing::warn!(
                lease = self.candidate.name(),
                "cannot release the lease, it will run out: {error}"
            );
        }
    }

    /// Makes calls until the candidate has to wait.
    async fn round(&mut self) -> Result<(), Loss> {
        let ends = Instant::now() + ROUND;
        let mut event = Event::Due;
        loop {
            let action = self.candidate.step(self.started.elapsed(), event);
            let leads_until = self.candidate.leads_until().map(|until| self.started + until);
            match leads_until {
                Some(end) => self.fence.open_until(end.into_std()),
                None => self.fence.close(),
            }
            let ends = leads_until.map_or(ends, |end| end.min(ends));
            event = match action {
                Action::Read => self.read(ends).await,
                Action::Write(lease) => self.write(ends, *lease).await,
                Action::Wait(until) => {
                    self.due = until;
                    return Ok(());
                }
                Action::Stop(loss) => return Err(loss),
            };
        }
    }

    async fn read(&self, ends: Instant) -> Event {
        match timeout_at(ends, self.api.get_opt(self.candidate.name())).await {
            Ok(Ok(lease)) => Event::Read(lease.map(Box::new)),
            Ok(Err(error)) => self.failed(&error.to_string()),
            Err(_) => self.failed("the API server does not answer"),
        }
    }

    async fn write(&self, ends: Instant, mut lease: Lease) -> Event {
        let now = MicroTime(Timestamp::now());
        let spec = lease.spec.get_or_insert_default();
        // For people: no candidate compares them.
        spec.acquire_time.get_or_insert_with(|| now.clone());
        spec.renew_time = Some(now);
        let parameters = PostParams::default();
        let written = async {
            if lease.metadata.resource_version.is_none() {
                self.api.create(&parameters, &lease).await
            } else {
                self.api.replace(self.candidate.name(), &parameters, &lease).await
            }
        };
        match timeout_at(ends, written).await {
            Ok(Ok(_)) => Event::Written,
            Ok(Err(kube::Error::Api(status))) if status.code == CONFLICT => Event::Conflict,
            Ok(Err(error)) => self.failed(&error.to_string()),
            Err(_) => self.failed("the API server does not answer"),
        }
    }

    fn failed(&self, cause: &str) -> Event {
        let what = if self.candidate.leads_until().is_some() { "renew" } else { "take" };
        tracing::warn!(lease = self.candidate.name(), "cannot {what} the lease: {cause}");
        Event::Failed
    }
}

#[cfg(test)]
pub(super) mod tests;
