//! The loop: a pass whenever something changed, and now and then although nothing did.

use std::sync::Arc;
use std::time::Duration;

use firewall_core::{FirewallProvider, ProviderError};
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::clouds::Reconcilers;
use super::gaps;
use crate::desired::snapshot::Snapshot;
use crate::intents::settings::Settings;
use crate::k8s::index::shared_index::{SharedIndex, synced};
use crate::publish::events::EventPublisher;
use crate::publish::metrics::Metrics;
use crate::publish::publisher::{CloudResult, Publisher};
use crate::publish::transitions::OpenMemberships;
use crate::reconcile::pass::Pass;
use crate::reconcile::reconciler::Reconciler;

/// A burst of changes is over when nothing has changed for this long…
const QUIET: Duration = Duration::from_millis(200);

/// …or when it has lasted this long: a rollout over many nodes must not hold back its own first node.
const LONGEST_BURST: Duration = Duration::from_secs(2);

/// How long a plan is carried out whatever changes: a pass must do more than read the cloud and plan.
const MIN_EXECUTION: Duration = Duration::from_secs(10);

/// How long it is carried out after that at most, even if nothing changes: what has opened is told, to readiness gates
/// among others, at the end.
const LONGEST_PASS: Duration = Duration::from_mins(1);

/// How long calls under way may take to end after a signal: the Deployment's grace period, 45 s, less a margin.
const LAST_CALLS: Duration = Duration::from_secs(30);

/// How long to wait after a status, a gate or a hostname could not be written, first and at most.
const PUBLISH_RETRY: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(5));

/// How long to wait after the cloud could not be observed, first and at most.
const OBSERVE_RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(1));

