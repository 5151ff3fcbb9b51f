//! Exposures: which ports of which nodes may be reached, from where, and because of which intent.
//!
//! Pure: the index goes in, exposures and notices come out. Everything in the index is untrusted. What cannot be
//! understood opens nothing, for that pod or intent alone, and is said on the objects it concerns.

mod annotation;
mod binder;
mod host_port;
mod hostname;
mod list;
mod node_port;
mod rules;
mod selected;
mod service_lb;
mod service_ports;
mod source_ranges;
mod voyager;
mod workload;

use std::collections::{BTreeMap, BTreeSet};

use firewall_model::{GroupKey, PortRange, Protocol, RuleSet, Workload};
use ipnet::IpNet;

use crate::guardrails::{Guardrails, Opening};
use crate::index::Index;
use crate::notice::{Notice, Verdict};
use crate::objects::{Node, ObjectRef, Pod, Service};

pub use binder::binding;
pub(crate) use binder::pod_reference;
use binder::{binding_on, node_reference, service_reference};
use host_port::HostPort;
pub(crate) use hostname::hostname;
use rules::Sources;
pub use rules::listed;
pub(crate) use rules::port_ranges;
pub(crate) use source_ranges::source_range;

/// Defaults and guardrails, which only the administrator sets.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The sources of an intent that names none
    pub default_source_ranges: Vec<IpNet>,
    /// What no intent can exceed
    pub guardrails: Guardrails,
    /// Where k3s runs the pods of `ServiceLB`
    pub service_lb_namespace: String,
    /// Whether hostnames are published
    pub external_dns: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let anywhere = ["0.0.0.0/0", "::/0"].map(|cidr| cidr.parse().expect("a constant CIDR"));
        Self {
            default_source_ranges: anywhere.to_vec(),
            guardrails: Guardrails::default(),
            service_lb_namespace: "kube-system".to_owned(),
            external_dns: false,
        }
    }
}

/// Ports × source ranges on one node, with what binds them and what asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// What binds the ports on the node: a pod, or a Service whose node ports every node serves
    pub binder: ObjectRef,
    /// The node
    pub node: ObjectRef,
    /// The machine behind the node, by the cloud's id
    pub provider_id: String,
    /// What asked for it: the pod itself, a Service, an Ingress, or a `HostPortExposure`
    pub intent: ObjectRef,
    /// Whose ports they are
    pub workload: Workload,
    /// The exposed ports
    pub ports: BTreeSet<(Protocol, u16)>,
    /// What is let in
    pub rules: RuleSet,
    /// What sets this group apart from others of the workload with the same ports
    pub variant: String,
    /// The hostname by which clients are to find it
    pub hostname: Option<String>,
}

impl Exposure {
    /// The exposed ports as the fewest ranges.
    #[must_use]
    pub fn port_ranges(&self) -> BTreeSet<(Protocol, PortRange)> {
        port_ranges(&self.ports)
    }

    /// The firewall group that it is part of.
    #[must_use]
    pub fn group(&self) -> GroupKey {
        GroupKey { workload: self.workload.clone(), ports: self.port_ranges(), variant: self.variant.clone() }
    }
}

/// What the index asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Those of pods, and then those of Services, in order of namespace and name
    pub exposures: Vec<Exposure>,
    /// What is wrong, and with what
    pub problems: BTreeSet<Notice>,
}

/// Something is wrong; `object` is told.
type Refusal = Box<Notice>;

/// What is asked for is not understood, or not allowed.
fn refusal(object: &ObjectRef, reason: &str, message: String) -> Refusal {
    Box::new(Notice { object: object.clone(), verdict: Verdict::Refused, reason: reason.to_owned(), message })
}

/// What is asked for is fine, and the node stands against it.
fn failure(object: &ObjectRef, reason: &str, message: String) -> Refusal {
    Box::new(Notice { verdict: Verdict::Failed, ..*refusal(object, reason, message) })
}

