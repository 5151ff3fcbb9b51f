//! How long closing most of what is open is held.

use std::ops::Range;

use hostport_firewall::reconcile::pass::{NextPass, WakeReason};

use crate::{HOLD, LINGER, TestCluster};

/// So many open ports, of which only these are still asked for.
async fn shrunk(nodes: usize, left: Range<usize>) -> TestCluster {
    let mut cluster = TestCluster::new(nodes);
    cluster.pass().await;
    cluster.leave(left);
    cluster.pass().await;
    tokio::time::advance(LINGER).await;
    cluster.pass().await;
    cluster
}

#[tokio::test(start_paused = true)]
async fn mass_close_is_held_and_then_released() {
    let mut cluster = shrunk(40, 0..11).await;
    assert_eq!(cluster.pass().await.next, Some(NextPass { after: HOLD, reason: WakeReason::HoldEnded }));
    assert_eq!(cluster.open(), 40, "held");

    tokio::time::advance(HOLD / 2).await;
    cluster.leave(0..10);
    cluster.pass().await;
    tokio::time::advance(HOLD / 2).await;
    let pass = cluster.pass().await;
    assert_eq!(
        (cluster.open(), pass.next),
        (10, None),
        "one more that went meanwhile does not begin it anew"
    );
}

#[tokio::test(start_paused = true)]
async fn released_mass_close_can_take_several_passes() {
    let mut cluster = shrunk(20, 0..1).await;
    tokio::time::advance(HOLD).await;
    cluster.ended_pass().await;
    assert_eq!(cluster.open(), 20);
    cluster.pass().await;
    assert_eq!(cluster.open(), 1);
}

#[tokio::test(start_paused = true)]
async fn second_mass_close_has_its_own_hold() {
    let mut cluster = shrunk(60, 0..29).await;
    assert_eq!(cluster.open(), 60, "held");

    tokio::time::advance(HOLD / 2).await;
    cluster.leave(0..0);
    cluster.pass().await;
    tokio::time::advance(LINGER).await;
    cluster.pass().await;
    assert_eq!(cluster.open(), 60);
    tokio::time::advance(HOLD / 2).await;
    cluster.pass().await;
    assert_eq!(cluster.open(), 60, "the second half is a mass close by itself");
    tokio::time::advance(HOLD / 2).await;
    cluster.pass().await;
    assert_eq!(cluster.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn port_asked_for_again_leaves_the_mass_close() {
    let mut cluster = shrunk(20, 0..1).await;
    assert_eq!(cluster.open(), 20, "held");
    cluster.leave(0..12);
    cluster.pass().await;
    assert_eq!(cluster.open(), 12, "what is left is none");
}
