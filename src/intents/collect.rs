//! Goes through pods and Services, requests each who wants their ports open, and adds what nothing stands against.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use firewall_core::{Protocol, RuleSet, digest};

use super::annotation_keys::{EXPOSE, HOSTNAME, SOURCE_RANGES};
use super::exposure::Exposure;
use super::host_port::{self, HostPort};
use super::host_port_exposure::Selection;
use super::node_port::{self, Slices};
use super::port_owner::node_of_running_pod;
use super::request::{GroupVariant, PortRequest, Rejected, failed, rejected};
use super::settings::Settings;
use super::voyager::labels::{is_haproxy, is_voyager_service};
use super::{annotation, rules, service_lb, service_ports, voyager};
use crate::guardrails::Opening;
use crate::k8s::host_port_exposure::HostPortExposure;
use crate::k8s::index::Index;
use crate::k8s::objects::reference::{node_reference, pod_reference, service_reference};
use crate::k8s::objects::{Node, ObjectRef, Pod, Service, carries_ours};
use crate::k8s::problem::Problem;
use crate::parse::ports::listed;
use crate::parse::source_ranges;

/// What the index requests for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Those of pods, and then those of Services, in order of namespace and name
    pub exposures: Vec<Exposure>,
    /// What is wrong, and with what
    pub problems: BTreeSet<Problem>,
}

/// Finds everything that is asked for.
#[must_use]
pub fn collect_exposures(index: &Index, settings: &Settings) -> Collected {
    let slices = node_port::slices(index);
    let mut collector =
        Collector { index, settings, slices, selections: BTreeMap::new(), found: Collected::default() };
    collector.found.problems.extend(index.unreadable().cloned());
    for exposure in index.host_port_exposures() {
        collector.selection(exposure);
    }
    for pod in index.pods() {
        collector.pod(pod);
    }
    for service in index.services() {
        collector.service(service);
    }
    collector.found
}

struct Collector<'a> {
    index: &'a Index,
    settings: &'a Settings,
    slices: Slices<'a>,
    /// By namespace, what `HostPortExposure`s select there
    selections: BTreeMap<String, Rc<Vec<Selection<'a>>>>,
    found: Collected,
}

