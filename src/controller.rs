//! The controller: watches, waits for quiet, reconciles, and stops cleanly.

use std::time::Duration;

use firewall_model::{FirewallProvider, ProviderError};
use kube::Client;
use thiserror::Error;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::cli::RunArgs;
use crate::index::Index;
use crate::lease::{Election, GRACE};
use crate::manifests::{self, ManifestError, Manifests};
use crate::notice::Notices;
use crate::reconcile::{Pass, Reconciler};
use crate::watch::{self, SharedIndex};

/// A burst of changes is over when nothing has changed for this long…
const QUIET: Duration = Duration::from_millis(200);

/// …or when it has lasted this long: a rollout over many nodes must not hold back its own first node.
const LONGEST_BURST: Duration = Duration::from_secs(2);

/// How long a pass goes on whatever changes: each begins with reading the cloud, and must do more than that.
const UNINTERRUPTED: Duration = Duration::from_secs(10);

/// How long calls under way may take to end after a signal: the Deployment's grace period, 45 s, less a margin.
const LAST_CALLS: Duration = Duration::from_secs(30);

/// How long to wait after the cloud could not be observed, first and at most.
const UNOBSERVED: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(1));

/// Why the controller cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The manifests cannot be read.
    #[error(transparent)]
    Manifests(#[from] ManifestError),
    /// There is no usable kubeconfig or service account.
    #[error("cannot connect to Kubernetes: {0}; set KUBECONFIG, run in a pod, or use --manifests")]
    Kubernetes(String),
    /// The cluster could not be listed in time.
    #[error("the cluster could not be read within {seconds} s: {gaps}", seconds = .0.as_secs(), gaps = .1)]
    NotSynced(Duration, String),
}

/// Connects to the cluster of the kubeconfig or the pod.
///
/// # Errors
/// If neither is there or usable.
pub async fn connect() -> Result<Client, StartError> {
    Client::try_default().await.map_err(|error| StartError::Kubernetes(error.to_string()))
}

/// An index that has been filled once, for commands that look once.
///
/// # Errors
/// If manifests cannot be read, or the cluster cannot within 30 s.
pub async fn read_once(source: Option<&Manifests>) -> Result<SharedIndex, StartError> {
    const LONGEST: Duration = Duration::from_secs(30);
    if let Some(manifests) = source {
        return Ok(SharedIndex::new(manifests::read(manifests)?));
    }
    let index = SharedIndex::new(Index::expecting(watch::expected()));
    let watching = tokio::spawn(watch::cluster(connect().await?, index.clone()));
    let synced = timeout(LONGEST, watch::synced(&index)).await;
    watching.abort();
    match synced {
        Ok(()) => Ok(index),
        Err(_) => Err(StartError::NotSynced(LONGEST, gaps(&index))),
    }
}

/// Runs until `stop`: leads if it must, follows the source, reconciles.
///
/// # Errors
/// If it cannot start. Once it runs, everything that goes wrong is reported and tried again.
pub async fn run<P: FirewallProvider>(
    args: &RunArgs,
    provider: P,
    stop: CancellationToken,
) -> Result<(), StartError> {
    let reconciler = Reconciler::new(provider, args.options());
    let identity = args.identity.clone().unwrap_or_else(host_name);
    if let Some(manifests) = &args.source.manifests {
        let index = SharedIndex::new(manifests::read(manifests)?);
        let following = manifests::follow(manifests, index.clone());
        let notices = Notices::to_log();
        tokio::select! {
            failed = following => return Ok(failed?),
            () = reconcile(reconciler, &index, notices, args.resync, &stop) => return Ok(()),
        }
    }
    let client = connect().await?;
    let index = SharedIndex::new(Index::expecting(watch::expected()));
    // A replica that waits for the lease watches already, so that it can act at once when it leads.
    let watching = tokio::spawn(watch::cluster(client.clone(), index.clone()));
    let notices = Notices::to_cluster(client.clone(), &identity);
    if args.no_leader_election {
        reconcile(reconciler, &index, notices, args.resync, &stop).await;
    } else {
        let namespace = args.lease_namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        let mut election = Election::new(client, &namespace, &args.lease_name, &identity);
        lead(&mut election, reconciler, &index, notices, args.resync, &stop).await;
    }
    watching.abort();
    Ok(())
}

