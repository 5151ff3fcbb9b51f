//! Holds what is published of a part to what is computed of everything, through random histories.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use firewall_core::{GroupKey, InstanceId};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::desired::snapshot::Snapshot;
use crate::desired::snapshots::Snapshots;
use crate::intents::settings::Settings;
use crate::k8s::index::Object;
use crate::k8s::index::shared_index::SharedIndex;
use crate::k8s::objects::builders::{
    annotated, endpoint_slice, from_json, host_port_exposure, named_host_port, node, object_ref, pod, service,
};
use crate::k8s::problem::{Problem, Verdict};
use crate::publish::cluster_now::ClusterNow;
use crate::publish::published_state::{CloudResult, PublishedState};
use crate::publish::readiness::GateUpdate;
use crate::publish::served_machines::ServedMachines;
use crate::publish::status::joined::JoinedStatus;
use crate::publish::status::tests::time;

/// A kind, and two numbers from which one change follows.
type Change = (usize, usize, usize);

/// Statuses and gates to write.
type Planned = (Vec<(ObjectRef, JoinedStatus)>, Vec<GateUpdate>);

const CLOUDS: [&str; 2] = ["gce", "aws"];

fn set_pod(number: usize, sort: usize) -> Object {
    let (name, place) = (format!("pod-{}", number % 4), format!("node-{}", sort % 3));
    let mut object = pod("shop", &name, &place, &json!([named_host_port("web", 80)]));
    object["metadata"]["labels"] =
        json!({ "app": (["a", "b", "c"][number % 3]), "of-no-use": sort.to_string() });
    object["metadata"]["uid"] = json!((sort / 24).to_string());
    let mut conditions = vec![json!({ "type": "Ready", "status": (["True", "False"][sort / 3 % 2]) })];
    if number.is_multiple_of(2) {
        object["spec"]["readinessGates"] = json!([{ "conditionType": GATE }]);
        let (status, reason) = [("True", "Open"), ("False", "Pending")][sort / 6 % 2];
        conditions.push(json!({ "type": GATE, "status": status, "reason": reason }));
    }
    object["status"]["conditions"] = Value::Array(conditions);
    Object::Pod(from_json(object))
}

fn set_node(number: usize, sort: usize) -> Object {
    let project = if sort.is_multiple_of(5) { "another" } else { "own" };
    let (name, address) = (format!("node-{}", number % 3), format!("10.0.0.{}", sort / 2 % 3));
    let mut object = node(&name, &format!("gce://{project}/z/n-{}", number % 3), &[&address]);
    object["status"]["conditions"] = json!([{ "type": "Ready", "status": (["True", "False"][sort % 2]) }]);
    Object::Node(from_json(object))
}

fn set_exposure(number: usize, sort: usize) -> Object {
    let selected = [json!({ "matchLabels": { "app": (["a", "b", "c"][sort % 3]) } }), json!({})];
    let spec = json!({ "podSelector": selected[sort / 3 % 2], "ports": [{ "port": "web" }] });
    let mut object = host_port_exposure("shop", &format!("x-{}", number % 3), &spec);
    object["metadata"]["generation"] = json!(sort % 7);
    Object::HostPortExposure(from_json(object))
}

fn set_service(sort: usize) -> Object {
    let ports = json!([{ "name": "web", "port": 80, "nodePort": 30000 }]);
    let mut object = service("shop", "web", "NodePort", &ports);
    object["spec"]["externalTrafficPolicy"] = json!(["Cluster", "Local"][sort % 2]);
    Object::Service(from_json(annotated(object, &json!({ "hostport-firewall.dev/expose-node-ports": "80" }))))
}

fn set_slice(sort: usize) -> Object {
    let is_ready = sort.is_multiple_of(2);
    let conditions = json!({ "ready": is_ready, "serving": true, "terminating": !is_ready });
    let endpoints = json!([{ "nodeName": format!("node-{}", sort / 2 % 3), "conditions": conditions }]);
    Object::EndpointSlice(from_json(endpoint_slice("shop", "web", "slice", &endpoints)))
}

/// A cluster, and what is published of it: once of parts, and once always of everything.
struct World {
    index: SharedIndex,
    snapshots: Snapshots,
    before: Arc<Snapshot>,
    now: Arc<Snapshot>,
    unpublished: Changes,
    seconds: u64,
    of_part: PublishedState,
    of_all: PublishedState,
}

