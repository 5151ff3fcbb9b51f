//! Events: what they do to the world, and what they excuse.

use std::time::Duration;

use firewall_core::Retry;
use serde_json::{Value, json};

use super::{RESYNC, World};
use crate::api::{Faults, Kind, Store, name_of};
use crate::checker::Scope;
use crate::clock;
use crate::cloud::Tampering;
use crate::cloud::faults::Kill;
use crate::history::{CloudKind, Event};
use crate::landscape::{Intent, MACHINES, WORKLOADS, node_name};
use crate::objects;

/// The end of something that lasts.
#[derive(Clone, Debug)]
pub(super) enum Ending {
    Listable(Kind),
    Discoverable,
    Answers,
    Lag,
    LeaseFast,
    WritesFast,
    Granted(usize),
    GroupsGranted,
    Unthrottled,
    Fast(usize),
    Readable,
}

/// The time that a controller takes to see the cluster again after its watches broke, in milliseconds: the
/// longest pause between two attempts, with jitter, and the list.
const WATCH_RETRY: u64 = 65_000;

/// The time after which it sees the cluster again where the API server did not answer: its read timeout and a
/// retry.
const SILENCE: u64 = 90_000 + WATCH_RETRY;

/// The longest pause between two attempts of the cloud's calls that may soon succeed, and of those that wait
/// for a person.
const SOON: u64 = 150_000;
const LATER: u64 = 25 * 60_000;

impl World {
    /// Lets an event happen.
    pub(super) fn apply(&mut self, event: &Event) {
        self.witness.note(&format!("{event:?}"));
        match *event {
            Event::PodRuns { .. }
            | Event::PodGone { .. }
            | Event::PodEnds { .. }
            | Event::IntentWritten { .. }
            | Event::IntentGone { .. }
            | Event::PortsAsked { .. }
            | Event::IntentUnreadable { .. }
            | Event::NodeRegisters { .. }
            | Event::NodeGone { .. }
            | Event::NodeWithoutMachine { .. } => {
                let has_gates = self.history.setup.has_gates;
                let provider_id = |machine| self.cloud.provider_id(machine);
                self.api.change(|state| change_objects(&mut state.store, event, has_gates, provider_id));
                self.witness.objects_changed();
            }
            Event::PortsDenied { workload, denied } => {
                self.deny_ports(workload, denied);
                self.witness.objects_changed();
            }
            Event::MachineReplaced { machine } => {
                if self.cloud.replace_machine(machine) {
                    self.report_new_address(machine, machine);
                }
            }
            Event::NodeReaddressed { node, machine } => {
                _ = self.cloud.replace_machine(machine);
                self.report_new_address(node, machine);
            }
            Event::Killed { replica, seconds } => self.stop_replica(replica, seconds * 1000),
            Event::Stopped { replica, seconds } => self.tell_replica_to_stop(replica, seconds * 1000),
            Event::KilledAtCall { calls, before } => {
                self.cloud.faults().kill = Some(Kill { calls, before, at_reads: false });
            }
            Event::WatchesBreak { .. }
            | Event::WatchesExpire { .. }
            | Event::KindUnlistable { .. }
            | Event::Undiscoverable { .. }
            | Event::ApiSilent { .. }
            | Event::ApiLags { .. }
            | Event::LeaseConflicts { .. }
            | Event::LeaseAnswersLost { .. }
            | Event::LeaseSlow { .. }
            | Event::WritesSlow { .. } => self.break_api(event),
            Event::StaleReads { reads } => {
                self.cloud.begin_stale_reads(reads);
                self.excuse(Scope::All, RESYNC);
            }
            Event::Tampered { machine, adds_rule } => {
                let is_gce = matches!(self.history.setup.cloud, CloudKind::Gce | CloudKind::GceTags);
                let removed = if is_gce { Tampering::RuleRemoved } else { Tampering::MemberRemoved };
                self.cloud.tamper(machine, if adds_rule { Tampering::RuleAdded } else { removed });
            }
            Event::ClockJumps { seconds } => clock::jump(seconds),
            Event::RuleLost { machine } => self.cloud.tamper(machine, Tampering::RuleRemoved),
            Event::MemberLost { machine } => self.cloud.tamper(machine, Tampering::MemberRemoved),
            _ => self.break_cloud(event),
        }
    }

    /// Lets the kubelet of a node report another address, of the same machine.
    fn report_new_address(&self, node: usize, machine: usize) {
        let provider_id = self.cloud.provider_id(machine);
        let node = objects::node(node, Some(provider_id), machine + MACHINES);
        self.api.change(|state| state.store.put(Kind::Nodes, node));
        self.witness.objects_changed();
    }

    fn deny_ports(&self, workload: usize, denied: bool) {
        let mut checker = self.witness.checker();
        let all = &mut checker.demand.denied;
        for port in WORKLOADS[workload].ports {
            if denied {
                all.insert(*port)
            } else {
                all.remove(port)
            };
        }
        let ports = all.iter().flat_map(|port| [format!("{port}"), format!("{port}/udp")]);
        let ports = ports.map(|port| port.parse().expect("a port")).collect();
        drop(checker);
        self.settings.send_modify(|settings| settings.guardrails.denied_ports = ports);
    }

