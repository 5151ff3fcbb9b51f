//! Unknown demand: ports that an object may ask for although no intent is known to, because an intent, its
//! kind or a node is not known. They stay open where they are open, and nothing is opened for them.

use firewall_core::{PortRange, Protocol, RuleSet};

use super::host_port_exposure::PodSelection;
use super::service_lb::find_served_service;
use super::voyager::labels::{find_label, is_haproxy};
use crate::k8s::host_port_exposure::HostPortExposure;
use crate::k8s::index::{Index, Watch};
use crate::k8s::objects::{Node, ObjectRef, Pod};

/// Traffic that may be asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnknownDemand {
    /// The machine that they may be asked for on
    pub place: Place,
    /// The traffic; from anywhere where it is not known from which sources
    pub rules: RuleSet,
    /// What is missing, for people
    pub missing: String,
}

/// The machine of an unknown demand.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The machine with this providerID
    Machine(String),
    /// A machine that no known node has
    UnknownMachine,
    /// Any machine
    Anywhere,
}

impl Place {
    /// Returns the place of a node, which may not be known.
    pub(super) fn of_node(node: Option<&Node>) -> Self {
        let provider_id = node.and_then(|node| node.spec.provider_id.clone()).filter(|id| !id.is_empty());
        provider_id.map_or(Self::UnknownMachine, Self::Machine)
    }
}

/// The ports that Kubernetes gives to node ports unless it is told otherwise.
const NODE_PORTS: (u16, u16) = (30_000, 32_767);

/// Returns the reasons why nothing may be closed at all: without all pods, or all nodes, nothing is known to
/// have ended.
pub(crate) fn why_everything_is_unknown(index: &Index) -> Vec<String> {
    let gaps = [Watch::Pods, Watch::Nodes].into_iter().filter_map(|watch| index.missing(&watch));
    // Nobody can write an object of these kinds that has not its fields: the fault is here.
    let unreadable = [Watch::Pods, Watch::Services, Watch::EndpointSlices];
    let unreadable = unreadable.iter().flat_map(|watch| index.unreadable_of(watch));
    gaps.chain(unreadable.map(|problem| format!("{} cannot be read", problem.object))).collect()
}

/// Returns the node ports that may be asked for because their Services, or the endpoints of these, are not
/// known.
pub(super) fn find_unknown_node_ports(index: &Index) -> Vec<UnknownDemand> {
    let missing = [Watch::Services, Watch::EndpointSlices].iter().filter_map(|watch| index.missing(watch));
    let missing: Vec<String> = missing.collect();
    if missing.is_empty() {
        return Vec::new();
    }
    let range = PortRange::new(NODE_PORTS.0, NODE_PORTS.1).expect("the range ascends");
    let usual = Protocol::ALL.map(|protocol| (protocol, range));
    let known = index.services().flat_map(|service| &service.spec.ports).filter_map(|port| {
        let number = port.node_port.and_then(|number| u16::try_from(number).ok())?;
        Some((Protocol::Tcp, PortRange::single(number).ok()?))
    });
    let rules = RuleSet::from_anywhere(usual.into_iter().chain(known));
    let unknown = |missing| UnknownDemand { place: Place::Anywhere, rules: rules.clone(), missing };
    missing.into_iter().map(unknown).collect()
}

/// An intent that a pod may have, and that is not known.
pub(super) struct MissingIntent {
    /// What is missing, for people
    pub(super) missing: String,
    /// What it asked for when it could be read last; none if it may have asked for anything
    pub(super) last: Option<Vec<PodSelection>>,
}

/// Returns what is missing of the intents that a pod may have beside its own annotations; none if all are
/// known.
pub(super) fn find_missing_intent(
    index: &Index,
    pod: &Pod,
    node: Option<&Node>,
    reference: &ObjectRef,
) -> Option<MissingIntent> {
    let namespace = reference.namespace.as_str();
    // These ask for declared ports alone.
    let of_another_kind = |missing| Some(MissingIntent { missing, last: Some(Vec::new()) });
    if is_haproxy(pod)
        && let Some(name) = find_label(&pod.metadata, "origin-name")
        && let Some(missing) = find_missing_ingress(index, namespace, name)
    {
        return of_another_kind(missing);
    }
    if let Some((namespace, name)) = find_served_service(pod, namespace)
        && let Some(missing) = index.missing(&Watch::Services)
    {
        return of_another_kind(format!("Service {namespace}/{name} is not known: {missing}"));
    }
    // It has open what it asked for when it could be read; nothing, if it was not understood then.
    let may_have_opened = |last: Option<&HostPortExposure>| match last {
        None => Some(None),
        Some(last) => {
            PodSelection::parse(last).ok().filter(|selection| selection.selects(pod, node)).map(Some)
        }
    };
    let unreadable = index.unreadable_exposures_in(namespace);
    let unreadable: Vec<_> =
        unreadable.filter_map(|(problem, last)| Some((problem, may_have_opened(last)?))).collect();
    if let Some((first, _)) = unreadable.first() {
        let missing = format!("{} cannot be read", first.object);
        return Some(MissingIntent { missing, last: unreadable.into_iter().map(|(_, last)| last).collect() });
    }
    let missing = index.missing(&Watch::HostPortExposures)?;
    Some(MissingIntent { missing, last: None })
}

/// Returns what is missing of the Ingress of this name; none if it is known, or known not to exist.
pub(super) fn find_missing_ingress(index: &Index, namespace: &str, name: &str) -> Option<String> {
    let object = (namespace.to_owned(), name.to_owned());
    let unreadable = index.ingress_watches().find_map(|watch| index.unreadable_object(watch, &object));
    let unreadable = unreadable.map(|problem| format!("{} cannot be read", problem.object));
    unreadable.or_else(|| index.ingress_watches().find_map(|watch| index.missing(watch)))
}
