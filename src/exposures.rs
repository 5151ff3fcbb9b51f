//! Exposures: which host ports of which pods may be reached, from where, and because of which intent.
//!
//! Pure: the index goes in, exposures and notices come out. Everything in the index is untrusted. What cannot be
//! understood opens nothing, for that pod or intent alone, and is said on the object it concerns.

mod annotation;
mod guardrail;
mod host_port;
mod list;
mod rules;
mod selected;
mod source_ranges;
mod voyager;
mod workload;

use std::collections::{BTreeMap, BTreeSet};

use firewall_model::{PortRange, Protocol, RuleSet, Workload};
use ipnet::IpNet;

use crate::index::Index;
use crate::notice::Notice;
use crate::objects::{Node, ObjectRef, Pod};

use host_port::HostPort;
use rules::Sources;

/// Defaults and guardrails, which only the administrator sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The sources of an intent that names none
    pub default_source_ranges: Vec<IpNet>,
    /// Ports that may be exposed although they are denied by default
    pub allow_ports: Vec<PortRange>,
}

impl Default for Settings {
    fn default() -> Self {
        let anywhere = ["0.0.0.0/0", "::/0"].map(|cidr| cidr.parse().expect("a constant CIDR"));
        Self { default_source_ranges: anywhere.to_vec(), allow_ports: Vec::new() }
    }
}

/// One pod's host ports × source ranges on one node, with the intent that asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// The pod
    pub pod: ObjectRef,
    /// The node it runs on
    pub node: ObjectRef,
    /// The machine behind the node, by the cloud's id
    pub provider_id: String,
    /// What asked for it: the pod itself, or an Ingress
    pub intent: ObjectRef,
    /// Whose pod it is
    pub workload: Workload,
    /// The exposed host ports
    pub ports: BTreeSet<(Protocol, u16)>,
    /// What is let in
    pub rules: RuleSet,
    /// What sets this pod's group apart from others of the workload with the same ports
    pub variant: String,
}

impl Exposure {
    /// The exposed host ports as the fewest ranges.
    #[must_use]
    pub fn port_ranges(&self) -> BTreeSet<(Protocol, PortRange)> {
        rules::port_ranges(&self.ports)
    }
}

/// What the index asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// In order of namespace and name
    pub exposures: Vec<Exposure>,
    /// What is wrong, and with what
    pub problems: BTreeSet<Notice>,
}

/// The ports as a message or a table names them.
#[must_use]
pub fn listed(ports: &BTreeSet<(Protocol, PortRange)>) -> String {
    rules::listed(ports)
}

/// Something is wrong; `object` is told.
type Refusal = Box<Notice>;

fn refusal(object: &ObjectRef, reason: &str, message: String) -> Refusal {
    Box::new(Notice { object: object.clone(), reason: reason.to_owned(), message })
}

/// What an intent asks of one pod: these host ports, each from these sources.
struct Ask<'a> {
    intent: ObjectRef,
    workload: Workload,
    ports: Vec<(&'a HostPort, Sources)>,
    varies: Varies,
}

/// What sets apart the rules of pods of one workload that bind the same ports; see [`crate::grouping`].
enum Varies {
    /// The pods name their sources themselves, and change one by one
    PodByPod,
    /// The intent names the sources, for all its pods at once; only nodes differ
    NodeByNode,
}

/// Finds everything that is asked for.
#[must_use]
pub fn exposures(index: &Index, settings: &Settings) -> Found {
    let mut found = Found::default();
    for pod in index.pods() {
        if let Err(refusal) = found.pod(index, settings, pod) {
            found.problems.insert(*refusal);
        }
    }
    found
}

/// All pods that bind host ports now, whether or not anything exposes them.
#[must_use]
pub fn binding(index: &Index) -> BTreeSet<ObjectRef> {
    index.pods().filter(|pod| binding_on(pod).is_some()).map(pod_reference).collect()
}

impl Found {
    /// Adds what is asked of one pod: by itself or its Ingress, and by any number of objects that select it. What is
    /// wrong with one of them does not concern the others.
    fn pod(&mut self, index: &Index, settings: &Settings, pod: &Pod) -> Result<(), Refusal> {
        let Some(node_name) = binding_on(pod) else { return Ok(()) };
        let concerned = annotation::concerns(pod) || voyager::is_haproxy(pod);
        let selecting = selected::selecting(index, pod, index.node(node_name));
        if !concerned && selecting.is_empty() {
            return Ok(());
        }
        let reference = pod_reference(pod);
        let host_ports =
            host_port::host_ports(pod).map_err(|error| refusal(&reference, "InvalidPort", error))?;
        let mut asks = Vec::new();
        if concerned {
            match ask(index, pod, &reference, &host_ports, &mut self.problems) {
                Ok(ask) => asks.extend(ask),
                Err(refusal) => _ = self.problems.insert(*refusal),
            }
        }
        for selecting in selecting {
            match selecting.and_then(|exposure| selected::ask(exposure, &reference, &host_ports)) {
                Ok(ask) => asks.push(ask),
                Err(refusal) => _ = self.problems.insert(*refusal),
            }
        }
        for ask in asks {
            match exposure(index, settings, &reference, node_name, ask, &mut self.problems) {
                Ok(exposure) => self.exposures.extend(exposure),
                Err(refusal) => _ = self.problems.insert(*refusal),
            }
        }
        Ok(())
    }
}