    /// Lets something go wrong between controllers and the API server.
    fn break_api(&mut self, event: &Event) {
        let now = self.now();
        let ending = self.api.change(|state| {
            let version = state.store.version();
            let faults = &mut state.faults;
            match *event {
                Event::WatchesBreak { kind } => faults.break_watches(kind),
                Event::WatchesExpire { kind } => {
                    // Something happens that those who watch are not told of.
                    state
                        .store
                        .put(Kind::Events, json!({ "metadata": { "name": "e", "namespace": "shop" } }));
                    faults.compact(kind, version + 1);
                }
                Event::KindUnlistable { kind, code, seconds } => {
                    faults.break_watches(kind);
                    faults.unlistable.insert(kind, code);
                    return Some((seconds, Ending::Listable(kind)));
                }
                Event::Undiscoverable { seconds } => {
                    faults.is_undiscoverable = true;
                    return Some((seconds, Ending::Discoverable));
                }
                Event::ApiSilent { seconds } => {
                    faults.is_silent = true;
                    return Some((seconds, Ending::Answers));
                }
                Event::ApiLags { milliseconds, seconds } => {
                    faults.lag = Duration::from_millis(milliseconds);
                    return Some((seconds, Ending::Lag));
                }
                Event::LeaseConflicts { writes } => faults.lease_conflicts = writes,
                Event::LeaseAnswersLost { writes } => faults.lost_lease_answers = writes,
                Event::LeaseSlow { milliseconds, seconds } => {
                    faults.lease_delay = Duration::from_millis(milliseconds);
                    return Some((seconds, Ending::LeaseFast));
                }
                Event::WritesSlow { milliseconds, seconds } => {
                    faults.write_delay = Duration::from_millis(milliseconds);
                    return Some((seconds, Ending::WritesFast));
                }
                _ => unreachable!("it breaks no API"),
            }
            None
        });
        let lasts = ending.as_ref().map_or(0, |(seconds, _)| seconds * 1000);
        if matches!(event, Event::WritesSlow { .. }) {
            // No port waits for what is written here, and nothing is seen later.
            return self.end_later(ending);
        }
        let recovery = if matches!(event, Event::ApiSilent { .. }) { SILENCE } else { WATCH_RETRY };
        self.excuse(Scope::All, lasts + recovery);
        self.witness.checker().excuses.blind(now, now + lasts + recovery);
        self.end_later(ending);
    }

    /// Lets something go wrong in the cloud.
    fn break_cloud(&mut self, event: &Event) {
        let mut faults = self.cloud.faults();
        let (scope, recovery, ending) = match *event {
            Event::Refused { workload, kind, seconds } => {
                faults.refused.push((workload, kind));
                let recovery = if kind.retry() == Retry::Soon { SOON } else { LATER };
                (Scope::OpeningsOf(workload), recovery, Some((seconds, Ending::Granted(workload))))
            }
            Event::GroupsRefused { seconds } => {
                faults.refuses_groups = true;
                (Scope::Openings, LATER, Some((seconds, Ending::GroupsGranted)))
            }
            Event::Throttled { seconds } => {
                faults.is_throttled = true;
                (Scope::All, SOON, Some((seconds, Ending::Unthrottled)))
            }
            Event::CallsLost { calls } => {
                faults.lost_before = calls;
                (Scope::All, SOON, None)
            }
            Event::AnswersLost { calls } => {
                faults.lost_after = calls;
                (Scope::All, SOON, None)
            }
            Event::Slow { workload, each, seconds } => {
                faults.slow.push((workload, Duration::from_secs(each)));
                // One call has the rules of all workloads in a group of the user's.
                let is_shared = self.history.setup.cloud == CloudKind::Ec2Shared;
                let scope = if is_shared { Scope::All } else { Scope::Workload(workload) };
                (scope, each * 1000 + SOON, Some((seconds, Ending::Fast(workload))))
            }
            Event::CloudUnreadable { seconds } => {
                faults.is_unreadable = true;
                (Scope::All, SOON, Some((seconds, Ending::Readable)))
            }
            Event::MachineOmitted { machine, reads } => {
                faults.omitted.push((machine, reads));
                (Scope::Machine(self.cloud.provider_id(machine)), RESYNC, None)
            }
            _ => unreachable!("it breaks no cloud"),
        };
        drop(faults);
        let lasts = ending.as_ref().map_or(0, |(seconds, _)| seconds * 1000);
        self.excuse(scope, lasts + recovery);
        self.end_later(ending);
    }

    /// Excuses what is late from now on, for so long.
    fn excuse(&self, scope: Scope, lasts: u64) {
        let now = self.now();
        self.witness.checker().excuses.late(scope, now, now + lasts);
    }