/// What an intent asks for: these ports, each from these sources.
struct Ask<'a> {
    intent: ObjectRef,
    workload: Workload,
    ports: Vec<(&'a HostPort, Sources)>,
    varies: Varies,
    hostname: Option<String>,
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
    let mut search = Search { index, settings, found: Found::default() };
    for pod in index.pods() {
        search.pod(pod);
    }
    for service in index.services() {
        search.service(service);
    }
    search.found
}

struct Search<'a> {
    index: &'a Index,
    settings: &'a Settings,
    found: Found,
}

impl Search<'_> {
    /// Adds what is asked of one pod: by itself, its Ingress or its Service, and by any number of objects that select
    /// it. What is wrong with one of them does not concern the others.
    fn pod(&mut self, pod: &Pod) {
        let index = self.index;
        let Some(node_name) = binding_on(pod) else { return };
        let concerned =
            annotation::concerns(pod) || voyager::is_haproxy(pod) || service_lb::is_service_lb(pod);
        let selecting = selected::selecting(index, pod, index.node(node_name));
        if !concerned && selecting.is_empty() {
            return;
        }
        let reference = pod_reference(pod);
        let host_ports = match host_port::host_ports(pod) {
            Ok(host_ports) => host_ports,
            Err(error) => return self.tell(&refusal(&reference, "InvalidPort", error), []),
        };
        let mut asks = Vec::new();
        if concerned {
            asks.push(self.own_ask(pod, &reference, &host_ports));
        }
        for selecting in selecting {
            match selecting {
                Ok(exposure) => asks.push(selected::ask(exposure, &reference, &host_ports).map(Some)),
                // Whether it means this pod is not known.
                Err(refusal) => self.tell(&refusal, []),
            }
        }
        for ask in asks {
            match ask {
                Ok(ask) => ask.iter().for_each(|ask| self.open(&reference, node_name, ask)),
                Err(refusal) => self.tell(&refusal, [&reference]),
            }
        }
    }

    /// What the pod's own annotations ask for, or else the Ingress or the Service behind it.
    fn own_ask<'a>(
        &mut self,
        pod: &Pod,
        reference: &ObjectRef,
        host_ports: &'a BTreeSet<HostPort>,
    ) -> Result<Option<Ask<'a>>, Refusal> {
        let known = [annotation::EXPOSE, annotation::SOURCE_RANGES, hostname::HOSTNAME];
        annotation::all_known(&pod.metadata, &known, reference)?;
        if annotation::exposes(pod) {
            annotation::ask(pod, reference, host_ports)
        } else if voyager::is_haproxy(pod) {
            voyager::ask(self.index, pod, reference, host_ports, &mut self.found.problems)
        } else if service_lb::is_service_lb(pod) {
            service_lb::ask(self.index, self.settings, pod, reference, host_ports)
        } else {
            annotation::ask(pod, reference, host_ports)
        }
    }

    /// Adds what a Service asks for on the nodes that serve its node ports.
    fn service(&mut self, service: &Service) {
        let reference = service_reference(service);
        if let Err(refusal) = self.node_ports(service, &reference) {
            self.tell(&refusal, [&reference]);
        }
    }

    fn node_ports(&mut self, service: &Service, reference: &ObjectRef) -> Result<(), Refusal> {
        let index = self.index;
        node_port::understood(service, reference)?;
        if !node_port::concerns(service) && !voyager::is_offshoot(service) {
            return Ok(());
        }
        let node_ports =
            node_port::node_ports(service).map_err(|error| refusal(reference, "InvalidPort", error))?;
        let ask = if node_port::concerns(service) {
            Some(node_port::ask(service, reference, &node_ports)?)
        } else {
            voyager::ask_node_ports(index, service, reference, &node_ports, &mut self.found.problems)?
        };
        let Some(ask) = ask else { return Ok(()) };
        for (binder, node_name) in node_port::serving(index, service, reference) {
            self.open(&binder, node_name, &ask);
        }
        Ok(())
    }

    /// Adds what an ask lets in on a node.
    fn open(&mut self, binder: &ObjectRef, node_name: &str, ask: &Ask<'_>) {
        match self.exposure(binder, node_name, ask) {
            Ok(exposure) => self.found.exposures.extend(exposure),
            Err(refusal) => self.tell(&refusal, [binder, &ask.intent]),
        }
    }

    /// What an ask lets in, if no guardrail, no limit of the clouds and not the node stands against it.
    fn exposure(
        &mut self,
        binder: &ObjectRef,
        node_name: &str,
        ask: &Ask<'_>,
    ) -> Result<Option<Exposure>, Refusal> {
        let Self { index, settings, .. } = *self;
        let node = index.node(node_name).ok_or_else(|| {
            let message = format!("node {node_name} is not known (yet); nothing is opened on it");
            failure(binder, "UnknownNode", message)
        })?;
        let families = source_ranges::families(node);
        let defaults = source_ranges::of_families(&settings.default_source_ranges, &families);
        let rules = rules::rules(&ask.ports, &defaults)
            .map_err(|error| refusal(&ask.intent, "TooManyRules", error))?;
        let ports = ask.ports.iter().map(|(port, _)| (port.protocol, port.port)).collect();
        let opening = Opening {
            namespace: &ask.intent.namespace,
            known: index.namespace(&ask.intent.namespace),
            ports: &ports,
            rules: &rules,
            hostname: ask.hostname.as_deref(),
        };
        settings.guardrails.check(&opening).map_err(|breach| {
            refusal(&ask.intent, breach.reason, format!("{}; nothing of this is opened", breach.message))
        })?;
        if let Some(unreachable) = unreachable(binder, &ports, &rules) {
            self.tell(&unreachable, [&ask.intent]);
        }
        if rules.is_empty() {
            return Ok(None);
        }
        let variant = match ask.varies {
            Varies::PodByPod => rules.to_string(),
            Varies::NodeByNode => rules::families_apart(&families, &ask.ports),
        };
        let (node, provider_id) = machine(node)?;
        if let Some(hostname) = &ask.hostname
            && !settings.external_dns
        {
            let message = format!("{hostname} is not published: the controller runs without --external-dns");
            self.tell(&failure(&ask.intent, "NotPublished", message), []);
        }
        Ok(Some(Exposure {
            binder: binder.clone(),
            node,
            provider_id,
            intent: ask.intent.clone(),
            workload: ask.workload.clone(),
            ports,
            rules,
            variant,
            hostname: ask.hostname.clone(),
        }))
    }

    /// Tells the object that something is wrong with, and the others that it concerns.
    fn tell<const N: usize>(&mut self, refusal: &Refusal, others: [&ObjectRef; N]) {
        let others = others.into_iter().filter(|other| **other != refusal.object);
        self.found.problems.extend(others.map(|other| refusal.to(other)));
        self.found.problems.insert((**refusal).clone());
    }
}

fn unreachable(binder: &ObjectRef, ports: &BTreeSet<(Protocol, u16)>, rules: &RuleSet) -> Option<Refusal> {
    let ports = rules::unreachable(ports, rules);
    let message = format!(
        "{} is not opened: its source ranges are all of another address family than the node, or than the address \
         that the port is bound to",
        listed(&ports)
    );
    (!ports.is_empty()).then(|| failure(binder, "NoSources", message))
}

/// The node, and the cloud's id of the machine behind it.
fn machine(node: &Node) -> Result<(ObjectRef, String), Refusal> {
    let reference = node_reference(node);
    match node.spec.provider_id.as_deref() {
        Some(id) if !id.is_empty() => Ok((reference, id.to_owned())),
        _ => {
            let message = "has no spec.providerID, so its machine is not known; run the cloud controller manager, or \
                           set --provider-id on the kubelet";
            Err(failure(&reference, "NoProviderId", message.to_owned()))
        }
    }
}

fn annotations(metadata: &kube::api::ObjectMeta) -> &BTreeMap<String, String> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    metadata.annotations.as_ref().unwrap_or(&NONE)
}

#[cfg(test)]
mod tests;
