//! The controller: watches, waits for quiet, reconciles, and stops cleanly.

mod hostnames;
mod passes;
mod settings;
mod statuses;

use std::time::Duration;

use kube::Client;
use thiserror::Error;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::cli::RunArgs;
use crate::guardrails::GuardrailsError;
use crate::index::Index;
use crate::lease::{Election, GRACE};
use crate::manifests::{self, ManifestError, Manifests};
use crate::metrics::{self, Metrics, MetricsError};
use crate::notice::Notices;
use crate::providers::{Providers, Reconcilers};
use crate::watch::{self, SharedIndex};
use passes::{Telling, reconcile};
use settings::Following;
use statuses::Statuses;

/// Why the controller cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The manifests cannot be read.
    #[error(transparent)]
    Manifests(#[from] ManifestError),
    /// The guardrails cannot be read.
    #[error(transparent)]
    Guardrails(#[from] GuardrailsError),
    /// Metrics cannot be served.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
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
    let index = SharedIndex::new(Index::expecting(watch::expected(None)));
    let watching = tokio::spawn(watch::cluster(connect().await?, index.clone(), None));
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
pub async fn run(args: &RunArgs, providers: Providers, stop: CancellationToken) -> Result<(), StartError> {
    let settings = Following::new(&args.intent)?;
    let metrics = Metrics::default();
    let serving = metrics::serve(args.metrics_address, metrics.clone()).await?;
    let reconcilers = providers.reconcilers(&args.options(settings.current()));
    if let Some(manifests) = &args.source.manifests {
        let index = SharedIndex::new(manifests::read(manifests)?);
        let telling = Telling { notices: Notices::to_log(metrics), statuses: Statuses::new(None, None, 0) };
        tokio::select! {
            failed = manifests::follow(manifests, index.clone()) => Ok(failed?),
            () = settings.follow(&index) => Ok(()),
            () = serving => Ok(()),
            () = reconcile(reconcilers, &index, telling, args.resync, &stop) => Ok(()),
        }
    } else {
        let client = connect().await?;
        let index = SharedIndex::new(Index::expecting(watch::expected(args.zone().as_ref())));
        tokio::select! {
            () = settings.follow(&index) => {}
            () = serving => {}
            () = run_in_cluster(args, client, reconcilers, &index, metrics, &stop) => {}
        }
        Ok(())
    }
}

async fn run_in_cluster(
    args: &RunArgs,
    client: Client,
    reconcilers: Reconcilers,
    index: &SharedIndex,
    metrics: Metrics,
    stop: &CancellationToken,
) {
    let identity = args.identity.clone().unwrap_or_else(host_name);
    // A replica that waits for the lease watches already, so that it can act at once when it leads.
    let watching = tokio::spawn(watch::cluster(client.clone(), index.clone(), args.zone()));
    let telling = Telling {
        notices: Notices::to_cluster(client.clone(), &identity, metrics),
        statuses: Statuses::new(Some(client.clone()), args.zone(), reconcilers.count()),
    };
    if args.no_leader_election {
        reconcile(reconcilers, index, telling, args.resync, stop).await;
    } else {
        let namespace = args.lease_namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        let mut election = Election::new(client, &namespace, &args.lease_name, &identity);
        lead(&mut election, reconcilers, index, telling, args.resync, stop).await;
    }
    watching.abort();
}

/// Reconciles while this replica leads. A lost lease ends the process: what starts again begins as a follower,
/// without any belief from before.
async fn lead(
    election: &mut Election,
    reconcilers: Reconcilers,
    index: &SharedIndex,
    telling: Telling,
    resync: Duration,
    stop: &CancellationToken,
) {
    tokio::select! {
        () = stop.cancelled() => return,
        () = election.acquire() => {}
    }
    let writing = stop.child_token();
    let mut reconciling = std::pin::pin!(reconcile(reconcilers, index, telling, resync, &writing));
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

/// What has not been listed yet.
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