impl World {
    fn new(clouds: usize) -> Self {
        let mut index = Index::default();
        index.reset(Watch::Nodes, (0..3).map(|number| set_node(number, 2)).collect());
        let state =
            || PublishedState::new("test", clouds, ServedMachines::new(vec!["gce://own/".to_owned()]));
        let first = Arc::new(Snapshot::take(&index, &Settings::default(), Duration::ZERO));
        Self {
            index: SharedIndex::new(index),
            snapshots: Snapshots::default(),
            before: Arc::clone(&first),
            now: first,
            unpublished: Changes::none(),
            seconds: 0,
            of_part: state(),
            of_all: state(),
        }
    }

    fn look(&mut self) -> Index {
        self.seconds += 1;
        let (index, changes) = self.index.read_changes();
        let at = Duration::from_secs(self.seconds);
        let now = self.snapshots.take(index.clone(), &changes, &Settings::default(), at);
        if !Arc::ptr_eq(&now, &self.now) {
            self.before = std::mem::replace(&mut self.now, now);
        }
        self.unpublished.append(&changes);
        index
    }

    fn cluster(&mut self) -> ClusterNow {
        let index = self.look();
        ClusterNow { index, changes: self.unpublished.take(), port_owners: self.now.port_owners.clone() }
    }

    /// Returns the result of a pass about some instances or all, on an older snapshot now and then.
    fn result(&mut self, number: usize, sort: usize) -> CloudResult {
        self.look();
        let snapshot = if sort.is_multiple_of(4) { &self.before } else { &self.now };
        let only = (!number.is_multiple_of(4)).then(|| InstanceId::new(format!("n-{}", number % 3)));
        let mut memberships: BTreeMap<(GroupKey, InstanceId), Membership> = BTreeMap::new();
        for exposure in snapshot.demand.exposures.iter() {
            let instance = InstanceId::new(exposure.provider_id.rsplit('/').next().unwrap_or_default());
            if only.as_ref().is_some_and(|only| *only != instance) {
                continue;
            }
            let open = match sort / 4 % 3 {
                0 => Err(("QuotaReached".to_owned(), "it is full".to_owned())),
                _ => Ok(()),
            };
            let one = memberships.entry((exposure.group.clone(), instance.clone()));
            let one = one.or_insert_with(|| Membership {
                group: exposure.group.clone(),
                instance,
                intents: [].into(),
                node: exposure.node.clone(),
                port_owners: [].into(),
                resources: [(format!("rule-{}", sort / 12 % 2), None)].into(),
                partly_open: sort.is_multiple_of(3),
                open,
                opened: false,
            });
            one.intents.insert(&exposure.intent);
            one.port_owners.insert(&exposure.port_owner);
        }
        let problem = |name: &str| Problem {
            object: object_ref("HostPortExposure", "shop", name),
            verdict: Verdict::Rejected,
            reason: "Denied".to_owned(),
            message: String::new(),
        };
        CloudResult {
            problems: ["x-0", "x-1"].into_iter().take(sort / 24 % 3).map(problem).collect(),
            scope: only.map(|only| [only].into()),
            memberships: memberships.into_values().map(Arc::new).collect(),
            demand: snapshot.demand.clone(),
        }
    }

    fn both(&mut self, change: impl Fn(&mut PublishedState)) {
        change(&mut self.of_part);
        change(&mut self.of_all);
    }

    /// Makes one change.
    fn change(&mut self, (kind, number, sort): Change) {
        let set = |index: &SharedIndex, watch: Watch, object: Object| {
            index.update(|index| match sort % 6 {
                0 => index.delete(&watch, &object.name()),
                _ => index.apply(&watch, object),
            });
        };
        let cloud = CLOUDS[number % 2];
        match kind {
            0..=3 => set(&self.index, Watch::Pods, set_pod(number, sort)),
            4 => set(&self.index, Watch::Nodes, set_node(number, sort)),
            5 => set(&self.index, Watch::HostPortExposures, set_exposure(number, sort)),
            6 => set(&self.index, Watch::Services, set_service(sort)),
            7 => set(&self.index, Watch::EndpointSlices, set_slice(sort)),
            8..=10 => {
                let result = |world: &mut Self| world.result(number, sort);
                let (one, other) = (result(self), result(self));
                self.of_part.record(cloud, one);
                self.of_all.record(cloud, other);
            }
            11 if number.is_multiple_of(5) => self.both(|state| state.mark_unobserved(cloud)),
            _ => {
                self.look();
                let demand = self.now.demand.clone();
                self.both(|state| state.replace_demand(cloud, demand.clone()));
            }
        }
    }

