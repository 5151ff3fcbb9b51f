//! Collects what one port owner asks for: resolves its intents, and applies the guardrails.

use std::collections::{BTreeMap, BTreeSet};

use firewall_core::RuleSet;

use super::annotation_keys::{EXPOSE, HOSTNAME, SOURCE_RANGES};
use super::exposure::Exposure;
use super::host_port::{HostPorts, parse_host_ports};
use super::host_port_exposure::{MOST_SELECTING, PodSelection};
use super::opening::{BuiltRules, FamilyRules, Opening, reject_denied};
use super::part::Part;
use super::port_owner::{PortOwners, node_of_running_pod};
use super::request::{PortRequest, Rejected, fail, reject};
use super::selections::Selections;
use super::service_ports::parse_node_ports;
use super::settings::Settings;
use super::unknown::{MissingIntent, Place, UnknownDemand, find_missing_ingress, find_missing_intent};
use super::voyager::labels::{find_label, is_haproxy, is_voyager_service};
use super::{annotation, node_port, service_lb, voyager};
use crate::guardrails::OpeningRequest;
use crate::k8s::index::Index;
use crate::k8s::objects::reference::{node_reference, pod_reference, service_reference};
use crate::k8s::objects::{Node, ObjectRef, Pod, Service, carries_ours};
use crate::k8s::problem::Problem;
use crate::k8s::reasons;
use crate::parse::ports::{PortRanges, merge};
use crate::parse::source_ranges;

/// Collects what single port owners ask for, from the index and from what has been derived of it.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub(super) index: &'a Index,
    pub(super) settings: &'a Settings,
    pub(super) selections: &'a Selections,
    pub(super) port_owners: &'a PortOwners,
}

/// What a Service asks for.
#[derive(Default)]
pub(super) struct ServiceParts {
    /// Whatever nodes serve it
    pub(super) own: Part,
    pub(super) on_nodes: BTreeMap<String, Part>,
}

impl<'a> Inputs<'a> {
    /// Collects what a pod asks for.
    pub(super) fn collect_pod(self, pod: &Pod) -> Part {
        let mut collector = Collector::new(self);
        collector.collect_pod(pod);
        let ServiceParts { mut own, on_nodes } = collector.parts;
        for part in on_nodes.into_values() {
            own.append(part);
        }
        own
    }

    /// Collects what a Service asks for on these of the nodes that serve its node ports, or on all of them.
    pub(super) fn collect_service(
        self,
        service: &Service,
        only: Option<&'a BTreeSet<String>>,
    ) -> ServiceParts {
        let reference = service_reference(service);
        let mut collector = Collector::new(self);
        let nodes = || self.find_serving_nodes(service, &reference, only);
        if let Err(rejected) = collector.collect_node_ports(service, &reference, nodes) {
            collector.parts.own.problems.report(&rejected, &[&reference]);
        }
        collector.parts
    }

    /// Returns the nodes that serve the Service's node ports, of some or of all: with
    /// `externalTrafficPolicy: Local` those with an endpoint that takes traffic, else all.
    fn find_serving_nodes(
        self,
        service: &Service,
        reference: &ObjectRef,
        only: Option<&'a BTreeSet<String>>,
    ) -> BTreeSet<&'a str> {
        let index = self.index;
        let local = service.is_local().then(|| {
            let name = (reference.namespace.clone(), reference.name.clone());
            self.port_owners.serving_nodes(&name)
        });
        let serves = |node: &&String| match local {
            Some(serving) => serving.is_some_and(|serving| serving.contains(*node)),
            None => index.node(node).is_some(),
        };
        match (only, local) {
            (Some(only), _) => only.iter().filter(serves).map(String::as_str).collect(),
            (None, Some(serving)) => serving.into_iter().flatten().map(String::as_str).collect(),
            (None, None) => index.nodes().filter_map(|node| node.metadata.name.as_deref()).collect(),
        }
    }
}

struct Collector<'a> {
    inputs: Inputs<'a>,
    parts: ServiceParts,
}

impl<'a> Collector<'a> {
    fn new(inputs: Inputs<'a>) -> Self {
        Self { inputs, parts: ServiceParts::default() }
    }

