//! The reconciler on virtual time, over the cloud in memory: what it remembers from pass to pass.

mod failures;
mod knowledge;
mod known_cloud;
mod mass_close;
mod scope;

use std::sync::Arc;
use std::time::Duration;

use firewall_core::InstanceId;
use firewall_core::testing::memory::{MemoryCloud, MemoryProvider};
use hostport_firewall::desired::snapshot::Snapshot;
use hostport_firewall::intents::settings::Settings;
use hostport_firewall::k8s::index::shared_index::SharedIndex;
use hostport_firewall::k8s::index::{Index, Object, Watch};
use hostport_firewall::k8s::objects::ContainerPort;
use hostport_firewall::reconcile::pass::{NextPass, Options, Pass, PlannedPass, WakeReason};
use hostport_firewall::reconcile::reconciler::Reconciler;
use serde_json::json;
use tokio_util::sync::CancellationToken;

struct TestCluster {
    cloud: MemoryCloud,
    index: SharedIndex,
    reconciler: Reconciler<MemoryProvider>,
    settings: Settings,
}

const LINGER: Duration = Duration::from_secs(30);
const EXPOSE: &str = "hostport-firewall.dev/expose";
const HOLD: Duration = Duration::from_mins(30);

impl TestCluster {
    /// This many nodes, each with a pod of the same DaemonSet that exposes port 80.
    fn new(nodes: usize) -> Self {
        let cloud = MemoryCloud::new((0..nodes).map(|node| InstanceId::new(format!("i-{node}"))));
        let options = Options { mass_close_hold: HOLD, linger: LINGER, ..Options::default() };
        let reconciler = Reconciler::new(cloud.provider("c"), options);
        let mut index = Index::expecting([Watch::Pods, Watch::Nodes]);
        index.reset(Watch::Nodes, (0..nodes).map(node).collect());
        index.reset(Watch::Pods, (0..nodes).map(pod).collect());
        Self { cloud, index: SharedIndex::new(index), reconciler, settings: Settings::default() }
    }

    /// Replaces the reconciler by one without memory.
    fn restart(&mut self) {
        let options = Options { mass_close_hold: HOLD, linger: LINGER, ..Options::default() };
        self.reconciler = Reconciler::new(self.cloud.provider("c"), options);
    }

    async fn pass(&mut self) -> Pass {
        self.pass_until(&CancellationToken::new()).await
    }

    /// A pass that is ended before its first call.
    async fn ended_pass(&mut self) -> Pass {
        let ended = CancellationToken::new();
        ended.cancel();
        self.pass_until(&ended).await
    }

    async fn plan(&mut self) -> PlannedPass<MemoryProvider> {
        let snapshot = Arc::new(Snapshot::take(&self.index.read(), &self.settings, Duration::ZERO));
        self.reconciler.observe_and_plan(&snapshot).await.expect("the cloud answers")
    }

    async fn pass_until(&mut self, end: &CancellationToken) -> Pass {
        let planned = self.plan().await;
        self.reconciler.execute_plan(planned, end).await
    }

    fn leave(&self, pods: std::ops::Range<usize>) {
        self.index.update(|index| index.reset(Watch::Pods, pods.map(pod).collect()));
    }

