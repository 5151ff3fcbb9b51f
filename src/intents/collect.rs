//! Goes through pods and Services, asks each who wants their ports open, and adds what nothing stands against.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use firewall_core::{Protocol, RuleSet, digest};

use super::annotation_keys::{EXPOSE, HOSTNAME, SOURCE_RANGES};
use super::exposure::Exposure;
use super::host_port::{self, HostPort};
use super::host_port_exposure::Selection;
use super::node_port::{self, Slices};
use super::port_owner::binding_on;
use super::request::{Ask, Refusal, Varies, failure, refusal};
use super::settings::Settings;
use super::voyager::labels::{is_haproxy, is_offshoot};
use super::{annotation, rules, service_lb, service_ports, voyager};
use crate::guardrails::Opening;
use crate::k8s::host_port_exposure::HostPortExposure;
use crate::k8s::index::Index;
use crate::k8s::objects::reference::{node_reference, pod_reference, service_reference};
use crate::k8s::objects::{Node, ObjectRef, Pod, Service, carries_ours};
use crate::k8s::problem::Notice;
use crate::parse::ports::listed;
use crate::parse::source_ranges;

/// What the index asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Those of pods, and then those of Services, in order of namespace and name
    pub exposures: Vec<Exposure>,
    /// What is wrong, and with what
    pub problems: BTreeSet<Notice>,
}

/// Finds everything that is asked for.
#[must_use]
pub fn exposures(index: &Index, settings: &Settings) -> Found {
    let slices = node_port::slices(index);
    let mut search = Search { index, settings, slices, selections: BTreeMap::new(), found: Found::default() };
    search.found.problems.extend(index.unreadable().cloned());
    for exposure in index.host_port_exposures() {
        search.selection(exposure);
    }
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
    slices: Slices<'a>,
    /// By namespace, what `HostPortExposure`s select there
    selections: BTreeMap<String, Rc<Vec<Selection<'a>>>>,
    found: Found,
}

impl<'a> Search<'a> {
    /// Reads a `HostPortExposure`, once for all pods.
    fn selection(&mut self, exposure: &'a HostPortExposure) {
        match Selection::of(exposure) {
            Ok(selection) => {
                let own = self.selections.entry(exposure.reference().namespace).or_default();
                // Nobody else holds it yet.
                Rc::make_mut(own).push(selection);
            }
            Err(refusal) => self.tell(&refusal, []),
        }
    }

    /// Adds what is asked of one pod: by itself, its Ingress or its Service, and by any number of objects that select
    /// it. What is wrong with one of them does not concern the others.
    fn pod(&mut self, pod: &Pod) {
        let index = self.index;
        let Some(node_name) = binding_on(pod) else { return };
        let concerned = carries_ours(&pod.metadata) || is_haproxy(pod) || service_lb::is_service_lb(pod);
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let selections = self.selections.get(namespace).cloned().unwrap_or_default();
        let node = index.node(node_name);
        let selecting: Vec<_> = selections.iter().filter(|selection| selection.selects(pod, node)).collect();
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
            asks.extend(self.own_ask(pod, &reference, &host_ports).transpose());
        }
        asks.extend(selecting.into_iter().map(|selection| selection.ask(&reference, &host_ports)));
        for ask in asks {
            match ask.and_then(|ask| voyager::only_frontends(pod, &ask).map(|()| ask)) {
                Ok(ask) => self.open(&reference, node_name, &ask),
                Err(refusal) => self.tell(&refusal, [&reference]),
            }
        }
    }

    /// What the pod's own annotations ask for, or else the Ingress or the Service behind it.
    fn own_ask<'p>(
        &mut self,
        pod: &Pod,
        reference: &ObjectRef,
        host_ports: &'p BTreeSet<HostPort>,
    ) -> Result<Option<Ask<'p>>, Refusal> {
        let known = [EXPOSE, SOURCE_RANGES, HOSTNAME];
        annotation::all_known(&pod.metadata, &known, reference)?;
        if annotation::exposes(pod) {
            annotation::ask(pod, reference, host_ports)
        } else if is_haproxy(pod) {
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
        if !node_port::concerns(service) && !is_offshoot(service) {
            return Ok(());
        }
        let node_ports =
            service_ports::node_ports(service).map_err(|error| refusal(reference, "InvalidPort", error))?;
        let ask = if node_port::concerns(service) {
            let ask = node_port::ask(service, reference, &node_ports)?;
            voyager::no_stats(service, &ask)?;
            Some(ask)
        } else {
            voyager::ask_node_ports(index, service, reference, &node_ports, &mut self.found.problems)?
        };
        let Some(ask) = ask else { return Ok(()) };
        for node_name in node_port::serving(index, &self.slices, service, reference) {
            self.open(reference, node_name, &ask);
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
            refusal(&ask.intent, breach.reason, format!("{}; it is refused as a whole", breach.message))
        })?;
        let reachable = rules::of_families(&rules, &families);
        if let Some(unreachable) = unreachable(binder, &ports, &reachable) {
            self.tell(&unreachable, [&ask.intent]);
        }
        if reachable.is_empty() {
            return Ok(None);
        }
        let variant = match &ask.varies {
            Varies::PodByPod => rules.to_string(),
            Varies::NodeByNode(sources) => {
                let variant = rules::families_apart(&families, &ask.ports) + sources;
                let rules = || format!(" as {}", digest([rules.to_string().as_str()]));
                if rules::are_ambiguous(&ask.ports) { variant + &rules() } else { variant }
            }
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
