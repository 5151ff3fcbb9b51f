//! Histories of faults that were found in the field, or by attack: issue E has their numbers. Each is either
//! found by the checker, because the program still has it, or holds, because it has been mended: then the
//! events that it is about take part in random histories too.

use firewall_core::ErrorKind;

use crate::api::Kind;
use crate::checker::Promise;
use crate::generate::Withheld;
use crate::history::{CloudKind, Event, History, Setup};
use crate::world::run;

/// What the simulation shows of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// The program has the fault, and the checker finds it
    Found,
    /// The program keeps the promise
    #[expect(dead_code, reason = "every fault gets there")]
    Holds,
}

/// A fault.
struct KnownFault {
    number: u8,
    name: &'static str,
    breaks: Promise,
    expected: Expected,
    history: fn() -> History,
}

use Expected::Found;

/// Every known fault. Once one is mended, its row becomes `Holds`.
const KNOWN_FAULTS: [KnownFault; 18] = [
    KnownFault { number: 1, name: "node-gone", breaks: Promise::StaysOpen, expected: Found, history: node_gone },
    KnownFault {
        number: 1,
        name: "node-without-machine",
        breaks: Promise::StaysOpen,
        expected: Found,
        history: node_without_machine,
    },
    KnownFault {
        number: 2,
        name: "machine-omitted",
        breaks: Promise::StaysOpen,
        expected: Found,
        history: machine_omitted,
    },
    KnownFault {
        number: 3,
        name: "exposure-unreadable",
        breaks: Promise::StaysOpen,
        expected: Found,
        history: exposure_unreadable,
    },
    KnownFault {
        number: 3,
        name: "ingress-unreadable",
        breaks: Promise::StaysOpen,
        expected: Found,
        history: ingress_unreadable,
    },
    KnownFault { number: 3, name: "leftover-crd", breaks: Promise::Exact, expected: Found, history: leftover_crd },
    KnownFault {
        number: 4,
        name: "machine-replaced",
        breaks: Promise::Exact,
        expected: Found,
        history: machine_replaced,
    },
    KnownFault {
        number: 6,
        name: "mass-close-holds-others",
        breaks: Promise::Exact,
        expected: Found,
        history: mass_close_holds_others,
    },
    KnownFault {
        number: 7,
        name: "combined-group-deleted",
        breaks: Promise::StaysOpen,
        expected: Found,
        history: combined_group_deleted,
    },
    KnownFault {
        number: 7,
        name: "narrowing-fails",
        breaks: Promise::StaysOpen,
        expected: Found,
        history: narrowing_fails,
    },
    KnownFault {
        number: 8,
        name: "one-group-cannot-be-made",
        breaks: Promise::Exact,
        expected: Found,
        history: one_group_cannot_be_made,
    },
    KnownFault { number: 9, name: "slow-call", breaks: Promise::Exact, expected: Found, history: slow_call },
    KnownFault {
        number: 10,
        name: "move-refused",
        breaks: Promise::Exact,
        expected: Found,
        history: move_refused,
    },
    KnownFault {
        number: 11,
        name: "edited-sources",
        breaks: Promise::Exact,
        expected: Found,
        history: edited_sources,
    },
    KnownFault {
        number: 13,
        name: "source-crosses-chunks",
        breaks: Promise::StaysOpen,
        expected: Found,
        history: source_crosses_chunks,
    },
    KnownFault {
        number: 21,
        name: "late-lease",
        breaks: Promise::OneWriter,
        expected: Found,
        history: late_lease,
    },
    KnownFault {
        number: 21,
        name: "two-of-one-name",
        breaks: Promise::OneWriter,
        expected: Found,
        history: two_of_one_name,
    },
    KnownFault {
        number: 22,
        name: "two-projects",
        breaks: Promise::BoundedCalls,
        expected: Found,
        history: two_projects,
    },
];

/// Returns the events that random histories must not have yet.
pub(crate) fn withheld() -> Withheld {
    let is_found = |names: &[&str]| {
        KNOWN_FAULTS.iter().any(|fault| fault.expected == Found && names.contains(&fault.name))
    };
    Withheld {
        nodes_vanish: is_found(&["node-gone", "node-without-machine"]),
        machines_are_omitted: is_found(&["machine-omitted"]),
        intents_get_unreadable: is_found(&["exposure-unreadable", "ingress-unreadable"]),
        calls_fail: is_found(&["one-group-cannot-be-made", "narrowing-fails"]),
        calls_are_slow: is_found(&["slow-call"]),
        sources_need_rules: is_found(&["source-crosses-chunks"]),
        machines_are_replaced: is_found(&["machine-replaced"]),
        lease_is_slow: is_found(&["late-lease"]),
    }
}

/// The workloads, by their position in the landscape.
const WEB: usize = 0;
const EDGE: usize = 1;
const LB: usize = 2;
const MEDIA: usize = 3;
const TURN: usize = 4;
const DNS: usize = 5;

const fn node(node: usize) -> (u64, Event) {
    (0, Event::NodeRegisters { node, machine: node })
}

const fn pod(workload: usize, node: usize) -> Event {
    Event::PodRuns { workload, node, sources: 0 }
}

fn node_gone() -> History {
    History::written(
        Setup::default(),
        [node(0), (0, pod(WEB, 0)), (30, Event::NodeGone { node: 0 }), (60, Event::NodeRegisters { node: 0, machine: 0 })],
    )
}