    /// Publishes; with `retracts`, only addresses of ports that are about to close are removed. Returns what is
    /// written of parts, and what of everything.
    fn publish(&mut self, retracts: bool) -> [Planned; 2] {
        let (now, time) = (self.cluster(), time(i64::try_from(self.seconds).expect("few")));
        self.of_part.note_cluster(&now);
        let only = self.of_part.find_concerned(&now);
        [(&mut self.of_part, only), (&mut self.of_all, None)].map(|(state, only)| {
            let outcomes = state.assemble_outcomes(&now.port_owners, only.as_ref());
            let (mut statuses, gates) = if retracts {
                (state.plan_retraction(&now.index, &outcomes, only.as_ref(), &time), Vec::new())
            } else {
                state.plan(&now, &outcomes, only.as_ref(), &time)
            };
            statuses.sort_by(|(one, _), (other, _)| one.cmp(other));
            for (object, status) in &statuses {
                if retracts {
                    state.record_status(object.clone(), status.own.clone());
                } else {
                    state.record_status_at(object.clone(), status.own.clone(), time.clone());
                }
            }
            (statuses, gates)
        })
    }

    /// Shows statuses in the cluster, as the watch does after they are written.
    fn show(&self, statuses: &[(ObjectRef, JoinedStatus)]) {
        for (object, status) in statuses {
            let name = (object.namespace.clone(), object.name.clone());
            self.index.update(|index| {
                let Some(mut exposure) = index.host_port_exposure(&name).cloned() else { return false };
                exposure.status = Some(status.applied());
                index.apply(&Watch::HostPortExposures, Object::HostPortExposure(Box::new(exposure)))
            });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn publishing_a_part_is_publishing_everything(
        clouds in 1..3_usize,
        rounds in prop::collection::vec(
            (prop::collection::vec((0..13_usize, 0..24_usize, 0..72_usize), 1..4), 0..6_usize), 1..40,
        ),
    ) {
        let mut world = World::new(clouds);
        for (changes, how) in rounds {
            for change in changes {
                world.change(change);
            }
            let [of_part, of_all] = world.publish(how == 0);
            prop_assert_eq!(&of_part.0, &of_all.0);
            prop_assert_eq!(&of_part.1, &of_all.1);
            // Some writes are shown late, or never.
            if how > 1 {
                world.show(&of_all.0);
            }
        }
    }
}

#[test]
fn change_of_no_use_concerns_nothing() {
    let mut world = World::new(1);
    let applied = |world: &World, object: Object| {
        world.index.update(|index| index.apply(&Watch::Pods, object));
    };
    world.index.update(|index| index.apply(&Watch::HostPortExposures, set_exposure(0, 0)));
    for number in 0..3 {
        applied(&world, set_pod(number, 1));
    }
    for _ in 0..2 {
        world.change((8, 0, 5));
        let [(statuses, _), _] = world.publish(false);
        world.show(&statuses);
    }
    let concerned = |world: &mut World| {
        let now = world.cluster();
        world.of_part.note_cluster(&now);
        world.of_part.find_concerned(&now).expect("a part")
    };
    world.publish(false);
    assert!(!concerned(&mut world).has(&object_ref("HostPortExposure", "shop", "x-0")));
    // Another label
    applied(&world, set_pod(0, 13));
    assert!(!concerned(&mut world).has(&object_ref("HostPortExposure", "shop", "x-0")));
    // Not ready
    applied(&world, set_pod(0, 4));
    let unready = concerned(&mut world);
    assert!(unready.has(&object_ref("HostPortExposure", "shop", "x-0")));
    assert!(!unready.has(&object_ref("HostPortExposure", "shop", "x-1")));
}