/// What one ask lets in, if a guardrail, the clouds' limits or the node do not stand against it.
fn exposure(
    index: &Index,
    settings: &Settings,
    pod: &ObjectRef,
    node_name: &str,
    ask: Ask<'_>,
    problems: &mut BTreeSet<Notice>,
) -> Result<Option<Exposure>, Refusal> {
    let ports = ask.ports.iter().map(|(port, _)| (port.protocol, port.port)).collect();
    guardrail::ports(&ports, &settings.allow_ports)
        .map_err(|error| refusal(&ask.intent, "PortDenied", error))?;
    let node = index.node(node_name).ok_or_else(|| {
        let message = format!("node {node_name} is not known (yet); nothing is opened on it");
        refusal(pod, "UnknownNode", message)
    })?;
    let families = source_ranges::families(node);
    let defaults = source_ranges::of_families(&settings.default_source_ranges, &families);
    let rules =
        rules::rules(&ask.ports, &defaults).map_err(|error| refusal(&ask.intent, "TooManyRules", error))?;
    problems.extend(unreachable(pod, &ports, &rules));
    if rules.is_empty() {
        return Ok(None);
    }
    let variant = match ask.varies {
        Varies::PodByPod => rules.to_string(),
        Varies::NodeByNode => rules::families_apart(&families, &ask.ports),
    };
    let (node, provider_id) = machine(node)?;
    let Ask { intent, workload, .. } = ask;
    Ok(Some(Exposure { pod: pod.clone(), node, provider_id, intent, workload, ports, rules, variant }))
}

/// The node on which the pod binds its ports. One that is being deleted binds them until it is gone.
fn binding_on(pod: &Pod) -> Option<&str> {
    let finished = matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed"));
    pod.spec.node_name.as_deref().filter(|name| !name.is_empty() && !finished)
}

/// What the pod's own annotations ask for, or else the Ingress behind it.
fn ask<'a>(
    index: &Index,
    pod: &Pod,
    reference: &ObjectRef,
    host_ports: &'a BTreeSet<HostPort>,
    problems: &mut BTreeSet<Notice>,
) -> Result<Option<Ask<'a>>, Refusal> {
    let known = [annotation::EXPOSE, annotation::SOURCE_RANGES];
    annotation::all_known(&pod.metadata, &known, reference)?;
    if voyager::is_haproxy(pod) && !annotation::exposes(pod) {
        voyager::ask(index, pod, reference, host_ports, problems)
    } else {
        annotation::ask(pod, reference, host_ports)
    }
}

fn unreachable(pod: &ObjectRef, ports: &BTreeSet<(Protocol, u16)>, rules: &RuleSet) -> Option<Notice> {
    let ports = rules::unreachable(ports, rules);
    let message = format!(
        "{} is not opened: its source ranges are all of another address family than the node, or than the hostIP of \
         the port",
        rules::listed(&ports)
    );
    (!ports.is_empty()).then(|| *refusal(pod, "NoSources", message))
}

/// The node, and the cloud's id of the machine behind it.
fn machine(node: &Node) -> Result<(ObjectRef, String), Refusal> {
    let reference = node_reference(node);
    match node.spec.provider_id.as_deref() {
        Some(id) if !id.is_empty() => Ok((reference, id.to_owned())),
        _ => {
            let message = "has no spec.providerID, so its machine is not known; run the cloud controller manager, or \
                           set --provider-id on the kubelet";
            Err(refusal(&reference, "NoProviderId", message.to_owned()))
        }
    }
}

/// The pod, as messages and Events name it.
pub(crate) fn pod_reference(pod: &Pod) -> ObjectRef {
    let metadata = &pod.metadata;
    ObjectRef {
        api_version: "v1".into(),
        kind: "Pod".into(),
        namespace: metadata.namespace.clone().unwrap_or_else(|| "default".to_owned()),
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
    }
}

fn node_reference(node: &Node) -> ObjectRef {
    let name = node.metadata.name.clone().unwrap_or_default();
    // The kubelet gives its Events the node's name as UID, and `kubectl describe node` looks for that.
    ObjectRef {
        api_version: "v1".into(),
        kind: "Node".into(),
        namespace: String::new(),
        uid: name.clone(),
        name,
    }
}

fn annotations(metadata: &kube::api::ObjectMeta) -> &BTreeMap<String, String> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    metadata.annotations.as_ref().unwrap_or(&NONE)
}

#[cfg(test)]
mod tests;
