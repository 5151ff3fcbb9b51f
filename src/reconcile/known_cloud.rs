//! What is known of the cloud between passes, so that a change of the cluster costs the reads that it needs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use firewall_core::{FirewallProvider, InstanceId, Observed, ProviderError};
use tokio::time::Instant;

use super::executor::StepOutcome;
use crate::desired::snapshot::Snapshot;

pub(super) type ObservedBy<P> =
    Observed<<P as FirewallProvider>::Resource, <P as FirewallProvider>::Inventory>;

/// Holds what a pass leaves: what was read, with every change that the cloud has confirmed since.
///
/// It is not kept where anything is in doubt: a change that failed or is under way, or a remark about one.
/// Losing it costs reads.
pub(super) struct KnownCloud<P: FirewallProvider> {
    /// The cloud as it is now
    pub(super) observed: ObservedBy<P>,
    /// The time at which it was last read whole
    pub(super) read_at: Instant,
    /// The time after that at which it has to be read whole again
    pub(super) lasts: Duration,
    /// The snapshot of the pass
    pub(super) snapshot: Arc<Snapshot>,
}

impl<P: FirewallProvider> KnownCloud<P> {
    /// Returns the time until the cloud has to be read whole again.
    pub(super) fn time_left(&self, now: Instant) -> Duration {
        self.lasts.saturating_sub(now - self.read_at)
    }

    /// Returns true if it still holds for this snapshot's machines: one that is made anew under its id, or has
    /// another address, has to be read.
    fn holds_for(&self, snapshot: &Snapshot, now: Instant) -> bool {
        let mut before = self.snapshot.machines.iter();
        !self.time_left(now).is_zero()
            && before.all(|(node, machine)| snapshot.machines.get(node).is_none_or(|now| now == machine))
    }
}

/// Observes the cloud for a pass: whole, or only what is not known of it. Also returns the time at which it was
/// last read whole.
pub(super) async fn observe<P: FirewallProvider>(
    provider: &P,
    known: Option<KnownCloud<P>>,
    members: &BTreeSet<InstanceId>,
    snapshot: &Snapshot,
) -> Result<(ObservedBy<P>, Instant), ProviderError> {
    let now = Instant::now();
    match known.filter(|known| known.holds_for(snapshot, now)) {
        Some(KnownCloud { observed, read_at, .. }) => {
            Ok((provider.observe_added(observed, members).await?, read_at))
        }
        None => Ok((provider.observe(members).await?, now)),
    }
}

/// Returns true if after these outcomes the cloud is as the plan says. A remark is about something that is not.
pub(super) fn is_certain(outcomes: &[StepOutcome]) -> bool {
    outcomes.iter().all(|outcome| match outcome {
        StepOutcome::Applied(applied) => applied.notes.is_empty(),
        StepOutcome::LeftOut | StepOutcome::Stopped => true,
        StepOutcome::Failed(_) | StepOutcome::InFlight => false,
    })
}
