//! What the objects ask for, machine by machine: an evaluation of its own, from the JSON as it is stored.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use serde_json::Value;

use crate::api::{Kind, Store};
use crate::landscape::{Probes, admitted};

/// What is asked for on each machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Must be open
    pub(crate) wanted: BTreeMap<String, Probes>,
    /// May not be closed: what is asked for, and what is unknown
    pub(crate) kept: BTreeMap<String, Probes>,
    /// May be open or not: what pods have asked for that run nobody knows where, and what an intent that cannot
    /// be read may ask for
    pub(crate) tolerated: BTreeMap<String, Probes>,
}

/// The demand, with what was known last of what is not known now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Demand {
    /// The machine that each node named last, and whether it has an IPv6 address
    machines: BTreeMap<String, (String, bool)>,
    /// The spec and the annotations of each intent when it could be read last
    readable: BTreeMap<(Kind, String, String), Value>,
    /// The intents that could not be read when a process started: it does not know what they asked for before
    forgotten: BTreeSet<(Kind, String, String)>,
    /// Every machine that a node has ever named
    seen: BTreeSet<String>,
    /// Ports that the administrator denies
    pub(crate) denied: BTreeSet<u16>,
    /// True if rules apply to whatever machines have a group of the user's: one that is not known can have any
    pub(crate) groups_are_shared: bool,
}

/// The machines that each node named a moment ago, each with whether it has an IPv6 address, and when it was named last.
pub(crate) type FormerMachines = BTreeMap<String, BTreeMap<(String, bool), u64>>;

/// One request of a pod: ports, and sources if it names any.
struct Request {
    ports: Vec<(String, u16)>,
    sources: Vec<IpNet>,
    is_readable: bool,
}

impl Demand {
    /// A process has started, and knows nothing of intents that cannot be read.
    pub(crate) fn process_started(&mut self, store: &Store) {
        for kind in [Kind::Exposures, Kind::VoyagerIngresses] {
            let unreadable = store.all(kind).filter(|object| !object["spec"].is_object());
            self.forgotten.extend(unreadable.map(|object| key_of(kind, object)));
        }
    }

