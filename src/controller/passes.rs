//! The loop: a pass whenever something changed, and now and then although nothing did.

use std::time::Duration;

use firewall_model::{FirewallProvider, ProviderError};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::gaps;
use super::statuses::{Outcome, Statuses};
use crate::announce::Known;
use crate::metrics::Metrics;
use crate::notice::Notices;
use crate::providers::Reconcilers;
use crate::reconcile::{Pass, Reconciler};
use crate::watch::{self, SharedIndex};

/// A burst of changes is over when nothing has changed for this long…
const QUIET: Duration = Duration::from_millis(200);

/// …or when it has lasted this long: a rollout over many nodes must not hold back its own first node.
const LONGEST_BURST: Duration = Duration::from_secs(2);

/// How long a pass goes on whatever changes: each begins with reading the cloud, and must do more than that.
const UNINTERRUPTED: Duration = Duration::from_secs(10);

/// How long calls under way may take to end after a signal: the Deployment's grace period, 45 s, less a margin.
const LAST_CALLS: Duration = Duration::from_secs(30);

/// How long to wait after a status, a gate or a hostname could not be written, first and at most.
const UNTOLD: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(5));

/// How long to wait after the cloud could not be observed, first and at most.
const UNOBSERVED: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(1));

/// Reconciles until `stop`, and then for as long as the calls under way take, within bounds: a cloud that does not
/// answer must not hold up the end of the process.
pub(super) async fn reconcile(
    reconcilers: Reconcilers,
    index: &SharedIndex,
    telling: Telling,
    resync: Duration,
    stop: &CancellationToken,
) {
    let Reconcilers { aws, gce } = reconcilers;
    let every = Every { index: index.clone(), telling, resync, stop: stop.clone() };
    // Each cloud at its own pace: one that is slow, or refuses everything, does not hold up the other.
    let all =
        async { tokio::join!(Box::pin(every.clone().passes(aws)), Box::pin(every.clone().passes(gce))) };
    let late = async {
        stop.cancelled().await;
        sleep(LAST_CALLS).await;
    };
    tokio::select! {
        _ = all => {}
        () = late => tracing::warn!("calls under way have not ended in time, and are dropped"),
    }
}

/// Whom to tell what a pass has come to.
#[derive(Clone)]
pub(super) struct Telling {
    pub(super) notices: Notices,
    pub(super) statuses: Statuses,
    pub(super) metrics: Metrics,
}

/// What the passes of every cloud go by.
#[derive(Clone)]
struct Every {
    index: SharedIndex,
    telling: Telling,
    resync: Duration,
    stop: CancellationToken,
}

impl Every {
    async fn passes<P: FirewallProvider>(mut self, reconciler: Option<Reconciler<P>>) {
        let Some(mut reconciler) = reconciler else { return };
        tokio::select! {
            () = self.stop.cancelled() => return,
            () = first_sync(&self.index) => {}
        }
        let (mut unobserved, mut untold, mut known) = (UNOBSERVED.0, UNTOLD.0, Known::default());
        while !self.stop.is_cancelled() {
            let pause = match self.interruptible(&mut reconciler).await {
                (Ok(pass), changed) => {
                    unobserved = UNOBSERVED.0;
                    let again = pass.again.unwrap_or(self.resync).min(self.resync);
                    self.telling.metrics.readable(reconciler.name(), true);
                    let pause = if self.tell(reconciler.name(), pass, &mut known).await {
                        untold = UNTOLD.0;
                        again
                    } else {
                        let pause = again.min(untold);
                        untold = (untold * 2).min(UNTOLD.1);
                        pause
                    };
                    if changed { Duration::ZERO } else { pause }
                }
                (Err(error), _) => {
                    let (cloud, reason) = (reconciler.name(), error.reason());
                    tracing::warn!(cloud, reason, "cannot be observed, nothing is changed: {error}");
                    self.telling.metrics.readable(cloud, false);
                    self.telling.statuses.unobserved(cloud, &self.index).await;
                    let pause = unobserved;
                    unobserved = (unobserved * 2).min(UNOBSERVED.1);
                    pause
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = sleep(pause) => {}
                () = burst(&mut self.index) => {}
            }
        }
    }

    /// Tells what a pass has come to. Returns whether all of it could be written.
    async fn tell(&self, cloud: &'static str, pass: Pass, known: &mut Known) -> bool {
        if pass.applied + pass.undone > 0 {
            tracing::info!(cloud, applied = pass.applied, undone = pass.undone, "reconciled");
        }
        let announcements = known.announcements(&pass);
        let Pass { notices, memberships, asked, .. } = pass;
        let outcome = Outcome { problems: notices.clone(), memberships, asked };
        let written = self.telling.statuses.say(cloud, outcome, &self.index).await;
        self.telling.notices.say(cloud, notices);
        self.telling.notices.say("hostnames", written.unpublished);
        self.telling.notices.announce(announcements);
        written.all
    }

    /// One pass. Where calls are scarce it can take many minutes: then a change of the cluster ends it early, so
    /// that what is new is planned together with what is left. Also returns whether that happened.
    async fn interruptible<P: FirewallProvider>(
        &self,
        reconciler: &mut Reconciler<P>,
    ) -> (Result<Pass, ProviderError>, bool) {
        let (interrupt, index) = (self.stop.child_token(), self.index.clone());
        let statuses = self.telling.statuses.clone();
        let pass = async {
            let prospect = reconciler.look(&index).await?;
            // Clients are sent elsewhere before anything closes.
            let outlook = Outcome {
                problems: prospect.notices.clone(),
                memberships: reconciler.outlook(&prospect),
                asked: prospect.asked.clone(),
            };
            statuses.withdraw(reconciler.name(), outlook, &index).await;
            Ok(reconciler.carry_out(prospect, &interrupt).await)
        };
        let mut pass = std::pin::pin!(pass);
        // What changes meanwhile is still news to `self` if the pass ends before this has noticed.
        let mut changes = self.index.clone();
        let long = async {
            sleep(UNINTERRUPTED).await;
            burst(&mut changes).await;
        };
        tokio::select! {
            result = &mut pass => (result, false),
            () = long => {
                interrupt.cancel();
                (pass.await, true)
            }
        }
    }
}

/// Waits for the first complete list of everything, and says now and then what it waits for.
async fn first_sync(index: &SharedIndex) {
    while timeout(Duration::from_secs(10), watch::synced(index)).await.is_err() {
        tracing::warn!("nothing is changed before everything has been listed once; missing: {}", gaps(index));
    }
}

/// Waits for a change, and then until the burst that it began is over.
async fn burst(index: &mut SharedIndex) {
    index.changed().await;
    let longest = Instant::now() + LONGEST_BURST;
    loop {
        tokio::select! {
            () = index.changed() => {}
            () = sleep(QUIET) => return,
            () = sleep_until(longest) => return,
        }
    }
}
