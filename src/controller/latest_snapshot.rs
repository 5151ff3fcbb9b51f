//! The latest snapshot, which the loops of all clouds share: each change is computed once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::desired::snapshot::Snapshot;
use crate::desired::snapshots::Snapshots;
use crate::intents::settings::Settings;
use crate::k8s::index::shared_index::SharedIndex;
use crate::k8s::index::{Changes, Index};
use crate::publish::cluster_now::ClusterNow;

/// Takes snapshots of the index. Clones share one series.
#[derive(Clone, Default)]
pub(super) struct LatestSnapshot(Arc<Mutex<Series>>);

#[derive(Default)]
struct Series {
    snapshots: Snapshots,
    /// The objects that have changed since the cluster was read to publish something
    unpublished: Changes,
}

impl LatestSnapshot {
    /// Returns the snapshot of the index as it is now. No watch waits for that; another loop does, and gets the
    /// same. `started` is the epoch of the snapshots' times.
    pub(super) fn take(&self, index: &SharedIndex, settings: &Settings, started: Instant) -> Arc<Snapshot> {
        self.lock().take(index, settings, started).0
    }

    /// Returns the cluster as it is now, with what has changed since this was called last.
    pub(super) fn take_cluster(
        &self,
        index: &SharedIndex,
        settings: &Settings,
        started: Instant,
    ) -> ClusterNow {
        let mut series = self.lock();
        let (snapshot, index) = series.take(index, settings, started);
        let changes = series.unpublished.take();
        ClusterNow { index, changes, port_owners: snapshot.port_owners.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Series> {
        // A panic ends the process; in a test it has ended the loop that it was in.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Series {
    fn take(&mut self, index: &SharedIndex, settings: &Settings, started: Instant) -> (Arc<Snapshot>, Index) {
        let (index, changes) = index.read_changes();
        self.unpublished.append(&changes);
        (self.snapshots.take(index.clone(), &changes, settings, started.elapsed()), index)
    }
}
