//! The controller: the process that runs for ever. It follows the cluster, leads if it must, reconciles, and
//! stops cleanly.

mod burst;
mod candidate;
pub mod clouds;
pub mod config;
pub mod guardrails_file;
mod guardrails_reload;
mod latest_snapshot;
mod leader;
mod lease;
mod reconcile_loop;

use firewall_core::Fence;
use kube::Client;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::controller::guardrails_file::GuardrailsError;
use crate::intents::settings::Settings;
use crate::k8s::connect::{ConnectError, connect};
use crate::k8s::index::Index;
use crate::k8s::index::shared_index::SharedIndex;
use crate::k8s::manifests::{self, ManifestError, Manifests};
use crate::k8s::watcher;
use crate::publish::events::EventPublisher;
use crate::publish::metrics::{self, Metrics, MetricsError};
use crate::publish::publisher::Publisher;
use crate::publish::publishers::Publishers;
use crate::publish::status_writer::StatusWriter;
use crate::reconcile::cloud::CloudReconciler;
use clouds::connect as connect_clouds;
use config::Config;
use guardrails_reload::GuardrailsReloader;
use latest_snapshot::LatestSnapshot;
use leader::{Candidacy, keep_connecting, lead};
use reconcile_loop::{LoopContext, reconcile};

/// Why the controller cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A cloud cannot be connected to.
    #[error(transparent)]
    Clouds(#[from] clouds::ConnectError),
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
}

/// Runs the controller until `stop`.
///
/// # Errors
/// If it cannot start. Once it runs, everything that goes wrong is reported and tried again.
pub async fn run(mut config: Config, stop: CancellationToken) -> Result<(), StartError> {
    let fence = if config.lease.is_some() && config.manifests.is_none() {
        Fence::closed(Instant::now().into_std())
    } else {
        Fence::always_open()
    };
    let clouds = connect_clouds(config.clouds.clone(), &config.options, &fence).await?;
    let guardrails = GuardrailsReloader::new(config.settings.clone())?;
    let metrics = Metrics::default();
    let serving = metrics::serve(config.metrics_address, metrics.clone()).await?;
    let process = Process { settings: guardrails.settings(), metrics, fence, lease_client: None, stop };
    if let Some(manifests) = config.manifests.take() {
        return process.run_on_files(&config, &manifests, clouds, guardrails, serving).await;
    }
    let client = connect().await?;
    tokio::select! {
        biased;
        () = guardrails.follow() => {}
        () = serving => {}
        () = process.run_in_cluster(config, client, clouds) => {}
    }
    Ok(())
}

/// Runs the controller in a cluster and on clouds that are connected already, until `stop`: for tests, which
/// have a cluster and clouds of their own, and one clock for everything. Of the configuration, the clouds, the settings and the address of
/// the metrics are not read.
pub async fn run_connected(
    config: Config,
    client: Client,
    clouds: Vec<Box<dyn CloudReconciler>>,
    settings: watch::Receiver<Settings>,
    fence: Fence,
    stop: CancellationToken,
) {
    let (metrics, lease_client) = (Metrics::default(), Some(client.clone()));
    let process = Process { settings, metrics, fence, lease_client, stop };
    process.run_in_cluster(config, client, clouds).await;
}

/// Everything that lives as long as the process.
struct Process {
    settings: watch::Receiver<Settings>,
    metrics: Metrics,
    /// Open while this process may write
    fence: Fence,
    /// The client for the Lease on the runtime of everything else; none for one on a thread of its own
    lease_client: Option<Client>,
    stop: CancellationToken,
}

impl Process {
    async fn run_on_files(
        self,
        config: &Config,
        manifests: &Manifests,
        clouds: Vec<Box<dyn CloudReconciler>>,
        guardrails: GuardrailsReloader,
        serving: impl Future<Output = ()>,
    ) -> Result<(), StartError> {
        let (index, following) = manifests::watch_manifests(manifests)?;
        let publishers = Publishers {
            events: EventPublisher::to_log(),
            publisher: Publisher::new(None, None, &config.cluster, &[]),
            metrics: self.metrics.clone(),
        };
        let context = self.context(config, &index, publishers, self.stop.clone());
        tokio::select! {
            biased;
            () = following => {}
            () = guardrails.follow() => {}
            () = serving => {}
            () = wake_on_new_settings(self.settings.clone(), &index) => {}
            () = reconcile(clouds, context) => {}
        }
        Ok(())
    }

    async fn run_in_cluster(self, config: Config, client: Client, clouds: Vec<Box<dyn CloudReconciler>>) {
        let index = SharedIndex::new(Index::expecting(watcher::expected_watches(config.zone.as_ref())));
        let waking = wake_on_new_settings(self.settings.clone(), &index);
        tokio::select! {
            biased;
            () = waking => {}
            () = self.lead_and_reconcile(config, client, clouds, &index) => {}
        }
    }

    async fn lead_and_reconcile(
        &self,
        config: Config,
        client: Client,
        clouds: Vec<Box<dyn CloudReconciler>>,
        index: &SharedIndex,
    ) {
        let identity = config.identity.clone().unwrap_or_else(host_name);
        // A replica that waits for the Lease watches already, so that it can act at once when it leads.
        let watching =
            tokio::spawn(watcher::watch_cluster(client.clone(), index.clone(), config.zone.clone()));
        let writer = StatusWriter::new(client.clone(), &config.cluster, self.fence.clone());
        let machines: Vec<_> = clouds.iter().map(|cloud| cloud.provider_id_prefixes()).collect();
        let publishers = Publishers {
            events: EventPublisher::to_cluster(client, &identity, self.fence.clone()),
            publisher: Publisher::new(Some(writer), config.zone.clone(), &config.cluster, &machines),
            metrics: self.metrics.clone(),
        };
        let writing = self.stop.child_token();
        let reconciling = reconcile(clouds, self.context(&config, index, publishers, writing.clone()));
        match config.lease {
            None => reconciling.await,
            Some(lease) => {
                let candidacy = Candidacy {
                    lease,
                    replica: identity,
                    cluster: config.cluster,
                    fence: self.fence.clone(),
                    metrics: self.metrics.clone(),
                    has_own_thread: self.lease_client.is_none(),
                };
                let shared = self.lease_client.clone();
                let client = async move {
                    match shared {
                        Some(client) => client,
                        None => keep_connecting().await,
                    }
                };
                lead(candidacy, client, reconciling, &writing).await;
            }
        }
        watching.abort();
    }

    fn context(
        &self,
        config: &Config,
        index: &SharedIndex,
        publishers: Publishers,
        stop: CancellationToken,
    ) -> LoopContext {
        LoopContext {
            index: index.clone(),
            settings: self.settings.clone(),
            publishers,
            resync: config.resync,
            stop,
            started: Instant::now(),
            latest: LatestSnapshot::default(),
        }
    }
}

/// Wakes whatever waits for a change of the cluster when the settings change, for ever: it has to look again.
async fn wake_on_new_settings(mut settings: watch::Receiver<Settings>, index: &SharedIndex) {
    while settings.changed().await.is_ok() {
        index.update(|_| true);
    }
    std::future::pending::<()>().await;
}

/// Returns the host's name, which in a pod is the pod's name.
fn host_name() -> String {
    std::env::var("HOSTNAME")
        .or_else(|_| std::fs::read_to_string("/etc/hostname"))
        .map_or_else(|_| "hostport-firewall".to_owned(), |name| name.trim().to_owned())
}
