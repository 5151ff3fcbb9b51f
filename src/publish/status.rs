//! Statuses: what has become of each `HostPortExposure`, in the words of the Gateway API. Pure.

use std::collections::{BTreeMap, BTreeSet};

use firewall_core::{GroupKey, Workload};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::addresses::{self, AddressResolver, Reachability};
use super::outcomes::Outcomes;
use crate::intents::exposure::Exposure;
use crate::k8s::host_port_exposure::{
    HostPortExposure, HostPortExposureStatus, MOST_ADDRESSES, MOST_NODES, OpenAddress, OpenNode,
};
use crate::k8s::index::Index;
use crate::k8s::objects::ObjectRef;
use crate::k8s::problem::{Problem, Verdict};
use crate::parse::ports::format_ports;
use crate::reconcile::outcome::{Membership, with_ids};

/// The statuses that were written last: the index may not show them yet.
pub type Statuses = BTreeMap<ObjectRef, HostPortExposureStatus>;

/// The status of every exposure that has been looked at, with all nodes and addresses; see [`truncate_lists`].
#[must_use]
pub fn statuses<'a>(
    index: &'a Index,
    outcomes: &Outcomes,
    written: &Statuses,
    now: &Time,
) -> Vec<(&'a HostPortExposure, HostPortExposureStatus)> {
    let servers = AddressResolver::new(index, outcomes);
    let mut asked: BTreeMap<&Workload, Vec<&Exposure>> = BTreeMap::new();
    for exposure in outcomes.asked.iter() {
        asked.entry(&exposure.workload).or_default().push(exposure);
    }
    let mut memberships: BTreeMap<&Workload, Vec<&Membership>> = BTreeMap::new();
    for membership in &outcomes.memberships {
        memberships.entry(&membership.group.workload).or_default().push(membership);
    }
    let status = |exposure: &'a HostPortExposure| {
        let generation = outcomes.generations.get(&exposure.reference())?;
        let workload = exposure.workload();
        let own = memberships.get(&workload).map_or(&[][..], Vec::as_slice);
        let asked = asked.get(&workload).map_or(&[][..], Vec::as_slice);
        let reference = exposure.reference();
        let before = written.get(&reference).or(exposure.status.as_ref());
        let addresses = addresses(index, &servers, asked, before);
        let accepted = accepted(outcomes, &reference);
        let node_problem = outcomes.problems.iter().find(|notice| {
            same_object(&notice.object, &reference) && NODE_REASONS.contains(&notice.reason.as_str())
        });
        let programmed = programmed(own, asked, &accepted, node_problem, outcomes.unknown);
        let conditions = [("Accepted", accepted), ("Programmed", programmed)].map(|(kind, finding)| {
            let before = before.map(|status| status.conditions.as_slice()).unwrap_or_default();
            finding.condition(kind, *generation, before, now)
        });
        Some((exposure, status(own, conditions.into(), addresses)))
    };
    index.host_port_exposures().filter_map(status).collect()
}

