//! The changes of a cluster that are counted, each with the fewest calls by which the clouds' APIs can make them.

use crate::history::Event;
use crate::world::LINGER;

/// The workload that most scenarios are about: port 443, asked for by an object beside its pods.
const EDGE: usize = 1;

/// Another one, with the ports 8080 and 8443.
const LB: usize = 2;

/// Choices of source ranges: one, the same and another, and two others.
const ONE: usize = 1;
const TWO: usize = 2;
const OTHERS: usize = 4;

/// The fewest calls by which an API can make a change, and which these are.
pub(super) struct Minimum {
    pub(super) calls: usize,
    pub(super) derivation: &'static str,
}

/// One change of a cluster.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) nodes: usize,
    /// The time that a port outlives its pod, in milliseconds
    pub(super) linger: u64,
    /// Everything that is there when counting begins
    pub(super) before: Vec<Event>,
    /// The change, in milliseconds since the event before
    pub(super) events: Vec<(u64, Event)>,
    /// The time in which nothing happens instead, in milliseconds
    pub(super) quiet: u64,
    /// Everything is removed instead
    pub(super) is_cleanup: bool,
    /// For each of the clouds
    pub(super) minimum: [Minimum; 4],
    /// The reason why there are more, by the position of the cloud
    pub(super) excess: Vec<(usize, &'static str)>,
}

/// A node has a machine without IPv6 behind it.
const fn register(node: usize) -> Event {
    Event::NodeRegisters { node, machine: machine(node) }
}

/// Returns the machine of a node.
const fn machine(node: usize) -> usize {
    2 * node + 1
}

const fn pod(workload: usize, node: usize) -> Event {
    Event::PodRuns { workload, node, sources: ONE }
}

const fn gone(workload: usize, node: usize) -> Event {
    Event::PodGone { workload, node }
}

const fn asked(workload: usize, sources: usize) -> Event {
    Event::IntentWritten { workload, sources }
}