    /// Collects the exposures of one pod: of its own annotations, its Ingress or its Service, and of any
    /// number of objects that select it. A problem of one of them does not affect the others.
    fn collect_pod(&mut self, pod: &Pod) {
        let Inputs { index, selections, .. } = self.inputs;
        let Some(node_name) = node_of_running_pod(pod) else { return };
        let may_request = carries_ours(&pod.metadata) || is_haproxy(pod) || service_lb::is_service_lb(pod);
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let node = index.node(node_name);
        let selecting = selections.in_namespace(namespace).filter(|selection| selection.selects(pod, node));
        let mut selecting: Vec<&PodSelection> = selecting.collect();
        let reference = pod_reference(pod);
        let missing = find_missing_intent(index, pod, node, &reference);
        if !may_request && selecting.is_empty() && missing.is_none() {
            return;
        }
        let host_ports = match parse_host_ports(pod) {
            Ok(host_ports) => host_ports,
            Err(error) => {
                return self.report(&reject(&reference, reasons::INVALID_PORT, error), &[]);
            }
        };
        if let Some(MissingIntent { missing, last }) = missing {
            let declared = host_ports.declared.iter();
            let declared = declared.filter(|port| !is_haproxy(pod) || voyager::is_frontend(port));
            let mut ports = merge(declared.map(|port| (port.protocol, port.ports)));
            match last {
                None => ports.extend(host_ports.all_undeclared()),
                Some(last) => {
                    let requests =
                        last.iter().filter_map(|last| last.build_request(&reference, &host_ports).ok());
                    ports.extend(requests.flat_map(|request| request.merge_ports()));
                }
            }
            let kept = self.keep(&reference.namespace, Place::of_node(node), &merge(ports), &missing);
            self.parts.own.unknown.extend(kept);
        }
        self.bound_selecting(&reference, &mut selecting);
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
                Err(rejected) => self.report(&rejected, &[&reference]),
            }
        }
    }

    /// Leaves out what selects the pod beyond the most that can, and reports that.
    fn bound_selecting(&mut self, pod: &ObjectRef, selecting: &mut Vec<&PodSelection>) {
        if selecting.len() <= MOST_SELECTING {
            return;
        }
        for selection in selecting.drain(MOST_SELECTING..) {
            self.parts.own.problems.report_shared(&selection.too_many);
        }
        let message = format!(
            "more than {MOST_SELECTING} HostPortExposures select it; the first {MOST_SELECTING} in order of name \
             open its ports, the others nothing of it"
        );
        self.report(&reject(pod, reasons::TOO_MANY_EXPOSURES, message), &[]);
    }

    fn report(&mut self, problem: &Problem, others: &[&ObjectRef]) {
        self.parts.own.problems.report(problem, others);
    }

    /// Builds the request of the pod's own annotations, or else of the Ingress or the Service behind it.
    fn build_pod_request(
        &mut self,
        pod: &Pod,
        reference: &ObjectRef,
        host_ports: &HostPorts,
    ) -> Result<Option<PortRequest>, Rejected> {
        let known = [EXPOSE, SOURCE_RANGES, HOSTNAME];
        let Inputs { index, settings, .. } = self.inputs;
        annotation::reject_unknown_annotations(&pod.metadata, &known, reference)?;
        if annotation::has_expose_annotation(pod) {
            annotation::build_request(pod, reference, host_ports)
        } else if is_haproxy(pod) {
            voyager::build_request(index, pod, reference, host_ports, &mut self.parts.own.problems)
        } else if service_lb::is_service_lb(pod) {
            service_lb::build_request(index, settings, pod, reference, host_ports)
        } else {
            annotation::build_request(pod, reference, host_ports)
        }
    }

    /// Collects the exposures of a Service on the nodes that serve its node ports.
    fn collect_node_ports(
        &mut self,
        service: &Service,
        reference: &ObjectRef,
        nodes: impl FnOnce() -> BTreeSet<&'a str>,
    ) -> Result<(), Rejected> {
        let index = self.inputs.index;
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
            let ports = merge(node_ports.values().map(|port| (port.protocol, port.ports)));
            let kept = self.keep(&reference.namespace, Place::Anywhere, &ports, &missing);
            self.parts.own.unknown.extend(kept);
        }
        let request = if has_annotation {
            let request = node_port::build_request(service, reference, &node_ports)?;
            voyager::reject_stats_port(service, &request)?;
            Some(request)
        } else {
            let problems = &mut self.parts.own.problems;
            voyager::build_node_port_request(index, service, reference, &node_ports, problems)?
        };
        let Some(request) = request else { return Ok(()) };
        self.add_exposures(reference, nodes(), &request);
        Ok(())
    }

    /// Returns those of these ports that no guardrail stands against, to be kept open where they are open.
    fn keep(
        &self,
        namespace: &str,
        place: Place,
        ports: &PortRanges,
        missing: &str,
    ) -> Option<UnknownDemand> {
        let Inputs { index, settings, .. } = self.inputs;
        let namespace_object = index.namespace(namespace);
        let opening = OpeningRequest { namespace, namespace_object, ports, hostname: None };
        let rules = RuleSet::from_anywhere(settings.guardrails.find_allowed_ports(&opening));
        (!rules.is_empty()).then(|| UnknownDemand { place, rules, missing: missing.to_owned() })
    }

    /// Returns the ports of a request on a node, to be kept open there: it is not known if they may be.
    fn keep_request(&self, node_name: &str, request: &PortRequest, missing: &str) -> Option<UnknownDemand> {
        let place = Place::of_node(self.inputs.index.node(node_name));
        self.keep(&request.intent.namespace, place, &request.merge_ports(), missing)
    }

    /// Adds the exposures of a request on these nodes, and reports the problems.
    fn add_exposures<'n>(
        &mut self,
        port_owner: &ObjectRef,
        node_names: impl IntoIterator<Item = &'n str>,
        request: &PortRequest,
    ) {
        let Inputs { index, settings, .. } = self.inputs;
        match Opening::new(index, settings, port_owner, request) {
            Ok(mut opening) => {
                for node_name in node_names {
                    let part = self.build_part(port_owner, node_name, request, &mut opening);
                    self.parts.on_nodes.entry(node_name.to_owned()).or_default().append(part);
                }
            }
            Err(denial) => {
                for node_name in node_names.into_iter().filter(|_| denial.is_unknown) {
                    let kept = self.keep_request(node_name, request, &denial.message);
                    self.parts.on_nodes.entry(node_name.to_owned()).or_default().unknown.extend(kept);
                }
                self.report(&reject_denied(request, &denial), &[port_owner, &request.intent]);
            }
        }
    }

    /// Builds what a request opens on a node, with the problems there.
    fn build_part(
        &self,
        port_owner: &ObjectRef,
        node_name: &str,
        request: &PortRequest,
        opening: &mut Opening<'_>,
    ) -> Part {
        let others = [port_owner, &request.intent];
        let node = self.inputs.index.node(node_name);
        let mut part = Part::default();
        let (Place::Machine(provider_id), Some(node)) = (Place::of_node(node), node) else {
            let problem = unknown_machine(port_owner, node_name, node);
            let missing = format!("{}: {}", problem.object, problem.message);
            match opening.rules_for_unknown_node() {
                Ok(rules) => {
                    part.unknown.insert(UnknownDemand { place: Place::UnknownMachine, rules, missing });
                    part.problems.report(&problem, &others);
                }
                Err(problems) => problems.iter().for_each(|problem| part.problems.report(problem, &others)),
            }
            return part;
        };
        let BuiltRules { rules, problems } = opening.rules_for(source_ranges::find_families(node));
        for problem in problems {
            part.problems.report(problem, &others);
        }
        let Some(FamilyRules { rules, group }) = rules.clone() else { return part };
        part.exposures.push(Exposure {
            port_owner: port_owner.clone(),
            node: node_reference(node),
            provider_id,
            intent: request.intent.clone(),
            group,
            rules,
            hostname: request.hostname.clone(),
        });
        if let Some(hostname) = request.hostname.as_ref().filter(|_| !self.inputs.settings.external_dns) {
            let message = format!("{hostname} is not published: the controller runs without --external-dns");
            part.problems.report(&fail(&request.intent, reasons::NOT_PUBLISHED, message), &[]);
        }
        part
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
