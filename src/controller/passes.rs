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

/// How long a plan is carried out whatever changes: a pass must do more than read the cloud and plan.
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
        self.telling.metrics.withheld(cloud, &pass.withheld);
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
        // What changes meanwhile is still news to `self` if the pass ends before this has noticed.
        let mut changes = self.index.clone();
        let prospect = match reconciler.look(&self.index).await {
            Ok(prospect) => prospect,
            Err(error) => return (Err(error), false),
        };
        // Clients are sent elsewhere before anything closes.
        let outlook = Outcome {
            problems: prospect.notices.clone(),
            memberships: reconciler.outlook(&prospect),
            asked: prospect.asked.clone(),
        };
        self.telling.statuses.withdraw(reconciler.name(), outlook, &self.index).await;
        let interrupt = self.stop.child_token();
        let mut pass = std::pin::pin!(reconciler.carry_out(prospect, &interrupt));
        // However long it took until here, else what takes long would never come to its first call.
        let long = async {
            sleep(UNINTERRUPTED).await;
            burst(&mut changes).await;
        };
        tokio::select! {
            pass = &mut pass => (Ok(pass), false),
            () = long => {
                interrupt.cancel();
                (Ok(pass.await), true)
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use firewall_model::memory::{Memory, MemoryCloud, MemoryResource};
    use firewall_model::{Action, Applied, Compiled, Desired, InstanceId, Limits, Observed, Policy};
    use serde_json::json;

    use super::*;
    use crate::exposures::Settings;
    use crate::index::{Index, Object, Watch};
    use crate::reconcile::Options;

    /// A cloud that takes longer to read than any pass goes on whatever changes.
    struct Slow(Memory);

    impl FirewallProvider for Slow {
        type Resource = MemoryResource;
        type Inventory = <Memory as FirewallProvider>::Inventory;

        fn name(&self) -> &'static str {
            self.0.name()
        }
        fn instance(&self, provider_id: &str) -> Option<Result<InstanceId, String>> {
            self.0.instance(provider_id)
        }
        fn compile(&self, desired: &Desired, inventory: &Self::Inventory) -> Compiled<MemoryResource> {
            self.0.compile(desired, inventory)
        }
        async fn observe(
            &self,
            members: &BTreeSet<InstanceId>,
        ) -> Result<Observed<MemoryResource, Self::Inventory>, ProviderError> {
            sleep(UNINTERRUPTED * 2).await;
            self.0.observe(members).await
        }
        fn id(&self, key: &<MemoryResource as firewall_model::Resource>::Key) -> Option<String> {
            self.0.id(key)
        }
        fn backlog(&self, changes: usize) -> Duration {
            self.0.backlog(changes)
        }
        async fn apply(&self, action: &Action<MemoryResource>) -> Result<Applied, ProviderError> {
            self.0.apply(action).await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_comes_to_its_calls_however_slow_the_cloud_is_and_whatever_changes() {
        let cloud = MemoryCloud::new([InstanceId::new("i-0")]);
        let options = Options {
            settings: tokio::sync::watch::channel(Settings::default()).1,
            policy: Policy::Sync,
            limits: Limits::default(),
            mass_close_hold: Duration::ZERO,
            linger: Duration::ZERO,
            active: BTreeSet::new(),
        };
        let reconciler = Reconciler::new(Slow(cloud.provider("c")), options);
        let mut index = Index::expecting([Watch::Pods, Watch::Nodes]);
        index.reset(Watch::Nodes, vec![node(0)]);
        index.reset(Watch::Pods, vec![pod()]);
        let index = SharedIndex::new(index);
        let metrics = Metrics::default();
        let (notices, statuses) = (Notices::to_log(metrics.clone()), Statuses::new(None, None, 0));
        let every = Every {
            index: index.clone(),
            telling: Telling { notices, statuses, metrics },
            resync: Duration::from_mins(5),
            stop: CancellationToken::new(),
        };
        let changing = async {
            for number in 1.. {
                sleep(Duration::from_secs(1)).await;
                index.update(|index| index.apply(&Watch::Nodes, node(number)));
            }
        };
        let opened = async {
            while cloud.resources().is_empty() {
                sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            () = every.passes(Some(reconciler)) => panic!("it ended"),
            () = changing => {}
            opened = timeout(UNINTERRUPTED * 5, opened) => opened.expect("the port is opened"),
        }
    }

    fn node(number: usize) -> Object {
        let node = json!({
            "metadata": { "name": format!("n-{number}") },
            "spec": { "providerID": format!("memory://i-{number}") },
            "status": { "addresses": [{ "type": "InternalIP", "address": "10.0.0.1" }] },
        });
        Object::Node(serde_json::from_value(node).expect("a node"))
    }

    fn pod() -> Object {
        let pod = json!({
            "metadata": { "name": "web", "namespace": "default", "annotations": { "hostport-firewall.dev/expose": "80" } },
            "spec": {
                "nodeName": "n-0",
                "containers": [{ "name": "main", "ports": [{ "containerPort": 80, "hostPort": 80 }] }],
            },
        });
        Object::Pod(serde_json::from_value(pod).expect("a pod"))
    }
}