/// Reconciles until `stop`, and then for as long as the calls under way take, within bounds: a cloud that does not
/// answer must not hold up the end of the process.
pub(super) async fn reconcile(
    reconcilers: Reconcilers,
    index: &SharedIndex,
    telling: Publishers,
    resync: Duration,
    stop: &CancellationToken,
) {
    let Reconcilers { aws, gce } = reconcilers;
    let shared = LoopContext { index: index.clone(), telling, resync, stop: stop.clone() };
    // Each cloud at its own pace: one that is slow, or refuses everything, does not hold up the other.
    let all =
        async { tokio::join!(Box::pin(shared.clone().passes(aws)), Box::pin(shared.clone().passes(gce))) };
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
pub(super) struct Publishers {
    pub(super) notices: EventPublisher,
    pub(super) publisher: Publisher,
    pub(super) metrics: Metrics,
}

/// What the passes of every cloud go by.
#[derive(Clone)]
struct LoopContext {
    index: SharedIndex,
    telling: Publishers,
    resync: Duration,
    stop: CancellationToken,
}

impl LoopContext {
    async fn passes<P: FirewallProvider>(self, reconciler: Option<Reconciler<P>>) {
        let Some(mut reconciler) = reconciler else { return };
        tokio::select! {
            () = self.stop.cancelled() => return,
            () = first_sync(&self.index) => {}
        }
        let (mut unobserved, mut untold, mut known) =
            (OBSERVE_RETRY.0, PUBLISH_RETRY.0, OpenMemberships::default());
        // What changes during a pass is news after it.
        let (mut changes, settings) = (self.index.clone(), reconciler.settings());
        while !self.stop.is_cancelled() {
            let (pause, before) = match self.interruptible(&mut reconciler, &changes).await {
                (Ok(pass), interrupted) => {
                    let snapshot = Arc::clone(&pass.snapshot);
                    unobserved = OBSERVE_RETRY.0;
                    let again = pass.again.unwrap_or(self.resync).min(self.resync);
                    self.telling.metrics.readable(reconciler.name(), true);
                    let pause = if self.tell(reconciler.name(), pass, &mut known).await {
                        untold = PUBLISH_RETRY.0;
                        again
                    } else {
                        let pause = again.min(untold);
                        untold = (untold * 2).min(PUBLISH_RETRY.1);
                        pause
                    };
                    (if interrupted { Duration::ZERO } else { pause }, Some(snapshot))
                }
                (Err(error), _) => {
                    let (cloud, reason) = (reconciler.name(), error.reason());
                    tracing::warn!(cloud, reason, "cannot be observed, nothing is changed: {error}");
                    self.telling.metrics.readable(cloud, false);
                    self.telling.publisher.mark_unobserved(cloud, &self.index).await;
                    let pause = unobserved;
                    unobserved = (unobserved * 2).min(OBSERVE_RETRY.1);
                    (pause, None)
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = sleep(pause) => {}
                () = self.news(&mut changes, reconciler.name(), &settings, before.as_deref()) => {}
            }
        }
    }

    /// Tells what a pass has come to. Returns whether all of it could be written.
    async fn tell(&self, cloud: &'static str, pass: Pass, known: &mut OpenMemberships) -> bool {
        if pass.applied + pass.undone > 0 {
            tracing::info!(cloud, applied = pass.applied, undone = pass.undone, "reconciled");
        }
        self.telling.metrics.withheld(cloud, &pass.withheld);
        let announcements = known.diff_and_record(&pass);
        let Pass { notices, memberships, snapshot, .. } = pass;
        let findings =
            CloudResult { problems: notices.clone(), memberships, demand: snapshot.demand.clone() };
        let written = self.telling.publisher.publish(cloud, findings, &self.index).await;
        self.telling.notices.say(cloud, notices);
        self.telling.notices.say("hostnames", written.unpublished);
        self.telling.notices.announce(announcements);
        written.all
    }

    /// One pass. Where calls are scarce a plan can take many minutes: then a change of the cluster, or some time, ends it
    /// early, so that what is new is planned together with what is left. Also returns whether that happened.
    async fn interruptible<P: FirewallProvider>(
        &self,
        reconciler: &mut Reconciler<P>,
        seen: &SharedIndex,
    ) -> (Result<Pass, ProviderError>, bool) {
        let mut changes = seen.clone();
        let planned = match reconciler.observe_and_plan(&self.index).await {
            Ok(planned) => planned,
            Err(error) => return (Err(error), false),
        };
        let (cloud, settings, snapshot) =
            (reconciler.name(), reconciler.settings(), Arc::clone(&planned.snapshot));
        // Clients are sent elsewhere before anything closes.
        let projected_memberships = CloudResult {
            problems: planned.notices.clone(),
            memberships: reconciler.projected_memberships(&planned),
            demand: snapshot.demand.clone(),
        };
        self.telling.publisher.retract_addresses(cloud, projected_memberships, &self.index).await;
        let interrupt = self.stop.child_token();
        let mut pass = std::pin::pin!(reconciler.execute_plan(planned, &interrupt));
        // However long it took until here, else what takes long would never come to its first call.
        let long = async {
            sleep(MIN_EXECUTION).await;
            _ = timeout(LONGEST_PASS, self.news(&mut changes, cloud, &settings, Some(&snapshot))).await;
        };
        tokio::select! {
            pass = &mut pass => (Ok(pass), false),
            () = long => {
                interrupt.cancel();
                (Ok(pass.await), true)
            }
        }
    }

    /// Waits for a change that makes another plan. What else changes is only told: to read the cloud whenever some pod gets
    /// ready would take most of the calls that it allows.
    async fn news(
        &self,
        changes: &mut SharedIndex,
        cloud: &'static str,
        settings: &Receiver<Settings>,
        before: Option<&Snapshot>,
    ) {
        let mut told = true;
        loop {
            if told {
                debounce(changes).await;
            } else {
                _ = timeout(PUBLISH_RETRY.0, debounce(changes)).await;
            }
            let Some(before) = before else { return };
            let now = Snapshot::take(&self.index.read(), &settings.borrow());
            if now.changes_plan_since(before) {
                return;
            }
            let written = self.telling.publisher.refresh(cloud, now.demand, &self.index).await;
            self.telling.notices.say("hostnames", written.unpublished);
            told = written.all;
        }
    }
}

/// Waits for the first complete list of everything, and says now and then what it waits for.
async fn first_sync(index: &SharedIndex) {
    while timeout(Duration::from_secs(10), synced(index)).await.is_err() {
        tracing::warn!("nothing is changed before everything has been listed once; missing: {}", gaps(index));
    }
}

/// Waits for a change, and then until the burst that it began is over.
async fn debounce(index: &mut SharedIndex) {
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

#[cfg(test)]
mod tests;
