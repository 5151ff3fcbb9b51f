//! A rolling update that changes the port, over ten nodes: what is open at every instant.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::cluster::{owned_by, pod};
use crate::exposures::exposure;
use crate::machine::Machine;
use crate::process::root;
use crate::world::{Mode, World};

const NODES: u32 = 10;
const OLD: u16 = 8080;
const NEW: u16 = 9090;
const MAX_UNAVAILABLE: usize = 3;

/// How long the controller may take to close a port whose pod has gone, on a slow machine: it waits for quiet, reads the
/// cloud, and makes its calls one by one.
const LONGEST_LAG: Duration = Duration::from_mins(1);

/// Who asks for the ports.
#[derive(Clone, Copy, PartialEq)]
enum Intent {
    Annotation,
    Object,
}

/// When pods bound each port of each node. What is asked of the API server is written down before a pod begins and before
/// it ends, so that nothing the controller could not know yet looks like its fault.
#[derive(Default)]
struct Bound(RefCell<BTreeMap<(String, u16), Times>>);

/// When pods began and ended to bind a port.
type Times = Vec<(Instant, Option<Instant>)>;

impl Bound {
    fn begin(&self, node: &str, port: u16) {
        let mut bound = self.0.borrow_mut();
        bound.entry((node.to_owned(), port)).or_default().push((Instant::now(), None));
    }

    fn end(&self, node: &str, port: u16) {
        let mut bound = self.0.borrow_mut();
        let last = bound.get_mut(&(node.to_owned(), port)).and_then(|times| times.last_mut());
        last.expect("it began").1 = Some(Instant::now());
    }

    /// Whether a pod bound the port at some time between.
    fn ever(&self, node: &str, port: u16, from: Instant, to: Instant) -> bool {
        self.any(node, port, |begin, end| begin <= to && end.is_none_or(|end| end >= from))
    }

    /// Whether a pod bound the port all the time between.
    fn always(&self, node: &str, port: u16, from: Instant, to: Instant) -> bool {
        self.any(node, port, |begin, end| begin <= from && end.is_none_or(|end| end >= to))
    }

    /// Since when no pod binds the port; none if one does.
    fn unbound_since(&self, node: &str, port: u16) -> Option<Instant> {
        let bound = self.0.borrow();
        let ends = bound.get(&(node.to_owned(), port))?.iter().map(|(_, end)| *end);
        ends.collect::<Option<Vec<Instant>>>()?.into_iter().max()
    }

    fn any(&self, node: &str, port: u16, fits: impl Fn(Instant, Option<Instant>) -> bool) -> bool {
        let bound = self.0.borrow();
        let times = bound.get(&(node.to_owned(), port));
        times.is_some_and(|times| times.iter().any(|(begin, end)| fits(*begin, *end)))
    }
}

