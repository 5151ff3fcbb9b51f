//! Faults of the one writer: two processes write, or none though one could.

use super::{EDGE, MEDIA, WEB, node, pod};
use crate::history::{CloudKind, Event, History, Setup};

/// The first write of the Lease is answered late, and no later one at all: a leader that counts from the answer
/// goes on for longer than the Lease lasts.
pub(super) fn late_lease() -> History {
    let setup = Setup { has_lease: true, serves_all_kinds: true, ..Setup::default() };
    let events = vec![
        node(0),
        (0, pod(WEB, 0)),
        (0, Event::LeaseSlow { milliseconds: 3_900, seconds: 3 }),
        (0, Event::Slow { workload: WEB, each: 8, seconds: 100 }),
        (3_950, Event::ApiSilent { seconds: 40 }),
    ];
    History { seed: 1, setup, events }
}

/// Somebody annotates the Lease between the leader's look and its renewal.
pub(super) fn lease_conflict() -> History {
    let setup = Setup { replicas: 2, has_lease: true, ..Setup::default() };
    History::written(setup, [node(0), (0, pod(WEB, 0)), (30, Event::LeaseConflicts { writes: 1 })])
}

pub(super) fn two_of_one_name() -> History {
    let setup = Setup { replicas: 2, has_lease: true, same_identity: true, ..Setup::default() };
    History::written(setup, [node(0), (30, pod(WEB, 0)), (60, pod(MEDIA, 0))])
}

pub(super) fn two_projects() -> History {
    let setup =
        Setup { cloud: CloudKind::Gce, has_gates: true, has_second_project: true, ..Setup::default() };
    History::written(
        setup,
        [node(0), (0, Event::IntentWritten { workload: EDGE, sources: 0 }), (0, pod(EDGE, 0))],
    )
}