fn status(
    own: &[&Membership],
    conditions: Vec<Condition>,
    addresses: Vec<OpenAddress>,
) -> HostPortExposureStatus {
    let open = || own.iter().filter(|membership| membership.open.is_ok());
    let mut nodes: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for membership in open() {
        nodes.entry(&membership.node.name).or_default().extend(with_ids(&membership.resources));
    }
    let ports = open().flat_map(|membership| membership.group.ports.iter().copied()).collect();
    HostPortExposureStatus {
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

/// A condition's status, reason and message.
struct Finding {
    /// None if it cannot be known
    holds: Option<bool>,
    reason: String,
    message: String,
}

impl Finding {
    fn new(holds: bool, reason: &str, message: &str) -> Self {
        Self { holds: Some(holds), reason: reason.to_owned(), message: message.to_owned() }
    }

    /// The time of the last transition changes only when the status does.
    fn condition(self, kind: &str, generation: i64, before: &[Condition], now: &Time) -> Condition {
        let status = match self.holds {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        };
        let same = before.iter().find(|condition| condition.type_ == kind && condition.status == status);
        Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: self.reason,
            message: self.message,
            observed_generation: Some(generation),
            last_transition_time: same.map_or_else(|| now.clone(), |same| same.last_transition_time.clone()),
        }
    }
}

/// Whether both are the same, in whichever version of their API.
fn same_object(one: &ObjectRef, other: &ObjectRef) -> bool {
    (&one.kind, &one.namespace, &one.name) == (&other.kind, &other.namespace, &other.name)
}

fn accepted(outcomes: &Outcomes, exposure: &ObjectRef) -> Finding {
    let concerns = |notice: &&Problem| same_object(&notice.object, exposure);
    // What the cloud refuses is told on the object too, but is no fault of what it asks for.
    let refused = |notice: &&Problem| notice.verdict == Verdict::Refused;
    match outcomes.problems.iter().filter(concerns).find(refused) {
        Some(problem) => Finding::new(false, &problem.reason, &problem.message),
        None => Finding::new(true, "Accepted", "it can be understood, and no guardrail stands against it"),
    }
}

/// The reasons for which something that is asked for has no place where a cloud could open it.
const NODE_REASONS: [&str; 4] = ["UnknownNode", "NoProviderId", "UnsupportedNode", "NoSources"];

fn programmed(
    own: &[&Membership],
    asked: &[&Exposure],
    accepted: &Finding,
    node_problem: Option<&Problem>,
    unknown: bool,
) -> Finding {
    let failed = own.iter().find_map(|membership| Some((membership, membership.open.as_ref().err()?)));
    if let Some((membership, (reason, message))) = failed {
        return Finding::new(false, reason, &format!("on node {}: {message}", membership.node.name));
    }
    if let Some(problem) = node_problem {
        return Finding::new(false, &problem.reason, &problem.message);
    }
    let known: BTreeSet<(&GroupKey, &str)> =
        own.iter().map(|membership| (&membership.group, membership.node.name.as_str())).collect();
    match asked.iter().find(|exposure| !known.contains(&(&exposure.group(), exposure.node.name.as_str()))) {
        Some(Exposure { node, .. }) => {
            let message = format!("no cloud has confirmed node {}; its Events say more", node.name);
            let finding = Finding::new(false, "NotConfirmed", &message);
            // A cloud that cannot be read may have it, or not.
            if unknown { Finding { holds: None, ..finding } } else { finding }
        }
        None if own.is_empty() && accepted.holds == Some(false) => {
            Finding::new(false, "Invalid", "it is not accepted, so nothing of it is opened")
        }
        None if own.is_empty() => Finding::new(false, "NoPods", "it selects no pod that has a host port"),
        None => Finding::new(true, "Programmed", "the cloud has confirmed everything that it asks for"),
    }
}

/// The addresses of nodes where clients find a pod.
fn addresses(
    index: &Index,
    servers: &AddressResolver<'_>,
    asked: &[&Exposure],
    before: Option<&HostPortExposureStatus>,
) -> Vec<OpenAddress> {
    let known =
        |node: &str| before.is_some_and(|before| before.addresses.iter().any(|address| address.node == node));
    let served = asked.iter().filter(|exposure| match servers.reachability(exposure) {
        Reachability::Yes => true,
        Reachability::No => false,
        Reachability::Unknown => known(&exposure.node.name),
    });
    let nodes: BTreeSet<&str> = served.map(|exposure| exposure.node.name.as_str()).collect();
    let addresses = nodes.into_iter().flat_map(|name| {
        addresses::of_node(index, name).map(move |address| OpenAddress {
            kind: address.kind.clone(),
            address: address.address.clone(),
            node: name.to_owned(),
        })
    });
    let addresses: BTreeSet<OpenAddress> = addresses.collect();
    addresses.into_iter().collect()
}

/// The status as it is written: with no more nodes and addresses than it can hold. Numbers and conditions are of all.
#[must_use]
pub fn truncate_lists(mut status: HostPortExposureStatus) -> HostPortExposureStatus {
    status.nodes.truncate(MOST_NODES);
    let nodes: BTreeSet<&str> = status.addresses.iter().map(|address| address.node.as_str()).collect();
    let too_many = nodes.into_iter().nth(MOST_NODES).map(str::to_owned);
    if let Some(first) = too_many {
        status.addresses.retain(|address| address.node < first);
    }
    status.addresses.truncate(MOST_ADDRESSES);
    status
}

/// What has to be written before anything closes: the statuses whose addresses lead to what is about to, without these.
#[must_use]
pub fn retracted(
    statuses: &[(&HostPortExposure, HostPortExposureStatus)],
    written: &Statuses,
) -> Vec<(ObjectRef, HostPortExposureStatus)> {
    let leaving = statuses.iter().filter_map(|(exposure, wanted)| {
        let reference = exposure.reference();
        let before = written.get(&reference).or(exposure.status.as_ref())?;
        let mut kept = before.clone();
        kept.addresses.retain(|address| wanted.addresses.contains(address));
        (kept.addresses.len() < before.addresses.len()).then_some((reference, kept))
    });
    leaving.collect()
}

#[cfg(test)]
mod tests;
