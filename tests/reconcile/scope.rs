//! A pass about what has changed leaves the cloud as one about everything does.

use std::sync::Arc;
use std::time::Duration;

use firewall_core::testing::conformance::rule;
use firewall_core::testing::memory::{Fault, MemoryCloud, MemoryProvider, MemoryResource};
use firewall_core::{ErrorKind, InstanceId, Owner, Policy, ProviderError, ResourceSet};
use hostport_firewall::desired::snapshot::Snapshot;
use hostport_firewall::desired::snapshots::Snapshots;
use hostport_firewall::intents::settings::Settings;
use hostport_firewall::k8s::index::shared_index::SharedIndex;
use hostport_firewall::k8s::index::{Index, Object, Watch};
use hostport_firewall::reconcile::pass::{Options, Pass, WakeReason};
use hostport_firewall::reconcile::reconciler::Reconciler;
use proptest::prelude::*;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{LINGER, node};

const NODES: usize = 5;

/// A change of the cluster.
#[derive(Clone, Debug)]
enum Change {
    /// A pod of a workload comes to a node, or goes, with ports and annotated sources by number
    Pod { workload: usize, node: usize, ports: usize, sources: usize },
    /// An exposure selects the pods of a workload, or no longer, with sources by number
    Exposure { workload: usize, sources: usize },
    /// A node goes, or comes back
    Node { node: usize },
    /// Time passes
    Later { seconds: u64 },
    /// The cloud ends no change for now, or all that it has begun
    Slow { ends: bool },
    /// One of the next changes of the cloud is refused, or its answer lost
    Fails { after: usize, is_lost: bool },
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => (0..3_usize, 0..NODES, 0..2_usize, 0..3_usize).prop_map(|(workload, node, ports, sources)| {
            Change::Pod { workload, node, ports, sources }
        }),
        2 => (0..3_usize, 0..3_usize).prop_map(|(workload, sources)| Change::Exposure { workload, sources }),
        1 => (0..NODES).prop_map(|node| Change::Node { node }),
        2 => (1..40_u64).prop_map(|seconds| Change::Later { seconds }),
        2 => any::<bool>().prop_map(|ends| Change::Slow { ends }),
        1 => (0..3_usize, any::<bool>()).prop_map(|(after, is_lost)| Change::Fails { after, is_lost }),
    ]
}

/// A pod with one port comes, or goes.
const fn one_pod(workload: usize, node: usize) -> Change {
    Change::Pod { workload, node, ports: 0, sources: 0 }
}

const SOURCES: [&str; 3] = ["10.0.0.0/8", "192.0.2.0/24", "10.0.0.0/8,192.0.2.0/24"];

fn pod(workload: usize, node: usize, ports: usize, sources: usize) -> Object {
    let ports: Vec<_> = (0..=ports).map(|port| 8000 + 10 * workload + port).collect();
    let bound: Vec<_> = ports.iter().map(|port| json!({ "containerPort": port, "hostPort": port })).collect();
    let mut pod = json!({
        "metadata": {
            "name": format!("w{workload}-n{node}"), "namespace": "default",
            "uid": format!("w{workload}-n{node}"), "labels": { "app": format!("w{workload}") },
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "DaemonSet", "name": format!("w{workload}"), "uid": "1",
                "controller": true,
            }],
        },
        "spec": {
            "nodeName": format!("n-{node}"),
            "containers": [{ "name": "main", "ports": bound }],
        },
    });
    // The others ask by themselves.
    if workload > 0 {
        let numbers: Vec<String> = ports.iter().map(ToString::to_string).collect();
        pod["metadata"]["annotations"] = json!({
            "hostport-firewall.dev/expose": numbers.join(","),
            "hostport-firewall.dev/source-ranges": SOURCES[sources],
        });
    }
    Object::Pod(serde_json::from_value(pod).expect("a pod"))
}

fn exposure(workload: usize, sources: usize) -> Object {
    let exposure = json!({
        "metadata": { "name": format!("w{workload}"), "namespace": "default", "uid": format!("e{workload}") },
        "spec": {
            "podSelector": { "matchLabels": { "app": format!("w{workload}") } },
            "ports": [{ "port": 8000 + 10 * workload }],
            "sourceRanges": SOURCES[sources].split(',').collect::<Vec<_>>(),
        },
    });
    Object::HostPortExposure(serde_json::from_value(exposure).expect("an exposure"))
}

