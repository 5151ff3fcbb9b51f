//! The first complete list: nothing is planned before everything has been listed once.

use std::time::Duration;

use thiserror::Error;
use tokio::time::{Instant, timeout};

use super::connect::{ConnectError, connect};
use super::index::shared_index::{SharedIndex, wait_until, wait_until_synced};
use super::index::{Index, NO_NODE};
use super::manifests::{self, ManifestError, Manifests};
use super::watcher;
use super::watcher::progress::Progress;

/// The reason for which the cluster cannot be read once.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The manifests cannot be read.
    #[error(transparent)]
    Manifests(#[from] ManifestError),
    /// There is no usable kubeconfig or service account.
    #[error(transparent)]
    Kubernetes(#[from] ConnectError),
    /// The cluster lists no Node.
    #[error("{NO_NODE}")]
    NoNode,
    /// Reading the cluster came to a stop.
    #[error(
        "the cluster could not be read: for {seconds} s nothing more came; read so far: {read}; missing: {missing}",
        seconds = MAX_STANDSTILL.as_secs()
    )]
    NotListed {
        /// The objects read so far, by kind
        read: String,
        /// The kinds that are not complete, each with the cause
        missing: String,
    },
}

/// The time without progress after which a command that reads the cluster once gives up. A list of any length
/// is read to its end.
const MAX_STANDSTILL: Duration = Duration::from_secs(30);

/// The time between two lines about the progress.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// Returns an index that is complete, for commands that read the cluster once. If that takes long, the
/// progress is written to standard error.
///
/// # Errors
/// If manifests cannot be read, or the cluster cannot, and there has been no progress for 30 s.
pub async fn read_once(source: Option<&Manifests>) -> Result<SharedIndex, ReadError> {
    if let Some(manifests) = source {
        return Ok(SharedIndex::new(manifests::read(manifests)?));
    }
    let index = SharedIndex::new(Index::expecting(watcher::expected_watches(None)));
    let progress = Progress::default();
    let client = connect().await?;
    let watching = tokio::spawn(watcher::watch_with_progress(client, index.clone(), None, progress.clone()));
    let listed = wait_while_it_progresses(&index, &progress, |text| eprintln!("{text}")).await;
    watching.abort();
    listed?;
    if index.read().lists_no_node() { Err(ReadError::NoNode) } else { Ok(index) }
}

/// Waits until everything has been listed once, for as long as lists come further.
async fn wait_while_it_progresses(
    index: &SharedIndex,
    progress: &Progress,
    report: impl Fn(String),
) -> Result<(), ReadError> {
    let (mut read, mut came_further) = (0, Instant::now());
    let is_settled = |index: &Index| index.is_synced() || index.lists_no_node();
    while timeout(REPORT_INTERVAL, wait_until(index, is_settled)).await.is_err() {
        if progress.total() > read {
            (read, came_further) = (progress.total(), Instant::now());
        } else if came_further.elapsed() >= MAX_STANDSTILL {
            return Err(ReadError::NotListed { read: progress.to_string(), missing: list_missing(index) });
        }
        report(format!("reading the cluster: {progress}; missing: {}", list_missing(index)));
    }
    Ok(())
}

/// The time for which the first pass waits for all kinds once pods and nodes are listed. A kind that cannot be
/// listed, such as one whose conversion webhook is gone, must not keep the others from opening.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for the first list of everything, or for some time for what is left once pods and nodes are listed.
/// Logs every 10 s which kinds are missing.
pub(crate) async fn wait_for_first_list(index: &SharedIndex) {
    while timeout(PATIENCE, wait_until_synced(index)).await.is_err() {
        let missing = list_missing(index);
        if index.read().is_usable() {
            tracing::warn!("what depends on these kinds stays as it is until they are listed: {missing}");
            return;
        }
        tracing::warn!("nothing is changed before pods and nodes have been listed once; missing: {missing}");
    }
}

/// Returns the kinds that have not been listed yet, with the causes.
fn list_missing(index: &SharedIndex) -> String {
    index.read().gaps().join("; ")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::k8s::index::Watch;

    #[tokio::test(start_paused = true)]
    async fn long_list_is_read_to_its_end_and_reported() {
        let index = SharedIndex::new(Index::expecting([Watch::Pods]));
        let (progress, reports) = (Progress::default(), Mutex::new(Vec::new()));
        let list = async {
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_secs(20)).await;
                progress.add(&Watch::Pods, 500);
            }
            index.update(|index| index.reset(Watch::Pods, vec![]));
            std::future::pending::<()>().await;
        };
        let wait = wait_while_it_progresses(&index, &progress, |text| reports.lock().unwrap().push(text));
        tokio::select! {
            read = wait => read.expect("it takes 400 s and never stands still"),
            () = list => {}
        }
        let reports = reports.into_inner().unwrap();
        assert!(reports.iter().any(|text| text.contains("9500 pods")), "{reports:#?}");
    }

    #[tokio::test(start_paused = true)]
    async fn list_that_begins_anew_for_ever_is_given_up() {
        let index = SharedIndex::new(Index::expecting([Watch::Pods, Watch::Services]));
        let progress = Progress::default();
        index.update(|index| index.reset(Watch::Services, vec![]));
        let list = async {
            loop {
                progress.begin(&Watch::Pods);
                progress.add(&Watch::Pods, 500);
                index.update(|index| index.mark_incomplete(Watch::Pods, "410: too old".into()));
                tokio::time::sleep(Duration::from_secs(3)).await;
            }
        };
        let error = tokio::select! {
            read = wait_while_it_progresses(&index, &progress, |_| {}) => read.expect_err("it never ends"),
            () = list => unreachable!(),
        };
        let text = error.to_string();
        assert!(text.contains("500 pods") && text.contains("pods: 410: too old"), "{text}");
        assert!(!text.contains("services"), "{text}");
    }
}
