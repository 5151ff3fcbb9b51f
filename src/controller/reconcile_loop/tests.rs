//! Tests of the loop on virtual time, over the cloud in memory.

mod bursts;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use firewall_core::testing::memory::{MemoryCloud, MemoryKey, MemoryProvider, MemoryResource};
use firewall_core::{
    Action, Applied, ChangesSince, Compiled, Desired, FirewallProvider, InstanceId, Observed,
};
use serde_json::json;

use super::*;
use crate::controller::burst::{LOOK, QUIET};
use crate::k8s::index::{Index, Object, Watch};
use crate::publish::events::EventPublisher;
use crate::publish::metrics::Metrics;
use crate::publish::publisher::Publisher;
use crate::reconcile::pass::Options;
use crate::reconcile::reconciler::Reconciler;

/// Time that the attachment of a slow instance takes.
const SLOW: Duration = Duration::from_secs(195);

/// A cloud that takes a while to read, and for each change.
struct Read {
    cloud: MemoryProvider,
    takes: Duration,
    changes_take: Duration,
    /// The instance that takes much longer to be attached
    slow: Option<&'static str>,
    /// How often it has been read whole, and not
    times: Arc<[AtomicUsize; 2]>,
}

impl FirewallProvider for Read {
    type Resource = MemoryResource;
    type Inventory = <MemoryProvider as FirewallProvider>::Inventory;

    fn name(&self) -> &'static str {
        self.cloud.name()
    }
    fn parse_provider_id(&self, provider_id: &str) -> Option<Result<InstanceId, String>> {
        self.cloud.parse_provider_id(provider_id)
    }
    fn provider_id_prefixes(&self) -> Vec<String> {
        self.cloud.provider_id_prefixes()
    }
    fn compile(&self, desired: &Desired, inventory: &Self::Inventory) -> Compiled<MemoryResource> {
        self.cloud.compile(desired, inventory)
    }
    async fn observe(
        &self,
        members: &BTreeSet<InstanceId>,
    ) -> Result<Observed<MemoryResource, Self::Inventory>, ProviderError> {
        self.times[0].fetch_add(1, Ordering::Relaxed);
        sleep(self.takes).await;
        self.cloud.observe(members).await
    }
    async fn observe_added(
        &self,
        known: &mut Observed<MemoryResource, Self::Inventory>,
        changes: &ChangesSince<MemoryKey>,
    ) -> Result<bool, ProviderError> {
        // What a plan relies on is read in the same pass.
        if changes.relied_on.as_ref().is_none_or(BTreeSet::is_empty) {
            self.times[1].fetch_add(1, Ordering::Relaxed);
            sleep(self.takes).await;
        }
        self.cloud.observe_added(known, changes).await
    }
    fn rules_name_members(&self) -> bool {
        self.cloud.rules_name_members()
    }

    fn find_affected(
        &self,
        instances: &BTreeSet<InstanceId>,
        inventory: &Self::Inventory,
    ) -> Option<BTreeSet<InstanceId>> {
        self.cloud.find_affected(instances, inventory)
    }

    fn cloud_id(&self, key: &<MemoryResource as firewall_core::Resource>::Key) -> Option<String> {
        self.cloud.cloud_id(key)
    }
    fn estimate_duration(&self, changes: usize) -> Duration {
        self.cloud.estimate_duration(changes)
    }
    async fn apply(&self, action: &Action<MemoryResource>) -> Result<Applied, ProviderError> {
        let key = action.key().to_string();
        let is_slow = self.slow.is_some_and(|slow| key.ends_with(slow));
        sleep(if is_slow { SLOW } else { self.changes_take }).await;
        self.cloud.apply(action).await
    }
}

/// Counts how often the cloud has been read.
#[derive(Default)]
struct Reads(Arc<[AtomicUsize; 2]>);

impl Reads {
    fn whole(&self) -> usize {
        self.0[0].load(Ordering::Relaxed)
    }

    fn all(&self) -> usize {
        self.whole() + self.0[1].load(Ordering::Relaxed)
    }
}

/// Nodes, each with a pod that exposes a port, and a controller.
struct TestLoop {
    cloud: MemoryCloud,
    reconciler: Box<dyn CloudReconciler>,
    context: LoopContext,
    reads: Reads,
}

