//! The cloud is read whole now and then, and after a surprise; in between it is known.

use std::time::Duration;

use firewall_core::testing::memory::{Fault, MemoryKey};
use firewall_core::{ErrorKind, InstanceId, ProviderError};
use hostport_firewall::k8s::index::{Object, Watch};
use hostport_firewall::reconcile::pass::{NextPass, Options, WakeReason};
use hostport_firewall::reconcile::reconciler::Reconciler;

use crate::{HOLD, LINGER, TestCluster, node, other};

const RESYNC: Duration = Duration::from_mins(5);

impl TestCluster {
    /// A cluster whose first node somebody has detached since the first pass.
    async fn drifted() -> Self {
        let mut cluster = Self::new(2);
        let options = Options { mass_close_hold: HOLD, linger: LINGER, resync: RESYNC, ..Options::default() };
        cluster.reconciler = Reconciler::new(cluster.cloud.provider("c"), options);
        let next = cluster.pass().await.next;
        assert_eq!(next, Some(NextPass { after: RESYNC, reason: WakeReason::Resync }));
        cluster.cloud.remove(&attachment());
        cluster
    }

    fn is_repaired(&self) -> bool {
        self.cloud.resources().contains_key(&attachment())
    }

    /// A pass with something to do: a pod has come to the other node.
    async fn pass_with_another_pod(&mut self) {
        let mut pod = other();
        if let Object::Pod(pod) = &mut pod {
            pod.spec.node_name = Some("n-1".to_owned());
        }
        self.index.update(|index| index.apply(&Watch::Pods, pod));
        self.pass().await;
    }
}

fn attachment() -> MemoryKey {
    MemoryKey::Attachment("c".to_owned(), InstanceId::new("i-0"))
}

#[tokio::test(start_paused = true)]
async fn drift_is_repaired_at_the_resync() {
    let mut cluster = TestCluster::drifted().await;
    tokio::time::advance(RESYNC / 2).await;
    cluster.pass_with_another_pod().await;
    assert!(!cluster.is_repaired(), "nothing but the change has been looked at");
    let next = cluster.pass().await.next;
    assert_eq!(next, Some(NextPass { after: RESYNC / 2, reason: WakeReason::Resync }), "no later for it");
    tokio::time::advance(RESYNC / 2).await;
    cluster.pass().await;
    assert!(cluster.is_repaired());
}

#[tokio::test(start_paused = true)]
async fn cloud_is_read_whole_after_a_failure() {
    let mut cluster = TestCluster::drifted().await;
    let error = ProviderError::new(ErrorKind::Unavailable, "x", "x", "x");
    cluster.cloud.inject([Fault::ReplyLost(error)]);
    cluster.pass_with_another_pod().await;
    assert!(!cluster.is_repaired());
    cluster.pass().await;
    assert!(cluster.is_repaired());
}

#[tokio::test(start_paused = true)]
async fn change_that_ends_late_does_not_cost_a_whole_read() {
    let mut cluster = TestCluster::drifted().await;
    cluster.cloud.hold_changes();
    cluster.pass_with_another_pod().await;
    assert_eq!(cluster.pass().await.not_applied, 0, "it goes around what is under way");
    cluster.cloud.release_changes();
    cluster.reconciler.end_all_changes().await;
    assert_eq!(cluster.pass().await.memberships.iter().filter(|one| one.opened).count(), 1);
    assert!(!cluster.is_repaired(), "nothing but the change has been looked at");
}

#[tokio::test(start_paused = true)]
async fn cloud_is_read_whole_where_a_late_change_has_failed() {
    let mut cluster = TestCluster::drifted().await;
    cluster.cloud.hold_changes();
    cluster.pass_with_another_pod().await;
    cluster.cloud.inject([Fault::ReplyLost(ProviderError::new(ErrorKind::Unavailable, "x", "x", "x"))]);
    cluster.cloud.release_changes();
    cluster.reconciler.end_all_changes().await;
    cluster.pass().await;
    assert!(cluster.is_repaired());
}

#[tokio::test(start_paused = true)]
async fn cloud_is_read_whole_where_a_machine_has_changed() {
    let mut cluster = TestCluster::drifted().await;
    let mut moved = node(1);
    if let Object::Node(node) = &mut moved {
        node.status.addresses[0].address = "10.0.0.7".to_owned();
    }
    cluster.index.update(|index| index.apply(&Watch::Nodes, moved));
    cluster.pass().await;
    assert!(cluster.is_repaired());
}

#[tokio::test(start_paused = true)]
async fn new_node_does_not_cost_a_whole_read() {
    let mut cluster = TestCluster::drifted().await;
    cluster.index.update(|index| index.apply(&Watch::Nodes, node(2)));
    cluster.pass_with_another_pod().await;
    assert!(!cluster.is_repaired());
}

#[tokio::test(start_paused = true)]
async fn machine_that_a_node_names_again_is_read_again() {
    let mut cluster = TestCluster::drifted().await;
    let attachment = MemoryKey::Attachment("c".to_owned(), InstanceId::new("i-1"));
    let mut without_machine = node(1);
    if let Object::Node(node) = &mut without_machine {
        node.spec.provider_id = None;
    }
    cluster.index.update(|index| index.apply(&Watch::Nodes, without_machine));
    cluster.pass().await;
    cluster.cloud.remove(&attachment);
    cluster.index.update(|index| index.apply(&Watch::Nodes, node(1)));
    cluster.pass().await;
    assert!(cluster.cloud.resources().contains_key(&attachment) && !cluster.is_repaired());
}

#[tokio::test(start_paused = true)]
async fn port_that_lingers_and_somebody_has_closed_stays_closed() {
    let mut cluster = TestCluster::new(2);
    cluster.pass().await;
    cluster.cloud.remove(&attachment());
    cluster.leave(1..2);
    cluster.pass().await;
    assert!(!cluster.is_repaired(), "nobody asks for it any more");
    assert_eq!(cluster.open(), 1);
}
