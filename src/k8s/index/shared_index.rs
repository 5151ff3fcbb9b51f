//! The index, shared by the watches that feed it and the loops that read it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::Index;

/// The index, shared by the watches that feed it and the loops that read it. Each clone sees every change once.
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

    /// The index; hold the guard briefly, every watch waits for it.
    pub fn read(&self) -> MutexGuard<'_, Index> {
        // A panic while the lock was held has aborted that watch, and its content is no worse than before.
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the index, and wakes the readers if `change` says that something changed.
    pub fn update(&self, change: impl FnOnce(&mut Index) -> bool) {
        if change(&mut self.read()) {
            self.shared.1.send_replace(());
        }
    }

    /// Waits for a change that this clone has not seen.
    pub async fn changed(&mut self) {
        // It fails only once nothing can change the index any more, and `self` itself can.
        _ = self.seen.changed().await;
    }
}

/// Waits until the index has been complete once.
pub async fn synced(index: &SharedIndex) {
    // A clone misses no change: one that comes after it has looked is one that it has not seen.
    let mut index = index.clone();
    while !index.read().is_synced() {
        index.changed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::Watch;
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn what_waits_for_the_index_to_be_complete_is_told() {
        let index = SharedIndex::new(Index::expecting([Watch::Pods, Watch::Nodes]));
        let feed = async {
            for watch in [Watch::Pods, Watch::Nodes] {
                tokio::task::yield_now().await;
                index.update(|index| index.reset(watch, vec![]));
            }
        };
        let both = async { tokio::join!(synced(&index), feed) };
        tokio::time::timeout(Duration::from_secs(30), both).await.expect("it is complete");
        synced(&index).await;
    }
}
