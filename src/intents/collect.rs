//! Collects exposures: for every pod and Service, resolves its intents and applies the guardrails.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use super::annotation_keys::{EXPOSE, HOSTNAME, SOURCE_RANGES};
use super::exposure::Exposure;
use super::host_port::{HostPort, parse_host_ports};
use super::host_port_exposure::PodSelection;
use super::node_port::{self, SlicesByService};
use super::opening::{FamilyRules, Opening, reject_denied};
use super::port_owner::node_of_running_pod;
use super::problems::Problems;
use super::request::{PortRequest, Rejected, fail, reject};
use super::service_ports::parse_node_ports;
use super::settings::Settings;
use super::unknown::{
    Place, UnknownDemand, find_missing_ingress, find_missing_intent, find_unknown_node_ports, port_ranges,
};
use super::voyager::labels::{find_label, is_haproxy, is_voyager_service};
use super::{annotation, service_lb, voyager};
use crate::guardrails::OpeningRequest;
use crate::k8s::host_port_exposure::HostPortExposure;
use crate::k8s::index::Index;
use crate::k8s::objects::reference::{node_reference, pod_reference, service_reference};
use crate::k8s::objects::{Node, ObjectRef, Pod, Service, carries_ours};
use crate::k8s::problem::Problem;
use crate::k8s::reasons;
use crate::parse::family::Family;
use crate::parse::source_ranges;

/// The result of all intents in the index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Those of pods, and then those of Services, in order of namespace and name
    pub exposures: Vec<Exposure>,
    /// The intents, pods, Services and nodes because of which something is not opened
    pub problems: BTreeSet<Problem>,
    /// Ports that may be asked for
    pub unknown: BTreeSet<UnknownDemand>,
}

/// Collects the exposures of all pods and Services.
#[must_use]
pub fn collect_exposures(index: &Index, settings: &Settings) -> Collected {
    let slices = node_port::group_slices_by_service(index);
    let mut collector = Collector {
        index,
        settings,
        slices,
        selections: BTreeMap::new(),
        exposures: Vec::new(),
        problems: Problems::default(),
        unknown: find_unknown_node_ports(index).into_iter().collect(),
    };
    collector.problems.extend(index.unreadable().cloned());
    for exposure in index.host_port_exposures() {
        collector.add_selection(exposure);
    }
    for pod in index.pods() {
        collector.collect_pod(pod);
    }
    for service in index.services() {
        collector.collect_service(service);
    }
    let Collector { exposures, problems, unknown, .. } = collector;
    Collected { exposures, problems: problems.into_set(index), unknown }
}

struct Collector<'a> {
    index: &'a Index,
    settings: &'a Settings,
    slices: SlicesByService<'a>,
    /// The pods that `HostPortExposure`s select, by namespace
    selections: BTreeMap<String, Rc<Vec<PodSelection<'a>>>>,
    exposures: Vec<Exposure>,
    problems: Problems,
    unknown: BTreeSet<UnknownDemand>,
}

impl<'a> Collector<'a> {
    /// Parses a `HostPortExposure`, once for all pods.
    fn add_selection(&mut self, exposure: &'a HostPortExposure) {
        match PodSelection::parse(exposure) {
            Ok(selection) => {
                let selections = self.selections.entry(exposure.reference().namespace).or_default();
                // The only reference while selections are added: nothing is copied.
                Rc::make_mut(selections).push(selection);
            }
            Err(rejected) => self.problems.report(&rejected, &[]),
        }
    }

