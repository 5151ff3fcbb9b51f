//! Statuses: the current state of each `HostPortExposure`, in the words of the Gateway API. Pure.

pub(super) mod joined;

use std::collections::{BTreeMap, BTreeSet};

use firewall_core::GroupKey;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::addresses::{AddressResolver, Reachability, node_addresses};
use super::outcomes::Outcomes;
use super::touched::Concerned;
use crate::intents::exposure::Exposure;
use crate::k8s::host_port_exposure::{
    ControllerStatus, HostPortExposure, MOST_ADDRESSES, MOST_NODES, OpenAddress, OpenNode,
};
use crate::k8s::index::Index;
use crate::k8s::objects::ObjectRef;
use crate::k8s::plain_text::escape_unprintable;
use crate::k8s::problem::{Problem, Verdict};
use crate::k8s::reasons::{
    ACCEPTED, INVALID, NO_PODS, NO_PROVIDER_ID, NO_SOURCES, NOT_CONFIRMED, ON_OTHER_NODES, PROGRAMMED,
    UNKNOWN_NODE, UNSUPPORTED_NODE,
};
use crate::parse::ports::format_ports;
use crate::reconcile::outcome::{Membership, with_ids};
use joined::JoinedStatus;

/// The own reports that were written last: the index may not have them yet.
pub(super) type WrittenStatuses = BTreeMap<ObjectRef, ControllerStatus>;

/// Computes this controller's report on every `HostPortExposure` that the outcomes cover, of all or of those that
/// are concerned, with all nodes and addresses; see [`truncate_lists`].
pub(super) fn compute_statuses<'a>(
    index: &'a Index,
    outcomes: &Outcomes,
    only: Option<&Concerned>,
    written: &WrittenStatuses,
    now: &Time,
) -> Vec<(&'a HostPortExposure, ControllerStatus)> {
    let resolver = AddressResolver::new(index, outcomes);
    // By the intent, which the controller itself has found: a workload can be what a pod says of itself.
    let mut exposures: BTreeMap<ObjectName<'_>, Vec<&Exposure>> = BTreeMap::new();
    for exposure in outcomes.exposures.iter() {
        exposures.entry(name_of(&exposure.intent)).or_default().push(exposure);
    }
    let mut memberships: BTreeMap<ObjectName<'_>, Vec<&Membership>> = BTreeMap::new();
    for membership in &outcomes.memberships {
        for intent in &membership.intents {
            memberships.entry(name_of(intent)).or_default().push(membership);
        }
    }
    let mut problems: BTreeMap<ObjectName<'_>, Vec<&Problem>> = BTreeMap::new();
    for problem in &outcomes.problems {
        problems.entry(name_of(&problem.object)).or_default().push(problem);
    }
    let elsewhere: BTreeMap<ObjectName<'_>, &String> =
        outcomes.elsewhere.iter().map(|(intent, node)| (name_of(intent), node)).collect();
    let status = |intent: &'a HostPortExposure| {
        let reference = intent.reference();
        let generation = outcomes.generations.get(&reference)?;
        let own = memberships.get(&name_of(&reference)).map_or(&[][..], Vec::as_slice);
        let exposures = exposures.get(&name_of(&reference)).map_or(&[][..], Vec::as_slice);
        let before = last_report(intent, &outcomes.controller, written);
        let addresses = list_addresses(index, &resolver, exposures, before);
        let problems = problems.get(&name_of(&reference)).map_or(&[][..], Vec::as_slice);
        let accepted = evaluate_accepted(problems);
        let is_of_node = |problem: &&&Problem| NODE_REASONS.contains(&problem.reason.as_str());
        let node_problem = problems.iter().find(is_of_node).copied();
        let elsewhere = elsewhere.get(&name_of(&reference)).copied();
        let programmed =
            evaluate_programmed(own, exposures, &accepted, node_problem, elsewhere, outcomes.is_incomplete);
        let conditions = [("Accepted", accepted), ("Programmed", programmed)].map(|(kind, state)| {
            let before = before.map(|status| status.conditions.as_slice()).unwrap_or_default();
            state.into_condition(kind, *generation, before, now)
        });
        Some((intent, build_status(&outcomes.controller, own, conditions.into(), addresses)))
    };
    match only {
        None => index.host_port_exposures().filter_map(status).collect(),
        Some(only) => {
            let concerned = only.intents().filter_map(|name| index.host_port_exposure(&name));
            concerned.filter_map(status).collect()
        }
    }
}

