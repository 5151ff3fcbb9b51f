//! A kill at every call of the cloud: right before its effect and right after it. The next process has no state of
//! its own, and has to come to the same end.

use crate::cloud::Size;
use crate::cloud::faults::Kill;
use crate::history::{CloudKind, Event, Setup};
use crate::landscape::MACHINES;
use crate::threads::run_all;
use crate::world::World;

/// The clouds, each with the number of resources in the end. The second workload is gone, and the first is on two
/// nodes: a group and its attachments, two rules in two groups, a rule, and a rule and its tags.
const CLOUDS: [(CloudKind, usize); 4] =
    [(CloudKind::Ec2, 3), (CloudKind::Ec2Shared, 4), (CloudKind::Gce, 1), (CloudKind::GceTags, 3)];

/// Two workloads: one asks by an object beside its pods, one by annotations on them.
const EDGE: usize = 1;
const WEB: usize = 0;

/// The time after the last event within which everything is as it should be, in milliseconds: a replica starts again
/// after two seconds, and another one takes over within 25.
const WITHIN: u64 = 60_000;

/// The time after that in which it has to stay so.
const STAYS: u64 = 40_000;

/// Four nodes of one address family, and an intent without a pod.
fn before() -> Vec<Event> {
    let nodes = (0..4).map(|node| Event::NodeRegisters { node, machine: 2 * node + 1 });
    nodes.chain([Event::IntentWritten { workload: EDGE, sources: 1 }]).collect()
}

/// Opening, another member, wider sources, a move, and a workload that comes and goes.
fn events() -> Vec<(u64, Event)> {
    let pod = |workload, node| Event::PodRuns { workload, node, sources: 1 };
    vec![
        (0, pod(EDGE, 0)),
        (3_000, pod(EDGE, 1)),
        (3_000, Event::IntentWritten { workload: EDGE, sources: 2 }),
        (3_000, pod(EDGE, 2)),
        (0, Event::PodGone { workload: EDGE, node: 1 }),
        (0, pod(WEB, 0)),
        (4_000, Event::PodGone { workload: WEB, node: 0 }),
    ]
}

fn setup(cloud: CloudKind) -> Setup {
    Setup { cloud, linger: 2_000, serves_all_kinds: true, ..Setup::default() }
}

/// The end of a run.
struct End {
    violations: Vec<String>,
    resources: Vec<String>,
    /// The calls of the cloud: those that change something, and those that read
    writes: usize,
    reads: usize,
    /// The milliseconds from the last event until everything was as it should be
    took: Option<u64>,
    has_killed: bool,
}

/// Runs the events; to the end of a run without a kill if there is one.
fn run(setup: Setup, kill: Option<Kill>, goal: Option<&[String]>) -> End {
    crate::world::on_virtual_time(1, async {
        let mut world = World::empty(setup, Size::real(MACHINES));
        if let Some(kill) = kill {
            world.kill_at(kill);
        }
        world.begin(&before()).await;
        world.happen(&events()).await;
        let took = if let Some(goal) = goal {
            let took = world.converge(goal, WITHIN).await;
            world.wait(STAYS).await;
            took
        } else {
            world.settle_all().await;
            Some(0)
        };
        let calls = world.calls_since(crate::world::Mark::default());
        End {
            resources: world.resources(),
            writes: calls.writes(),
            reads: calls.read_count(),
            took,
            has_killed: world.has_killed(),
            violations: world.outcome().violations.iter().map(ToString::to_string).collect(),
        }
    })
}

