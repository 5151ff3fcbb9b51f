//! Histories of faults that were found in the field, or by attack; those of one kind have one number. Each is
//! either found by the checker, because the program still has it, or holds, because it has been mended: then
//! the events that it is about take part in random histories too.

mod knowledge;
mod waiting;
mod writers;

use crate::checker::Promise;
use crate::generate::Withheld;
use crate::history::{Event, History};
use crate::world::{Outcome, run};

/// What the simulation shows of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// The program has the fault, and the checker finds it
    Found,
    /// The program keeps every promise
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

#[allow(dead_code, reason = "each fault begins so; none is left now")]
const fn found(number: u8, name: &'static str, breaks: Promise, history: fn() -> History) -> KnownFault {
    KnownFault { number, name, breaks, expected: Expected::Found, history }
}

/// Returns the row of a fault that has been mended.
const fn holds(number: u8, name: &'static str, breaks: Promise, history: fn() -> History) -> KnownFault {
    KnownFault { number, name, breaks, expected: Expected::Holds, history }
}

/// Every known fault: `found` until it is mended, `holds` from then on.
const KNOWN_FAULTS: [KnownFault; 31] = [
    holds(1, "node-gone", Promise::StaysOpen, knowledge::node_gone),
    holds(1, "node-without-machine", Promise::StaysOpen, knowledge::node_without_machine),
    holds(1, "narrowed-without-machine", Promise::StaysOpen, knowledge::narrowed_without_machine),
    holds(
        1,
        "port-ends-beside-an-unknown-machine",
        Promise::Exact,
        knowledge::port_ends_beside_an_unknown_machine,
    ),
    holds(1, "lingers-once", Promise::BoundedCalls, knowledge::lingers_once),
    holds(1, "port-ends-before-a-start", Promise::Exact, knowledge::port_ends_before_a_start),
    holds(2, "machine-omitted-by-ec2", Promise::StaysOpen, knowledge::machine_omitted_by_ec2),
    holds(2, "machine-omitted-by-gce", Promise::StaysOpen, knowledge::machine_omitted_by_gce),
    holds(3, "exposure-unreadable", Promise::StaysOpen, knowledge::exposure_unreadable),
    holds(3, "ingress-unreadable", Promise::StaysOpen, knowledge::ingress_unreadable),
    holds(3, "unreadable-holds-others", Promise::Exact, knowledge::unreadable_holds_others),
    holds(3, "unreadable-on-new-machine", Promise::Exact, knowledge::unreadable_on_new_machine),
    holds(3, "leftover-crd", Promise::Exact, knowledge::leftover_crd),
    holds(4, "machine-replaced", Promise::Exact, knowledge::machine_replaced),
    holds(4, "node-moves-unseen", Promise::NeverMore, knowledge::node_moves_unseen),
    holds(6, "sources-wait-for-a-machine", Promise::Exact, knowledge::sources_wait_for_a_machine),
    holds(6, "mass-close-holds-others", Promise::Exact, knowledge::mass_close_holds_others),
    holds(7, "combined-group-deleted", Promise::StaysOpen, waiting::combined_group_deleted),
    holds(7, "narrowing-fails", Promise::StaysOpen, waiting::narrowing_fails),
    holds(8, "one-group-cannot-be-made", Promise::Exact, waiting::one_group_cannot_be_made),
    holds(9, "slow-call", Promise::Exact, waiting::slow_call),
    holds(9, "slow-call-of-a-neighbour", Promise::Exact, waiting::slow_call_of_a_neighbour),
    holds(10, "move-refused", Promise::Exact, waiting::move_refused),
    holds(11, "edited-sources", Promise::Exact, waiting::edited_sources),
    holds(11, "substitute-is-told", Promise::BoundedCalls, knowledge::substitute_is_told),
    holds(13, "source-crosses-chunks", Promise::StaysOpen, waiting::source_crosses_chunks),
    holds(17, "neighbour-in-two-rules", Promise::StaysOpen, waiting::neighbour_in_two_rules),
    holds(21, "late-lease", Promise::OneWriter, writers::late_lease),
    holds(21, "lease-conflict", Promise::KeepsLeading, writers::lease_conflict),
    holds(21, "two-of-one-name", Promise::OneWriter, writers::two_of_one_name),
    holds(22, "two-projects", Promise::BoundedCalls, writers::two_projects),
];

/// Returns the events that random histories must not have yet.
pub(crate) fn withheld() -> Withheld {
    let is_found = |names: &[&str]| {
        KNOWN_FAULTS.iter().any(|fault| fault.expected == Expected::Found && names.contains(&fault.name))
    };
    Withheld {
        nodes_vanish: is_found(&["node-gone", "node-without-machine"]),
        machines_are_omitted: is_found(&["machine-omitted-by-ec2", "machine-omitted-by-gce"]),
        intents_get_unreadable: is_found(&[
            "exposure-unreadable",
            "ingress-unreadable",
            "unreadable-holds-others",
        ]),
        calls_fail: is_found(&["one-group-cannot-be-made", "narrowing-fails"]),
        calls_are_slow: is_found(&["slow-call"]),
        sources_need_rules: is_found(&["source-crosses-chunks"]),
        machines_are_replaced: is_found(&["machine-replaced"]),
        lease_conflicts: is_found(&["lease-conflict"]),
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
            Expected::Found => outcome.broken().contains(&fault.breaks),
            Expected::Holds => outcome.violations.is_empty(),
        };
        let shown =
            outcome.violations.first().map_or_else(|| "nothing is broken".to_owned(), ToString::to_string);
        println!("fault {:>2}, {}: {shown}", fault.number, fault.name);
        if !is_as_expected {
            wrong.push(format!("fault {}, {}: {:?}, and {shown}", fault.number, fault.name, fault.expected));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The limits of the checker are longer than two statuses take.
#[test]
fn port_waits_for_no_status() {
    let Outcome { trace, violations, .. } = run(&waiting::slow_statuses(), None);
    assert!(violations.is_empty(), "{violations:?}");
    let sent = trace.iter().find(|line| line.contains("sends") && line.contains("games/dns"));
    let at = sent.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    assert!(at.is_some_and(|at| at < 33_000), "asked for at 32000 ms: {sent:?}, {}", trace.join("\n"));
}
