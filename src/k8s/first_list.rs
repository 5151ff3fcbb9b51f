//! The first complete list: nothing is planned before everything has been listed once.

use std::time::Duration;

use thiserror::Error;
use tokio::time::timeout;

use super::connect::{ConnectError, connect};
use super::index::shared_index::{SharedIndex, wait_until, wait_until_synced};
use super::index::{Index, NO_NODE};
use super::manifests::{self, ManifestError, Manifests};
use super::watcher;

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
    /// The cluster could not be listed in time.
    #[error("the cluster could not be read within {seconds} s: {missing}", seconds = .0.as_secs(), missing = .1)]
    NotListed(Duration, String),
}

/// Returns an index that is complete, for commands that read the cluster once.
///
/// # Errors
/// If manifests cannot be read, or the cluster cannot within 30 s.
pub async fn read_once(source: Option<&Manifests>) -> Result<SharedIndex, ReadError> {
    const LIST_TIMEOUT: Duration = Duration::from_secs(30);
    if let Some(manifests) = source {
        return Ok(SharedIndex::new(manifests::read(manifests)?));
    }
    let index = SharedIndex::new(Index::expecting(watcher::expected_watches(None)));
    let watching = tokio::spawn(watcher::watch_cluster(connect().await?, index.clone(), None));
    let is_settled = |index: &Index| index.is_synced() || index.lists_no_node();
    let listed = timeout(LIST_TIMEOUT, wait_until(&index, is_settled)).await;
    watching.abort();
    match listed {
        Ok(()) if index.read().lists_no_node() => Err(ReadError::NoNode),
        Ok(()) => Ok(index),
        Err(_) => Err(ReadError::NotListed(LIST_TIMEOUT, list_missing(&index))),
    }
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