/// A controller with a cloud of its own.
struct Controlled {
    cloud: MemoryCloud,
    reconciler: Reconciler<MemoryProvider>,
}

impl Controlled {
    fn new(resync: Duration, policy: Policy) -> Self {
        let cloud = MemoryCloud::new((0..NODES).map(|node| InstanceId::new(format!("i-{node}"))));
        let options = Options { linger: LINGER, resync, policy, ..Options::default() };
        let reconciler = Reconciler::new(cloud.provider("c"), options);
        Self { cloud, reconciler }
    }

    /// Makes a change of the cloud.
    async fn apply(&mut self, change: &Change) {
        // Both wait for as long after a failure.
        fastrand::seed(1);
        match *change {
            Change::Slow { ends: false } => self.cloud.hold_changes(),
            Change::Slow { ends: true } => {
                self.cloud.release_changes();
                self.reconciler.end_all_changes().await;
            }
            Change::Fails { after, is_lost } => {
                let error = ProviderError::new(ErrorKind::Unavailable, "x", "x", "x");
                let fault = if is_lost { Fault::ReplyLost(error) } else { Fault::CallFails(error) };
                self.cloud.inject(std::iter::repeat_n(Fault::None, after).chain([fault]));
            }
            _ => {}
        }
    }

    async fn pass(&mut self, snapshot: &Arc<Snapshot>) -> Pass {
        fastrand::seed(1);
        let planned = self.reconciler.observe_and_plan(snapshot).await.expect("the cloud answers");
        self.reconciler.execute_plan(planned, &CancellationToken::new()).await
    }
}

/// Makes a change in the index: what is there goes, what is not comes.
fn apply(index: &SharedIndex, change: &Change) {
    let in_default = |name: String| ("default".to_owned(), name);
    let toggle = |watch: Watch, name: (String, String), object: Object| {
        index.update(|index| index.delete(&watch, &name) || index.apply(&watch, object));
    };
    match *change {
        Change::Pod { workload, node, ports, sources } => {
            let name = in_default(format!("w{workload}-n{node}"));
            toggle(Watch::Pods, name, pod(workload, node, ports, sources));
        }
        Change::Exposure { workload, sources: 0 } => {
            let name = in_default(format!("w{workload}"));
            toggle(Watch::HostPortExposures, name, exposure(workload, 0));
        }
        Change::Exposure { workload, sources } => {
            index.update(|index| index.apply(&Watch::HostPortExposures, exposure(workload, sources)));
        }
        Change::Node { node: number } => {
            toggle(Watch::Nodes, (String::new(), format!("n-{number}")), node(number));
        }
        Change::Later { .. } | Change::Slow { .. } | Change::Fails { .. } => {}
    }
}

/// What a pass has done.
struct Seen {
    change: String,
    pass: Pass,
    resources: ResourceSet<MemoryResource>,
}

/// A cluster with its controller.
struct Play {
    index: SharedIndex,
    snapshots: Snapshots,
    controlled: Controlled,
}

impl Play {
    fn new(policy: Policy, resync: Duration) -> Self {
        let mut index = Index::expecting([Watch::Pods, Watch::Nodes]);
        index.reset(Watch::Nodes, (0..NODES).map(node).collect());
        index.reset(Watch::Pods, Vec::new());
        let controlled = Controlled::new(resync, policy);
        Self { index: SharedIndex::new(index), snapshots: Snapshots::default(), controlled }
    }

    /// Makes a change, and then a pass.
    async fn step(&mut self, change: &Change) -> Pass {
        let snapshot = self.change(change).await;
        self.controlled.pass(&snapshot).await
    }

    /// Makes a change, and plans; the plan is dropped.
    async fn step_in_vain(&mut self, change: &Change) {
        let snapshot = self.change(change).await;
        let reconciler = &mut self.controlled.reconciler;
        let planned = reconciler.observe_and_plan(&snapshot).await.expect("the cloud answers");
        reconciler.abandon(planned);
    }