    /// Evaluates what is asked for now, as if these pods, which are gone, were still there, and these nodes were
    /// still their former machines too.
    pub(crate) fn evaluate<'a>(
        &mut self,
        store: &'a Store,
        gone: impl IntoIterator<Item = &'a Value>,
        former: &FormerMachines,
    ) -> Asked {
        for (node, machine) in store.all(Kind::Nodes).filter_map(machine_of) {
            self.seen.insert(machine.0.clone());
            self.machines.insert(node, machine);
        }
        let mut claimed: BTreeSet<&str> =
            store.all(Kind::Nodes).filter_map(|node| node["spec"]["providerID"].as_str()).collect();
        if self.groups_are_shared {
            claimed.clear();
        }
        let machines = self.seen.clone();
        let mut asked = Asked::default();
        for pod in store.all(Kind::Pods).chain(gone) {
            let node = text(&pod["spec"]["nodeName"]);
            if ["Succeeded", "Failed"].contains(&text(&pod["status"]["phase"])) {
                continue;
            }
            let last = self.machines.get(node).cloned();
            let is_known = former.contains_key(node)
                || store
                    .get(Kind::Nodes, "", node)
                    .is_some_and(|node| node["spec"]["providerID"].is_string());
            if let Some((machine, _)) = last.as_ref().filter(|_| self.may_ask_for_all(store, pod)) {
                for port in host_ports(pod) {
                    let request = Request { ports: vec![port], sources: Vec::new(), is_readable: false };
                    self.tolerate(&mut asked, &request, [machine].into_iter());
                }
            }
            for request in self.requests(store, pod) {
                let Some((machine, has_ipv6)) = &last else {
                    self.tolerate(
                        &mut asked,
                        &request,
                        machines.iter().filter(|one| !claimed.contains(one.as_str())),
                    );
                    continue;
                };
                let probes = self.probes(&request, *has_ipv6);
                *asked.kept.entry(machine.clone()).or_default() |= probes;
                if is_known && request.is_readable {
                    *asked.wanted.entry(machine.clone()).or_default() |= probes;
                }
                let former = former.get(node).filter(|_| request.is_readable).into_iter();
                let other = former.flat_map(BTreeMap::keys).filter(|former| Some(*former) != last.as_ref());
                for (machine, has_ipv6) in other {
                    let probes = self.probes(&request, *has_ipv6);
                    *asked.wanted.entry(machine.clone()).or_default() |= probes;
                }
                if !is_known {
                    // It may run on any machine that no node is known to be.
                    let others = machines.iter().filter(|one| !claimed.contains(one.as_str()));
                    self.tolerate(&mut asked, &request, others.chain([machine]));
                }
            }
        }
        asked
    }

    /// Returns true if an intent that cannot be read may ask for any port of the pod: one that selected it when it
    /// could be read last, or one of which that is not known.
    fn may_ask_for_all(&self, store: &Store, pod: &Value) -> bool {
        let (namespace, labels) = (text(&pod["metadata"]["namespace"]), &pod["metadata"]["labels"]);
        let is_unreadable = |object: &&Value| {
            text(&object["metadata"]["namespace"]) == namespace && !object["spec"].is_object()
        };
        let mut ingresses = store.all(Kind::VoyagerIngresses).filter(is_unreadable);
        let mut exposures = store.all(Kind::Exposures).filter(is_unreadable);
        ingresses.any(|ingress| labels["origin-name"] == ingress["metadata"]["name"])
            || exposures.any(|exposure| {
                let key = key_of(Kind::Exposures, exposure);
                let last = self.readable.get(&key).map(|spec| &spec["podSelector"]["matchLabels"]);
                let selects = |labels_of: &Value| {
                    let selector = labels_of.as_object().cloned().unwrap_or_default();
                    selector.iter().all(|(key, value)| labels[key] == *value)
                };
                self.forgotten.contains(&key) || last.is_none_or(selects)
            })
    }

    /// Tolerates that the ports of a request are open on machines, to whichever sources.
    fn tolerate<'a>(&self, asked: &mut Asked, request: &Request, machines: impl Iterator<Item = &'a String>) {
        let anyone = Request { sources: Vec::new(), ports: request.ports.clone(), is_readable: true };
        let probes = self.probes(&anyone, true);
        for machine in machines {
            *asked.tolerated.entry(machine.clone()).or_default() |= probes;
        }
    }

    /// Returns what a request asks for on a machine with or without an IPv6 address; nothing if a guardrail
    /// stands against it.
    fn probes(&self, request: &Request, has_ipv6: bool) -> Probes {
        if request.ports.iter().any(|(_, port)| self.denied.contains(port)) {
            return 0;
        }
        let anywhere: [IpNet; 2] = ["0.0.0.0/0", "::/0"].map(|source| source.parse().expect("a range"));
        let named = if request.sources.is_empty() { &anywhere[..] } else { &request.sources };
        // No packet of IPv6 arrives at a machine without such an address.
        let sources = named.iter().filter(|source| source.addr().is_ipv4() || has_ipv6);
        let pairs = sources.flat_map(|source| request.ports.iter().map(move |port| (port, source)));
        pairs.fold(0, |set, ((protocol, port), source)| set | admitted(protocol, *port, *port, source))
    }

    /// Returns everything that asks for ports of the pod.
    fn requests(&mut self, store: &Store, pod: &Value) -> Vec<Request> {
        let bound = host_ports(pod);
        let namespace = text(&pod["metadata"]["namespace"]);
        let labels = &pod["metadata"]["labels"];
        let mut requests = Vec::new();
        if let Some(expose) = pod["metadata"]["annotations"]["hostport-firewall.dev/expose"].as_str() {
            let named: Vec<(String, u16)> = expose.split(',').filter_map(port_entry).collect();
            let ports = bound.iter().filter(|port| named.contains(port)).cloned().collect();
            let sources = &pod["metadata"]["annotations"]["hostport-firewall.dev/source-ranges"];
            requests.push(Request { ports, sources: ranges(text(sources).split(',')), is_readable: true });
        }
        if labels["origin"] == "voyager" {
            let name = text(&labels["origin-name"]);
            if let Some((ingress, is_readable)) = self.intent(store, Kind::VoyagerIngresses, namespace, name)
            {
                let rules = ingress["rules"].as_array().cloned().unwrap_or_default();
                let numbers: Vec<u64> =
                    rules.iter().filter_map(|rule| rule["tcp"]["port"].as_u64()).collect();
                let ports = bound
                    .iter()
                    .filter(|(_, port)| numbers.contains(&u64::from(*port)) || *port == 80 || *port == 443);
                let sources = strings(&ingress["loadBalancerSourceRanges"]);
                requests.push(Request { ports: ports.cloned().collect(), sources, is_readable });
            }
        }
        let names: Vec<String> = self
            .readable
            .keys()
            .filter(|(kind, within, _)| *kind == Kind::Exposures && within == namespace)
            .map(|(_, _, name)| name.clone())
            .chain(store.all(Kind::Exposures).map(|one| text(&one["metadata"]["name"]).to_owned()))
            .collect();
        for name in names.into_iter().collect::<BTreeSet<_>>() {
            let Some((spec, is_readable)) = self.intent(store, Kind::Exposures, namespace, &name) else {
                continue;
            };
            let selector = spec["podSelector"]["matchLabels"].as_object().cloned().unwrap_or_default();
            if selector.is_empty() || !selector.iter().all(|(key, value)| labels[key] == *value) {
                continue;
            }
            let entries = spec["ports"].as_array().cloned().unwrap_or_default();
            let is_named = |(protocol, port): &&(String, u16)| {
                entries.iter().any(|entry| entry["port"] == *port && entry["protocol"] == **protocol)
            };
            let ports = bound.iter().filter(is_named).cloned().collect();
            requests.push(Request { ports, sources: strings(&spec["sourceRanges"]), is_readable });
        }
        requests.retain(|request| !request.ports.is_empty());
        requests
    }

    /// Returns the spec of an intent as it could be read last, and whether it can be read now; none if it is
    /// not there.
    fn intent(&mut self, store: &Store, kind: Kind, namespace: &str, name: &str) -> Option<(Value, bool)> {
        let key = (kind, namespace.to_owned(), name.to_owned());
        let Some(object) = store.get(kind, namespace, name) else {
            self.readable.remove(&key);
            self.forgotten.remove(&key);
            return None;
        };
        if object["spec"].is_object() {
            self.forgotten.remove(&key);
            self.readable.insert(key, object["spec"].clone());
            return Some((object["spec"].clone(), true));
        }
        self.readable.get(&key).map(|spec| (spec.clone(), false))
    }
}

