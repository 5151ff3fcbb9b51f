//! The controller: watches, waits for quiet, reconciles, and stops cleanly.

pub mod clouds;
mod guardrails_reload;
mod leader;
pub mod lease;
mod reconcile_loop;

use std::time::Duration;

use kube::Client;
use thiserror::Error;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::cli::RunArgs;
use crate::controller::clouds::{Providers, Reconcilers};
use crate::controller::leader::lead;
use crate::controller::lease::Election;
use crate::guardrails::GuardrailsError;
use crate::k8s::connect::{ConnectError, connect};
use crate::k8s::index::Index;
use crate::k8s::index::shared_index::{SharedIndex, synced};
use crate::k8s::manifests::{self, ManifestError, Manifests};
use crate::k8s::watcher;
use crate::publish::events::EventPublisher;
use crate::publish::metrics::{self, Metrics, MetricsError};
use crate::publish::publisher::Publisher;
use crate::publish::status_writer::Writer;
use guardrails_reload::GuardrailsReloader;
use reconcile_loop::{Publishers, reconcile};

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
    #[error(transparent)]
    Kubernetes(#[from] ConnectError),
    /// The cluster could not be listed in time.
    #[error("the cluster could not be read within {seconds} s: {gaps}", seconds = .0.as_secs(), gaps = .1)]
    NotSynced(Duration, String),
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
    let index = SharedIndex::new(Index::expecting(watcher::expected(None)));
    let watching = tokio::spawn(watcher::cluster(connect().await?, index.clone(), None));
    let synced = timeout(LONGEST, synced(&index)).await;
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
    let settings = GuardrailsReloader::new(&args.intent)?;
    let metrics = Metrics::default();
    let serving = metrics::serve(args.metrics_address, metrics.clone()).await?;
    let reconcilers = providers.reconcilers(&args.options(settings.current()));
    if let Some(manifests) = &args.source.manifests {
        let (index, following) = manifests::watch_manifests(manifests)?;
        let (notices, publisher) = (EventPublisher::to_log(metrics.clone()), Publisher::new(None, None, 0));
        let telling = Publishers { notices, publisher, metrics };
        tokio::select! {
            () = following => Ok(()),
            () = settings.follow(&index) => Ok(()),
            () = serving => Ok(()),
            () = reconcile(reconcilers, &index, telling, args.resync, &stop) => Ok(()),
        }
    } else {
        let client = connect().await?;
        let index = SharedIndex::new(Index::expecting(watcher::expected(args.zone().as_ref())));
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
    let watching = tokio::spawn(watcher::cluster(client.clone(), index.clone(), args.zone()));
    let lost = CancellationToken::new();
    let writer = Writer::new(client.clone(), lost.clone());
    let telling = Publishers {
        notices: EventPublisher::to_cluster(client.clone(), &identity, metrics.clone()),
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

/// What has not been listed yet.
fn gaps(index: &SharedIndex) -> String {
    match index.read().completeness() {
        firewall_core::Completeness::Complete => String::new(),
        firewall_core::Completeness::Partial(gaps) => gaps.join("; "),
    }
}

/// The host's name, which in a pod is the pod's name.
fn host_name() -> String {
    std::env::var("HOSTNAME")
        .or_else(|_| std::fs::read_to_string("/etc/hostname"))
        .map_or_else(|_| "hostport-firewall".to_owned(), |name| name.trim().to_owned())
}
