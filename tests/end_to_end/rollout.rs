//! A rolling update that changes the port, over ten nodes: the open ports are checked all the time.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::environment::{Mode, TestEnvironment};
use crate::machine::Machine;
use crate::objects::{add_readiness_gate, host_port, pod, set_owner, set_web_label, web_exposure};
use crate::process::root;

const NODES: u32 = 10;
const OLD: u16 = 8080;
const NEW: u16 = 9090;
const MAX_UNAVAILABLE: usize = 3;

/// The longest time that the controller may take to close a port whose pod is gone, on a slow machine: it
/// waits until changes stop, reads the cloud, and makes its calls one by one.
const MAX_CLOSE_DELAY: Duration = Duration::from_mins(1);

/// The way in which the ports are asked for.
#[derive(Clone, Copy, PartialEq)]
enum Intent {
    Annotation,
    Exposure,
}

/// The times at which pods bound each port of each node.
///
/// Both times are recorded before the request to the API server: what the controller cannot know yet must not
/// look like its fault.
#[derive(Default)]
struct BindingLog(RefCell<BTreeMap<(String, u16), Times>>);

/// The times at which pods began and ended to bind a port
type Times = Vec<(Instant, Option<Instant>)>;

impl BindingLog {
    fn record_begin(&self, node: &str, port: u16) {
        let mut bound = self.0.borrow_mut();
        bound.entry((node.to_owned(), port)).or_default().push((Instant::now(), None));
    }

    fn record_end(&self, node: &str, port: u16) {
        let mut bound = self.0.borrow_mut();
        let last = bound.get_mut(&(node.to_owned(), port)).and_then(|times| times.last_mut());
        last.expect("it began").1 = Some(Instant::now());
    }

    /// Returns true if a pod bound the port at some time between.
    fn was_ever_bound(&self, node: &str, port: u16, from: Instant, to: Instant) -> bool {
        self.has_binding(node, port, |begin, end| begin <= to && end.is_none_or(|end| end >= from))
    }

    /// Returns true if a pod bound the port all the time between.
    fn was_always_bound(&self, node: &str, port: u16, from: Instant, to: Instant) -> bool {
        self.has_binding(node, port, |begin, end| begin <= from && end.is_none_or(|end| end >= to))
    }

    /// Returns the time since which no pod binds the port, or `None` if one does.
    fn unbound_since(&self, node: &str, port: u16) -> Option<Instant> {
        let bound = self.0.borrow();
        let ends = bound.get(&(node.to_owned(), port))?.iter().map(|(_, end)| *end);
        ends.collect::<Option<Vec<Instant>>>()?.into_iter().max()
    }

    fn has_binding(&self, node: &str, port: u16, fits: impl Fn(Instant, Option<Instant>) -> bool) -> bool {
        let bound = self.0.borrow();
        let times = bound.get(&(node.to_owned(), port));
        times.is_some_and(|times| times.iter().any(|(begin, end)| fits(*begin, *end)))
    }
}

