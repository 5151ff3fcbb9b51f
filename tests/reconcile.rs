//! The reconciler on virtual time, over the cloud in memory: what it remembers from pass to pass.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use firewall_model::memory::{Fault, Memory, MemoryCloud};
use firewall_model::{InstanceId, Limits, Policy, ProviderError};
use hostport_firewall::exposures::Settings;
use hostport_firewall::index::{Index, Object, Watch};
use hostport_firewall::objects::{ContainerPort, ObjectRef};
use hostport_firewall::reconcile::{Membership, Options, Pass, Reconciler};
use hostport_firewall::watch::SharedIndex;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

struct World {
    cloud: MemoryCloud,
    index: SharedIndex,
    reconciler: Reconciler<Memory>,
}

const LINGER: Duration = Duration::from_secs(30);
const EXPOSE: &str = "hostport-firewall.dev/expose";
const HOLD: Duration = Duration::from_mins(30);

impl World {
    /// This many nodes, each with a pod of the same DaemonSet that exposes port 80.
    fn new(nodes: usize) -> Self {
        let cloud = MemoryCloud::new((0..nodes).map(|node| InstanceId::new(format!("i-{node}"))));
        let options = Options {
            settings: watch::channel(Settings::default()).1,
            policy: Policy::Sync,
            limits: Limits::default(),
            mass_close_hold: HOLD,
            linger: LINGER,
            active: BTreeSet::new(),
        };
        let reconciler = Reconciler::new(cloud.provider("c"), options);
        let mut index = Index::expecting([Watch::Pods, Watch::Nodes]);
        index.reset(Watch::Nodes, (0..nodes).map(node).collect());
        index.reset(Watch::Pods, (0..nodes).map(pod).collect());
        Self { cloud, index: SharedIndex::new(index), reconciler }
    }

    async fn pass(&mut self) -> Pass {
        let prospect = self.reconciler.look(&self.index).await.expect("the cloud answers");
        self.reconciler.carry_out(prospect, &CancellationToken::new()).await
    }

    fn leave(&self, pods: std::ops::Range<usize>) {
        self.index.update(|index| index.reset(Watch::Pods, pods.map(pod).collect()));
    }

    /// Memberships in the cloud.
    fn open(&self) -> usize {
        self.cloud.resources().values().filter(|resource| !resource.groups.is_empty()).count()
    }
}

fn node(number: usize) -> Object {
    let node = json!({
        "metadata": { "name": format!("n-{number}") },
        "spec": { "providerID": format!("memory://i-{number}") },
        "status": { "addresses": [{ "type": "InternalIP", "address": "10.0.0.1" }] },
    });
    Object::Node(serde_json::from_value(node).expect("a node"))
}

