//! Leading: reconciles only while this replica holds the Lease.

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::lease::{Election, GRACE};

/// Reconciles while this replica leads. A lost lease ends the process: what starts again begins as a
/// follower, without any remembered state.
///
/// `writing` ends what is written to the clouds, `lost` at once all that is written to the cluster.
pub(super) async fn lead(
    mut election: Election,
    reconciling: impl Future<Output = ()>,
    writing: &CancellationToken,
    lost: &CancellationToken,
) {
    tokio::select! {
        () = writing.cancelled() => return,
        () = election.acquire() => {}
    }
    // A task of its own: a pass over a large cluster computes for seconds, and the lease must be renewed
    // meanwhile.
    let (done, losing, stopping) = (CancellationToken::new(), lost.clone(), writing.clone());
    let ended = done.clone();
    let leading = tokio::spawn(async move {
        tokio::select! {
            () = election.hold() => {
                losing.cancel();
                stopping.cancel();
            }
            // Calls under way when a signal comes were finished under the lease.
            () = ended.cancelled() => election.release().await,
        }
    });
    let mut reconciling = std::pin::pin!(reconciling);
    tokio::select! {
        biased;
        () = lost.cancelled() => {
            // Whatever has not ended by then is dropped: another replica may write from now on.
            _ = timeout(GRACE, reconciling).await;
        }
        () = &mut reconciling => {
            done.cancel();
            // It ends by itself: a release is bounded, and a panic ends the process.
            _ = leading.await;
        }
    }
}