impl TestLoop {
    fn new(nodes: usize, takes: Duration, changes_take: Duration) -> Self {
        Self::with_slow_instance(nodes, takes, changes_take, None)
    }

    fn with_slow_instance(
        nodes: usize,
        takes: Duration,
        changes_take: Duration,
        slow: Option<&'static str>,
    ) -> Self {
        let cloud = MemoryCloud::new((0..nodes).map(|node| InstanceId::new(format!("i-{node}"))));
        let reads = Reads::default();
        let read =
            Read { cloud: cloud.provider("c"), takes, changes_take, slow, times: Arc::clone(&reads.0) };
        let mut index = Index::expecting([Watch::Pods, Watch::Nodes]);
        index.reset(Watch::Nodes, (0..nodes).map(node).collect());
        index.reset(Watch::Pods, (0..nodes).map(|node| pod(node, false)).collect());
        let metrics = Metrics::default();
        let publishers = Publishers {
            events: EventPublisher::to_log(),
            publisher: Publisher::new(None, None, "test", &[]),
            metrics,
        };
        let context = LoopContext {
            index: SharedIndex::new(index),
            settings: watch::channel(Settings::default()).1,
            publishers,
            resync: Duration::from_mins(5),
            stop: CancellationToken::new(),
            started: Instant::now(),
            latest: LatestSnapshot::default(),
        };
        let options = Options { resync: context.resync, ..Options::default() };
        let reconciler = Box::new(Reconciler::new(read, options));
        Self { cloud, reconciler, context, reads }
    }
}