/// Looks at the cloud again and again. Nothing but what is asked for is ever open; a port opens only while a pod binds it,
/// closes soon after, and none closes while its pod runs; and no pod is told that it is open when it is not.
async fn watch(world: &World, bound: &Bound) {
    let mut before: BTreeMap<String, (Instant, BTreeSet<u16>)> = BTreeMap::new();
    loop {
        let gates = open_gates(world).await;
        let from = Instant::now();
        let all = world.open_everywhere().await;
        let now = Instant::now();
        for (name, rules) in all {
            let mut open = BTreeSet::new();
            for rule in rules.iter() {
                let port = [OLD, NEW]
                    .into_iter()
                    .find(|port| rule.to_string() == format!("tcp/{port} from 192.0.2.0/24"));
                open.insert(port.unwrap_or_else(|| panic!("nobody asks for {rule} on {name}")));
            }
            if let Some((then, was)) = before.get(&name) {
                for port in open.difference(was) {
                    assert!(bound.ever(&name, *port, *then, now), "{port} opened on {name} without a pod");
                }
                for port in was.difference(&open) {
                    assert!(!bound.always(&name, *port, *then, now), "{port} closed on {name} under its pod");
                }
            }
            for port in &open {
                let lag = bound.unbound_since(&name, *port).map(|end| from.duration_since(end));
                assert!(lag.is_none_or(|lag| lag < LONGEST_LAG), "{port} stays open on {name}: {lag:?}");
            }
            for port in [OLD, NEW].into_iter().filter(|port| gates.contains(&pod_name(&name, *port))) {
                let there = bound.always(&name, port, from, now);
                assert!(
                    !there || open.contains(&port),
                    "{port} is closed on {name}, and its pod is told otherwise"
                );
            }
            before.insert(name, (from, open));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The pods whose gates are true.
async fn open_gates(world: &World) -> BTreeSet<String> {
    let all = world.cluster.pods().list(&ListParams::default()).await.expect("pods");
    let is_open = |pod: &Pod| {
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.into_iter().any(|one| one.type_ == "hostport-firewall.dev/open" && one.status == "True")
    };
    all.items.into_iter().filter(is_open).filter_map(|pod| pod.metadata.name).collect()
}

/// A pod of the DaemonSet, in the revision that binds this port.
fn revision(machine: &Machine, port: u16, gated: bool, intent: Intent) -> Value {
    let annotations = json!({
        "hostport-firewall.dev/expose": port.to_string(), "hostport-firewall.dev/source-ranges": "192.0.2.0/24",
    });
    let annotations = if intent == Intent::Annotation { annotations } else { json!({}) };
    let ports = json!([{ "containerPort": port, "hostPort": port }]);
    let mut pod = pod(&pod_name(&machine.name, port), &machine.name, annotations, ports);
    pod["metadata"]["labels"] = json!({ "app": "web" });
    owned_by(&mut pod, "DaemonSet", "web");
    if gated {
        pod["spec"]["readinessGates"] = json!([{ "conditionType": "hostport-firewall.dev/open" }]);
    }
    pod
}

fn pod_name(node: &str, port: u16) -> String {
    format!("web-{node}-{port}")
}

/// A rolling update.
struct Roll<'a> {
    world: &'a World,
    bound: &'a Bound,
    gated: bool,
    intent: Intent,
}

impl Roll<'_> {
    async fn start(&self, machine: &Machine, port: u16) {
        self.bound.begin(&machine.name, port);
        self.world.cluster.run(revision(machine, port, self.gated, self.intent)).await;
    }

    /// What a kubelet does: a pod is ready once all its gates are true. Only then the next pods are replaced.
    async fn becomes_ready(&self, machine: &Machine, port: u16) {
        let pod = pod_name(&machine.name, port);
        if self.gated {
            self.world.cluster.gate(&pod, "True", "Open").await;
        } else {
            self.opens(machine, port).await;
        }
        self.world.cluster.ready(&pod).await;
    }

    /// Waits until this port and no other is open.
    async fn opens(&self, machine: &Machine, port: u16) {
        self.world.opens(machine, &[&format!("tcp/{port} 192.0.2.0/24")]).await;
    }

    async fn run(&self) {
        let machines = &self.world.machines;
        for machine in machines {
            self.start(machine, OLD).await;
        }
        for machine in machines {
            self.becomes_ready(machine, OLD).await;
        }
        // All at once would be held as a mass close.
        for batch in machines.chunks(MAX_UNAVAILABLE) {
            for machine in batch {
                self.world.cluster.begin_to_stop(&pod_name(&machine.name, OLD)).await;
            }
            // They serve what they have begun to serve: long enough for the controller to close what it should not.
            tokio::time::sleep(Duration::from_secs(3)).await;
            for machine in batch {
                self.bound.end(&machine.name, OLD);
                self.world.cluster.stop(&pod_name(&machine.name, OLD)).await;
                self.start(machine, NEW).await;
            }
            for machine in batch {
                self.becomes_ready(machine, NEW).await;
                self.opens(machine, NEW).await;
            }
        }
    }
}

async fn a_rolling_update(mode: Mode, gated: bool, intent: Intent) {
    let world = World::start(mode, NODES).await;
    if let Some(google) = &world.google {
        // A gate that is turned before the cloud confirms is then found out.
        google.cloud().configure(|settings| settings.operation_delay = Duration::from_secs(1));
    }
    if intent == Intent::Object {
        world.cluster.apply(&root().join("deploy/crd.yaml")).await;
        let selector = json!({ "matchLabels": { "app": "web" } });
        let ports = json!([{ "port": OLD }, { "port": NEW }]);
        let spec = json!({ "podSelector": selector, "ports": ports, "sourceRanges": ["192.0.2.0/24"] });
        world.cluster.create(exposure(&spec)).await;
    }
    let _controller = world.controller(&[]);
    let bound = Bound::default();
    let roll = Roll { world: &world, bound: &bound, gated, intent };
    tokio::select! {
        () = watch(&world, &bound) => {}
        () = roll.run() => {}
    }
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn a_rolling_update_opens_and_closes_with_its_pods_by_destination_ranges() {
    a_rolling_update(Mode::Destination, false, Intent::Object).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn a_rolling_update_opens_and_closes_with_its_pods_by_attached_groups() {
    a_rolling_update(Mode::Attach, false, Intent::Annotation).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn a_gated_rolling_update_has_no_ready_pod_behind_a_closed_port_by_destination_ranges() {
    a_rolling_update(Mode::Destination, true, Intent::Annotation).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn a_gated_rolling_update_has_no_ready_pod_behind_a_closed_port_by_attached_groups() {
    a_rolling_update(Mode::Attach, true, Intent::Object).await;
}
