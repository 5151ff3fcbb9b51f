//! Statuses: what has become of each `HostPortExposure`, in the words of the Gateway API. Pure.

use std::collections::{BTreeMap, BTreeSet};

use firewall_model::Workload;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::exposures::listed;
use crate::host_port_exposure::{HostPortExposure, HostPortExposureStatus, OpenAddress, OpenNode};
use crate::index::Index;
use crate::notice::{Notice, Verdict};
use crate::objects::ObjectRef;
use crate::reconcile::Membership;

/// What the clouds have made of everything that is asked for.
#[derive(Clone, Debug, Default)]
pub struct Outcomes {
    /// What is wrong, and with what
    pub problems: BTreeSet<Notice>,
    /// Whether ports are open, on every node of an active cloud
    pub memberships: Vec<Membership>,
    /// All that is asked for
    pub asked: BTreeSet<(Workload, ObjectRef)>,
}

/// The status of every exposure.
#[must_use]
pub fn statuses<'a>(
    index: &'a Index,
    outcomes: &Outcomes,
    now: &Time,
) -> Vec<(&'a HostPortExposure, HostPortExposureStatus)> {
    let mut memberships: BTreeMap<&Workload, Vec<&Membership>> = BTreeMap::new();
    for membership in &outcomes.memberships {
        memberships.entry(&membership.group.workload).or_default().push(membership);
    }
    let status = |exposure: &'a HostPortExposure| {
        let own = memberships.get(&exposure.workload()).map_or(&[][..], Vec::as_slice);
        (exposure, status(index, outcomes, exposure, own, now))
    };
    index.all_host_port_exposures().map(status).collect()
}

fn status(
    index: &Index,
    outcomes: &Outcomes,
    exposure: &HostPortExposure,
    own: &[&Membership],
    now: &Time,
) -> HostPortExposureStatus {
    let open = || own.iter().filter(|membership| membership.open.is_ok());
    let mut nodes: BTreeMap<&str, BTreeSet<&String>> = BTreeMap::new();
    for membership in open() {
        nodes.entry(&membership.node.name).or_default().extend(&membership.resources);
    }
    let ports = open().flat_map(|membership| membership.group.ports.iter().copied()).collect();
    let accepted = accepted(outcomes, &exposure.reference());
    let programmed = programmed(outcomes, own, &exposure.workload(), &accepted);
    let findings = [("Accepted", accepted), ("Programmed", programmed)];
    let before = exposure.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let condition =
        |(kind, finding): (&str, Finding)| finding.condition(kind, exposure.metadata.generation, before, now);
    HostPortExposureStatus {
        conditions: findings.map(condition).into(),
        ports: listed(&ports),
        node_count: i32::try_from(nodes.len()).unwrap_or(i32::MAX),
        addresses: addresses(index, own),
        nodes: nodes
            .into_iter()
            .map(|(name, resources)| OpenNode {
                name: name.to_owned(),
                resources: resources.into_iter().cloned().collect(),
            })
            .collect(),
    }
}

/// A condition's status, reason and message.
struct Finding {
    holds: bool,
    reason: String,
    message: String,
}

impl Finding {
    fn new(holds: bool, reason: &str, message: &str) -> Self {
        Self { holds, reason: reason.to_owned(), message: message.to_owned() }
    }

    /// The time of the last transition changes only when the status does.
    fn condition(self, kind: &str, generation: Option<i64>, before: &[Condition], now: &Time) -> Condition {
        let status = if self.holds { "True" } else { "False" };
        let same = before.iter().find(|condition| condition.type_ == kind && condition.status == status);
        Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: self.reason,
            message: self.message,
            observed_generation: generation,
            last_transition_time: same.map_or_else(|| now.clone(), |same| same.last_transition_time.clone()),
        }
    }
}

fn accepted(outcomes: &Outcomes, exposure: &ObjectRef) -> Finding {
    let name = |object: &ObjectRef| (object.kind.clone(), object.namespace.clone(), object.name.clone());
    let concerns = |notice: &&Notice| name(&notice.object) == name(exposure);
    // What the cloud refuses is told on the object too, but is no fault of what it asks for.
    let refused = |notice: &&Notice| notice.verdict == Verdict::Refused;
    match outcomes.problems.iter().filter(concerns).find(refused) {
        Some(problem) => Finding::new(false, &problem.reason, &problem.message),
        None => Finding::new(true, "Accepted", "it can be understood, and no guardrail stands against it"),
    }
}

fn programmed(outcomes: &Outcomes, own: &[&Membership], workload: &Workload, accepted: &Finding) -> Finding {
    let failed = own.iter().find_map(|membership| Some((membership, membership.open.as_ref().err()?)));
    if let Some((membership, (reason, message))) = failed {
        return Finding::new(false, reason, &format!("on node {}: {message}", membership.node.name));
    }
    let known: BTreeSet<&str> = own.iter().map(|membership| membership.node.name.as_str()).collect();
    let mut asked = outcomes.asked.iter().filter(|(other, _)| other == workload);
    match asked.find(|(_, node)| !known.contains(node.name.as_str())) {
        Some((_, node)) => {
            let message = format!("no cloud has confirmed node {}; its Events say more", node.name);
            Finding::new(false, "NotConfirmed", &message)
        }
        None if own.is_empty() && !accepted.holds => {
            Finding::new(false, "Invalid", "it is not accepted, so nothing of it is opened")
        }
        None if own.is_empty() => {
            Finding::new(false, "NoPods", "no pod that it selects binds a port that it names")
        }
        None => Finding::new(true, "Programmed", "the cloud has confirmed everything that it asks for"),
    }
}

/// The addresses of nodes where ports are open and a pod is ready.
fn addresses(index: &Index, own: &[&Membership]) -> Vec<OpenAddress> {
    let ready =
        |pod: &ObjectRef| index.pod(&pod.namespace, &pod.name).is_some_and(|pod| pod.status.is_ready());
    let serving =
        own.iter().filter(|membership| membership.open.is_ok() && membership.binders.iter().any(ready));
    let nodes: BTreeSet<&str> = serving.map(|membership| membership.node.name.as_str()).collect();
    let addresses = nodes.into_iter().flat_map(|name| {
        let addresses = index.node(name).into_iter().flat_map(|node| &node.status.addresses);
        let reachable =
            addresses.filter(|address| ["ExternalIP", "InternalIP"].contains(&address.kind.as_str()));
        reachable.map(move |address| OpenAddress {
            kind: address.kind.clone(),
            address: address.address.clone(),
            node: name.to_owned(),
        })
    });
    let addresses: BTreeSet<OpenAddress> = addresses.collect();
    addresses.into_iter().collect()
}

#[cfg(test)]
mod tests;
