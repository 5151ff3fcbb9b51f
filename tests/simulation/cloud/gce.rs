//! Compute Engine: the real provider and Google's own client, whose calls the simulator of Compute Engine
//! answers in process. The simulator holds them to Google's description of the API.

mod stub;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use axum::Router;
use firewall_core::Fence;
use firewall_gce::{GceConfig, Mode};
use gce_simulator::{Cloud, Instance, Simulator};
use google_cloud_compute_v1::client::{Firewalls, Instances, Networks};
use hostport_firewall::reconcile::cloud::CloudReconciler;
use hostport_firewall::reconcile::pass::Options;
use hostport_firewall::reconcile::reconciler::Reconciler;
use serde_json::{Value, json};

use super::faults::Faults;
use super::{CLUSTER, ModelCloud, SharedObserver, Size, Tampering, View};
use crate::checker::Cause;
use crate::clock;
use crate::landscape::{MACHINES, Probes, admitted, arriving, has_ipv6};
use crate::mutants::Mutant;
use crate::process::Process;
use stub::Stub;

const PROJECT: &str = "nodes-1234";

/// A project without machines of the cluster.
const OTHER_PROJECT: &str = "other-1234";
const ZONE: &str = "europe-west1-b";

/// The time that an operation takes.
const OPERATION: Duration = Duration::from_millis(100);

/// The project. Clones share one state.
#[derive(Clone)]
pub(crate) struct Gce {
    cloud: Cloud,
    service: Router,
    mode: Mode,
    size: Size,
    faults: Arc<Mutex<Faults>>,
    observer: Arc<OnceLock<SharedObserver>>,
}

impl Gce {
    /// Returns a project with all machines in one network, and a rule of somebody else's.
    pub(crate) fn new(seed: u64, mode: Mode, size: Size) -> Self {
        let cloud = Cloud::default();
        cloud.configure(|settings| settings.operation_delay = OPERATION);
        cloud.add_network(PROJECT, "main");
        cloud.add_network(OTHER_PROJECT, "main");
        for number in 0..size.machines {
            cloud.add_instance(machine(number, number));
        }
        let foreign = json!({
            "name": "ssh", "network": format!("projects/{PROJECT}/global/networks/main"), "direction": "INGRESS",
            "allowed": [{ "IPProtocol": "tcp", "ports": ["22"] }], "sourceRanges": ["10.0.0.0/8"],
        });
        cloud.put_firewall(PROJECT, &foreign).expect("a valid rule");
        let service = Simulator::router(cloud.clone());
        Self {
            cloud,
            service,
            mode,
            size,
            faults: Arc::new(Mutex::new(Faults::new(seed))),
            observer: Arc::default(),
        }
    }

    fn announce(&self, cause: Cause) {
        if let Some(observer) = self.observer.get() {
            observer.changed(&|| self.view(), cause);
        }
    }

    /// Returns what the network lets in, as the simulator evaluates it for each machine.
    fn view(&self) -> View {
        let rules = self.cloud.firewalls(PROJECT);
        let mut view = View::default();
        for machine in 0..self.size.machines {
            let all = self.cloud.admits(PROJECT, ZONE, &name(machine));
            let ours = all.iter().filter(|one| rules.get(&one.firewall).is_some_and(is_ours));
            let probes = ours.fold(0, |set: Probes, one| {
                let ports = one.ports.as_deref().unwrap_or("0-65535");
                let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
                let port = |text: &str| text.parse().expect("a port");
                set | admitted(&one.protocol, port(first), port(last), &one.source)
            });
            view.admits.insert(self.provider_id(machine), probes & arriving(machine));
            let tags = self.cloud.tags(PROJECT, ZONE, &name(machine));
            let theirs: Vec<&String> = tags.iter().filter(|tag| !is_our_tag(tag)).collect();
            view.foreign.push(format!("{theirs:?}"));
        }
        let theirs = rules.iter().filter(|(_, rule)| !is_ours(rule));
        view.foreign.extend(theirs.map(|(name, rule)| format!("{name}: {rule}")));
        view
    }
}

/// Returns true if a rule has this cluster's mark.
fn is_ours(rule: &Value) -> bool {
    let mark = format!("\"cluster\":\"{CLUSTER}\"");
    rule["description"].as_str().is_some_and(|text| text.contains(&mark))
}

fn is_our_tag(tag: &str) -> bool {
    tag.starts_with("hpf-")
}

fn name(machine: usize) -> String {
    format!("node-{machine}")
}

