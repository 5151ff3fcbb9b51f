//! Leader election: one writer at a time, by a Lease. Acquires, renews and releases it.
//!
//! The holder stops writing well before its lease can pass to another: it gives up when it could not renew
//! for `RENEW_DEADLINE`, and others wait `DURATION` from the last renewal that *they* saw, by their own
//! clocks, so that clocks of different machines are never compared.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Time that a lease which is not renewed stays with its holder.
const DURATION: Duration = Duration::from_secs(15);

/// Time that the holder goes on without a successful renewal, from when it was sent.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);

/// Time that work under way may go on after the lease was lost: 10 s + 3 s is less than the 15 s after which
/// another replica takes it.
pub const GRACE: Duration = Duration::from_secs(3);

/// Time between two renewals of the holder, and between two looks of the others.
const RETRY: Duration = Duration::from_secs(2);

/// Longest time of one attempt.
const ATTEMPT: Duration = Duration::from_secs(4);

/// The lease of one controller.
pub struct Election {
    api: Api<Lease>,
    name: String,
    identity: String,
    /// The last state of somebody else's lease, and when it was first seen.
    seen: Option<(Option<String>, Instant)>,
}

impl Election {
    /// Returns a candidate under `identity`, which must be unique among the replicas (the pod's name is).
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, name: name.to_owned(), identity: identity.to_owned(), seen: None }
    }

    /// Waits until this replica leads.
    pub async fn acquire(&mut self) {
        let mut logged = false;
        loop {
            match timeout(ATTEMPT, self.try_take()).await {
                Ok(Ok(true)) => {
                    tracing::info!(lease = self.name, identity = self.identity, "leading");
                    return;
                }
                Ok(Ok(false)) if !logged => {
                    tracing::info!(lease = self.name, "another replica leads; waiting");
                    logged = true;
                }
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::warn!(lease = self.name, "cannot take the lease: {error}"),
                Err(_) => tracing::warn!(lease = self.name, "the API server does not answer"),
            }
            sleep(RETRY).await;
        }
    }

    /// Renews until the lease is lost: taken by another, or not renewed in time. The caller must have stopped writing
    /// [`GRACE`] later.
    pub async fn hold(&mut self) {
        let mut deadline = Instant::now() + RENEW_DEADLINE;
        loop {
            sleep(RETRY).await;
            let sent = Instant::now();
            let failure = match timeout_at(deadline.min(sent + ATTEMPT), self.try_take()).await {
                Ok(Ok(true)) => {
                    deadline = sent + RENEW_DEADLINE;
                    continue;
                }
                Ok(Ok(false)) => {
                    tracing::error!(
                        lease = self.name,
                        "another replica has taken the lease; stopping all writes"
                    );
                    return;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the API server does not answer".to_owned(),
            };
            tracing::warn!(lease = self.name, "cannot renew the lease: {failure}");
            if Instant::now() + RETRY >= deadline {
                tracing::error!(lease = self.name, "could not renew the lease in time; stopping all writes");
                return;
            }
        }
    }

    /// Lets others take over at once. Called when all writing has ended.
    pub async fn release(&self) {
        let released = async {
            let mut lease = self.api.get(&self.name).await?;
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() == Some(self.identity.as_str()) {
                spec.holder_identity = None;
                self.api.replace(&self.name, &PostParams::default(), &lease).await?;
            }
            Ok::<_, kube::Error>(())
        };
        if let Ok(Err(error)) = timeout(RETRY, released).await {
            tracing::warn!(lease = self.name, "cannot release the lease, it will run out: {error}");
        }
    }

    /// Acquires or renews the lease if it is free, run out, or ours. A write that met a conflict is a
    /// `false`.
    async fn try_take(&mut self) -> Result<bool, kube::Error> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.spec(None)) };
            return won(self.api.create(&PostParams::default(), &lease).await);
        };
        let spec = lease.spec.take().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().filter(|holder| !holder.is_empty());
        if holder.is_some_and(|holder| holder != self.identity) && !self.has_run_out(&lease, &spec) {
            return Ok(false);
        }
        lease.spec = Some(self.spec(Some(&spec)));
        won(self.api.replace(&self.name, &PostParams::default(), &lease).await)
    }

    fn has_run_out(&mut self, lease: &Lease, spec: &LeaseSpec) -> bool {
        let version = lease.metadata.resource_version.clone();
        let now = Instant::now();
        let since = match &self.seen {
            Some((seen, since)) if *seen == version => *since,
            _ => {
                self.seen = Some((version, now));
                now
            }
        };
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        now - since > seconds.map_or(DURATION, Duration::from_secs)
    }

    fn spec(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let ours = before.is_some_and(|spec| spec.holder_identity.as_deref() == Some(self.identity.as_str()));
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            renew_time: Some(now.clone()),
            acquire_time: before.filter(|_| ours).and_then(|spec| spec.acquire_time.clone()).or(Some(now)),
            lease_transitions: Some(if ours {
                transitions
            } else {
                transitions + i32::from(before.is_some())
            }),
            ..LeaseSpec::default()
        }
    }
}

/// A conflict means that another replica was faster; anything else is an error.
fn won(result: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}