/// Returns a scenario on four nodes in which what is asked for is there already, and nothing happens.
fn scenario(
    name: &'static str,
    before: impl IntoIterator<Item = Event>,
    events: impl IntoIterator<Item = (u64, Event)>,
    minimum: [(usize, &'static str); 4],
) -> Scenario {
    let nodes = 4;
    let registered = (0..nodes).map(register);
    let before = registered.chain([asked(EDGE, ONE), asked(LB, ONE)]).chain(before).collect();
    Scenario {
        name,
        nodes,
        linger: LINGER,
        before,
        events: events.into_iter().collect(),
        quiet: 0,
        is_cleanup: false,
        minimum: minimum.map(|(calls, derivation)| Minimum { calls, derivation }),
        excess: Vec::new(),
    }
}

impl Scenario {
    /// Returns it with the reasons why a cloud takes more calls.
    fn with_excess<const N: usize>(mut self, excess: [(usize, &'static str); N]) -> Self {
        self.excess = excess.into();
        self
    }
}

/// Returns all scenarios, in the order of the table.
pub(super) fn scenarios() -> Vec<Scenario> {
    [pods(), moves(), requests(), machines(), drift(), whole()].into_iter().flatten().collect()
}

fn pods() -> Vec<Scenario> {
    let first = [
        (4, "create, revoke its egress, authorize, attach"),
        (1, "authorize"),
        (1, "insert"),
        (2, "insert, set tags"),
    ];
    vec![
        scenario("first pod of a workload", [], [(0, pod(EDGE, 0))], first),
        scenario(
            "second pod, on another node",
            [pod(EDGE, 0)],
            [(0, pod(EDGE, 1))],
            [(1, "attach"), (1, "authorize"), (1, "patch"), (1, "set tags")],
        ),
        scenario(
            "second pod, where each call takes 10 s",
            [pod(EDGE, 0)],
            [(0, Event::Slow { workload: EDGE, each: 10, seconds: 60 }), (0, pod(EDGE, 1))],
            [(1, "attach"), (1, "authorize"), (1, "patch"), (1, "set tags")],
        ),
        scenario(
            "second pod, on a node that has IPv6 too",
            [pod(EDGE, 0), Event::NodeRegisters { node: 1, machine: 4 }],
            [(0, pod(EDGE, 1))],
            [(1, "attach"), (1, "authorize"), (1, "patch"), (1, "set tags")],
        )
        .with_excess([
            (0, "A node's families are part of a group's identity, even where all sources are IPv4: a group of its own"),
            (3, "A rule and a tag of its own, for the same reason"),
        ]),
        scenario(
            "second workload on a node",
            [pod(EDGE, 0)],
            [(0, pod(LB, 0))],
            [
                (4, "create, revoke its egress, authorize, attach"),
                (1, "authorize"),
                (1, "insert"),
                (2, "insert, set tags"),
            ],
        ),
        scenario(
            "one of two pods deleted",
            [pod(EDGE, 0), pod(EDGE, 1)],
            [(0, gone(EDGE, 1))],
            [(1, "detach"), (1, "revoke"), (1, "patch"), (1, "set tags")],
        ),
        scenario(
            "last pod deleted",
            [pod(EDGE, 0)],
            [(0, gone(EDGE, 0))],
            [(2, "detach, delete"), (1, "revoke"), (1, "delete"), (2, "set tags, delete")],
        ),
    ]
}

fn moves() -> Vec<Scenario> {
    let moved = |name| {
        scenario(
            name,
            [pod(EDGE, 0)],
            [(0, gone(EDGE, 0)), (0, pod(EDGE, 1))],
            [(2, "attach, detach"), (2, "authorize, revoke"), (1, "patch"), (2, "set tags of both")],
        )
    };
    let mut at_once = moved("pod moves to another node, no linger");
    at_once.linger = 0;
    let rollout = (0..3).flat_map(|node| [(10_000, gone(EDGE, node)), (5_000, pod(EDGE, node))]);
    let rollout = scenario(
        "rolling update on three nodes",
        (0..3).map(|node| pod(EDGE, node)),
        rollout,
        [(0, "each pod is back before its port closes"); 4],
    );
    let lingers = moved("pod moves to another node");
    let lingers =
        lingers.with_excess([(2, "The new address opens at once, the old one closes when it has lingered")]);
    vec![at_once, lingers, rollout]
}

fn requests() -> Vec<Scenario> {
    let pods = || [pod(EDGE, 0), pod(EDGE, 1)];
    let fewer = |ports| Event::PortsAsked { workload: LB, sources: ONE, ports };
    let one_port = || [fewer(1), pod(LB, 0), pod(LB, 1)];
    let two_ports = || [pod(LB, 0), pod(LB, 1)];
    vec![
        scenario(
            "sources widened, two nodes",
            pods(),
            [(0, asked(EDGE, TWO))],
            [(1, "authorize"), (2, "authorize in both groups"), (1, "patch"), (1, "patch")],
        ),
        scenario(
            "sources narrowed, two nodes",
            [asked(EDGE, TWO)].into_iter().chain(pods()),
            [(0, asked(EDGE, ONE))],
            [(1, "revoke"), (2, "revoke in both groups"), (1, "patch"), (1, "patch")],
        ),
        scenario(
            "sources replaced, two nodes",
            pods(),
            [(0, asked(EDGE, OTHERS))],
            [
                (2, "authorize, revoke"),
                (4, "authorize and revoke in both groups"),
                (1, "patch"),
                (1, "patch"),
            ],
        ),
        scenario(
            "port added, two nodes",
            one_port(),
            [(0, fewer(2))],
            [(1, "authorize"), (2, "authorize in both groups"), (1, "patch"), (1, "patch")],
        )
        .with_excess(other_name()),
        scenario(
            "port removed, two nodes",
            two_ports(),
            [(0, fewer(1))],
            [(1, "revoke"), (2, "revoke in both groups"), (1, "patch"), (1, "patch")],
        )
        .with_excess(other_name()),
    ]
}

/// Returns the reasons of a change of ports.
const fn other_name() -> [(usize, &'static str); 3] {
    [
        (
            0,
            "Ports are part of a group's identity: create, revoke its egress, authorize, swap on each node, delete \
             the old one",
        ),
        (2, "Ports are part of a rule's name: insert, delete the old one"),
        (3, "Ports are part of the name of rule and tag: insert, set tags of both, delete the old one"),
    ]
}

fn machines() -> Vec<Scenario> {
    let replaced = Event::NodeRegisters { node: 0, machine: machine(4) };
    vec![
        scenario(
            "node replaced by another machine",
            [pod(EDGE, 0), pod(EDGE, 1)],
            [(0, replaced)],
            [(2, "attach, detach"), (2, "authorize, revoke"), (1, "patch"), (2, "set tags of both")],
        ),
        scenario(
            "node's address changes",
            [pod(EDGE, 0), pod(EDGE, 1)],
            [(0, Event::NodeReaddressed { node: 1, machine: machine(1) })],
            [
                (0, "rules name no address of a node"),
                (0, "rules name no address of a node"),
                (1, "patch"),
                (1, "set tags: the machine is a new one"),
            ],
        ),
    ]
}

fn drift() -> Vec<Scenario> {
    let pods = || [pod(EDGE, 0), pod(EDGE, 1)];
    let added = Event::Tampered { machine: machine(0), adds_rule: true };
    vec![
        scenario(
            "drift: rule removed by hand",
            pods(),
            [(0, Event::RuleLost { machine: machine(0) })],
            [(1, "authorize"), (1, "authorize"), (1, "insert"), (1, "insert")],
        ),
        scenario(
            "drift: rule added or changed by hand",
            pods(),
            [(0, added)],
            [(1, "revoke"), (0, "a rule of others in a group of others"), (1, "patch"), (1, "patch")],
        ),
        scenario(
            "drift: group detached, address or tag removed",
            pods(),
            [(0, Event::MemberLost { machine: machine(0) })],
            [(1, "attach"), (0, "nothing of ours is attached"), (1, "patch"), (1, "set tags")],
        ),
    ]
}

fn whole() -> Vec<Scenario> {
    let both = || [pod(EDGE, 0), pod(EDGE, 1), pod(LB, 0), pod(LB, 1)];
    let nothing = || [(0, "nothing has changed"); 4];
    let restart = [(0, Event::Killed { replica: 0, seconds: 2 })];
    let mut idle = scenario("idle hour", both(), [], nothing());
    idle.quiet = 3_600_000;
    let mut many = scenario(
        "50 pods on 50 nodes at once",
        (4..50).map(register),
        (0..50).map(|node| (0, pod(EDGE, node))),
        [
            (53, "create, revoke its egress, authorize, attach 50 times"),
            (50, "authorize in 50 groups"),
            (1, "insert"),
            (51, "insert, set tags 50 times"),
        ],
    );
    many.nodes = 50;
    let mut cleanup = scenario(
        "cleanup of two workloads on two nodes",
        both(),
        [],
        [
            (4, "detach both from each node, delete both"),
            (2, "revoke in both groups"),
            (2, "delete both"),
            (4, "set tags of each node, delete both"),
        ],
    );
    cleanup.is_cleanup = true;
    vec![scenario("restart", both(), restart, nothing()), idle, many, cleanup]
}
