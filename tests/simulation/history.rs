//! Histories: what happens to a cluster and a cloud, and when. Written by hand, or made from a seed.

use std::fmt;

use firewall_core::ErrorKind;

use crate::api::Kind;
use crate::world::LINGER;

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A pod of a workload runs on a node; one that runs there is edited
    PodRuns {
        workload: usize,
        node: usize,
        sources: usize,
    },
    /// It is deleted
    PodGone {
        workload: usize,
        node: usize,
    },
    /// It ends, and its object stays
    PodEnds {
        workload: usize,
        node: usize,
    },
    /// The object by which a workload asks is written
    IntentWritten {
        workload: usize,
        sources: usize,
    },
    IntentGone {
        workload: usize,
    },
    /// The object by which a workload asks names so many of its ports: only in histories by hand
    PortsAsked {
        workload: usize,
        sources: usize,
        ports: usize,
    },
    /// It cannot be read any more, as after a change of its definition
    IntentUnreadable {
        workload: usize,
    },
    /// A node has this machine behind it
    NodeRegisters {
        node: usize,
        machine: usize,
    },
    /// A node reports another address, in any cloud: only in histories by hand
    NodeReaddressed {
        node: usize,
        machine: usize,
    },
    /// The object of a node is deleted; what runs there runs on
    NodeGone {
        node: usize,
    },
    /// A node comes back and its machine is not known yet
    NodeWithoutMachine {
        node: usize,
    },
    /// The machine behind a node comes back under its name, with another address
    MachineReplaced {
        machine: usize,
    },
    /// The administrator denies the ports of a workload, or allows them again
    PortsDenied {
        workload: usize,
        denied: bool,
    },

    /// All watches of a kind break
    WatchesBreak {
        kind: Kind,
    },
    /// All watches of a kind break, and cannot go on where they were
    WatchesExpire {
        kind: Kind,
    },
    /// A kind can be neither listed nor watched
    KindUnlistable {
        kind: Kind,
        code: u16,
        seconds: u64,
    },
    /// The served APIs cannot be looked up
    Undiscoverable {
        seconds: u64,
    },
    /// The API server does not answer
    ApiSilent {
        seconds: u64,
    },
    /// Watches are told of everything so much later
    ApiLags {
        milliseconds: u64,
        seconds: u64,
    },
    /// So many of the next writes of the Lease meet a conflict
    LeaseConflicts {
        writes: u32,
    },
    /// So many of the next writes of the Lease take effect and are not answered
    LeaseAnswersLost {
        writes: u32,
    },
    /// Writes of the Lease are answered so much after their effect
    LeaseSlow {
        milliseconds: u64,
        seconds: u64,
    },
    /// Writes of everything else are answered so much after their effect
    WritesSlow {
        milliseconds: u64,
        seconds: u64,
    },

    /// What a workload needs is refused by the cloud
    Refused {
        workload: usize,
        kind: ErrorKind,
        seconds: u64,
    },
    /// No group can be created
    GroupsRefused {
        seconds: u64,
    },
    /// Every change is throttled
    Throttled {
        seconds: u64,
    },
    /// So many of the next changes are lost on their way
    CallsLost {
        calls: u32,
    },
    /// The answers to so many of the next changes are lost
    AnswersLost {
        calls: u32,
    },
    /// Changes that concern a workload take so long, of which they wait a half before they are sent
    Slow {
        workload: usize,
        each: u64,
        seconds: u64,
    },
    /// The cloud cannot be read
    CloudUnreadable {
        seconds: u64,
    },
    /// So many reads return the cloud as it is now
    StaleReads {
        reads: u32,
    },
    /// So many reads leave a machine out
    MachineOmitted {
        machine: usize,
        reads: u32,
    },
    /// Somebody adds a rule to a group of ours, or removes an attachment
    Tampered {
        machine: usize,
        adds_rule: bool,
    },
    /// Somebody removes a rule of ours, or one that a machine has: only in histories by hand
    RuleLost {
        machine: usize,
    },
    /// Somebody lets a machine be a member no more: only in histories by hand
    MemberLost {
        machine: usize,
    },

    /// The time of day is another one, as where somebody corrects a clock
    ClockJumps {
        seconds: i64,
    },

    /// A replica is killed, and starts again after so long
    Killed {
        replica: usize,
        seconds: u64,
    },
    /// A replica is told to end, and starts again after so long
    Stopped {
        replica: usize,
        seconds: u64,
    },
    /// The replica that writes is killed at its so manieth call from now, before or after its effect
    KilledAtCall {
        calls: u32,
        before: bool,
    },
}

/// A model cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloudKind {
    Memory,
    /// Groups of its own, attached
    Ec2,
    /// Rules in the nodes' group
    Ec2Shared,
    /// Rules for addresses
    Gce,
    /// Rules for tags
    GceTags,
}

/// How a controller is run.
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setup {
    pub(crate) cloud: CloudKind,
    pub(crate) replicas: usize,
    pub(crate) has_lease: bool,
    /// All replicas have the same name
    pub(crate) same_identity: bool,
    /// Pods declare the readiness gate
    pub(crate) has_gates: bool,
    /// A mass close is held, at the limits that are the default
    pub(crate) holds_mass_close: bool,
    /// The administrator has forbidden to close anything
    pub(crate) open_only: bool,
    /// How long a port outlives its pod, in milliseconds
    pub(crate) linger: u64,
    /// Another controller, of another project, runs in the same cluster
    pub(crate) has_second_project: bool,
    /// Every kind is installed that the controller looks for
    pub(crate) serves_all_kinds: bool,
    /// A kind whose definition is broken from the start
    pub(crate) broken_kind: Option<Kind>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            cloud: CloudKind::Memory,
            replicas: 1,
            has_lease: false,
            same_identity: false,
            has_gates: false,
            holds_mass_close: false,
            open_only: false,
            linger: LINGER,
            has_second_project: false,
            serves_all_kinds: false,
            broken_kind: None,
        }
    }
}

/// A whole history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct History {
    pub(crate) seed: u64,
    pub(crate) setup: Setup,
    /// In milliseconds since the start, in order
    pub(crate) events: Vec<(u64, Event)>,
}

impl History {
    /// Returns a history that is written by hand: seconds and events.
    pub(crate) fn written<const N: usize>(setup: Setup, events: [(u64, Event); N]) -> Self {
        let events = events.into_iter().map(|(seconds, event)| (seconds * 1000, event));
        Self { seed: 1, setup, events: events.collect() }
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {:?}", self.seed, self.setup)?;
        for (at, event) in &self.events {
            writeln!(f, "  {:>5}.{:03} s  {event:?}", at / 1000, at % 1000)?;
        }
        Ok(())
    }
}
