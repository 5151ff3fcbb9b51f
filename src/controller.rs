//! The controller: watches, waits for quiet, reconciles, and stops cleanly.

mod hostnames;
mod passes;
mod publisher;
mod settings;
mod writer;

use std::time::Duration;

use kube::{Client, Config};
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
use publisher::Publisher;
use settings::Following;
use writer::Writer;

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
    /// Longer than a watch lasts (290 s), as kube asks for it. Without, a list that is never answered is waited for for ever.
    const SILENCE: Duration = Duration::from_secs(295);
    let cannot = |error: &dyn std::error::Error| StartError::Kubernetes(error.to_string());
    let mut config = Config::infer().await.map_err(|error| cannot(&error))?;
    config.read_timeout = Some(SILENCE);
    Client::try_from(config).map_err(|error| cannot(&error))
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
        let (index, following) = manifests::followed(manifests)?;
        let (notices, publisher) = (Notices::to_log(metrics.clone()), Publisher::new(None, None, 0));
        let telling = Telling { notices, publisher, metrics };
        tokio::select! {
            () = following => Ok(()),
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
    let lost = CancellationToken::new();
    let writer = Writer::new(client.clone(), lost.clone());
    let telling = Telling {
        notices: Notices::to_cluster(client.clone(), &identity, metrics.clone()),
        publisher: Publisher::new(Some(writer), args.zone(), reconcilers.count()),
        metrics,
    };
    if args.no_leader_election {
        reconcile(reconcilers, index, telling, args.resync, stop).await;
    } else {
        let namespace = args.lease_namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        let election = Election::new(client, &namespace, &args.lease_name, &identity);
        let writing = stop.child_token();
        let reconciling = reconcile(reconcilers, index, telling, args.resync, &writing);
        lead(election, reconciling, &writing, &lost).await;
    }
    watching.abort();
}

/// Reconciles while this replica leads. A lost lease ends the process: what starts again begins as a follower,
/// without any belief from before.
///
/// `writing` ends what is written to the clouds, `lost` at once all that is written to the cluster.
async fn lead(
    mut election: Election,
    reconciling: impl Future<Output = ()>,
    writing: &CancellationToken,
    lost: &CancellationToken,
) {
    tokio::select! {
        () = writing.cancelled() => return,
        () = election.acquire() => {}
    }
    // A task of its own: a pass over a large cluster computes for seconds, and the lease must be renewed meanwhile.
    let (done, losing, stopping) = (CancellationToken::new(), lost.clone(), writing.clone());
    let ended = done.clone();
    let leading = tokio::spawn(async move {
        tokio::select! {
            () = election.hold() => {
                losing.cancel();
                stopping.cancel();
            }
            // Calls under way when a signal comes were finished under the lease.
            () = ended.cancelled() => election.release().await,
        }
    });
    let mut reconciling = std::pin::pin!(reconciling);
    tokio::select! {
        biased;
        () = lost.cancelled() => {
            // Whatever has not ended by then is dropped: another replica may write from now on.
            _ = timeout(GRACE, reconciling).await;
        }
        () = &mut reconciling => {
            done.cancel();
            // It ends by itself: a release is bounded, and a panic ends the process.
            _ = leading.await;
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