/// Returns the controller's last report on an intent.
fn last_report<'a>(
    intent: &'a HostPortExposure,
    controller: &str,
    written: &'a WrittenStatuses,
) -> Option<&'a ControllerStatus> {
    let reports = || intent.status.iter().flat_map(|status| &status.controllers);
    written.get(&intent.reference()).or_else(|| reports().find(|report| report.name == controller))
}

/// Builds a report; ports and nodes are those of the open memberships.
fn build_status(
    controller: &str,
    own: &[&Membership],
    conditions: Vec<Condition>,
    addresses: Vec<OpenAddress>,
) -> ControllerStatus {
    let open = || own.iter().filter(|membership| membership.open.is_ok());
    let mut nodes: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for membership in open() {
        nodes.entry(&membership.node.name).or_default().extend(with_ids(&membership.resources));
    }
    let ports = open().flat_map(|membership| membership.group.ports.iter().copied()).collect();
    ControllerStatus {
        name: controller.to_owned(),
        conditions,
        ports: format_ports(&ports),
        node_count: i32::try_from(nodes.len()).unwrap_or(i32::MAX),
        addresses,
        nodes: nodes
            .into_iter()
            .map(|(name, resources)| OpenNode {
                name: name.to_owned(),
                resources: resources.into_iter().collect(),
            })
            .collect(),
    }
}

/// The state of a condition, without its type and times.
struct ConditionState {
    /// None if it is unknown
    is_met: Option<bool>,
    reason: String,
    message: String,
}

impl ConditionState {
    fn new(is_met: bool, reason: &str, message: &str) -> Self {
        Self { is_met: Some(is_met), reason: reason.to_owned(), message: message.to_owned() }
    }

    /// Returns the condition. Its last transition time changes only when its status does.
    fn into_condition(self, kind: &str, generation: i64, before: &[Condition], now: &Time) -> Condition {
        let status = match self.is_met {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        };
        let same = before.iter().find(|condition| condition.type_ == kind && condition.status == status);
        Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: self.reason,
            message: escape_unprintable(&self.message).into_owned(),
            observed_generation: Some(generation),
            last_transition_time: same.map_or_else(|| now.clone(), |same| same.last_transition_time.clone()),
        }
    }
}

/// The kind, the namespace and the name of an object, in whichever version of its API.
type ObjectName<'a> = (&'a str, &'a str, &'a str);

fn name_of(object: &ObjectRef) -> ObjectName<'_> {
    (&object.kind, &object.namespace, &object.name)
}

/// Evaluates `Accepted`, by the object's own problems. A failure of the cloud is one of them too, but no
/// fault of the intent.
fn evaluate_accepted(problems: &[&Problem]) -> ConditionState {
    match problems.iter().find(|problem| problem.verdict == Verdict::Rejected) {
        Some(problem) => ConditionState::new(false, &problem.reason, &problem.message),
        None => {
            ConditionState::new(true, ACCEPTED, "it can be understood, and no guardrail forbids any of it")
        }
    }
}

/// The reasons for which an exposure has no node where a cloud could open it.
const NODE_REASONS: [&str; 4] = [UNKNOWN_NODE, NO_PROVIDER_ID, UNSUPPORTED_NODE, NO_SOURCES];

