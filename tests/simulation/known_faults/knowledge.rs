//! Faults of knowledge: what is not known is taken for what is not there.

use super::{DNS, EDGE, LB, MEDIA, TURN, WEB, node, pod};
use crate::api::Kind;
use crate::history::{CloudKind, Event, History, Setup};
use crate::landscape::NODES;

pub(super) fn node_gone() -> History {
    History::written(
        Setup::default(),
        [
            node(0),
            (0, pod(WEB, 0)),
            (30, Event::NodeGone { node: 0 }),
            (60, Event::NodeRegisters { node: 0, machine: 0 }),
        ],
    )
}

pub(super) fn node_without_machine() -> History {
    let back = Event::NodeRegisters { node: 0, machine: 0 };
    History::written(
        Setup::default(),
        [node(0), (0, pod(WEB, 0)), (30, Event::NodeWithoutMachine { node: 0 }), (60, back)],
    )
}

/// Sources are narrowed while the machine is not known, and the narrower rule cannot be made.
pub(super) fn narrowed_without_machine() -> History {
    History::written(
        Setup::default(),
        [
            node(0),
            (0, Event::IntentWritten { workload: EDGE, sources: 0 }),
            (0, pod(EDGE, 0)),
            (30, Event::NodeWithoutMachine { node: 0 }),
            (39, Event::CallsLost { calls: 1 }),
            (40, Event::IntentWritten { workload: EDGE, sources: 3 }),
        ],
    )
}

/// A pod ends on a known machine while another pod of its workload is on an unknown one. What is asked for there
/// is not asked for here.
pub(super) fn port_ends_beside_an_unknown_machine() -> History {
    let setup = Setup { cloud: CloudKind::Gce, ..Setup::default() };
    History::written(
        setup,
        [
            node(1),
            (0, Event::IntentWritten { workload: TURN, sources: 1 }),
            (0, pod(TURN, 3)),
            (20, pod(TURN, 1)),
            (40, Event::PodEnds { workload: TURN, node: 1 }),
        ],
    )
}

/// A pod ends on a machine whose node is gone, while another of its workload is on an unknown machine. What it leaves
/// is in doubt, and must not linger anew at each resync.
pub(super) fn lingers_once() -> History {
    let setup = Setup { cloud: CloudKind::Ec2, ..Setup::default() };
    History::written(
        setup,
        [
            node(1),
            node(3),
            (0, Event::PodRuns { workload: DNS, node: 1, sources: 4 }),
            (51, Event::NodeGone { node: 1 }),
            (79, Event::PodRuns { workload: DNS, node: 0, sources: 7 }),
            (82, Event::PodEnds { workload: DNS, node: 1 }),
        ],
    )
}

/// A pod ends beside an unknown machine while no controller runs: the next one does not know what it was.
pub(super) fn port_ends_before_a_start() -> History {
    let setup = Setup { cloud: CloudKind::Gce, ..Setup::default() };
    History::written(
        setup,
        [
            node(1),
            (0, Event::IntentWritten { workload: TURN, sources: 1 }),
            (0, pod(TURN, 3)),
            (0, pod(TURN, 1)),
            (30, Event::Killed { replica: 0, seconds: 10 }),
            (35, Event::PodEnds { workload: TURN, node: 1 }),
        ],
    )
}

/// A machine gets another address while another is not known: the new address opens in a rule beside the one that
/// must stay. What is told of it is told at once, and not at the next resync.
pub(super) fn substitute_is_told() -> History {
    let setup = Setup { cloud: CloudKind::Gce, ..Setup::default() };
    History::written(
        setup,
        [
            node(1),
            node(3),
            (0, Event::IntentWritten { workload: EDGE, sources: 2 }),
            (0, pod(EDGE, 3)),
            (5, pod(EDGE, 1)),
            (26, Event::NodeGone { node: 3 }),
            (40, Event::MachineReplaced { machine: 1 }),
        ],
    )
}

pub(super) fn machine_omitted_by_ec2() -> History {
    machine_omitted(CloudKind::Ec2)
}

pub(super) fn machine_omitted_by_gce() -> History {
    machine_omitted(CloudKind::Gce)
}

fn machine_omitted(cloud: CloudKind) -> History {
    let setup = Setup { cloud, ..Setup::default() };
    let omitted = Event::MachineOmitted { machine: 0, reads: 1 };
    History::written(setup, [node(0), node(1), (0, pod(WEB, 0)), (30, omitted), (40, pod(WEB, 1))])
}

