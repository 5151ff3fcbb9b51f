//! The loop of one cloud: wait for a reason, take the snapshot, plan, retract addresses, execute, publish.

use std::sync::Arc;
use std::time::Duration;

use firewall_core::ProviderError;
use futures::future::{join, join_all};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::burst::{Burst, PLANNED_AHEAD};
use super::latest_snapshot::LatestSnapshot;
use crate::desired::snapshot::Snapshot;
use crate::intents::settings::Settings;
use crate::k8s::first_list::wait_for_first_list;
use crate::k8s::index::shared_index::SharedIndex;
use crate::publish::cluster_now::ClusterNow;
use crate::publish::publishers::Publishers;
use crate::publish::transitions::OpenMemberships;
use crate::reconcile::cloud::CloudReconciler;
use crate::reconcile::pass::{NextPass, Pass, WakeReason};

/// Minimum time a plan is executed before a cluster change may interrupt it: a pass must do more than read
/// the cloud and plan.
const MIN_EXECUTION: Duration = Duration::from_secs(10);

/// Maximum time it is executed after that even if nothing changes: what has opened is published, to readiness
/// gates among others, at the end.
const LONGEST_PASS: Duration = Duration::from_mins(1);

/// Time that calls under way may take to end after a signal: the Deployment's grace period, 45 s, less a
/// margin.
const LAST_CALLS: Duration = Duration::from_secs(30);

/// First and longest delay after the cloud could not be observed.
const OBSERVE_RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(1));

/// Reconciles every cloud until `stop`, and then for as long as the calls under way take, within bounds: a
/// cloud that does not answer must not hold up the end of the process.
pub(super) async fn reconcile(clouds: Vec<Box<dyn CloudReconciler>>, context: LoopContext) {
    let (stop, done) = (context.stop.clone(), CancellationToken::new());
    // Each cloud at its own pace: one that is slow, or refuses everything, does not hold up the others.
    let passes = clouds.into_iter().map(|cloud| Box::pin(CloudLoop::new(cloud, context.clone()).run()));
    let passes = async {
        join_all(passes).await;
        done.cancel();
    };
    let cluster = || context.cluster();
    let writing = context.publishers.keep_written(&cluster, &done);
    let late = async {
        stop.cancelled().await;
        sleep(LAST_CALLS).await;
    };
    tokio::select! {
        biased;
        _ = join(passes, writing) => {}
        () = late => tracing::warn!("calls under way have not ended in time, and are dropped"),
    }
}

/// Everything that the loops of all clouds share.
#[derive(Clone)]
pub(super) struct LoopContext {
    pub(super) index: SharedIndex,
    pub(super) settings: watch::Receiver<Settings>,
    pub(super) publishers: Publishers,
    pub(super) resync: Duration,
    pub(super) stop: CancellationToken,
    /// The epoch of the snapshots' times
    pub(super) started: Instant,
    pub(super) latest: LatestSnapshot,
}

/// The reason for a pass.
enum Wake {
    /// With the burst of changes, which is not over yet
    PlanChanged(Burst),
    Due(WakeReason),
}

/// The end of a pass.
enum Ended {
    /// Nothing more can be done now.
    Whole(Pass),
    /// A change came, or the time was over.
    Early(Pass),
    /// Before anything was done: the burst that it was planned for has changed the plan, and goes on.
    Overtaken(Burst),
}

/// What the next pass waits for, if nothing else makes it due.
enum Until {
    /// Some time, or a change of the plan
    Due(NextPass),
    /// The end of a burst that has overtaken a plan; the next is not made ahead of it
    Over(Burst),
}

/// The loop of one cloud, with what it remembers between passes.
struct CloudLoop {
    cloud: Box<dyn CloudReconciler>,
    context: LoopContext,
    /// Sees every change since the last pass began
    changes: SharedIndex,
    opened: OpenMemberships,
    observe_retry: Duration,
}

