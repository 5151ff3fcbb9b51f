//! Exposures: which host ports of which pods may be reached, from where, and because of which intent.
//!
//! Pure: the index goes in, exposures and notices come out. Everything in the index is untrusted. What cannot be
//! understood opens nothing, for that pod or intent alone, and is said on the object it concerns.

mod annotation;
mod guardrail;
mod host_port;
mod source_ranges;
mod voyager;
mod workload;

use std::collections::{BTreeMap, BTreeSet};

use firewall_model::{IngressRule, PortRange, Protocol, RuleSet, Workload};
use ipnet::IpNet;

use crate::index::Index;
use crate::notice::Notice;
use crate::objects::{Node, ObjectRef, Pod};

use host_port::HostPort;

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

/// What the index asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// In order of namespace and name
    pub exposures: Vec<Exposure>,
    /// What is wrong, and with what
    pub problems: Vec<Notice>,
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
    ports: Vec<(&'a HostPort, Vec<IpNet>)>,
    /// Part of the group's identity beside the ports; see [`crate::grouping`].
    variant: Variant,
}

/// What sets apart the groups of pods whose rules differ.
enum Variant {
    /// The rules themselves: they come from the pod, and change pod by pod.
    Rules,
    /// This text: the rules come from the intent, and change for all its pods at once.
    Text(String),
}

/// Finds everything that is asked for.
#[must_use]
pub fn exposures(index: &Index, settings: &Settings) -> Found {
    let mut found = Found::default();
    for pod in index.pods() {
        match exposure(index, settings, pod, &mut found.problems) {
            Ok(exposure) => found.exposures.extend(exposure),
            Err(refusal) => found.problems.push(*refusal),
        }
    }
    found
}

fn exposure(
    index: &Index,
    settings: &Settings,
    pod: &Pod,
    problems: &mut Vec<Notice>,
) -> Result<Option<Exposure>, Refusal> {
    let reference = pod_reference(pod);
    let finished = matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let Some(node_name) = pod.spec.node_name.as_deref().filter(|name| !name.is_empty() && !finished) else {
        return Ok(None);
    };
    if !annotation::asks(pod) && !voyager::is_haproxy(pod) {
        return Ok(None);
    }
    let host_ports = host_port::host_ports(pod).map_err(|error| refusal(&reference, "InvalidPort", error))?;
    let node = index.node(node_name).ok_or_else(|| {
        refusal(
            &reference,
            "UnknownNode",
            format!("node {node_name} is not known (yet); nothing is opened on it"),
        )
    })?;
    let defaults = source_ranges::defaults(&settings.default_source_ranges, node);
    let ask = if annotation::asks(pod) {
        annotation::ask(pod, &reference, &host_ports, &defaults, problems)?
    } else {
        voyager::ask(index, pod, &host_ports, &defaults)?
    };
    let Some(ask) = ask else { return Ok(None) };
    let ports: BTreeSet<(Protocol, u16)> =
        ask.ports.iter().map(|(port, _)| (port.protocol, port.port)).collect();
    guardrail::ports(&ports, &settings.allow_ports)
        .map_err(|error| refusal(&ask.intent, "PortDenied", error))?;
    let rules = rules(&ask.ports);
    if rules.is_empty() {
        return Ok(None);
    }
    let node_reference = node_reference(node);
    let provider_id = node.spec.provider_id.clone().filter(|id| !id.is_empty()).ok_or_else(|| {
        let message = "has no spec.providerID, so its machine is not known; run the cloud controller manager, or \
                       set --provider-id on the kubelet";
        refusal(&node_reference, "NoProviderId", message.to_owned())
    })?;
    let variant = match ask.variant {
        Variant::Rules => rules.to_string(),
        Variant::Text(text) => text,
    };
    let Ask { intent, workload, .. } = ask;
    Ok(Some(Exposure {
        pod: reference,
        node: node_reference,
        provider_id,
        intent,
        workload,
        ports,
        rules,
        variant,
    }))
}

/// A port that is bound to one address is reached over that address's family only.
fn rules(ports: &[(&HostPort, Vec<IpNet>)]) -> RuleSet {
    ports
        .iter()
        .flat_map(|(port, sources)| {
            let reaching =
                sources.iter().filter(|source| port.family.is_none_or(|family| family.holds(source)));
            reaching.filter_map(|source| {
                Some(IngressRule::new(port.protocol, PortRange::single(port.port).ok()?, *source))
            })
        })
        .collect()
}

fn pod_reference(pod: &Pod) -> ObjectRef {
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