    /// Collects the exposures of one pod: of its own annotations, its Ingress or its Service, and of any
    /// number of objects that select it. A problem of one of them does not affect the others.
    fn collect_pod(&mut self, pod: &Pod) {
        let index = self.index;
        let Some(node_name) = node_of_running_pod(pod) else { return };
        let may_request = carries_ours(&pod.metadata) || is_haproxy(pod) || service_lb::is_service_lb(pod);
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let selections = self.selections.get(namespace).cloned().unwrap_or_default();
        let node = index.node(node_name);
        let selecting: Vec<_> = selections.iter().filter(|selection| selection.selects(pod, node)).collect();
        let reference = pod_reference(pod);
        let missing = find_missing_intent(index, pod, &reference);
        if !may_request && selecting.is_empty() && missing.is_none() {
            return;
        }
        let host_ports = match parse_host_ports(pod) {
            Ok(host_ports) => host_ports,
            Err(error) => {
                return self.problems.report(&reject(&reference, reasons::INVALID_PORT, error), &[]);
            }
        };
        if let Some(missing) = missing {
            let ports = host_ports.iter().filter(|port| !is_haproxy(pod) || voyager::is_frontend(port));
            self.keep(&reference.namespace, Place::of_node(node), ports, &missing);
        }
        let mut requests = Vec::new();
        if may_request {
            requests.extend(self.build_pod_request(pod, &reference, &host_ports).transpose());
        }
        let selecting = selecting.into_iter();
        requests.extend(selecting.map(|selection| selection.build_request(&reference, &host_ports)));
        for request in requests {
            match request.and_then(|request| voyager::reject_internal_ports(pod, &request).map(|()| request))
            {
                Ok(request) => self.add_exposures(&reference, [node_name], &request),
                Err(rejected) => self.problems.report(&rejected, &[&reference]),
            }
        }
    }

