//! Times what the program computes between the index and the checked plan, stage by stage, in CPU time. `benches/core/run`
//! starts it.

// The program's modules have more than is timed.
#![allow(dead_code, unreachable_pub, unused_imports)]

mod cluster;
mod desired;
mod guardrails;
mod intents;
mod k8s;
mod known_cloud;
mod parse;
mod reconcile;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::desired::endings::Endings;
use crate::desired::grouping::grouped;
use crate::desired::linger::Linger;
use crate::desired::snapshot::Snapshot;
use crate::desired::snapshots::Snapshots;
use crate::intents::settings::Settings;
use crate::known_cloud::Known;
use crate::k8s::index::Watch;
use crate::k8s::index::shared_index::SharedIndex;
use crate::reconcile::pass::Options;
use crate::reconcile::reconciler::Reconciler;
use firewall_core::testing::memory::MemoryCloud;
use firewall_core::{
    Desired, FirewallProvider, InFlight, InstanceId, Limits, PlanInput, Policy, ResourceSet, Unknown, check, plan,
};
use mimalloc::MiMalloc;
use tokio_util::sync::CancellationToken;

/// As the program's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Times that each stage is run; the fastest counts, because other work disturbs the others.
const ROUNDS: usize = 5;

/// Changes of a cluster that are made one after the other.
const REPEATS: usize = 1000;

/// The result of one stage in one cluster.
type Row = (&'static str, Duration);

fn main() {
    let nodes: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let nodes = if nodes.is_empty() { vec![1250, 5000, 20_000] } else { nodes };
    let columns: Vec<Vec<Row>> = nodes.iter().map(|nodes| time_all(*nodes)).collect();
    print_table(&nodes, &columns);
}

/// Returns the CPU time that this thread has used.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanoseconds = stat.split(' ').next().and_then(|text| text.parse().ok()).expect("a number");
    Duration::from_nanos(nanoseconds)
}

/// Returns the least CPU time of a few runs, each with a fresh input.
fn time<I, O>(mut input: impl FnMut() -> I, mut run: impl FnMut(I) -> O) -> Duration {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let input = input();
        let began = cpu_time();
        let output = run(input);
        rounds.push(cpu_time().saturating_sub(began));
        drop(output);
    }
    rounds.into_iter().min().unwrap_or_default()
}

/// Returns the CPU time of one of many runs: the system counts in steps of milliseconds. They are as many rounds, and
/// again the fastest counts.
fn time_each<I>(inputs: Vec<I>, mut run: impl FnMut(I)) -> Duration {
    let mut inputs = inputs.into_iter();
    let size = inputs.len() / ROUNDS;
    let rounds = (0..ROUNDS).map(|_| {
        let began = cpu_time();
        inputs.by_ref().take(size).for_each(&mut run);
        cpu_time().saturating_sub(began) / u32::try_from(size).expect("a few")
    });
    rounds.min().unwrap_or_default()
}

fn time_all(nodes: usize) -> Vec<Row> {
    let mut rows = time_snapshots(nodes);
    rows.extend(time_passes(nodes));
    rows.extend(time_stages(nodes));
    rows
}

/// Times whole passes: from the index to the plan, its execution without the cloud's time, and the memberships.
fn time_passes(nodes: usize) -> Vec<Row> {
    let settings = Settings::default();
    let index = SharedIndex::new(cluster::index(nodes));
    let cloud = MemoryCloud::new((0..nodes).map(|node| InstanceId::new(format!("i-{node}"))));
    // Nothing lingers: else all that went before would be looked at again, as long as it does.
    let options = Options { resync: Duration::from_secs(3600), ..Options::default() };
    let mut reconciler = Reconciler::new(Known(cloud.provider("c")), options);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut series = Snapshots::default();
    let mut pass = |limit: usize| {
        let (index, changes) = index.read_changes();
        let snapshot = series.take(index, &changes, &settings, Duration::ZERO);
        let pass = runtime.block_on(async {
            let planned = reconciler.observe_and_plan(&snapshot).await.expect("the cloud answers");
            reconciler.execute_plan(planned, &CancellationToken::new()).await
        });
        let scope = pass.scope.as_ref().map_or(usize::MAX, BTreeSet::len);
        assert!(scope <= limit, "the pass was about {scope} instances");
        pass
    };
    let began = cpu_time();
    pass(usize::MAX);
    let first = cpu_time().saturating_sub(began);
    // The first of them drops what the one before was about.
    drop(pass(0));
    let unchanged = time_each(vec![(); REPEATS], |()| drop(pass(0)));
    let pods = [0, 4, 6].map(|place| {
        let pod = |port| cluster::pod(nodes / 20 * 10 + place, port);
        let changed = (10_000..).map(pod).take(REPEATS).collect();
        time_each(changed, |pod| {
            index.update(|index| index.apply(&Watch::Pods, pod));
            pass(100);
        })
    });
    vec![
        ("pass, all of it new", first),
        ("pass, nothing changed", unchanged),
        ("pass, one pod changed", pods.into_iter().max().unwrap_or_default()),
    ]
}