pub(super) fn exposure_unreadable() -> History {
    History::written(
        Setup::default(),
        [
            node(0),
            (0, Event::IntentWritten { workload: EDGE, sources: 0 }),
            (0, pod(EDGE, 0)),
            (30, Event::IntentUnreadable { workload: EDGE }),
        ],
    )
}

/// An intent that cannot be read holds what another one has let go.
pub(super) fn unreadable_holds_others() -> History {
    History::written(
        Setup::default(),
        [
            node(0),
            (0, Event::IntentWritten { workload: EDGE, sources: 0 }),
            (0, Event::IntentWritten { workload: LB, sources: 0 }),
            (0, pod(LB, 0)),
            (30, Event::IntentUnreadable { workload: EDGE }),
            (31, Event::IntentGone { workload: LB }),
        ],
    )
}

pub(super) fn ingress_unreadable() -> History {
    History::written(
        Setup::default(),
        [
            node(0),
            (0, Event::IntentWritten { workload: LB, sources: 0 }),
            (0, pod(LB, 0)),
            (30, Event::IntentUnreadable { workload: LB }),
        ],
    )
}

/// The machine behind a node is another one, while an intent of a pod there cannot be read.
pub(super) fn unreadable_on_new_machine() -> History {
    let setup = Setup { cloud: CloudKind::GceTags, ..Setup::default() };
    History::written(
        setup,
        [
            node(0),
            (0, Event::IntentWritten { workload: LB, sources: 0 }),
            (0, pod(LB, 0)),
            (30, Event::IntentUnreadable { workload: LB }),
            (40, Event::NodeRegisters { node: 0, machine: NODES }),
        ],
    )
}

/// A node has another machine while nodes cannot be watched, and a pod comes to it.
pub(super) fn node_moves_unseen() -> History {
    History::written(
        Setup::default(),
        [
            node(0),
            (0, Event::IntentWritten { workload: TURN, sources: 7 }),
            (40, Event::KindUnlistable { kind: Kind::Nodes, code: 500, seconds: 11 }),
            (40, Event::NodeRegisters { node: 0, machine: NODES }),
            (47, pod(TURN, 0)),
        ],
    )
}

/// The sources of an intent are narrowed while the machine of one of its nodes is not known: of that node's pod it is
/// known which sources it asks for, and still all keep what was open.
pub(super) fn sources_wait_for_a_machine() -> History {
    History::written(
        Setup::default(),
        [
            node(0),
            node(2),
            (0, Event::IntentWritten { workload: LB, sources: 2 }),
            (0, pod(LB, 2)),
            (10, Event::NodeWithoutMachine { node: 2 }),
            (60, pod(LB, 0)),
            (61, Event::IntentWritten { workload: LB, sources: 6 }),
        ],
    )
}

/// A definition is left over whose conversion webhook is gone: its objects cannot be listed.
pub(super) fn leftover_crd() -> History {
    let setup = Setup { broken_kind: Some(Kind::VoyagerIngresses), ..Setup::default() };
    History::written(setup, [node(0), (0, pod(WEB, 0))])
}

/// A machine comes back under its name with another address, and its Node says so.
pub(super) fn machine_replaced() -> History {
    let setup = Setup { cloud: CloudKind::Gce, ..Setup::default() };
    History::written(setup, [node(0), (0, pod(WEB, 0)), (30, Event::MachineReplaced { machine: 0 })])
}

/// Everything of one namespace goes, and with it one pod of another.
pub(super) fn mass_close_holds_others() -> History {
    let mut events = vec![node(0), node(1), node(2), node(3)];
    for on in 0..4 {
        // Three ports each, which are one range.
        events.push((0, pod(MEDIA, on)));
        events.push((0, pod(DNS, on)));
        events.push((0, Event::PodRuns { workload: MEDIA, node: on, sources: 0 }));
    }
    events.push((0, Event::IntentWritten { workload: TURN, sources: 0 }));
    events.extend((0..4).map(|on| (0, pod(TURN, on))));
    // What stays keeps it from being nearly everything of the cluster, which is held as a whole.
    events.extend((0..4).map(|on| (0, pod(WEB, on))));
    for on in 0..4 {
        for workload in [MEDIA, TURN, DNS] {
            events.push((60_000, Event::PodGone { workload, node: on }));
        }
    }
    events.push((60_000, Event::PodGone { workload: WEB, node: 0 }));
    History { seed: 1, setup: Setup { holds_mass_close: true, ..Setup::default() }, events }
}