#[tokio::test(start_paused = true)]
async fn pass_reaches_its_calls_however_slow_the_cloud_is() {
    let TestLoop { cloud, reconciler, context, .. } = TestLoop::new(1, MIN_EXECUTION * 2, Duration::ZERO);
    let changing = async {
        for number in 1.. {
            sleep(Duration::from_secs(1)).await;
            context.index.update(|index| index.apply(&Watch::Nodes, node(number)));
            context
                .index
                .update(|index| index.mark_incomplete(Watch::Nodes, format!("for the {number}th time")));
        }
    };
    let opened = async {
        while cloud.resources().is_empty() {
            sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        () = CloudLoop::new(reconciler, context.clone()).run() => panic!("it ended"),
        () = changing => {}
        opened = timeout(MIN_EXECUTION * 5, opened) => opened.expect("the port is opened"),
    }
}

#[tokio::test(start_paused = true)]
async fn cloud_is_read_only_when_the_plan_can_change() {
    let TestLoop { cloud, reconciler, context, reads } = TestLoop::new(1, Duration::ZERO, Duration::ZERO);
    let story = async {
        sleep(Duration::from_secs(10)).await;
        assert_eq!((cloud.resources().len(), reads.all()), (2, 1));
        for ready in [true, false, true] {
            context.index.update(|index| index.apply(&Watch::Pods, pod(0, ready)));
            sleep(Duration::from_secs(10)).await;
        }
        assert_eq!(reads.all(), 1, "a pod that gets ready opens and closes nothing");
        context.index.update(|index| index.reset(Watch::Pods, Vec::new()));
        sleep(Duration::from_secs(10)).await;
        assert_eq!((cloud.resources().len(), reads.all()), (0, 2));
        sleep(context.resync).await;
        assert_eq!(reads.all(), 3, "and now and then although nothing changed");
    };
    tokio::select! {
        () = CloudLoop::new(reconciler, context.clone()).run() => panic!("it ended"),
        () = story => {}
    }
}

#[tokio::test(start_paused = true)]
async fn readiness_of_others_holds_up_no_change() {
    let TestLoop { cloud, reconciler, context, .. } = TestLoop::new(2, Duration::ZERO, Duration::ZERO);
    context.index.update(|index| index.reset(Watch::Pods, vec![pod(0, false)]));
    let changing = async {
        for number in 0.. {
            sleep(QUIET / 2).await;
            context.index.update(|index| index.apply(&Watch::Pods, pod(0, number % 2 == 0)));
        }
    };
    let story = async {
        sleep(Duration::from_secs(10)).await;
        for number in 0..10 {
            let opens = number % 2 == 0;
            let other = pod(1, false);
            context.index.update(|index| {
                if opens {
                    index.apply(&Watch::Pods, other)
                } else {
                    index.delete(&Watch::Pods, &other.name())
                }
            });
            sleep(QUIET + Duration::from_millis(5)).await;
            let is_open = !cloud.resources().reach(&InstanceId::new("i-1")).rules.is_empty();
            assert_eq!(is_open, opens, "change {number}");
            sleep(Duration::from_millis(330)).await;
        }
    };
    tokio::select! {
        () = CloudLoop::new(reconciler, context.clone()).run() => panic!("it ended"),
        () = changing => {}
        () = story => {}
    }
}

#[tokio::test(start_paused = true)]
async fn open_ports_are_published_while_a_plan_takes_long() {
    let TestLoop { cloud, reconciler, context, reads } =
        TestLoop::new(100, Duration::ZERO, Duration::from_secs(30));
    let opened = async {
        while cloud.resources().len() < 100 {
            sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        () = CloudLoop::new(reconciler, context.clone()).run() => panic!("it ended"),
        () = opened => {}
    }
    assert!(reads.all() > 2, "it was planned anew meanwhile");
}

#[tokio::test(start_paused = true)]
async fn slow_call_holds_up_no_other_change() {
    let TestLoop { cloud, reconciler, context, reads } =
        TestLoop::with_slow_instance(2, Duration::ZERO, Duration::ZERO, Some("i-0"));
    context.index.update(|index| index.reset(Watch::Pods, vec![pod(0, false)]));
    let open = || {
        let instances = (0..2).map(|number| InstanceId::new(format!("i-{number}")));
        let reaches = instances.map(|instance| cloud.resources().reach(&instance).rules);
        reaches.map(|rules| !rules.is_empty()).collect::<Vec<_>>()
    };
    let story = async {
        sleep(Duration::from_secs(5)).await;
        context.index.update(|index| index.apply(&Watch::Pods, pod(1, false)));
        sleep(Duration::from_secs(2)).await;
        assert_eq!(open(), [false, true], "the second pod does not wait for the call of the first");
        context.index.update(|index| index.reset(Watch::Pods, vec![pod(0, false)]));
        sleep(Duration::from_secs(2)).await;
        assert_eq!(open(), [false, false], "nor does its closing");
        sleep(SLOW).await;
        assert_eq!(open(), [true, false]);
        assert_eq!((reads.whole(), reads.all()), (1, 4), "one for each change, and one after the call");
    };
    tokio::select! {
        () = CloudLoop::new(reconciler, context.clone()).run() => panic!("it ended"),
        () = story => {}
    }
}

#[tokio::test(start_paused = true)]
async fn call_under_way_ends_before_the_loop_does() {
    let TestLoop { cloud, reconciler, context, .. } =
        TestLoop::with_slow_instance(1, Duration::ZERO, Duration::ZERO, Some("i-0"));
    let stop = async {
        sleep(Duration::from_secs(10)).await;
        context.stop.cancel();
    };
    tokio::join!(CloudLoop::new(reconciler, context.clone()).run(), stop);
    assert!(!cloud.resources().reach(&InstanceId::new("i-0")).rules.is_empty());
}

fn node(number: usize) -> Object {
    let node = json!({
        "metadata": { "name": format!("n-{number}") },
        "spec": { "providerID": format!("memory://i-{number}") },
        "status": { "addresses": [{ "type": "InternalIP", "address": "10.0.0.1" }] },
    });
    Object::Node(serde_json::from_value(node).expect("a node"))
}

fn pod(node: usize, ready: bool) -> Object {
    let pod = json!({
        "metadata": { "name": format!("web-{node}"), "namespace": "default", "annotations": { "hostport-firewall.dev/expose": "80" } },
        "spec": {
            "nodeName": format!("n-{node}"),
            "containers": [{ "name": "main", "ports": [{ "containerPort": 80, "hostPort": 80 }] }],
        },
        "status": { "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }] },
    });
    Object::Pod(serde_json::from_value(pod).expect("a pod"))
}
