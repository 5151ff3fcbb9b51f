//! Leading: reconciles only while this process holds the Lease.

use std::io;
use std::time::Duration;

use firewall_core::Fence;
use kube::Client;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::candidate::{Candidate, RETRY};
use super::config::LeaseConfig;
use super::lease::Election;
use crate::k8s::connect::connect;
use crate::publish::metrics::Metrics;

/// Time for which answers to calls under way are waited for after the lease was lost. Nothing more is sent:
/// the fence is closed.
const GRACE: Duration = Duration::from_secs(3);

/// Everything that a candidacy for the Lease needs.
pub(super) struct Candidacy {
    pub(super) lease: LeaseConfig,
    /// The name of this replica
    pub(super) replica: String,
    /// The name of the cluster in the clouds
    pub(super) cluster: String,
    pub(super) fence: Fence,
    pub(super) metrics: Metrics,
    /// False to hold the Lease on the runtime of the caller, for a test on virtual time
    pub(super) has_own_thread: bool,
}

/// Reconciles while this process leads. A lost lease ends the process: what starts again begins as a follower,
/// without any remembered state. `client` connects to the API server, on the runtime that holds the Lease:
/// connections live on one. `writing` ends what is written to the clouds.
pub(super) async fn lead(
    candidacy: Candidacy,
    client: impl Future<Output = Client> + Send + 'static,
    reconciling: impl Future<Output = ()>,
    writing: &CancellationToken,
) {
    let (leads, done) = (CancellationToken::new(), CancellationToken::new());
    let mut ended = match candidacy.start(client, leads.clone(), done.clone()) {
        Ok(ended) => ended,
        Err(error) => {
            tracing::error!("cannot start the thread that holds the lease: {error}");
            return;
        }
    };
    tokio::select! {
        biased;
        () = writing.cancelled() => {}
        () = leads.cancelled() => {
            let mut reconciling = std::pin::pin!(reconciling);
            tokio::select! {
                biased;
                _ = &mut ended => {
                    writing.cancel();
                    // Whatever has not ended by then is dropped: another replica may write from now on.
                    _ = timeout(GRACE, reconciling).await;
                    return;
                }
                () = &mut reconciling => {}
            }
        }
    }
    // Calls that were under way when a signal came were finished under the lease.
    done.cancel();
    // It ends by itself: a release is bounded.
    _ = ended.await;
}

impl Candidacy {
    /// Holds the Lease, once it can be had, on a thread and a runtime of its own: a pass over a large cluster
    /// computes for seconds, and the lease must be renewed meanwhile. Says when it `leads`; the thread ends
    /// when it does not any more, or when all is `done`.
    fn start(
        self,
        client: impl Future<Output = Client> + Send + 'static,
        leads: CancellationToken,
        done: CancellationToken,
    ) -> io::Result<oneshot::Receiver<()>> {
        let (ended, has_ended) = oneshot::channel();
        if !self.has_own_thread {
            tokio::spawn(async move {
                self.hold(client, &leads, &done).await;
                _ = ended.send(());
            });
            return Ok(has_ended);
        }
        let runtime = Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("lease".to_owned()).spawn(move || {
            runtime.block_on(self.hold(client, &leads, &done));
            // If nobody waits any more, the process ends.
            _ = ended.send(());
        })?;
        Ok(has_ended)
    }

    async fn hold(
        self,
        client: impl Future<Output = Client>,
        leads: &CancellationToken,
        done: &CancellationToken,
    ) {
        let Some(client) = done.run_until_cancelled(client).await else { return };
        // A process that starts again must not take itself for the one before, whose last calls may be under
        // way, nor one of two that were given the same name itself for the other.
        let identity = format!("{}_{}", self.replica, Uuid::new_v4());
        let candidate = Candidate::new(&self.lease.name, &identity, &self.cluster);
        let namespace = self.lease.namespace.unwrap_or_else(|| client.default_namespace().to_owned());
        let mut election = Election::new(client, &namespace, candidate, self.fence, self.metrics);
        if done.run_until_cancelled(election.acquire()).await.is_some() {
            leads.cancel();
            if done.run_until_cancelled(election.hold()).await.is_some() {
                return;
            }
        }
        election.release().await;
    }
}

/// Connects to the API server, as soon as that can be done.
pub(super) async fn keep_connecting() -> Client {
    loop {
        match connect().await {
            Ok(client) => return client,
            Err(error) => tracing::warn!("no leader can be elected: {error}"),
        }
        sleep(RETRY).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::super::lease::tests::fake::{Server, client, lock};
    use super::*;

    fn candidacy(fence: &Fence) -> Candidacy {
        let lease = LeaseConfig { name: "hostport-firewall".to_owned(), namespace: None };
        let (replica, cluster) = ("pod".to_owned(), "test".to_owned());
        Candidacy {
            lease,
            replica,
            cluster,
            fence: fence.clone(),
            metrics: Metrics::default(),
            has_own_thread: true,
        }
    }

    /// Leads on this thread alone, with something else that it does meanwhile.
    async fn lead_while(server: &Server, fence: &Fence, reconciling: impl Future<Output = ()>) {
        let serving = Arc::clone(server);
        let client = async move { client(&serving) };
        lead(candidacy(fence), client, reconciling, &CancellationToken::new()).await;
    }

    #[tokio::test]
    async fn lease_is_renewed_while_everything_else_computes() {
        let (server, fence) = (Server::default(), Fence::closed(Instant::now()));
        lead_while(&server, &fence, async {
            let before = lock(&server).version;
            std::thread::sleep(RETRY * 2);
            assert!(lock(&server).version > before, "nothing has renewed it");
            assert!(fence.allows(Instant::now()));
        })
        .await;
        assert!(!fence.allows(Instant::now()), "it has ended");
    }

    #[tokio::test]
    async fn two_processes_of_one_name_do_not_both_lead() {
        let server = Server::default();
        let fences = [Fence::closed(Instant::now()), Fence::closed(Instant::now())];
        let both = fences.each_ref().map(|fence| lead_while(&server, fence, std::future::pending()));
        let [one, two] = both;
        let started = timeout(RETRY * 2, futures::future::join(one, two)).await;
        assert!(started.is_err(), "one has ended");
        let leading = fences.iter().filter(|fence| fence.allows(Instant::now())).count();
        assert_eq!(leading, 1);
    }
}