    fn end_later(&mut self, ending: Option<(u64, Ending)>) {
        if let Some((seconds, ending)) = ending {
            let at = self.now() + seconds * 1000;
            let number = self.endings.keys().filter(|(own, _)| *own == at).count();
            self.endings.insert((at, number), ending);
        }
    }

    /// Ends what is due.
    pub(super) fn end_due(&mut self) {
        let now = self.now();
        while let Some(entry) = self.endings.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let ending = entry.remove();
            self.witness.note(&format!("ends: {ending:?}"));
            let api = |change: &dyn Fn(&mut Faults)| self.api.change(|state| change(&mut state.faults));
            match ending {
                Ending::Listable(kind) => api(&|faults| _ = faults.unlistable.remove(&kind)),
                Ending::Discoverable => api(&|faults| faults.is_undiscoverable = false),
                Ending::Answers => api(&|faults| faults.is_silent = false),
                Ending::Lag => api(&|faults| faults.lag = Duration::ZERO),
                Ending::LeaseFast => api(&|faults| faults.lease_delay = Duration::ZERO),
                Ending::WritesFast => api(&|faults| faults.write_delay = Duration::ZERO),
                Ending::Granted(workload) => self.cloud.faults().refused.retain(|(own, _)| *own != workload),
                Ending::GroupsGranted => self.cloud.faults().refuses_groups = false,
                Ending::Unthrottled => self.cloud.faults().is_throttled = false,
                Ending::Fast(workload) => self.cloud.faults().slow.retain(|(own, _)| *own != workload),
                Ending::Readable => self.cloud.faults().is_unreadable = false,
            }
        }
    }
}

/// Changes objects as their owners do.
fn change_objects(store: &mut Store, event: &Event, has_gates: bool, provider_id: impl Fn(usize) -> String) {
    match *event {
        Event::PodRuns { workload, node, sources } => {
            let (namespace, name) = (WORKLOADS[workload].namespace, objects::pod_name(workload, node));
            let before = store.get(Kind::Pods, namespace, &name);
            // One that has ended makes room for another of its name.
            if before.is_some_and(|pod| pod["status"]["phase"] == "Succeeded") {
                store.delete(Kind::Pods, namespace, &name);
            }
            write_spec(store, Kind::Pods, objects::pod(workload, node, sources, has_gates));
        }
        Event::PodGone { workload, node } => {
            store.delete(Kind::Pods, WORKLOADS[workload].namespace, &objects::pod_name(workload, node));
        }
        Event::PodEnds { workload, node } => {
            let namespace = WORKLOADS[workload].namespace;
            if let Some(mut pod) =
                store.get(Kind::Pods, namespace, &objects::pod_name(workload, node)).cloned()
            {
                pod["status"]["phase"] = json!("Succeeded");
                store.put(Kind::Pods, pod);
            }
        }
        Event::IntentWritten { workload, sources } => {
            if let Some(intent) = objects::intent(workload, sources) {
                write_spec(store, kind_of_intent(workload), intent);
            }
        }
        Event::PortsAsked { workload, sources, ports } => {
            let asked = &WORKLOADS[workload].ports[..ports];
            if let Some(intent) = objects::intent_with(workload, sources, asked) {
                write_spec(store, kind_of_intent(workload), intent);
            }
        }
        Event::IntentGone { workload } => {
            let of = WORKLOADS[workload];
            store.delete(kind_of_intent(workload), of.namespace, of.name);
        }
        Event::IntentUnreadable { workload } => {
            let of = WORKLOADS[workload];
            if let Some(mut intent) = store.get(kind_of_intent(workload), of.namespace, of.name).cloned() {
                intent["spec"] = json!("of another version");
                store.put(kind_of_intent(workload), intent);
            }
        }
        Event::NodeRegisters { node, machine } => {
            store.put(Kind::Nodes, objects::node(node, Some(provider_id(machine)), machine));
        }
        Event::NodeWithoutMachine { node } => {
            store.put(Kind::Nodes, objects::node(node, None, node));
        }
        Event::NodeGone { node } => {
            store.delete(Kind::Nodes, "", &node_name(node));
        }
        _ => unreachable!("it changes no object"),
    }
}

/// Creates an object, or replaces all of one but its status, as the API server does.
fn write_spec(store: &mut Store, kind: Kind, mut object: Value) {
    let (namespace, name) = name_of(&object);
    if let Some(before) = store.get(kind, &namespace, &name) {
        if !before["status"].is_null() {
            object["status"] = before["status"].clone();
        }
        let generation = before["metadata"]["generation"].as_u64().unwrap_or(1);
        object["metadata"]["generation"] = json!(generation + u64::from(before["spec"] != object["spec"]));
    }
    store.put(kind, object);
}

/// Returns the kind of the object by which a workload asks.
fn kind_of_intent(workload: usize) -> Kind {
    match WORKLOADS[workload].intent {
        Intent::Ingress => Kind::VoyagerIngresses,
        Intent::Annotation | Intent::Exposure => Kind::Exposures,
    }
}