/// Returns a machine with the addresses of this number.
fn machine(number: usize, address: usize) -> Instance {
    let network = format!("projects/{PROJECT}/global/networks/main");
    let last = u8::try_from(10 + address).expect("few machines");
    let mut machine = Instance::new(PROJECT, ZONE, &name(number), &network, Ipv4Addr::new(10, 0, 0, last));
    let ipv6 = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last));
    machine.tags.insert("node".to_owned());
    machine.interfaces[0].ipv6 = has_ipv6(number).then_some(ipv6);
    machine
}

impl ModelCloud for Gce {
    fn observe_with(&self, observer: SharedObserver) {
        _ = self.observer.set(observer);
    }

    fn reconciler(
        &self,
        process: &Process,
        cluster: &str,
        options: Options,
        fence: &Fence,
        _: Option<Mutant>,
    ) -> Box<dyn CloudReconciler> {
        let stub = Arc::new(Stub { gce: self.clone(), process: process.clone() });
        let clients = (
            Firewalls::from_stub::<Stub>(Arc::clone(&stub)),
            Instances::from_stub::<Stub>(Arc::clone(&stub)),
            Networks::from_stub::<Stub>(stub),
        );
        let ranges_per_rule = self.size.ranges_per_rule;
        // Another controller of the cluster is for the machines of another project.
        let project = if cluster == CLUSTER { PROJECT } else { OTHER_PROJECT };
        let config = GceConfig { mode: self.mode, ranges_per_rule, ..GceConfig::new(cluster, project) };
        let provider = firewall_gce::Gce::from_clients(config, clients.0, clients.1, clients.2);
        let provider = provider.expect("a valid configuration").with_clock(clock::now);
        Box::new(Reconciler::new(provider.with_fence(fence.clone()), options))
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new rule is listed at once on Compute Engine; its operation takes longer.
    fn begin_stale_reads(&self, reads: u32) {
        self.cloud.configure(|settings| settings.operation_delay = OPERATION * 10 * reads);
    }

    fn tamper(&self, machine: usize, how: Tampering) {
        let all = self.cloud.firewalls(PROJECT);
        let ours: Vec<&Value> = all.values().filter(|rule| is_ours(rule)).collect();
        let Some(rule) = ours.get(machine % ours.len().max(1)) else { return };
        let mut changed = (*rule).clone();
        match (how, self.mode) {
            (Tampering::RuleAdded, _) => {
                changed["allowed"] = json!([{ "IPProtocol": "tcp", "ports": ["22"] }]);
                self.cloud.put_firewall(PROJECT, &changed).expect("a valid rule");
            }
            (Tampering::RuleRemoved, _) => {
                self.cloud.remove_firewall(PROJECT, rule["name"].as_str().unwrap_or_default());
            }
            (Tampering::MemberRemoved, Mode::Destination) => {
                let ranges = changed["destinationRanges"].as_array_mut().expect("a rule for addresses");
                ranges.pop();
                self.cloud.put_firewall(PROJECT, &changed).expect("a valid rule");
            }
            (Tampering::MemberRemoved, Mode::Tags) => {
                let mut tags = self.cloud.tags(PROJECT, ZONE, &name(machine));
                tags.retain(|tag| !is_our_tag(tag));
                self.cloud.set_tags(PROJECT, ZONE, &name(machine), tags);
            }
        }
        self.announce(Cause::Other);
    }

    fn replace_machine(&self, number: usize) -> bool {
        self.cloud.remove_instance(PROJECT, ZONE, &name(number));
        self.cloud.add_instance(machine(number, number + MACHINES));
        self.announce(Cause::Machine);
        true
    }

    fn resources(&self) -> Vec<String> {
        const FIELDS: [&str; 5] =
            ["allowed", "sourceRanges", "destinationRanges", "targetTags", "description"];
        let rules = self.cloud.firewalls(PROJECT);
        let ours = rules.iter().filter(|(_, rule)| is_ours(rule));
        let text = |rule: &Value| FIELDS.map(|field| rule[field].to_string()).join(" ");
        let mut all: Vec<String> = ours.map(|(name, rule)| format!("{name}: {}", text(rule))).collect();
        for machine in 0..self.size.machines {
            let tags = self.cloud.tags(PROJECT, ZONE, &name(machine));
            let ours = tags.iter().filter(|tag| is_our_tag(tag));
            all.extend(ours.map(|tag| format!("{}: {tag}", name(machine))));
        }
        all
    }

    fn provider_id(&self, machine: usize) -> String {
        format!("gce://{PROJECT}/{ZONE}/{}", name(machine))
    }
}
