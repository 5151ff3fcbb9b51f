//! A rolling update that changes the port, over ten nodes: what is open at every instant.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::cluster::pod;
use crate::machine::Machine;
use crate::world::{Mode, World};

const NODES: u32 = 10;
const OLD: u16 = 8080;
const NEW: u16 = 9090;
const MAX_UNAVAILABLE: usize = 3;

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

    fn any(&self, node: &str, port: u16, fits: impl Fn(Instant, Option<Instant>) -> bool) -> bool {
        let bound = self.0.borrow();
        let times = bound.get(&(node.to_owned(), port));
        times.is_some_and(|times| times.iter().any(|(begin, end)| fits(*begin, *end)))
    }
}

/// Looks at the cloud again and again: a port opens only while a pod binds it, and none closes while its pod runs.
async fn watch(world: &World, bound: &Bound) {
    let mut before: BTreeMap<&str, (Instant, BTreeSet<u16>)> = BTreeMap::new();
    loop {
        for machine in &world.machines {
            let name = machine.name.as_str();
            let from = Instant::now();
            let open: BTreeSet<u16> =
                world.open(machine).await.iter().map(|rule| rule.ports.first()).collect();
            let now = Instant::now();
            if let Some((then, was)) = before.get(name) {
                for port in open.difference(was) {
                    assert!(bound.ever(name, *port, *then, now), "{port} opened on {name} without a pod");
                }
                for port in was.difference(&open) {
                    assert!(!bound.always(name, *port, *then, now), "{port} closed on {name} under its pod");
                }
            }
            before.insert(name, (from, open));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A pod of the DaemonSet, in the revision that binds this port.
async fn start(world: &World, bound: &Bound, machine: &Machine, port: u16, gated: bool) {
    let annotations = json!({
        "hostport-firewall.dev/expose": port.to_string(), "hostport-firewall.dev/source-ranges": "192.0.2.0/24",
    });
    let ports = json!([{ "containerPort": port, "hostPort": port }]);
    let mut pod = pod(&name(machine, port), &machine.name, annotations, ports);
    pod["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "web", "controller": true,
        "uid": "7d1e7b5a-0000-4000-8000-000000000009",
    }]);
    if gated {
        pod["spec"]["readinessGates"] = json!([{ "conditionType": "hostport-firewall.dev/open" }]);
    }
    bound.begin(&machine.name, port);
    world.cluster.run(pod).await;
}

fn name(machine: &Machine, port: u16) -> String {
    format!("web-{}-{port}", machine.name)
}

async fn roll(world: &World, bound: &Bound, gated: bool) {
    for machine in &world.machines {
        start(world, bound, machine, OLD, gated).await;
    }
    for machine in &world.machines {
        world.opens(machine, &["tcp/8080 192.0.2.0/24"]).await;
    }
    // All at once would be held as a mass close.
    for batch in world.machines.chunks(MAX_UNAVAILABLE) {
        for machine in batch {
            bound.end(&machine.name, OLD);
            world.cluster.stop(&name(machine, OLD)).await;
            start(world, bound, machine, NEW, gated).await;
        }
        for machine in batch {
            if gated {
                becomes_ready(world, machine).await;
            } else {
                world.opens(machine, &["tcp/9090 192.0.2.0/24"]).await;
            }
        }
    }
    for machine in &world.machines {
        world.opens(machine, &["tcp/9090 192.0.2.0/24"]).await;
    }
}

/// What a kubelet does: a pod is ready once all its gates are true. Only then the next pods are replaced.
async fn becomes_ready(world: &World, machine: &Machine) {
    let pod = name(machine, NEW);
    world.cluster.gate(&pod, "True", "Open").await;
    let open = world.open(machine).await;
    assert!(open.iter().any(|rule| rule.ports.contains(NEW)), "ready behind a closed port: {open}");
    world.cluster.ready(&pod).await;
}

async fn a_rolling_update(mode: Mode, gated: bool) {
    let world = World::start(mode, NODES).await;
    let _controller = world.controller(&[]);
    let bound = Bound::default();
    tokio::select! {
        () = watch(&world, &bound) => {}
        () = roll(&world, &bound, gated) => {}
    }
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn a_rolling_update_opens_and_closes_with_its_pods_by_destination_ranges() {
    a_rolling_update(Mode::Destination, false).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn a_rolling_update_opens_and_closes_with_its_pods_by_attached_groups() {
    a_rolling_update(Mode::Attach, false).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn a_gated_rolling_update_has_no_ready_pod_behind_a_closed_port_by_destination_ranges() {
    a_rolling_update(Mode::Destination, true).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn a_gated_rolling_update_has_no_ready_pod_behind_a_closed_port_by_attached_groups() {
    a_rolling_update(Mode::Attach, true).await;
}