/// Reads the cloud again and again, and checks each time: only requested ports are open; a port opens only
/// while a pod binds it, closes soon after that, and never while its pod runs; and no gate is true while its
/// port is closed.
async fn check_open_ports(env: &TestEnvironment, bound: &BindingLog) {
    let mut before: BTreeMap<String, (Instant, BTreeSet<u16>)> = BTreeMap::new();
    loop {
        let gates = list_open_gates(env).await;
        let from = Instant::now();
        let all = env.read_all_open_rules().await;
        let now = Instant::now();
        for (name, rules) in all {
            let mut open = BTreeSet::new();
            for rule in rules.iter() {
                let port = [OLD, NEW]
                    .into_iter()
                    .find(|port| rule.to_string() == format!("tcp/{port} from 192.0.2.0/24"));
                open.insert(
                    port.unwrap_or_else(|| panic!("{rule} is open on {name}, and no object asks for it")),
                );
            }
            if let Some((then, was)) = before.get(&name) {
                for port in open.difference(was) {
                    assert!(
                        bound.was_ever_bound(&name, *port, *then, now),
                        "{port} opened on {name} without a pod"
                    );
                }
                for port in was.difference(&open) {
                    assert!(
                        !bound.was_always_bound(&name, *port, *then, now),
                        "{port} closed on {name} under its pod"
                    );
                }
            }
            for port in &open {
                let lag = bound.unbound_since(&name, *port).map(|end| from.duration_since(end));
                assert!(lag.is_none_or(|lag| lag < MAX_CLOSE_DELAY), "{port} stays open on {name}: {lag:?}");
            }
            for port in [OLD, NEW].into_iter().filter(|port| gates.contains(&pod_name(&name, *port))) {
                let there = bound.was_always_bound(&name, port, from, now);
                assert!(
                    !there || open.contains(&port),
                    "{port} is closed on {name}, and the gate of its pod is true"
                );
            }
            before.insert(name, (from, open));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Returns the names of the pods whose gates are true.
async fn list_open_gates(env: &TestEnvironment) -> BTreeSet<String> {
    let all = env.cluster.pods().list(&ListParams::default()).await.expect("pods");
    let is_open = |pod: &Pod| {
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.into_iter().any(|one| one.type_ == "hostport-firewall.dev/open" && one.status == "True")
    };
    all.items.into_iter().filter(is_open).filter_map(|pod| pod.metadata.name).collect()
}

/// Returns a pod of the DaemonSet, in the revision that binds this port.
fn revision_pod(machine: &Machine, port: u16, gated: bool, intent: Intent) -> Value {
    let annotations = json!({
        "hostport-firewall.dev/expose": port.to_string(), "hostport-firewall.dev/source-ranges": "192.0.2.0/24",
    });
    let annotations = if intent == Intent::Annotation { annotations } else { json!({}) };
    let mut pod = pod(&pod_name(&machine.name, port), &machine.name, annotations, host_port(port));
    set_web_label(&mut pod);
    set_owner(&mut pod, "DaemonSet", "web");
    if gated {
        add_readiness_gate(&mut pod);
    }
    pod
}

fn pod_name(node: &str, port: u16) -> String {
    format!("web-{node}-{port}")
}

/// A rolling update from the old port to the new one
struct RollingUpdate<'a> {
    env: &'a TestEnvironment,
    bound: &'a BindingLog,
    gated: bool,
    intent: Intent,
}

impl RollingUpdate<'_> {
    async fn start_pod(&self, machine: &Machine, port: u16) {
        self.bound.record_begin(&machine.name, port);
        self.env.cluster.create_pod(revision_pod(machine, port, self.gated, self.intent)).await;
    }

    /// Marks a pod ready as a kubelet does: once all its gates are true. Only then are the next pods
    /// replaced.
    async fn mark_ready(&self, machine: &Machine, port: u16) {
        let pod = pod_name(&machine.name, port);
        if self.gated {
            self.env.cluster.wait_for_gate(&pod, "True", "Open").await;
        } else {
            self.wait_until_open(machine, port).await;
        }
        self.env.cluster.mark_ready(&pod).await;
    }

    /// Waits until this port and no other is open.
    async fn wait_until_open(&self, machine: &Machine, port: u16) {
        self.env.wait_until_open(machine, &[&format!("tcp/{port} 192.0.2.0/24")]).await;
    }

    async fn run(&self) {
        let machines = &self.env.machines;
        for machine in machines {
            self.start_pod(machine, OLD).await;
        }
        for machine in machines {
            self.mark_ready(machine, OLD).await;
        }
        // All at once would be withheld as a mass close.
        for batch in machines.chunks(MAX_UNAVAILABLE) {
            for machine in batch {
                self.env.cluster.begin_to_delete_pod(&pod_name(&machine.name, OLD)).await;
            }
            // Terminating pods keep their ports: long enough for a faulty controller to close one.
            tokio::time::sleep(Duration::from_secs(3)).await;
            for machine in batch {
                self.bound.record_end(&machine.name, OLD);
                self.env.cluster.delete_pod(&pod_name(&machine.name, OLD)).await;
                self.start_pod(machine, NEW).await;
            }
            for machine in batch {
                self.mark_ready(machine, NEW).await;
                self.wait_until_open(machine, NEW).await;
            }
        }
    }
}

async fn run_rolling_update(mode: Mode, gated: bool, intent: Intent) {
    let env = TestEnvironment::start(mode, NODES).await;
    if let Some(gce) = &env.gce {
        // Slow operations show a gate that turns true before the cloud confirms.
        gce.cloud().configure(|settings| settings.operation_delay = Duration::from_secs(1));
    }
    if intent == Intent::Exposure {
        env.cluster.apply_file(&root().join("deploy/crd.yaml")).await;
        let ports = json!([{ "port": OLD }, { "port": NEW }]);
        env.cluster.apply(web_exposure(ports, &["192.0.2.0/24"])).await;
    }
    let _controller = env.start_controller(&[]);
    let bound = BindingLog::default();
    let update = RollingUpdate { env: &env, bound: &bound, gated, intent };
    tokio::select! {
        () = check_open_ports(&env, &bound) => {}
        () = update.run() => {}
    }
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn rolling_update_follows_its_pods_by_destination_ranges() {
    run_rolling_update(Mode::Destination, false, Intent::Exposure).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn rolling_update_follows_its_pods_by_attached_groups() {
    run_rolling_update(Mode::Attach, false, Intent::Annotation).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn gated_update_keeps_ready_pods_open_by_destination_ranges() {
    run_rolling_update(Mode::Destination, true, Intent::Annotation).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn gated_update_keeps_ready_pods_open_by_attached_groups() {
    run_rolling_update(Mode::Attach, true, Intent::Exposure).await;
}
