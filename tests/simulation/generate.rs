//! Makes a history from a seed.

use firewall_core::ErrorKind;

use crate::api::Kind;
use crate::history::{CloudKind, Event, History, Setup};
use crate::landscape::{Intent, NODES, SOURCES, WORKLOADS};
use crate::random::Random;

/// The kinds that are watched in every cluster.
const WATCHED: [Kind; 6] =
    [Kind::Pods, Kind::Nodes, Kind::Namespaces, Kind::Services, Kind::VoyagerIngresses, Kind::Exposures];

/// Events that the program does not withstand yet: `known_faults` has a history for each.
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Withheld {
    pub(crate) nodes_vanish: bool,
    pub(crate) machines_are_omitted: bool,
    pub(crate) intents_get_unreadable: bool,
    pub(crate) calls_fail: bool,
    pub(crate) calls_are_slow: bool,
    pub(crate) machines_are_replaced: bool,
    pub(crate) lease_is_slow: bool,
    pub(crate) lease_conflicts: bool,
    /// Sources that need more than one rule of Compute Engine's
    pub(crate) sources_need_rules: bool,
}

/// Returns the history of a seed, on this cloud if one is asked for.
pub(crate) fn generate(seed: u64, withheld: Withheld, on: Option<CloudKind>) -> History {
    let mut random = Random::new(seed);
    let has_lease = random.chance(15);
    let chosen = match random.below(100) {
        0..=3 => CloudKind::Ec2,
        4 => CloudKind::Ec2Shared,
        5..=8 => CloudKind::Gce,
        9 => CloudKind::GceTags,
        _ => CloudKind::Memory,
    };
    let cloud = on.unwrap_or(chosen);
    let setup = Setup {
        cloud,
        replicas: if has_lease { 2 } else { 1 },
        has_lease,
        has_gates: random.chance(30),
        serves_all_kinds: random.chance(50),
        ..Setup::default()
    };
    // Those that come first have two of a family at most, which are as many as one rule holds.
    let is_gce = matches!(cloud, CloudKind::Gce | CloudKind::GceTags);
    let is_simple = withheld.sources_need_rules && is_gce;
    let choices = if is_simple { 5 } else { SOURCES.len() };
    let mut events = Vec::new();
    for node in 0..NODES {
        events.push((0, Event::NodeRegisters { node, machine: node }));
    }
    for (workload, of) in WORKLOADS.iter().enumerate() {
        if of.intent != Intent::Annotation && random.chance(80) {
            events.push((0, Event::IntentWritten { workload, sources: random.below(choices) }));
        }
        let node = random.below(NODES);
        if random.chance(50) {
            events.push((0, Event::PodRuns { workload, node, sources: random.below(choices) }));
        }
    }
    let mut at = random.between(4_000, 12_000);
    for _ in 0..random.between(4, 14) {
        events.push((at, event(&mut random, has_lease, choices, withheld)));
        // Often within one burst, or while the answer to the one before is under way.
        at += match random.below(4) {
            0 => random.between(0, 150),
            1 => random.between(150, 2_500),
            _ => random.between(2_500, 20_000),
        };
    }
    History { seed, setup, events }
}

fn event(random: &mut Random, has_lease: bool, choices: usize, withheld: Withheld) -> Event {
    loop {
        let event = match random.below(10) {
            0..=5 => objects(random, choices),
            6 => kubernetes(random, has_lease),
            7 => cloud(random),
            8 => machine(random),
            _ => process(random, has_lease),
        };
        if !is_withheld(&event, withheld) {
            return event;
        }
    }
}

fn is_withheld(event: &Event, withheld: Withheld) -> bool {
    match event {
        Event::NodeGone { .. } | Event::NodeWithoutMachine { .. } => withheld.nodes_vanish,
        Event::MachineOmitted { .. } => withheld.machines_are_omitted,
        Event::IntentUnreadable { .. } => withheld.intents_get_unreadable,
        Event::Refused { .. }
        | Event::Throttled { .. }
        | Event::CallsLost { .. }
        | Event::GroupsRefused { .. } => withheld.calls_fail,
        Event::Slow { .. } => withheld.calls_are_slow,
        Event::MachineReplaced { .. } => withheld.machines_are_replaced,
        Event::LeaseSlow { .. } => withheld.lease_is_slow,
        Event::LeaseConflicts { .. } => withheld.lease_conflicts,
        _ => false,
    }
}