/// Reconciles while this replica leads. A lost lease ends the process: what starts again begins as a follower,
/// without any belief from before.
async fn lead<P: FirewallProvider>(
    election: &mut Election,
    reconciler: Reconciler<P>,
    index: &SharedIndex,
    notices: Notices,
    resync: Duration,
    stop: &CancellationToken,
) {
    tokio::select! {
        () = stop.cancelled() => return,
        () = election.acquire() => {}
    }
    let writing = stop.child_token();
    let mut reconciling = std::pin::pin!(reconcile(reconciler, index, notices, resync, &writing));
    tokio::select! {
        // Calls under way when a signal comes are finished under the lease.
        () = &mut reconciling => election.release().await,
        () = election.hold() => {
            writing.cancel();
            // Whatever has not ended by then is dropped: another replica may write from now on.
            _ = timeout(GRACE, reconciling).await;
        }
    }
}

/// Reconciles until `stop`, and then for as long as the calls under way take, within bounds: a cloud that does not
/// answer must not hold up the end of the process.
async fn reconcile<P: FirewallProvider>(
    reconciler: Reconciler<P>,
    index: &SharedIndex,
    notices: Notices,
    resync: Duration,
    stop: &CancellationToken,
) {
    let late = async {
        stop.cancelled().await;
        sleep(LAST_CALLS).await;
    };
    tokio::select! {
        () = passes(reconciler, index, notices, resync, stop) => {}
        () = late => tracing::warn!("calls under way have not ended in time, and are dropped"),
    }
}

async fn passes<P: FirewallProvider>(
    mut reconciler: Reconciler<P>,
    index: &SharedIndex,
    mut notices: Notices,
    resync: Duration,
    stop: &CancellationToken,
) {
    tokio::select! {
        () = stop.cancelled() => return,
        () = first_sync(index) => {}
    }
    let mut unobserved = UNOBSERVED.0;
    while !stop.is_cancelled() {
        let (result, changed) = interruptible(&mut reconciler, index, stop).await;
        let pause = match result {
            Ok(pass) => {
                unobserved = UNOBSERVED.0;
                if pass.applied + pass.undone > 0 {
                    tracing::info!(applied = pass.applied, undone = pass.undone, "reconciled");
                }
                notices.say(pass.notices).await;
                if changed { Duration::ZERO } else { pass.again.unwrap_or(resync).min(resync) }
            }
            Err(error) => {
                tracing::warn!(
                    reason = error.reason(),
                    "the cloud cannot be observed, nothing is changed: {error}"
                );
                let pause = unobserved;
                unobserved = (unobserved * 2).min(UNOBSERVED.1);
                pause
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(pause) => {}
            () = burst(index) => {}
        }
    }
}

/// One pass. Where calls are scarce it can take many minutes: then a change of the cluster ends it early, so that
/// what is new is planned together with what is left. Also returns whether that happened.
async fn interruptible<P: FirewallProvider>(
    reconciler: &mut Reconciler<P>,
    index: &SharedIndex,
    stop: &CancellationToken,
) -> (Result<Pass, ProviderError>, bool) {
    let interrupt = stop.child_token();
    let mut pass = std::pin::pin!(reconciler.pass(index, &interrupt));
    let long = async {
        sleep(UNINTERRUPTED).await;
        burst(index).await;
    };
    tokio::select! {
        result = &mut pass => (result, false),
        () = long => {
            interrupt.cancel();
            (pass.await, true)
        }
    }
}

/// Waits for the first complete list of everything, and says now and then what it waits for.
async fn first_sync(index: &SharedIndex) {
    while timeout(Duration::from_secs(10), watch::synced(index)).await.is_err() {
        tracing::warn!("nothing is changed before everything has been listed once; missing: {}", gaps(index));
    }
}

/// Waits for a change, and then until the burst that it began is over.
async fn burst(index: &SharedIndex) {
    index.changed().await;
    let longest = Instant::now() + LONGEST_BURST;
    loop {
        tokio::select! {
            () = index.changed() => {}
            () = sleep(QUIET) => return,
            () = sleep_until(longest) => return,
        }
    }
}

fn gaps(index: &SharedIndex) -> String {
    match index.read().completeness() {
        firewall_model::Completeness::Complete => String::new(),
        firewall_model::Completeness::Partial(gaps) => gaps.join("; "),
    }
}

/// The host's name, which in a pod is the pod's name.
fn host_name() -> String {
    std::env::var("HOSTNAME")
        .or_else(|_| std::fs::read_to_string("/etc/hostname"))
        .map_or_else(|_| "hostport-firewall".to_owned(), |name| name.trim().to_owned())
}
