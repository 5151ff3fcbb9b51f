//! Shares the index between the watches that feed it and the loops that read it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::{Changes, Index};

/// A handle to the one index. Each clone sees every change once.
#[derive(Clone)]
pub struct SharedIndex {
    shared: Arc<(Mutex<Index>, watch::Sender<()>)>,
    seen: watch::Receiver<()>,
}

impl SharedIndex {
    /// Wraps an index.
    #[must_use]
    pub fn new(index: Index) -> Self {
        let (changes, seen) = watch::channel(());
        Self { shared: Arc::new((Mutex::new(index), changes)), seen }
    }

    /// Returns the index as it is now. No watch waits for whoever reads it.
    #[must_use]
    pub fn read(&self) -> Index {
        self.lock().view()
    }

    /// Returns the index as it is now, and what has changed since this was last called, on whichever clone.
    #[must_use]
    pub fn read_changes(&self) -> (Index, Changes) {
        let mut index = self.lock();
        let changes = index.take_changes();
        (index.view(), changes)
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        // A panic while the lock was held has aborted that watch; the index is as valid as before.
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the index, and wakes the readers if `change` returns true.
    pub fn update(&self, change: impl FnOnce(&mut Index) -> bool) {
        if change(&mut self.lock()) {
            self.shared.1.send_replace(());
        }
    }

    /// Waits for a change that this clone has not seen.
    pub async fn changed(&mut self) {
        // It fails only once every sender is dropped, and `self` holds one.
        _ = self.seen.changed().await;
    }
}

/// Waits until the index has been complete once.
pub(in crate::k8s) async fn wait_until_synced(index: &SharedIndex) {
    wait_until(index, Index::is_synced).await;
}

/// Waits until the condition holds.
pub(in crate::k8s) async fn wait_until(index: &SharedIndex, condition: impl Fn(&Index) -> bool) {
    // A clone misses no change: one that is made after the condition has been evaluated wakes `changed`.
    let mut index = index.clone();
    while !condition(&index.read()) {
        index.changed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Object, Watch};
    use super::*;
    use crate::k8s::objects::builders::from_json;
    use std::time::Duration;

    #[tokio::test]
    async fn waiting_ends_once_the_index_is_complete() {
        let index = SharedIndex::new(Index::expecting([Watch::Pods, Watch::Nodes]));
        let feed = async {
            for watch in [Watch::Pods, Watch::Nodes] {
                tokio::task::yield_now().await;
                let node = Object::Node(from_json(serde_json::json!({ "metadata": { "name": "n" } })));
                let objects = if watch == Watch::Nodes { vec![node] } else { vec![] };
                index.update(|index| index.reset(watch, objects));
            }
        };
        let both = async { tokio::join!(wait_until_synced(&index), feed) };
        tokio::time::timeout(Duration::from_secs(30), both).await.expect("it is complete");
        wait_until_synced(&index).await;
    }
}