impl CloudLoop {
    fn new(cloud: Box<dyn CloudReconciler>, context: LoopContext) -> Self {
        Self {
            cloud,
            changes: context.index.clone(),
            context,
            opened: OpenMemberships::default(),
            observe_retry: OBSERVE_RETRY.0,
        }
    }

    /// Runs passes until the context's `stop`: the program.
    async fn run(mut self) {
        self.run_passes().await;
        self.cloud.end_all_changes().await;
    }

    async fn run_passes(&mut self) {
        let context = self.context.clone();
        tokio::select! {
            biased;
            () = context.stop.cancelled() => return,
            () = wait_for_first_list(&context.index) => {}
        }
        let mut wake = Wake::Due(WakeReason::Started);
        while !context.stop.is_cancelled() {
            let (snapshot, burst) = context.snapshot_of(wake, self.cloud.name());
            let until = match self.plan_and_execute(&snapshot, burst).await {
                Ok(Ended::Overtaken(burst)) => Until::Over(burst),
                Ok(Ended::Whole(pass)) => {
                    let due = pass.next.filter(|next| next.after < context.resync);
                    self.publish(pass);
                    let resync = NextPass { after: context.resync, reason: WakeReason::Resync };
                    Until::Due(due.unwrap_or(resync))
                }
                Ok(Ended::Early(pass)) => {
                    self.publish(pass);
                    Until::Due(NextPass::at_once(WakeReason::Interrupted))
                }
                Err(error) => Until::Due(self.report_unobserved(&error)),
            };
            let name = self.cloud.name();
            wake = tokio::select! {
                biased;
                () = context.stop.cancelled() => return,
                () = self.cloud.wait_for_ended_change() => Wake::Due(WakeReason::ChangeEnded),
                wake = context.wait(until, &mut self.changes, name, &snapshot) => wake,
            };
        }
    }

    /// Plans, waits for the end of the burst, retracts addresses and executes. Where calls are scarce a plan can take
    /// many minutes: then a change of the cluster, or some time, ends it early, so that what is new is planned
    /// together with what is left.
    async fn plan_and_execute(
        &mut self,
        snapshot: &Arc<Snapshot>,
        mut burst: Option<Burst>,
    ) -> Result<Ended, ProviderError> {
        let (context, name) = (&self.context, self.cloud.name());
        let mut changes = self.changes.clone();
        let planning = self.cloud.observe_and_plan(snapshot);
        // The plan is dropped for what comes until the end of the burst, however long the cloud takes to be read.
        let (planned, is_overtaken) = join(planning, context.overtakes(burst.as_mut(), &mut changes)).await;
        let planned = planned?;
        if let Some(burst) = burst.filter(|_| is_overtaken) {
            planned.abandon();
            return Ok(Ended::Overtaken(burst));
        }
        // Clients are sent elsewhere before anything closes.
        context.publishers.retract_addresses(name, &*planned, snapshot, &|| context.cluster()).await;
        let interrupt = context.stop.child_token();
        let mut executing = planned.execute(&interrupt);
        // Counted from here: a slow observation must not use up the time for execution.
        let long = async {
            sleep(MIN_EXECUTION).await;
            // The next pass takes a snapshot of its own: calls under way can take long to end.
            // Its result is there when it ends.
            let change = context.wait_for_plan_change(&mut changes, None, snapshot);
            if let Ok(mut burst) = timeout(LONGEST_PASS, change).await {
                burst.follow(&mut changes, Duration::ZERO, &|| context.snapshot()).await;
            }
        };
        tokio::select! {
            biased;
            pass = &mut executing => return Ok(Ended::Whole(pass)),
            () = long => interrupt.cancel(),
        }
        Ok(Ended::Early(executing.await))
    }

