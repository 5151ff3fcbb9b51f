//! Faults of waiting: what fails, or is slow, costs what has nothing to do with it.

use firewall_core::ErrorKind;

use super::{DNS, EDGE, LB, MEDIA, TURN, WEB, node, pod};
use crate::history::{CloudKind, Event, History, Setup};

/// A node's groups do not fit its interface any more, and the group for what is left over cannot be created.
pub(super) fn combined_group_deleted() -> History {
    let setup = Setup { cloud: CloudKind::Ec2, ..Setup::default() };
    let intent = |workload| (0, Event::IntentWritten { workload, sources: 0 });
    History::written(
        setup,
        [
            node(0),
            intent(EDGE),
            intent(LB),
            intent(TURN),
            (0, pod(WEB, 0)),
            (0, pod(EDGE, 0)),
            (0, pod(LB, 0)),
            (0, pod(MEDIA, 0)),
            (0, pod(TURN, 0)),
            (30, Event::GroupsRefused { seconds: 120 }),
            (31, Event::PodGone { workload: WEB, node: 0 }),
            node(1),
            // Whatever else happens begins another pass.
            (70, pod(DNS, 1)),
            (80, pod(MEDIA, 1)),
        ],
    )
}

/// The narrower rule cannot be had: what is asked for before and after closes with the wider one.
pub(super) fn narrowing_fails() -> History {
    History::written(
        Setup::default(),
        [
            node(0),
            (0, Event::IntentWritten { workload: LB, sources: 0 }),
            (0, pod(LB, 0)),
            (30, Event::CallsLost { calls: 1 }),
            (31, Event::IntentWritten { workload: LB, sources: 2 }),
        ],
    )
}

pub(super) fn one_group_cannot_be_made() -> History {
    let refused = Event::Refused { workload: WEB, kind: ErrorKind::QuotaReached, seconds: 600 };
    History::written(Setup::default(), [node(0), (20, refused), (30, pod(WEB, 0)), (30, pod(MEDIA, 0))])
}

pub(super) fn slow_call() -> History {
    let slow = Event::Slow { workload: WEB, each: 195, seconds: 300 };
    History::written(Setup::default(), [node(0), node(1), (20, slow), (30, pod(WEB, 0)), (35, pod(MEDIA, 1))])
}

/// Two workloads come to one machine at once, and the call of one is slow: what attaches both waits for both.
pub(super) fn slow_call_of_a_neighbour() -> History {
    let slow = Event::Slow { workload: WEB, each: 195, seconds: 300 };
    History::written(Setup::default(), [node(0), (20, slow), (30, pod(WEB, 0)), (30, pod(MEDIA, 0))])
}

/// The API server answers what is written to it after a while; the next pod is not to wait for that.
pub(super) fn slow_statuses() -> History {
    let mut events = vec![(0, Event::NodeRegisters { node: 0, machine: 0 })];
    events.extend([EDGE, TURN].map(|workload| (0, Event::IntentWritten { workload, sources: 0 })));
    let slow = Event::WritesSlow { milliseconds: 9_000, seconds: 120 };
    events.push((30_000, slow));
    events.extend([EDGE, TURN, WEB, MEDIA].map(|workload| (30_000, pod(workload, 0))));
    events.push((32_000, pod(DNS, 0)));
    History { seed: 1, setup: Setup::default(), events }
}

/// A pod moves, and the call that moves it is refused: the node that it left must close.
pub(super) fn move_refused() -> History {
    let setup = Setup { cloud: CloudKind::Gce, linger: 0, ..Setup::default() };
    let on = |node| Event::PodRuns { workload: WEB, node, sources: 1 };
    let refused = Event::Refused { workload: WEB, kind: ErrorKind::PermissionDenied, seconds: 900 };
    let gone = Event::PodGone { workload: WEB, node: 0 };
    History::written(
        setup,
        [node(0), node(1), node(2), (0, on(0)), (0, on(1)), (30, refused), (31, gone), (31, on(2))],
    )
}

/// Nothing may close, the sources were edited, and a node is new: it cannot share the rule of the others.
pub(super) fn edited_sources() -> History {
    let setup = Setup { cloud: CloudKind::Gce, open_only: true, ..Setup::default() };
    let asked = |sources| Event::IntentWritten { workload: EDGE, sources };
    History::written(
        setup,
        [node(0), node(1), (0, asked(1)), (0, pod(EDGE, 0)), (30, asked(4)), (60, pod(EDGE, 1))],
    )
}

/// One more source makes another one cross from one rule to the next.
/// A workload comes to some nodes of another, whose addresses are in two rules: not all of the other's are
/// looked at.
pub(super) fn neighbour_in_two_rules() -> History {
    let setup = Setup { cloud: CloudKind::Gce, ..Setup::default() };
    // None of these machines has an IPv6 address: else each family would have a rule of its own.
    let machines = [(0, 0), (1, 4), (2, 2)];
    let [n0, n1, n2] = machines.map(|(node, machine)| (0, Event::NodeRegisters { node, machine }));
    let [w0, w1, w2] = [0, 1, 2].map(|on| (0, pod(WEB, on)));
    let gone = Event::PodGone { workload: DNS, node: 1 };
    History::written(setup, [n0, n1, n2, w0, w1, w2, (30, pod(DNS, 0)), (60, pod(DNS, 1)), (90, gone)])
}

pub(super) fn source_crosses_chunks() -> History {
    let setup = Setup { cloud: CloudKind::Gce, ..Setup::default() };
    let asked = |sources| Event::IntentWritten { workload: EDGE, sources };
    History::written(setup, [node(0), (0, asked(6)), (0, pod(EDGE, 0)), (30, asked(7))])
}