fn time_snapshots(nodes: usize) -> Vec<Row> {
    let settings = Settings::default();
    let index = SharedIndex::new(cluster::index(nodes));
    let scratch = time(|| index.read(), |index| Snapshot::take(&index, &settings, Duration::ZERO));
    let mut series = Snapshots::default();
    let mut next = || {
        let (index, changes) = index.read_changes();
        series.take(index, &changes, &settings, Duration::ZERO)
    };
    let before = next();
    let unchanged = time_each(vec![(); REPEATS], |()| assert!(!next().changes_plan_since(&before)));
    // Each selected by an exposure, annotated, or Voyager's: the dearest counts.
    let pods = [0, 4, 6].map(|place| {
        let pod = |port| cluster::pod(nodes / 20 * 10 + place, port);
        let changed = (10_000..).map(pod).take(REPEATS).collect();
        time_each(changed, |pod| {
            index.update(|index| index.apply(&Watch::Pods, pod));
            assert!(next().changes_plan_since(&before));
        })
    });
    let changed = (0..REPEATS).map(|number| cluster::node(nodes / 2, number % 2 == 1)).collect();
    let node = time_each(changed, |node| {
        index.update(|index| index.apply(&Watch::Nodes, node));
        next();
    });
    vec![
        ("snapshot from scratch", scratch),
        ("snapshot, nothing changed", unchanged),
        ("snapshot, one pod changed", pods.into_iter().max().unwrap_or_default()),
        ("snapshot, one node ready or not", node),
    ]
}

fn time_stages(nodes: usize) -> Vec<Row> {
    let index = cluster::index(nodes);
    let snapshot = Arc::new(Snapshot::take(&index, &Settings::default(), Duration::ZERO));
    let cloud = MemoryCloud::new((0..nodes).map(|node| InstanceId::new(format!("i-{node}"))));
    let provider = cloud.provider("c");
    let instance = |id: &str| provider.parse_provider_id(id);
    let group = || grouped(snapshot.demand.exposures.iter(), instance, Unknown::default());
    let grouping = time(|| (), |()| group());
    let groups = group();
    let linger = || {
        let mut linger = Linger::new(Duration::from_secs(30));
        linger.extend(&groups, &snapshot, Duration::ZERO, None);
        linger
    };
    let lingering = time(linger, |mut linger| linger.extend(&groups, &snapshot, Duration::from_secs(1), None));
    let inventory = (0..nodes).map(|node| InstanceId::new(format!("i-{node}"))).collect::<BTreeSet<_>>();
    let inventory = inventory.into();
    let compile = |desired: &Desired| provider.compile(desired, &inventory);
    let compiling = time(|| (), |()| compile(&groups.desired));
    let compiled = compile(&groups.desired);
    let (nothing, everything) = (ResourceSet::new(), compiled.resources.clone());
    let mut rows = vec![("grouping", grouping), ("linger", lingering), ("compile, in memory", compiling)];
    let (released, endings, backoff) = (BTreeSet::new(), Endings::new(), BTreeSet::new());
    for (planning, checking, observed) in [
        ("plan, everything is new", "check, everything is new", &nothing),
        ("plan, nothing differs", "check, nothing differs", &everything),
    ] {
        let input = PlanInput {
            desired: &compiled.resources,
            observed,
            unknown: &compiled.unknown,
            policy: Policy::default(),
            limits: Limits::default(),
            released: &released,
            endings: &endings,
            backoff: &backoff,
            in_flight: &InFlight::none(),
        };
        rows.push((planning, time(|| (), |()| plan(&input))));
        let plan = plan(&input);
        rows.push((checking, time(|| (), |()| assert!(check(&input, &plan).is_empty()))));
    }
    for resource in everything.values() {
        cloud.put(resource.clone());
    }
    let mut reconciler = Reconciler::new(cloud.provider("c"), Options::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let planned = runtime.block_on(reconciler.observe_and_plan(&snapshot)).expect("the cloud answers");
    rows.push(("memberships", time(|| (), |()| reconciler.projected_memberships(&planned))));
    rows
}

/// Prints the ratios to the first column, and then the times.
fn print_table(nodes: &[usize], columns: &[Vec<Row>]) {
    let Some(first) = columns.first() else { return };
    let head: Vec<String> = nodes.iter().map(|nodes| format!("{nodes} nodes")).collect();
    println!("| CPU time | {} |", head.join(" | "));
    println!("| --- |{}", " --- |".repeat(nodes.len()));
    for (row, (name, base)) in first.iter().enumerate() {
        let cell = |column: &Vec<Row>| {
            let time = column[row].1;
            let ratio = time.as_secs_f64() / base.as_secs_f64().max(1e-9);
            format!("**{ratio:.1}** ({:.3} ms)", time.as_secs_f64() * 1000.0)
        };
        println!("| {name} | {} |", columns.iter().map(cell).collect::<Vec<_>>().join(" | "));
    }
}