    async fn change(&mut self, change: &Change) -> Arc<Snapshot> {
        apply(&self.index, change);
        if let Change::Later { seconds } = change {
            tokio::time::advance(Duration::from_secs(*seconds)).await;
        }
        self.controlled.apply(change).await;
        let (now, changes) = self.index.read_changes();
        self.snapshots.take(now, &changes, &Settings::default(), Duration::ZERO)
    }

    /// Returns the one group of a workload.
    fn group_of(&self, workload: usize) -> MemoryResource {
        let name = format!("default/w{workload} ");
        let resources = self.controlled.cloud.resources();
        let mut groups = resources.values().filter(|resource| resource.label.contains(&name));
        groups.next().expect("it has a group").clone()
    }
}

/// Plays a history to a controller with this resync, and returns its passes.
async fn play(history: &[Change], policy: Policy, resync: Duration) -> Vec<Seen> {
    let mut play = Play::new(policy, resync);
    let mut passes = Vec::new();
    for (number, change) in history.iter().enumerate() {
        let pass = play.step(change).await;
        let resources = play.controlled.cloud.resources();
        passes.push(Seen { change: format!("{number}: {change:?}"), pass, resources });
    }
    passes
}

fn on_virtual_time<T>(playing: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().expect("a runtime").block_on(playing)
}

/// Plays a history to a controller that plans what has changed and to one that plans everything, and compares them.
/// Returns the number of passes that were about a part.
fn compare(history: &[Change], policy: Policy) -> usize {
    let played = |resync| on_virtual_time(play(history, policy, resync));
    let (parts, wholes) = (played(Duration::MAX), played(Duration::ZERO));
    for (part, whole) in parts.iter().zip(wholes) {
        let Seen { change, pass: part, resources } = part;
        assert_eq!(*resources, whole.resources, "after change {change}");
        let all = whole.pass;
        let next = |pass: &Pass| pass.next.filter(|next| next.reason != WakeReason::Resync);
        assert_eq!(next(part), next(&all), "after change {change}");
        // The pass that follows a failure at once is about everything, and tells also those who are not in scope.
        if next(part).is_none_or(|next| next.reason != WakeReason::ChangeFailed) {
            assert_eq!(part.problems(), all.problems(), "after change {change}");
        }
        assert_eq!((part.applied, part.not_applied), (all.applied, all.not_applied), "after change {change}");
        assert_eq!(
            (&part.withheld, &part.differing),
            (&all.withheld, &all.differing),
            "after change {change}"
        );
        let is_in_scope =
            |instance: &InstanceId| part.scope.as_ref().is_none_or(|one| one.contains(instance));
        let expected = all.memberships.into_iter().filter(|one| is_in_scope(&one.instance));
        assert!(expected.eq(part.memberships.iter().cloned()), "after change {change}");
        let open = all.still_open.into_iter().filter(|(_, instance)| is_in_scope(instance));
        assert!(open.eq(part.still_open.iter().cloned()), "after change {change}");
    }
    parts.iter().filter(|seen| seen.pass.scope.is_some()).count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn pass_about_a_part_does_what_one_about_all_does(
        history in prop::collection::vec(change(), 1..40),
        policy in prop_oneof![4 => Just(Policy::Sync), 1 => Just(Policy::OpenOnly)],
    ) {
        compare(&history, policy);
    }
}