/// Something happens to objects.
fn objects(random: &mut Random, choices: usize) -> Event {
    let (workload, node) = (random.below(WORKLOADS.len()), random.below(NODES));
    let sources = random.below(choices);
    match random.below(20) {
        0..=7 => Event::PodRuns { workload, node, sources },
        8..=12 => Event::PodGone { workload, node },
        13 => Event::PodEnds { workload, node },
        14 | 15 => Event::IntentWritten { workload, sources },
        16 => Event::IntentGone { workload },
        17 => Event::IntentUnreadable { workload },
        _ => Event::PortsDenied { workload, denied: random.chance(60) },
    }
}

/// Something is wrong between controllers and the API server.
fn kubernetes(random: &mut Random, has_lease: bool) -> Event {
    let (kind, seconds) = (random.pick(&WATCHED), random.between(1, 40));
    match random.below(if has_lease { 11 } else { 8 }) {
        0 | 1 => Event::WatchesBreak { kind },
        2 | 3 => Event::WatchesExpire { kind },
        4 => Event::KindUnlistable { kind, code: random.pick(&[403, 500]), seconds },
        5 if random.chance(30) => Event::ApiSilent { seconds },
        5 => Event::Undiscoverable { seconds },
        6 => Event::ApiLags { milliseconds: random.between(100, 5_000), seconds },
        7 => Event::WritesSlow { milliseconds: random.between(100, 9_000), seconds },
        8 => Event::LeaseConflicts { writes: 1 },
        9 => Event::LeaseAnswersLost { writes: 1 },
        _ => Event::LeaseSlow { milliseconds: random.between(100, 9_000), seconds },
    }
}

/// Something is wrong with the cloud.
fn cloud(random: &mut Random) -> Event {
    let (workload, seconds) = (random.below(WORKLOADS.len()), random.between(1, 40));
    match random.below(9) {
        8 => Event::GroupsRefused { seconds },
        0 => {
            let kinds = [ErrorKind::QuotaReached, ErrorKind::Unavailable, ErrorKind::PermissionDenied];
            Event::Refused { workload, kind: random.pick(&kinds), seconds }
        }
        1 => Event::Throttled { seconds },
        2 => Event::CallsLost { calls: 1 + u32::from(random.chance(50)) },
        3 => Event::AnswersLost { calls: 1 + u32::from(random.chance(50)) },
        4 => Event::Slow { workload, each: random.between(1, 100), seconds },
        5 => Event::CloudUnreadable { seconds },
        6 => Event::StaleReads { reads: 1 },
        _ => Event::Tampered { machine: random.below(NODES), adds_rule: random.chance(50) },
    }
}

/// Something happens to nodes and machines.
fn machine(random: &mut Random) -> Event {
    let node = random.below(NODES);
    match random.below(6) {
        5 => Event::MachineReplaced { machine: node },
        0 => Event::NodeGone { node },
        1 => Event::NodeWithoutMachine { node },
        2 => Event::NodeRegisters { node, machine: node + NODES * random.below(2) },
        3 => Event::NodeRegisters { node, machine: node },
        _ => Event::MachineOmitted { machine: node, reads: 1 },
    }
}

/// Something happens to the controller.
fn process(random: &mut Random, has_lease: bool) -> Event {
    let replica = if has_lease { random.below(2) } else { 0 };
    match random.below(7) {
        0 | 1 => Event::Killed { replica, seconds: random.between(1, 20) },
        2 | 3 => Event::Stopped { replica, seconds: random.between(1, 20) },
        4 => {
            let seconds = random.between(1, 7_200).cast_signed();
            Event::ClockJumps { seconds: if random.chance(50) { -seconds } else { seconds } }
        }
        _ => Event::KilledAtCall {
            calls: u32::try_from(random.below(4)).unwrap_or(0),
            before: random.chance(50),
        },
    }
}
