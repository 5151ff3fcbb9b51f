//! The latest snapshot, which the loops of all clouds share: each change is computed once.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use crate::desired::snapshot::Snapshot;
use crate::desired::snapshots::Snapshots;
use crate::intents::settings::Settings;
use crate::k8s::index::Index;
use crate::k8s::index::shared_index::SharedIndex;

/// Takes snapshots of the index. Clones share one series.
#[derive(Clone, Default)]
pub(super) struct LatestSnapshot(Arc<Mutex<Snapshots>>);

impl LatestSnapshot {
    /// Returns the snapshot of the index as it is now, and the index. No watch waits for that; another loop
    /// does, and gets the same. `started` is the epoch of the snapshots' times.
    pub(super) fn take(
        &self,
        index: &SharedIndex,
        settings: &Settings,
        started: Instant,
    ) -> (Arc<Snapshot>, Index) {
        // A panic ends the process; in a test it has ended the loop that it was in.
        let mut snapshots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (index, changes) = index.read_changes();
        (snapshots.take(index.clone(), &changes, settings, started.elapsed()), index)
    }
}