fn pod(number: usize) -> Object {
    let owner = json!({ "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "web", "uid": "1", "controller": true });
    let pod = json!({
        "metadata": {
            "name": format!("web-{number}"), "namespace": "default", "uid": format!("uid-{number}"),
            "annotations": { "hostport-firewall.dev/expose": "80" }, "ownerReferences": [owner],
        },
        "spec": {
            "nodeName": format!("n-{number}"),
            "containers": [{ "name": "main", "ports": [{ "containerPort": 80, "hostPort": 80 }] }],
        },
    });
    Object::Pod(serde_json::from_value(pod).expect("a pod"))
}

/// A pod of another workload on the same node, which exposes port 81.
fn other() -> Object {
    let mut other = pod(0);
    if let Object::Pod(pod) = &mut other {
        pod.metadata.name = Some("other".to_owned());
        pod.metadata.uid = Some("other".to_owned());
        pod.metadata.owner_references = None;
        pod.spec.containers[0].ports[0].host_port = Some(81);
        pod.metadata.annotations.get_or_insert_default().insert(EXPOSE.to_owned(), "81".to_owned());
    }
    other
}

/// Pod 0, once it binds and exposes port 81 as well.
fn wider() -> Object {
    let mut wider = pod(0);
    if let Object::Pod(pod) = &mut wider {
        let port = ContainerPort { container_port: 81, host_port: Some(81), ..ContainerPort::default() };
        pod.spec.containers[0].ports.push(port);
        pod.metadata.annotations.get_or_insert_default().insert(EXPOSE.to_owned(), "80, 81".to_owned());
    }
    wider
}

#[tokio::test(start_paused = true)]
async fn a_membership_lingers_after_its_pod_and_the_next_pass_is_due_when_it_ends() {
    let mut world = World::new(2);
    world.pass().await;
    assert_eq!(world.open(), 2);
    world.leave(0..1);
    assert_eq!(world.pass().await.again, Some(LINGER));
    assert_eq!(world.open(), 2);
    tokio::time::advance(LINGER).await;
    world.pass().await;
    assert_eq!(world.open(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_told_on_the_pod_and_tried_again_when_its_time_has_come() {
    let mut world = World::new(1);
    let message = "UnauthorizedOperation".to_owned();
    let (action, object, instead) = ("memory:Create".into(), "group".into(), Some("create --now".into()));
    let denied = ProviderError::Denied { action, object, message, instead };
    world.cloud.inject([Fault::Before(denied)]);
    let pass = world.pass().await;
    assert_eq!((pass.applied, pass.undone), (0, 2), "what needs the failed step is left out");
    for (reason, text) in [("PermissionDenied", "memory:Create"), ("ManualChangeRequired", "create --now")] {
        let told = pass.notices.iter().filter(|notice| notice.reason == reason);
        let told: Vec<(&str, bool)> =
            told.map(|notice| (notice.object.name.as_str(), notice.message.contains(text))).collect();
        assert_eq!(told, [("n-0", true), ("web-0", true)]);
    }

    let pass = world.pass().await;
    assert_eq!(pass.applied, 0, "it is left alone for a while");
    assert!(!pass.notices.is_empty(), "and still told");
    tokio::time::advance(pass.again.expect("a time to try again")).await;
    let pass = world.pass().await;
    assert_eq!((pass.applied, pass.notices.len()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn what_stays_in_use_for_a_moment_is_no_problem() {
    let mut world = World::new(1);
    world.index.update(|index| index.apply(&Watch::Pods, other()));
    world.pass().await;
    world.index.update(|index| index.reset(Watch::Pods, vec![other()]));
    world.pass().await;
    tokio::time::advance(LINGER).await;
    let (call, object, message) = ("memory:Update".into(), "x".into(), "an interface has it".into());
    let in_use = ProviderError::InUse { call, object, message };
    for told in [false, true] {
        world.cloud.inject([Fault::Before(in_use.clone())]);
        let pass = world.pass().await;
        assert_eq!(!pass.notices.is_empty(), told, "{:?}", pass.notices);
        tokio::time::advance(Duration::from_mins(3)).await;
    }
    assert_eq!(world.pass().await.notices, BTreeSet::new());
}

#[tokio::test(start_paused = true)]
async fn what_fails_on_one_node_is_told_there_and_leaves_the_others_open() {
    let mut world = World::new(3);
    let (call, object, message) = ("memory:Attach".into(), "x".into(), "slow down".into());
    let throttled = ProviderError::Throttled { call, object, message };
    // The group, and then an attachment for each node
    world.cloud.inject([Fault::None, Fault::None, Fault::Before(throttled)]);
    let pass = world.pass().await;
    let closed: Vec<&Membership> = pass.memberships.iter().filter(|one| one.open.is_err()).collect();
    let [closed] = &closed[..] else { panic!("one is closed: {:?}", pass.memberships) };
    let told: BTreeSet<&ObjectRef> = pass.notices.iter().map(|notice| &notice.object).collect();
    assert_eq!(told, closed.binders.iter().chain([&closed.node]).collect());
}

#[tokio::test(start_paused = true)]
async fn what_fails_for_one_workload_closes_nothing_of_another_on_the_node() {
    let mut world = World::new(1);
    world.pass().await;
    world.index.update(|index| index.apply(&Watch::Pods, other()));
    let full =
        ProviderError::Quota { call: "memory:Create".into(), object: "x".into(), message: "full".into() };
    world.cloud.inject([Fault::Before(full)]);
    let pass = world.pass().await;
    let open: BTreeMap<&str, bool> = pass
        .memberships
        .iter()
        .flat_map(|one| one.binders.iter().map(|binder| (binder.name.as_str(), one.open.is_ok())))
        .collect();
    assert_eq!(open, BTreeMap::from([("web-0", true), ("other", false)]));
    assert!(pass.notices.iter().all(|notice| notice.object.name != "web-0"), "{:?}", pass.notices);
    assert!(pass.memberships.iter().all(|one| !one.opened), "nothing has opened in this pass");
}

/// An object that selects the pods, and names who may connect.
fn selecting(sources: &[&str]) -> Object {
    let exposure = json!({
        "metadata": { "name": "web", "namespace": "default", "uid": "web", "generation": 1 },
        "spec": {
            "podSelector": { "matchLabels": { "app": "web" } },
            "ports": [{ "port": 80 }],
            "sourceRanges": sources,
        },
    });
    Object::HostPortExposure(serde_json::from_value(exposure).expect("an exposure"))
}

/// What becomes of an edit of sources of which the opening part fails.
async fn edited(before: &[&str], after: &[&str]) -> (World, Pass) {
    let mut world = World::new(1);
    let mut selected = pod(0);
    if let Object::Pod(pod) = &mut selected {
        pod.metadata.annotations = None;
        pod.metadata.labels = Some(BTreeMap::from([("app".to_owned(), "web".to_owned())]));
    }
    world.index.update(|index| index.reset(Watch::Pods, vec![selected]));
    world.index.update(|index| index.reset(Watch::HostPortExposures, vec![selecting(before)]));
    assert!(world.pass().await.memberships[0].open.is_ok());
    world.index.update(|index| index.reset(Watch::HostPortExposures, vec![selecting(after)]));
    let (call, object, message) = ("memory:Update".into(), "x".into(), "full".into());
    world.cloud.inject([Fault::Before(ProviderError::Quota { call, object, message })]);
    let pass = world.pass().await;
    let [membership] = &pass.memberships[..] else { panic!("one: {:?}", pass.memberships) };
    assert_eq!(membership.open.as_ref().expect_err("not all are let in").0, "QuotaReached");
    assert!(pass.notices.iter().any(|notice| notice.object.kind == "HostPortExposure"), "{:?}", pass.notices);
    (world, pass)
}

#[tokio::test(start_paused = true)]
async fn sources_that_could_not_be_let_in_are_not_open_because_the_former_were_taken_away() {
    let (mut world, pass) = edited(&["10.0.0.0/8"], &["192.168.0.0/16"]).await;
    assert_eq!((pass.applied, pass.undone), (1, 1), "the former are taken away all the same");
    assert!(!pass.memberships[0].stands, "nobody is let in: its gate turns");
    tokio::time::advance(pass.again.expect("it is tried again")).await;
    let pass = world.pass().await;
    assert!(pass.memberships[0].open.is_ok() && pass.notices.is_empty(), "{pass:?}");
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_let_in_beside_others_takes_nothing_from_them() {
    for more in ["192.168.0.0/16", "2001:db8::/32"] {
        let (_, pass) = edited(&["10.0.0.0/8"], &["10.0.0.0/8", more]).await;
        assert!(pass.memberships[0].stands, "{more}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_falls_due_while_a_pass_lasts_is_tried_right_after() {
    let mut world = World::new(1);
    let (call, object, message) = ("memory:Create".into(), "x".into(), "for now".into());
    world.cloud.inject([Fault::Before(ProviderError::Transient { call, object, message })]);
    let prospect = world.reconciler.look(&world.index).await.expect("the cloud answers");
    let due = world.reconciler.carry_out(prospect, &CancellationToken::new()).await.again.expect("a time");
    let prospect = world.reconciler.look(&world.index).await.expect("the cloud answers");
    tokio::time::advance(due).await;
    let pass = world.reconciler.carry_out(prospect, &CancellationToken::new()).await;
    assert_eq!((pass.applied, pass.again), (0, Some(Duration::ZERO)));
    assert_eq!(world.pass().await.applied, 2);
}

#[tokio::test(start_paused = true)]
async fn what_a_pass_was_ended_before_is_in_doubt_and_not_closed() {
    let mut world = World::new(2);
    world.pass().await;
    world.index.update(|index| index.apply(&Watch::Pods, wider()));
    let prospect = world.reconciler.look(&world.index).await.expect("the cloud answers");
    let ended = CancellationToken::new();
    ended.cancel();
    let pass = world.reconciler.carry_out(prospect, &ended).await;
    let [closed] = &pass.memberships.iter().filter(|one| one.open.is_err()).collect::<Vec<_>>()[..] else {
        panic!("one is not open: {:?}", pass.memberships)
    };
    assert!(closed.stands);
}

#[tokio::test(start_paused = true)]
async fn addresses_stay_where_a_port_is_about_to_be_added() {
    let mut world = World::new(1);
    world.pass().await;
    world.index.update(|index| index.apply(&Watch::Pods, wider()));
    let prospect = world.reconciler.look(&world.index).await.expect("the cloud answers");
    let [outlook] = &world.reconciler.outlook(&prospect)[..] else { panic!("one membership") };
    assert!(outlook.stands && outlook.open.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_took_effect_although_it_seemed_to_fail_is_told_no_longer_than_it_takes_to_see() {
    let mut world = World::new(1);
    let (call, object, message) = ("memory:Create".into(), "x".into(), "no answer".into());
    let lost = ProviderError::Transient { call, object, message };
    world.cloud.inject([Fault::After(lost)]);
    assert!(!world.pass().await.notices.is_empty());
    let mut pass = world.pass().await;
    while pass.undone > 0 || pass.applied > 0 {
        tokio::time::advance(Duration::from_mins(10)).await;
        pass = world.pass().await;
    }
    assert_eq!(pass.notices, BTreeSet::new());
    assert_eq!(world.open(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_mass_close_is_held_and_goes_ahead_once_its_hold_has_passed() {
    let mut world = World::new(40);
    world.pass().await;
    world.leave(0..11);
    world.pass().await;
    tokio::time::advance(LINGER).await;
    assert_eq!(world.pass().await.again, Some(HOLD));
    assert_eq!(world.open(), 40, "held");

    tokio::time::advance(HOLD / 2).await;
    world.leave(0..10);
    world.pass().await;
    tokio::time::advance(HOLD / 2).await;
    let pass = world.pass().await;
    assert_eq!((world.open(), pass.again), (10, None), "one more that went meanwhile does not begin it anew");
}

#[tokio::test(start_paused = true)]
async fn a_mass_close_whose_hold_has_passed_can_take_several_passes() {
    let mut world = World::new(20);
    world.pass().await;
    world.leave(0..1);
    world.pass().await;
    tokio::time::advance(LINGER).await;
    world.pass().await;
    tokio::time::advance(HOLD).await;
    let prospect = world.reconciler.look(&world.index).await.expect("the cloud answers");
    let stopped = CancellationToken::new();
    stopped.cancel();
    world.reconciler.carry_out(prospect, &stopped).await;
    assert_eq!(world.open(), 20, "the pass ended before its first call");
    world.pass().await;
    assert_eq!(world.open(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_mass_close_that_joins_another_has_its_own_hold() {
    let mut world = World::new(60);
    world.pass().await;
    world.leave(0..29);
    world.pass().await;
    tokio::time::advance(LINGER).await;
    world.pass().await;
    assert_eq!(world.open(), 60, "held");

    tokio::time::advance(HOLD / 2).await;
    world.leave(0..29);
    world.index.update(|index| index.reset(Watch::Pods, Vec::new()));
    world.pass().await;
    tokio::time::advance(LINGER).await;
    world.pass().await;
    assert_eq!(world.open(), 60);
    tokio::time::advance(HOLD / 2).await;
    world.pass().await;
    assert_eq!(world.open(), 60, "the second half is a mass close by itself");
    tokio::time::advance(HOLD / 2).await;
    world.pass().await;
    assert_eq!(world.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_needed_again_leaves_a_mass_close() {
    let mut world = World::new(20);
    world.pass().await;
    world.leave(0..1);
    world.pass().await;
    tokio::time::advance(LINGER).await;
    world.pass().await;
    assert_eq!(world.open(), 20, "held");
    world.leave(0..12);
    world.pass().await;
    assert_eq!(world.open(), 12, "what is left is none");
}

#[tokio::test(start_paused = true)]
async fn nothing_closes_while_a_watch_is_broken_and_what_is_new_opens() {
    let mut world = World::new(2);
    world.leave(0..1);
    world.pass().await;
    assert_eq!(world.open(), 1);
    world.index.update(|index| {
        index.reset(Watch::Pods, vec![pod(1)]);
        index.broken(Watch::Pods, "403".to_owned())
    });
    tokio::time::advance(LINGER * 2).await;
    world.pass().await;
    assert_eq!(world.open(), 2);
    world.leave(1..2);
    tokio::time::advance(LINGER * 2).await;
    world.pass().await;
    tokio::time::advance(LINGER * 2).await;
    world.pass().await;
    assert_eq!(world.open(), 1, "once everything is known again");
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_machine_does_not_exist_is_told_and_holds_nothing_up() {
    let mut world = World::new(1);
    world.index.update(|index| index.reset(Watch::Nodes, vec![node(0), node(7)]));
    world.index.update(|index| index.reset(Watch::Pods, vec![pod(0), pod(7)]));
    let pass = world.pass().await;
    assert_eq!(world.open(), 1);
    let told: Vec<_> = pass.notices.iter().filter(|notice| notice.object.name == "n-7").collect();
    assert_eq!(told.len(), 1, "{:?}", pass.notices);
    assert_eq!(told[0].reason, "InstanceNotFound");
    assert!(pass.notices.iter().all(|notice| notice.object.name != "web-0"), "{:?}", pass.notices);
}
