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

/// Time before the end of the quiet time at which the plan is made, and what that needs is read: mostly nothing comes
/// any more, and then a port opens as soon as the burst is over.
pub(super) const PLANNED_AHEAD: Duration = Duration::from_millis(100);

/// Time between two looks at what a burst changes: in a rollout that is thousands of objects.
pub(super) const LOOK: Duration = Duration::from_millis(20);

/// A burst that has begun. Changes that cannot change the plan do not extend it: in a large cluster pods are labelled,
/// and get ready, all the time.
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

    /// Returns the snapshot of the last look.
    pub(super) const fn last(&self) -> &Arc<Snapshot> {
        &self.last
    }

    /// Follows the burst until `ahead` of the end of its quiet time.
    pub(super) async fn follow(
        &mut self,
        changes: &mut SharedIndex,
        ahead: Duration,
        take: &(dyn Fn() -> Arc<Snapshot> + Send + Sync),
    ) {
        loop {
            // Not ahead of the latest end: there something always comes.
            let end = (self.quiet - ahead).min(self.latest);
            let (noticed, is_last) = wait_for_look(changes, end).await;
            let looked_at = Instant::now();
            let is_changed = self.look(noticed, ahead, take);
            if looked_at >= self.latest || is_last && !is_changed {
                return;
            }
        }
    }

    /// Waits for the end of the burst. Returns true as soon as it changes the plan: then it goes on.
    pub(super) async fn overtakes(
        &mut self,
        changes: &mut SharedIndex,
        take: &(dyn Fn() -> Arc<Snapshot> + Send + Sync),
    ) -> bool {
        let end = self.quiet.min(self.latest);
        loop {
            let (noticed, is_last) = wait_for_look(changes, end).await;
            if self.look(noticed, Duration::ZERO, take) {
                return true;
            }
            if is_last {
                return false;
            }
        }
    }

    /// Looks at what has changed. Returns true if that changes the plan, which extends the burst.
    fn look(
        &mut self,
        noticed: Instant,
        ahead: Duration,
        take: &(dyn Fn() -> Arc<Snapshot> + Send + Sync),
    ) -> bool {
        let now = take();
        let is_changed = now.changes_plan_since(&self.last);
        self.last = now;
        if is_changed {
            // Where a look takes long, another one comes before the end.
            self.quiet = (noticed + QUIET).max(Instant::now() + ahead + LOOK);
        }
        is_changed
    }
}

/// Waits for the next look at what changes. Returns when the first of these was noticed: from then on a port has waited;
/// and true if this is the last look, at `end`: none comes later.
async fn wait_for_look(changes: &mut SharedIndex, end: Instant) -> (Instant, bool) {
    tokio::select! {
        biased;
        () = sleep_until(end) => (Instant::now(), true),
        () = changes.changed() => {
            let noticed = Instant::now();
            sleep_until(end.min(noticed + LOOK)).await;
            (noticed, noticed + LOOK >= end)
        }
    }
}