fn node_without_machine() -> History {
    let back = Event::NodeRegisters { node: 0, machine: 0 };
    History::written(
        Setup::default(),
        [node(0), (0, pod(WEB, 0)), (30, Event::NodeWithoutMachine { node: 0 }), (60, back)],
    )
}

fn machine_omitted() -> History {
    let omitted = Event::MachineOmitted { machine: 0, reads: 1 };
    History::written(
        Setup::default(),
        [node(0), node(1), (0, pod(WEB, 0)), (30, omitted), (40, pod(WEB, 1))],
    )
}

fn exposure_unreadable() -> History {
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

fn ingress_unreadable() -> History {
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

/// A definition is left over whose conversion webhook is gone: its objects cannot be listed.
fn leftover_crd() -> History {
    let setup = Setup { broken_kind: Some(Kind::VoyagerIngresses), ..Setup::default() };
    History::written(setup, [node(0), (0, pod(WEB, 0))])
}

/// Everything of one namespace goes, and with it one pod of another.
fn mass_close_holds_others() -> History {
    let mut events = vec![node(0), node(1), node(2), node(3)];
    for on in 0..4 {
        // Three ports each, which are one range.
        events.push((0, pod(MEDIA, on)));
        events.push((0, pod(DNS, on)));
        events.push((0, Event::PodRuns { workload: MEDIA, node: on, sources: 0 }));
    }
    events.push((0, Event::IntentWritten { workload: TURN, sources: 0 }));
    events.extend((0..4).map(|on| (0, pod(TURN, on))));
    events.push((0, pod(WEB, 0)));
    for on in 0..4 {
        for workload in [MEDIA, TURN, DNS] {
            events.push((60_000, Event::PodGone { workload, node: on }));
        }
    }
    events.push((60_000, Event::PodGone { workload: WEB, node: 0 }));
    History { seed: 1, setup: Setup { holds_mass_close: true, ..Setup::default() }, events }
}

/// A node's groups do not fit its interface any more, and the group for what is left over cannot be created.
fn combined_group_deleted() -> History {
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
fn narrowing_fails() -> History {
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

fn one_group_cannot_be_made() -> History {
    let refused = Event::Refused { workload: WEB, kind: ErrorKind::QuotaReached, seconds: 600 };
    History::written(Setup::default(), [node(0), (20, refused), (30, pod(WEB, 0)), (30, pod(MEDIA, 0))])
}

fn slow_call() -> History {
    let slow = Event::Slow { workload: WEB, each: 195, seconds: 300 };
    History::written(
        Setup::default(),
        [node(0), node(1), (20, slow), (30, pod(WEB, 0)), (35, pod(MEDIA, 1))],
    )
}

/// A machine comes back under its name with another address, and its Node says so.
fn machine_replaced() -> History {
    let setup = Setup { cloud: CloudKind::Gce, ..Setup::default() };
    History::written(setup, [node(0), (0, pod(WEB, 0)), (30, Event::MachineReplaced { machine: 0 })])
}

/// A pod moves, and the call that moves it is refused: the node that it left must close.
fn move_refused() -> History {
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
fn edited_sources() -> History {
    let setup = Setup { cloud: CloudKind::Gce, open_only: true, ..Setup::default() };
    let asked = |sources| Event::IntentWritten { workload: EDGE, sources };
    History::written(
        setup,
        [node(0), node(1), (0, asked(1)), (0, pod(EDGE, 0)), (30, asked(4)), (60, pod(EDGE, 1))],
    )
}

/// One more source makes another one cross from one rule to the next.
fn source_crosses_chunks() -> History {
    let setup = Setup { cloud: CloudKind::Gce, ..Setup::default() };
    let asked = |sources| Event::IntentWritten { workload: EDGE, sources };
    History::written(setup, [node(0), (0, asked(6)), (0, pod(EDGE, 0)), (30, asked(7))])
}

/// The first write of the Lease is answered late, and no later one at all: a leader that counts from the answer
/// goes on for longer than the Lease lasts.
fn late_lease() -> History {
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

fn two_of_one_name() -> History {
    let setup = Setup { replicas: 2, has_lease: true, same_identity: true, ..Setup::default() };
    History::written(setup, [node(0), (30, pod(WEB, 0)), (60, pod(MEDIA, 0))])
}

fn two_projects() -> History {
    let setup = Setup { has_gates: true, has_second_project: true, ..Setup::default() };
    History::written(
        setup,
        [node(0), (0, Event::IntentWritten { workload: EDGE, sources: 0 }), (0, pod(EDGE, 0))],
    )
}

#[test]
fn known_faults_are_found_until_they_are_mended() {
    let mut wrong = Vec::new();
    for fault in KNOWN_FAULTS {
        let history = (fault.history)();
        let outcome = run(&history, None);
        if std::env::var("SIMULATION_SHOW").is_ok_and(|name| name == fault.name) {
            println!("{history}{}", outcome.trace.join("\n"));
        }
        let is_as_expected = match fault.expected {
            Found => outcome.broken().contains(&fault.breaks),
            Expected::Holds => outcome.violations.is_empty(),
        };
        let shown = outcome.violations.first().map_or_else(|| "nothing is broken".to_owned(), ToString::to_string);
        println!("fault {:>2}, {}: {shown}", fault.number, fault.name);
        if !is_as_expected {
            wrong.push(format!("fault {}, {}: {:?}, and {shown}", fault.number, fault.name, fault.expected));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