    /// Memberships in the cloud.
    fn open(&self) -> usize {
        self.cloud.resources().values().filter(|resource| !resource.groups.is_empty()).count()
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

fn pod(number: usize) -> Object {
    let owner = json!({ "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "web", "uid": "1", "controller": true });
    let pod = json!({
        "metadata": {
            "name": format!("web-{number}"), "namespace": "default", "uid": format!("uid-{number}"),
            "annotations": { "hostport-firewall.dev/expose": "80" }, "ownerReferences": [owner],
        },
        "spec": {
            "nodeName": format!("n-{number}"),
            "containers": [{ "name": "main", "ports": [{ "containerPort": 80, "hostPort": 80 }] }],
        },
    });
    Object::Pod(serde_json::from_value(pod).expect("a pod"))
}

/// A pod of another workload on the same node, which exposes port 81.
fn other() -> Object {
    let mut other = pod(0);
    if let Object::Pod(pod) = &mut other {
        pod.metadata.name = Some("other".to_owned());
        pod.metadata.uid = Some("other".to_owned());
        pod.metadata.owner_references = None;
        pod.spec.containers[0].ports[0].host_port = Some(81);
        pod.metadata.annotations.get_or_insert_default().insert(EXPOSE.to_owned(), "81".to_owned());
    }
    other
}

/// Pod 0, once it binds and exposes port 81 as well.
fn wider() -> Object {
    let mut wider = pod(0);
    if let Object::Pod(pod) = &mut wider {
        let port = ContainerPort { container_port: 81, host_port: Some(81), ..ContainerPort::default() };
        pod.spec.containers[0].ports.push(port);
        pod.metadata.annotations.get_or_insert_default().insert(EXPOSE.to_owned(), "80, 81".to_owned());
    }
    wider
}

#[tokio::test(start_paused = true)]
async fn membership_lingers_and_the_next_pass_is_due_at_its_end() {
    let mut cluster = TestCluster::new(2);
    cluster.pass().await;
    assert_eq!(cluster.open(), 2);
    cluster.leave(0..1);
    assert_eq!(cluster.pass().await.next, Some(NextPass { after: LINGER, reason: WakeReason::LingerEnded }));
    assert_eq!(cluster.open(), 2);
    tokio::time::advance(LINGER).await;
    cluster.pass().await;
    assert_eq!(cluster.open(), 1);
}

#[tokio::test(start_paused = true)]
async fn changed_guardrails_end_linger() {
    let mut cluster = TestCluster::new(1);
    cluster.pass().await;
    cluster.leave(0..0);
    cluster.pass().await;
    assert_eq!(cluster.open(), 1, "it lingers");
    let denied_ports = vec!["80".parse().expect("a port")];
    cluster.settings.guardrails.denied_ports = denied_ports;
    cluster.pass().await;
    assert_eq!(cluster.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn untried_membership_counts_as_partly_open() {
    let mut cluster = TestCluster::new(2);
    cluster.pass().await;
    cluster.index.update(|index| index.apply(&Watch::Pods, wider()));
    let pass = cluster.ended_pass().await;
    let [closed] = &pass.memberships.iter().filter(|one| one.open.is_err()).collect::<Vec<_>>()[..] else {
        panic!("one is not open: {:?}", pass.memberships)
    };
    assert!(closed.partly_open);
}

#[tokio::test(start_paused = true)]
async fn added_port_keeps_addresses() {
    let mut cluster = TestCluster::new(1);
    cluster.pass().await;
    cluster.index.update(|index| index.apply(&Watch::Pods, wider()));
    let planned = cluster.plan().await;
    let [projected_memberships] = &cluster.reconciler.projected_memberships(&planned)[..] else {
        panic!("one membership")
    };
    assert!(projected_memberships.partly_open && projected_memberships.open.is_err());
}

#[tokio::test(start_paused = true)]
async fn broken_watch_closes_nothing_and_opens_the_new() {
    let mut cluster = TestCluster::new(2);
    cluster.leave(0..1);
    cluster.pass().await;
    assert_eq!(cluster.open(), 1);
    cluster.index.update(|index| {
        index.reset(Watch::Pods, vec![pod(1)]);
        index.mark_incomplete(Watch::Pods, "403".to_owned())
    });
    tokio::time::advance(LINGER * 2).await;
    cluster.pass().await;
    assert_eq!(cluster.open(), 2);
    cluster.leave(1..2);
    tokio::time::advance(LINGER * 2).await;
    cluster.pass().await;
    tokio::time::advance(LINGER * 2).await;
    cluster.pass().await;
    assert_eq!(cluster.open(), 1, "once everything is known again");
}

#[tokio::test(start_paused = true)]
async fn missing_machine_gets_a_problem_and_delays_nothing() {
    let mut cluster = TestCluster::new(1);
    cluster.index.update(|index| index.reset(Watch::Nodes, vec![node(0), node(7)]));
    cluster.index.update(|index| index.reset(Watch::Pods, vec![pod(0), pod(7)]));
    let pass = cluster.pass().await;
    assert_eq!(cluster.open(), 1);
    let reported: Vec<_> =
        pass.problems().into_iter().filter(|problem| problem.object.name == "n-7").collect();
    assert_eq!(reported.len(), 1, "{:?}", pass.problems());
    assert_eq!(reported[0].reason, "InstanceNotFound");
    assert!(pass.problems().iter().all(|problem| problem.object.name != "web-0"), "{:?}", pass.problems());
}