impl<'a> Collector<'a> {
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
        let Some(node_name) = node_of_running_pod(pod) else { return };
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
            Err(error) => return self.tell(&rejected(&reference, "InvalidPort", error), []),
        };
        let mut requests = Vec::new();
        if concerned {
            requests.extend(self.own_request(pod, &reference, &host_ports).transpose());
        }
        requests.extend(selecting.into_iter().map(|selection| selection.request(&reference, &host_ports)));
        for request in requests {
            match request.and_then(|request| voyager::reject_internal_ports(pod, &request).map(|()| request))
            {
                Ok(request) => self.open(&reference, node_name, &request),
                Err(refusal) => self.tell(&refusal, [&reference]),
            }
        }
    }

    /// What the pod's own annotations ask for, or else the Ingress or the Service behind it.
    fn own_request<'p>(
        &mut self,
        pod: &Pod,
        reference: &ObjectRef,
        host_ports: &'p BTreeSet<HostPort>,
    ) -> Result<Option<PortRequest<'p>>, Rejected> {
        let known = [EXPOSE, SOURCE_RANGES, HOSTNAME];
        annotation::all_known(&pod.metadata, &known, reference)?;
        if annotation::exposes(pod) {
            annotation::request(pod, reference, host_ports)
        } else if is_haproxy(pod) {
            voyager::request(self.index, pod, reference, host_ports, &mut self.found.problems)
        } else if service_lb::is_service_lb(pod) {
            service_lb::request(self.index, self.settings, pod, reference, host_ports)
        } else {
            annotation::request(pod, reference, host_ports)
        }
    }

    /// Adds what a Service requests for on the nodes that serve its node ports.
    fn service(&mut self, service: &Service) {
        let reference = service_reference(service);
        if let Err(refusal) = self.node_ports(service, &reference) {
            self.tell(&refusal, [&reference]);
        }
    }

    fn node_ports(&mut self, service: &Service, reference: &ObjectRef) -> Result<(), Rejected> {
        let index = self.index;
        node_port::understood(service, reference)?;
        if !node_port::concerns(service) && !is_voyager_service(service) {
            return Ok(());
        }
        let node_ports =
            service_ports::node_ports(service).map_err(|error| rejected(reference, "InvalidPort", error))?;
        let request = if node_port::concerns(service) {
            let request = node_port::request(service, reference, &node_ports)?;
            voyager::reject_stats_port(service, &request)?;
            Some(request)
        } else {
            voyager::request_node_ports(index, service, reference, &node_ports, &mut self.found.problems)?
        };
        let Some(request) = request else { return Ok(()) };
        for node_name in node_port::serving(index, &self.slices, service, reference) {
            self.open(reference, node_name, &request);
        }
        Ok(())
    }

    /// Adds what a request lets in on a node.
    fn open(&mut self, port_owner: &ObjectRef, node_name: &str, request: &PortRequest<'_>) {
        match self.exposure(port_owner, node_name, request) {
            Ok(exposure) => self.found.exposures.extend(exposure),
            Err(refusal) => self.tell(&refusal, [port_owner, &request.intent]),
        }
    }

    /// What a request lets in, if no guardrail, no limit of the clouds and not the node stands against it.
    fn exposure(
        &mut self,
        port_owner: &ObjectRef,
        node_name: &str,
        request: &PortRequest<'_>,
    ) -> Result<Option<Exposure>, Rejected> {
        let Self { index, settings, .. } = *self;
        let node = index.node(node_name).ok_or_else(|| {
            let message = format!("node {node_name} is not known (yet); nothing is opened on it");
            failed(port_owner, "UnknownNode", message)
        })?;
        let families = source_ranges::families(node);
        let defaults = source_ranges::of_families(&settings.default_source_ranges, &families);
        let rules = rules::rules(&request.ports, &defaults)
            .map_err(|error| rejected(&request.intent, "TooManyRules", error))?;
        let ports = request.ports.iter().map(|(port, _)| (port.protocol, port.port)).collect();
        let opening = Opening {
            namespace: &request.intent.namespace,
            known: index.namespace(&request.intent.namespace),
            ports: &ports,
            rules: &rules,
            hostname: request.hostname.as_deref(),
        };
        settings.guardrails.check(&opening).map_err(|breach| {
            rejected(&request.intent, breach.reason, format!("{}; it is refused as a whole", breach.message))
        })?;
        let reachable = rules::of_families(&rules, &families);
        if let Some(unreachable) = unreachable(port_owner, &ports, &reachable) {
            self.tell(&unreachable, [&request.intent]);
        }
        if reachable.is_empty() {
            return Ok(None);
        }
        let variant = match &request.variant {
            GroupVariant::PerPod => rules.to_string(),
            GroupVariant::PerNode(sources) => {
                let variant = rules::families_apart(&families, &request.ports) + sources;
                let rules = || format!(" as {}", digest([rules.to_string().as_str()]));
                if rules::are_ambiguous(&request.ports) { variant + &rules() } else { variant }
            }
        };
        let (node, provider_id) = machine(node)?;
        if let Some(hostname) = &request.hostname
            && !settings.external_dns
        {
            let message = format!("{hostname} is not published: the controller runs without --external-dns");
            self.tell(&failed(&request.intent, "NotPublished", message), []);
        }
        Ok(Some(Exposure {
            port_owner: port_owner.clone(),
            node,
            provider_id,
            intent: request.intent.clone(),
            workload: request.workload.clone(),
            ports,
            rules,
            variant,
            hostname: request.hostname.clone(),
        }))
    }

    /// Tells the object that something is wrong with, and the others that it concerns.
    fn tell<const N: usize>(&mut self, refusal: &Rejected, others: [&ObjectRef; N]) {
        let others = others.into_iter().filter(|other| **other != refusal.object);
        self.found.problems.extend(others.map(|other| refusal.to(other)));
        self.found.problems.insert((**refusal).clone());
    }
}

fn unreachable(
    port_owner: &ObjectRef,
    ports: &BTreeSet<(Protocol, u16)>,
    rules: &RuleSet,
) -> Option<Rejected> {
    let ports = rules::unreachable(ports, rules);
    let message = format!(
        "{} is not opened: its source ranges are all of another address family than the node, or than the address \
         that the port is bound to",
        listed(&ports)
    );
    (!ports.is_empty()).then(|| failed(port_owner, "NoSources", message))
}

/// The node, and the cloud's id of the machine behind it.
fn machine(node: &Node) -> Result<(ObjectRef, String), Rejected> {
    let reference = node_reference(node);
    match node.spec.provider_id.as_deref() {
        Some(id) if !id.is_empty() => Ok((reference, id.to_owned())),
        _ => {
            let message = "has no spec.providerID, so its machine is not known; run the cloud controller manager, or \
                           set --provider-id on the kubelet";
            Err(failed(&reference, "NoProviderId", message.to_owned()))
        }
    }
}
