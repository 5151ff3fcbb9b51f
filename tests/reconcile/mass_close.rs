//! How long closing most of what is open is held.

use std::ops::Range;

use hostport_firewall::reconcile::pass::{NextPass, WakeReason};

use crate::{HOLD, LINGER, World};

/// So many open ports, of which only these are still asked for.
async fn shrunk(nodes: usize, left: Range<usize>) -> World {
    let mut world = World::new(nodes);
    world.pass().await;
    world.leave(left);
    world.pass().await;
    tokio::time::advance(LINGER).await;
    world.pass().await;
    world
}

#[tokio::test(start_paused = true)]
async fn a_mass_close_is_held_and_goes_ahead_once_its_hold_has_passed() {
    let mut world = shrunk(40, 0..11).await;
    assert_eq!(world.pass().await.next, Some(NextPass { after: HOLD, reason: WakeReason::HoldEnded }));
    assert_eq!(world.open(), 40, "held");

    tokio::time::advance(HOLD / 2).await;
    world.leave(0..10);
    world.pass().await;
    tokio::time::advance(HOLD / 2).await;
    let pass = world.pass().await;
    assert_eq!((world.open(), pass.next), (10, None), "one more that went meanwhile does not begin it anew");
}

#[tokio::test(start_paused = true)]
async fn a_mass_close_whose_hold_has_passed_can_take_several_passes() {
    let mut world = shrunk(20, 0..1).await;
    tokio::time::advance(HOLD).await;
    world.ended_pass().await;
    assert_eq!(world.open(), 20);
    world.pass().await;
    assert_eq!(world.open(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_mass_close_that_joins_another_has_its_own_hold() {
    let mut world = shrunk(60, 0..29).await;
    assert_eq!(world.open(), 60, "held");

    tokio::time::advance(HOLD / 2).await;
    world.leave(0..0);
    world.pass().await;
    tokio::time::advance(LINGER).await;
    world.pass().await;
    assert_eq!(world.open(), 60);
    tokio::time::advance(HOLD / 2).await;
    world.pass().await;
    assert_eq!(world.open(), 60, "the second half is a mass close by itself");
    tokio::time::advance(HOLD / 2).await;
    world.pass().await;
    assert_eq!(world.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_needed_again_leaves_a_mass_close() {
    let mut world = shrunk(20, 0..1).await;
    assert_eq!(world.open(), 20, "held");
    world.leave(0..12);
    world.pass().await;
    assert_eq!(world.open(), 12, "what is left is none");
}
