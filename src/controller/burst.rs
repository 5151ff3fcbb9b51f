//! A burst of changes of the cluster: one plan is made for all of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::desired::snapshot::Snapshot;
use crate::k8s::index::shared_index::SharedIndex;

/// A burst is over when nothing has changed the plan for this long…
pub(super) const QUIET: Duration = Duration::from_millis(200);

/// …or when it has lasted this long: a rollout over many nodes must not hold back its own first node.
const LONGEST: Duration = Duration::from_secs(2);

/// Time between two looks at what a burst changes: in a rollout that is thousands of objects.
pub(super) const LOOK: Duration = Duration::from_millis(20);

/// A burst that has begun.
pub(super) struct Burst {
    /// When nothing will have changed the plan for long enough
    quiet: Instant,
    /// When it ends at the latest
    latest: Instant,
    /// The snapshot of the last look
    last: Arc<Snapshot>,
}

impl Burst {
    /// Returns a burst that a change has begun at this time, with the snapshot taken then.
    pub(super) fn begun(at: Instant, last: Arc<Snapshot>) -> Self {
        Self { quiet: at + QUIET, latest: at + LONGEST, last }
    }

    /// Follows the burst until `ahead` of its end. Changes that cannot change the plan do not extend it: in a large
    /// cluster pods are labelled, and get ready, all the time.
    pub(super) async fn follow(
        &mut self,
        changes: &mut SharedIndex,
        ahead: Duration,
        take: &(dyn Fn() -> Arc<Snapshot> + Send + Sync),
    ) {
        loop {
            let end = self.quiet.min(self.latest) - ahead;
            // No look ends later than the burst.
            tokio::select! {
                biased;
                () = sleep_until(end) => return,
                () = changes.changed() => sleep_until(end.min(Instant::now() + LOOK)).await,
            }
            let looked_at = Instant::now();
            let now = take();
            if now.changes_plan_since(&self.last) {
                // Where a look takes long, another one comes before the end.
                self.quiet = (looked_at + QUIET).max(Instant::now() + ahead + LOOK);
            }
            self.last = now;
        }
    }
}