/// Returns a node's name and its machine, with whether that has an IPv6 address; none if the node names no machine.
pub(crate) fn machine_of(node: &Value) -> Option<(String, (String, bool))> {
    let machine = node["spec"]["providerID"].as_str()?.to_owned();
    let mut addresses = node["status"]["addresses"].as_array().map(Vec::as_slice).unwrap_or_default().iter();
    let has_ipv6 =
        addresses.any(|address| address["address"].as_str().is_some_and(|text| text.contains(':')));
    Some((text(&node["metadata"]["name"]).to_owned(), (machine, has_ipv6)))
}

fn key_of(kind: Kind, object: &Value) -> (Kind, String, String) {
    let metadata = &object["metadata"];
    (kind, text(&metadata["namespace"]).to_owned(), text(&metadata["name"]).to_owned())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Returns protocol and number of all host ports.
fn host_ports(pod: &Value) -> Vec<(String, u16)> {
    let containers = pod["spec"]["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ports = containers.iter().filter_map(|container| container["ports"].as_array()).flatten();
    let bound = ports.filter_map(|port| {
        let number = u16::try_from(port["hostPort"].as_u64()?).ok()?;
        Some((port["protocol"].as_str().unwrap_or("TCP").to_owned(), number))
    });
    bound.collect()
}

/// Parses `9000/udp`.
fn port_entry(entry: &str) -> Option<(String, u16)> {
    let (port, protocol) = entry.trim().split_once('/')?;
    Some((protocol.to_uppercase(), port.parse().ok()?))
}

fn strings(list: &Value) -> Vec<IpNet> {
    ranges(list.as_array().into_iter().flatten().map(text))
}

fn ranges<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<IpNet> {
    texts.filter_map(|text| text.trim().parse().ok()).collect()
}