/// Evaluates `Programmed`.
fn evaluate_programmed(
    own: &[&Membership],
    exposures: &[&Exposure],
    accepted: &ConditionState,
    node_problem: Option<&Problem>,
    elsewhere: Option<&String>,
    is_incomplete: bool,
) -> ConditionState {
    let failed = own.iter().find_map(|membership| Some((membership, membership.open.as_ref().err()?)));
    if let Some((membership, (reason, message))) = failed {
        return ConditionState::new(false, reason, &format!("on node {}: {message}", membership.node.name));
    }
    let confirmed: BTreeSet<(&GroupKey, &str)> =
        own.iter().map(|membership| (&membership.group, membership.node.name.as_str())).collect();
    let unconfirmed = exposures
        .iter()
        .find(|exposure| !confirmed.contains(&(&exposure.group, exposure.node.name.as_str())));
    // It can be about a node that another controller serves.
    let is_own = |problem: &&Problem| problem.reason != UNSUPPORTED_NODE || unconfirmed.is_some();
    if let Some(problem) = node_problem.filter(is_own) {
        return ConditionState::new(false, &problem.reason, &problem.message);
    }
    match unconfirmed {
        Some(Exposure { node, .. }) => {
            let message =
                format!("no cloud has confirmed node {}; the node's Events may give the reason", node.name);
            let state = ConditionState::new(false, NOT_CONFIRMED, &message);
            // The ports may be open or not on a cloud that cannot be observed.
            if is_incomplete { ConditionState { is_met: None, ..state } } else { state }
        }
        None if own.is_empty() && accepted.is_met == Some(false) => {
            ConditionState::new(false, INVALID, "it is not accepted, so none of its ports is opened")
        }
        None if own.is_empty() => match elsewhere {
            Some(node) => {
                let message = format!(
                    "its pods run on nodes that this controller leaves to another, such as {node}; the node's Events \
                     say why"
                );
                ConditionState::new(false, ON_OTHER_NODES, &message)
            }
            None => ConditionState::new(false, NO_PODS, "it selects no pod that has a host port"),
        },
        None => ConditionState::new(true, PROGRAMMED, "the cloud has confirmed all of its ports"),
    }
}

/// Lists the addresses of the nodes where clients reach a pod. Where that is unknown, a node stays if it was
/// listed before.
fn list_addresses(
    index: &Index,
    resolver: &AddressResolver<'_>,
    exposures: &[&Exposure],
    before: Option<&ControllerStatus>,
) -> Vec<OpenAddress> {
    let listed: BTreeSet<&str> = before
        .into_iter()
        .flat_map(|before| before.addresses.iter().map(|address| address.node.as_str()))
        .collect();
    let reachable = exposures.iter().filter(|exposure| match resolver.reachability(exposure) {
        Reachability::Yes => true,
        Reachability::No => false,
        Reachability::Unknown => listed.contains(exposure.node.name.as_str()),
    });
    let nodes: BTreeSet<&str> = reachable.map(|exposure| exposure.node.name.as_str()).collect();
    let addresses = nodes.into_iter().flat_map(|name| {
        node_addresses(index, name).map(move |address| OpenAddress {
            kind: address.kind.clone(),
            address: address.address.clone(),
            node: name.to_owned(),
        })
    });
    let addresses: BTreeSet<OpenAddress> = addresses.collect();
    addresses.into_iter().collect()
}

/// Truncates the lists of nodes and addresses to the lengths that a report holds. Numbers and conditions
/// cover all.
pub(super) fn truncate_lists(mut status: ControllerStatus) -> ControllerStatus {
    status.nodes.truncate(MOST_NODES);
    let nodes: BTreeSet<&str> = status.addresses.iter().map(|address| address.node.as_str()).collect();
    let first_excess = nodes.into_iter().nth(MOST_NODES).map(str::to_owned);
    if let Some(first) = first_excess {
        status.addresses.retain(|address| address.node < first);
    }
    status.addresses.truncate(MOST_ADDRESSES);
    status
}

/// Removes the addresses whose ports are about to close, and changes nothing else. Returns the reports that
/// lose any, joined with those of other controllers.
pub(super) fn retract_addresses(
    statuses: &[(&HostPortExposure, ControllerStatus)],
    written: &WrittenStatuses,
) -> Vec<(ObjectRef, JoinedStatus)> {
    let retracted = statuses.iter().filter_map(|(intent, desired)| {
        let before = last_report(intent, &desired.name, written)?;
        let mut kept = before.clone();
        kept.addresses.retain(|address| desired.addresses.contains(address));
        let is_retracted = kept.addresses.len() < before.addresses.len();
        is_retracted.then(|| (intent.reference(), JoinedStatus::new(kept, intent.status.as_ref())))
    });
    retracted.collect()
}

#[cfg(test)]
pub(super) mod tests;