/// Plays a history to a controller that drops the plans of some changes, or makes none of them, and returns what it has
/// after each of the others.
fn play_in_vain(history: &[(Change, bool)], drops: bool, resync: Duration) -> Vec<Seen> {
    let playing = async {
        let mut play = Play::new(Policy::Sync, resync);
        // What lingers does so by what has been planned with last, be that plan dropped or not.
        let options = Options { resync, ..Options::default() };
        play.controlled.reconciler = Reconciler::new(play.controlled.cloud.provider("c"), options);
        let mut passes = Vec::new();
        for (number, (change, is_in_vain)) in history.iter().enumerate() {
            if *is_in_vain {
                if drops {
                    play.step_in_vain(change).await;
                } else {
                    play.change(change).await;
                }
                continue;
            }
            let pass = play.step(change).await;
            let resources = play.controlled.cloud.resources();
            passes.push(Seen { change: format!("{number}: {change:?}"), pass, resources });
        }
        passes
    };
    on_virtual_time(playing)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn plan_that_is_abandoned_leaves_nothing_behind(
        history in prop::collection::vec((change(), prop::bool::weighted(0.4)), 1..40),
    ) {
        for resync in [Duration::MAX, Duration::ZERO] {
            let (dropped, never) = (play_in_vain(&history, true, resync), play_in_vain(&history, false, resync));
            for (dropped, never) in dropped.iter().zip(&never) {
                assert_eq!(dropped.resources, never.resources, "after change {}", dropped.change);
                assert_eq!(dropped.pass.applied, never.pass.applied, "after change {}", dropped.change);
                // It is about more, where a plan was dropped.
                let all = &dropped.pass;
                assert!(never.pass.still_open.is_subset(&all.still_open), "after change {}", dropped.change);
                let missing = never.pass.memberships.iter().find(|one| !all.memberships.contains(one));
                assert_eq!(missing, None, "after change {}", dropped.change);
            }
        }
    }
}

#[test]
fn pods_that_come_and_go_are_looked_at_alone() {
    let history: Vec<Change> =
        (0..NODES).chain(0..NODES).flat_map(|node| [one_pod(1, node), one_pod(2, node)]).collect();
    assert_eq!(compare(&history, Policy::Sync), history.len() - 1, "all but the first");
}

#[test]
fn changes_that_end_late_are_looked_at_alone() {
    let history: Vec<Change> = (0..NODES)
        .flat_map(|node| {
            [Change::Slow { ends: false }, one_pod(1, node), one_pod(1, node), Change::Slow { ends: true }]
        })
        .collect();
    assert_eq!(compare(&history, Policy::Sync), history.len() - 1, "all but the first");
}

#[tokio::test(start_paused = true)]
async fn widened_group_is_looked_at_when_a_member_joins_it() {
    let mut play = Play::new(Policy::Sync, Duration::MAX);
    play.step(&one_pod(1, 0)).await;
    play.step(&one_pod(2, 0)).await;
    let group = play.group_of(1);
    play.controlled.cloud.tamper_with(&group.key, |group| _ = group.rules.insert(rule("tcp/22 0.0.0.0/0")));
    play.step(&one_pod(2, 1)).await;
    play.step(&one_pod(1, 0)).await;
    assert_ne!(play.group_of(1).rules, group.rules, "nobody joins it");
    let pass = play.step(&one_pod(1, 1)).await;
    assert_eq!(play.group_of(1).rules, group.rules);
    assert_eq!(pass.scope, None, "something else may have changed too");
}

#[tokio::test(start_paused = true)]
async fn widened_group_is_looked_at_when_a_member_joins_it_at_last() {
    let mut play = Play::new(Policy::Sync, Duration::MAX);
    play.step(&one_pod(1, 0)).await;
    let group = play.group_of(1);
    // The second pod's attachment is refused, and has to wait.
    play.step(&Change::Fails { after: 0, is_lost: false }).await;
    play.step(&one_pod(1, 1)).await;
    play.step(&one_pod(2, 0)).await;
    play.controlled.cloud.tamper_with(&group.key, |group| _ = group.rules.insert(rule("tcp/22 0.0.0.0/0")));
    play.step(&Change::Later { seconds: 39 }).await;
    assert_eq!(play.group_of(1).rules, group.rules);
}

#[tokio::test(start_paused = true)]
async fn group_that_is_somebody_elses_now_is_not_changed() {
    let mut play = Play::new(Policy::Sync, Duration::MAX);
    play.step(&one_pod(1, 0)).await;
    play.step(&one_pod(2, 0)).await;
    let group = play.group_of(1);
    play.controlled.cloud.tamper_with(&group.key, |group| group.owner = Owner::Foreign);
    play.step(&one_pod(1, 0)).await;
    play.step(&Change::Later { seconds: 39 }).await;
    assert_eq!(play.group_of(1).owner, Owner::Foreign, "it is still there");
}