/// Runs once for each call and each side of it, and returns the longest time that anything took.
fn kill_at_each(setup: Setup, calls: usize, at_reads: bool, goal: &[String]) -> u64 {
    let took = run_all(2 * calls, |position| {
        let (call, before) = (position / 2, position % 2 == 0);
        let kill = Kill { calls: u32::try_from(call).expect("few calls"), before, at_reads };
        let end = run(setup, Some(kill), Some(goal));
        let at = format!("{:?}, killed {} call {call}", setup.cloud, if before { "before" } else { "after" });
        assert!(end.has_killed, "{at}: it was not killed");
        assert_eq!(end.violations, Vec::<String>::new(), "{at}");
        assert_eq!(end.resources, goal, "{at}: the cloud holds what is asked for");
        end.took.unwrap_or_else(|| panic!("{at}: not within {WITHIN} ms"))
    });
    took.into_iter().max().unwrap_or_default()
}

#[test]
fn killed_at_each_call_it_converges() {
    for (cloud, resources) in CLOUDS {
        let whole = run(setup(cloud), None, None);
        assert_eq!(whole.resources.len(), resources, "{cloud:?}: {:?}", whole.resources);
        assert_eq!(whole.violations, Vec::<String>::new(), "{cloud:?}, without a kill");
        let calls = whole.writes + whole.reads;
        let longest = kill_at_each(setup(cloud), calls, true, &whole.resources);
        println!(
            "{cloud:?}: killed at 2 x {calls} calls, of which {} change something: {} convergences, the longest in {} s",
            whole.writes,
            2 * calls,
            longest / 1000
        );
    }
}

/// The replica that is killed starts again too, and finds that the other one leads.
#[test]
fn killed_leader_is_replaced_at_each_change() {
    for cloud in [CloudKind::Ec2, CloudKind::Gce] {
        let setup = Setup { replicas: 2, has_lease: true, ..setup(cloud) };
        let whole = run(setup, None, None);
        assert_eq!(whole.violations, Vec::<String>::new(), "{cloud:?}, without a kill");
        let longest = kill_at_each(setup, whole.writes, false, &whole.resources);
        println!(
            "{cloud:?}: leader killed at 2 x {} changes: {} convergences, the longest in {} s",
            whole.writes,
            2 * whole.writes,
            longest / 1000
        );
    }
}

/// Runs the command `cleanup` until it ends; returns its calls, and whether it was killed.
fn clean_up(cloud: CloudKind, kill: Option<Kill>) -> (usize, bool) {
    crate::world::on_virtual_time(1, async {
        let mut world = World::empty(setup(cloud), Size::real(MACHINES));
        let pods = [(EDGE, 0), (EDGE, 1), (WEB, 0)];
        let pods = pods.map(|(workload, node)| Event::PodRuns { workload, node, sources: 1 });
        world.begin(&before().into_iter().chain(pods).collect::<Vec<_>>()).await;
        assert!(world.resources().len() >= 2, "{:?}", world.resources());
        world.uninstall();
        let mark = world.mark();
        if let Some(kill) = kill {
            world.kill_at(kill);
        }
        let mut runs = 0;
        let ended = loop {
            runs += 1;
            if let Some(ended) = world.clean_up().await {
                break ended;
            }
        };
        assert!(ended.is_ok(), "{cloud:?}, {kill:?}: {ended:?}");
        assert_eq!(world.resources(), Vec::<String>::new(), "{cloud:?}, {kill:?}");
        let calls = world.calls_since(mark);
        let violations: Vec<String> = world.outcome().violations.iter().map(ToString::to_string).collect();
        assert_eq!(violations, Vec::<String>::new(), "{cloud:?}, {kill:?}");
        (calls.writes() + calls.read_count(), runs == 2)
    })
}

#[test]
fn killed_cleanup_is_finished_by_the_next() {
    for (cloud, _) in CLOUDS {
        let (calls, _) = clean_up(cloud, None);
        run_all(2 * calls, |position| {
            let calls = u32::try_from(position / 2).expect("few calls");
            let kill = Kill { calls, before: position % 2 == 0, at_reads: true };
            let (_, was_killed) = clean_up(cloud, Some(kill));
            assert!(was_killed, "{cloud:?}, {kill:?}: it was not killed");
        });
        println!("{cloud:?}: cleanup killed at 2 x {calls} calls: {} ends with nothing left", 2 * calls);
    }
}