    /// Has the result of a pass published.
    fn publish(&mut self, pass: Pass) {
        let (context, name) = (&self.context, self.cloud.name());
        self.observe_retry = OBSERVE_RETRY.0;
        if pass.applied + pass.not_applied > 0 {
            let (applied, not_applied) = (pass.applied, pass.not_applied);
            tracing::info!(cloud = name, applied, not_applied, "reconciled");
        }
        context.publishers.publish(name, pass, &mut self.opened);
    }

    /// Reports that the cloud cannot be observed, and returns when to try again.
    fn report_unobserved(&mut self, error: &ProviderError) -> NextPass {
        let (context, name) = (&self.context, self.cloud.name());
        tracing::warn!(
            cloud = name,
            reason = error.reason(),
            "cannot be observed, nothing is changed: {error}"
        );
        context.publishers.publish_unobserved(name);
        let after = self.observe_retry;
        self.observe_retry = (self.observe_retry * 2).min(OBSERVE_RETRY.1);
        NextPass { after, reason: WakeReason::ObserveRetry }
    }
}

impl LoopContext {
    /// Returns the snapshot for a pass, with the burst that it has to wait for, and logs and counts why it begins.
    fn snapshot_of(&self, wake: Wake, cloud: &'static str) -> (Arc<Snapshot>, Option<Burst>) {
        let (snapshot, burst, reason) = match wake {
            Wake::PlanChanged(burst) => (Arc::clone(burst.last()), Some(burst), WakeReason::PlanChanged),
            Wake::Due(reason) => (self.snapshot(), None, reason),
        };
        tracing::debug!(cloud, reason = reason.as_str(), "a pass begins");
        self.publishers.metrics.count_pass(cloud, reason);
        (snapshot, burst)
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        let settings = self.settings.borrow().clone();
        self.latest.take(&self.index, &settings, self.started)
    }

    /// Returns the cluster as it is now.
    fn cluster(&self) -> ClusterNow {
        let settings = self.settings.borrow().clone();
        self.latest.take_cluster(&self.index, &settings, self.started)
    }

    /// Waits until the snapshot differs in a way that can change the plan; other changes only refresh
    /// statuses, and the result of the cloud, if one is given, holds for them too. Reading the cloud at every
    /// readiness change would use up most of its rate limit.
    async fn wait_for_plan_change(
        &self,
        changes: &mut SharedIndex,
        cloud: Option<&'static str>,
        before: &Snapshot,
    ) -> Burst {
        loop {
            changes.changed().await;
            // Not counted from when the snapshot is there: that would delay a port.
            let begun = Instant::now();
            let mut burst = Burst::begun(begun, self.snapshot());
            burst.follow(changes, PLANNED_AHEAD, &|| self.snapshot()).await;
            if burst.last().changes_plan_since(before) {
                return burst;
            }
            self.publishers.refresh(cloud, burst.last().demand.clone());
        }
    }

    /// Waits for what makes the next pass due.
    async fn wait(
        &self,
        until: Until,
        changes: &mut SharedIndex,
        cloud: &'static str,
        before: &Snapshot,
    ) -> Wake {
        match until {
            Until::Over(mut burst) => {
                burst.follow(changes, Duration::ZERO, &|| self.snapshot()).await;
                Wake::Due(WakeReason::Overtaken)
            }
            Until::Due(next) => tokio::select! {
                biased;
                () = sleep(next.after) => Wake::Due(next.reason),
                burst = self.wait_for_plan_change(changes, Some(cloud), before) => Wake::PlanChanged(burst),
            },
        }
    }

    /// Waits for the end of the burst, if there is one. Returns true as soon as it changes the plan, or the process has
    /// to end.
    async fn overtakes(&self, burst: Option<&mut Burst>, changes: &mut SharedIndex) -> bool {
        let Some(burst) = burst else { return false };
        let take = || self.snapshot();
        tokio::select! {
            biased;
            () = self.stop.cancelled() => true,
            overtaken = burst.overtakes(changes, &take) => overtaken,
        }
    }
}

#[cfg(test)]
mod tests;