    /// Builds the request of the pod's own annotations, or else of the Ingress or the Service behind it.
    fn build_pod_request<'p>(
        &mut self,
        pod: &Pod,
        reference: &ObjectRef,
        host_ports: &'p BTreeSet<HostPort>,
    ) -> Result<Option<PortRequest<'p>>, Rejected> {
        let known = [EXPOSE, SOURCE_RANGES, HOSTNAME];
        annotation::reject_unknown_annotations(&pod.metadata, &known, reference)?;
        if annotation::has_expose_annotation(pod) {
            annotation::build_request(pod, reference, host_ports)
        } else if is_haproxy(pod) {
            voyager::build_request(self.index, pod, reference, host_ports, &mut self.problems)
        } else if service_lb::is_service_lb(pod) {
            service_lb::build_request(self.index, self.settings, pod, reference, host_ports)
        } else {
            annotation::build_request(pod, reference, host_ports)
        }
    }

    /// Collects the exposures of a Service on the nodes that serve its node ports.
    fn collect_service(&mut self, service: &Service) {
        let reference = service_reference(service);
        if let Err(rejected) = self.collect_node_ports(service, &reference) {
            self.problems.report(&rejected, &[&reference]);
        }
    }

    fn collect_node_ports(&mut self, service: &Service, reference: &ObjectRef) -> Result<(), Rejected> {
        let index = self.index;
        node_port::reject_meaningless_annotations(service, reference)?;
        let has_annotation = node_port::has_node_port_annotation(service);
        if !has_annotation && !is_voyager_service(service) {
            return Ok(());
        }
        let node_ports =
            parse_node_ports(service).map_err(|error| reject(reference, reasons::INVALID_PORT, error))?;
        if !has_annotation
            && let Some(name) = find_label(&service.metadata, "origin-name")
            && let Some(missing) = find_missing_ingress(index, &reference.namespace, name)
        {
            self.keep(&reference.namespace, Place::Anywhere, node_ports.values(), &missing);
        }
        let request = if has_annotation {
            let request = node_port::build_request(service, reference, &node_ports)?;
            voyager::reject_stats_port(service, &request)?;
            Some(request)
        } else {
            let problems = &mut self.problems;
            voyager::build_node_port_request(index, service, reference, &node_ports, problems)?
        };
        let Some(request) = request else { return Ok(()) };
        let nodes = node_port::find_serving_nodes(index, &self.slices, service, reference);
        self.add_exposures(reference, nodes, &request);
        Ok(())
    }

    /// Keeps those of these ports open, where they are open, that no guardrail stands against.
    fn keep<'p>(
        &mut self,
        namespace: &str,
        place: Place,
        ports: impl IntoIterator<Item = &'p HostPort>,
        missing: &str,
    ) {
        let Self { index, settings, .. } = *self;
        let may_stay = |port: &&HostPort| {
            let opening = OpeningRequest {
                namespace,
                namespace_object: index.namespace(namespace),
                ports: &BTreeSet::from([(port.protocol, port.port)]),
                hostname: None,
            };
            settings.guardrails.check(&opening).map_or_else(|denial| denial.is_unknown, |()| true)
        };
        let ports = port_ranges(ports.into_iter().filter(may_stay));
        if !ports.is_empty() {
            self.unknown.insert(UnknownDemand { place, ports, missing: missing.to_owned() });
        }
    }

    /// Keeps the ports of a request open on these nodes: it is not known if a guardrail stands against them.
    fn keep_request<'n>(
        &mut self,
        node_names: impl IntoIterator<Item = &'n str>,
        request: &PortRequest<'_>,
        missing: &str,
    ) {
        for node_name in node_names {
            let place = Place::of_node(self.index.node(node_name));
            let ports = request.ports.iter().map(|(port, _)| *port);
            self.keep(&request.intent.namespace, place, ports, missing);
        }
    }

    /// Adds the exposures of a request on these nodes, and reports the problems.
    fn add_exposures<'n>(
        &mut self,
        port_owner: &ObjectRef,
        node_names: impl IntoIterator<Item = &'n str>,
        request: &PortRequest<'_>,
    ) {
        let others = [port_owner, &request.intent];
        let mut opening = match Opening::new(self.index, self.settings, port_owner, request) {
            Ok(opening) => opening,
            Err(denial) => {
                if denial.is_unknown {
                    self.keep_request(node_names, request, &denial.message);
                }
                return self.problems.report(&reject_denied(request, &denial), &others);
            }
        };
        let count_before = self.exposures.len();
        for node_name in node_names {
            match self.build_exposure(port_owner, node_name, request, &mut opening) {
                Ok(exposure) => self.exposures.extend(exposure),
                Err(rejected) => self.problems.report(&rejected, &others),
            }
        }
        for problem in opening.problems {
            self.problems.report(&problem, &others);
        }
        if let Some(hostname) = &request.hostname
            && !self.settings.external_dns
            && self.exposures.len() > count_before
        {
            let message = format!("{hostname} is not published: the controller runs without --external-dns");
            self.problems.report(&fail(&request.intent, reasons::NOT_PUBLISHED, message), &[]);
        }
    }

    /// Builds the exposure of a request on a node; none if no port can be opened there.
    ///
    /// # Errors
    /// If the node is not known.
    fn build_exposure(
        &mut self,
        port_owner: &ObjectRef,
        node_name: &str,
        request: &PortRequest<'_>,
        opening: &mut Opening<'_>,
    ) -> Result<Option<Exposure>, Rejected> {
        let node = self.index.node(node_name);
        let families = node.map_or_else(|| BTreeSet::from(Family::ALL), source_ranges::find_families);
        let Some(FamilyRules { rules, variant }) = opening.rules_for(families) else { return Ok(None) };
        let (Place::Machine(provider_id), Some(node)) = (Place::of_node(node), node) else {
            let problem = unknown_machine(port_owner, node_name, node);
            self.keep_request([node_name], request, &format!("{}: {}", problem.object, problem.message));
            return Err(problem);
        };
        Ok(Some(Exposure {
            port_owner: port_owner.clone(),
            node: node_reference(node),
            provider_id,
            intent: request.intent.clone(),
            workload: request.workload.clone(),
            ports: Arc::clone(&opening.ports),
            rules,
            variant,
            hostname: request.hostname.clone(),
        }))
    }
}

/// Returns the problem of a node that is not known, or whose machine is not.
fn unknown_machine(port_owner: &ObjectRef, node_name: &str, node: Option<&Node>) -> Rejected {
    let Some(node) = node else {
        let message = format!("node {node_name} is not known; nothing is opened or closed for this on it");
        return fail(port_owner, reasons::UNKNOWN_NODE, message);
    };
    let message = "has no spec.providerID, so its machine is not known, and nothing is opened or closed on it; \
                   run the cloud controller manager, or set --provider-id on the kubelet";
    fail(&node_reference(node), reasons::NO_PROVIDER_ID, message.to_owned())
}
