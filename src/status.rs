//! Statuses: what has become of each `HostPortExposure`, in the words of the Gateway API. Pure.

use std::collections::{BTreeMap, BTreeSet};

use firewall_model::Workload;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::exposures::listed;
use crate::host_port_exposure::{HostPortExposure, HostPortExposureStatus, OpenAddress, OpenNode};
use crate::index::Index;
use crate::notice::Notice;
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

/// The kind of the workload that an exposure's pods form.
const KIND: &str = "HostPortExposure";

/// The status of every exposure, by namespace and name.
#[must_use]
pub fn statuses(
    index: &Index,
    outcomes: &Outcomes,
    now: &Time,
) -> BTreeMap<(String, String), HostPortExposureStatus> {
    let status = |exposure: &HostPortExposure| {
        let metadata = &exposure.metadata;
        let namespace = metadata.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let name = metadata.name.clone().unwrap_or_default();
        let workload = Workload { kind: KIND.to_owned(), namespace: namespace.clone(), name: name.clone() };
        ((namespace, name), status(index, outcomes, exposure, &workload, now))
    };
    index.all_host_port_exposures().map(status).collect()
}

fn status(
    index: &Index,
    outcomes: &Outcomes,
    exposure: &HostPortExposure,
    workload: &Workload,
    now: &Time,
) -> HostPortExposureStatus {
    let own: Vec<&Membership> =
        outcomes.memberships.iter().filter(|membership| membership.group.workload == *workload).collect();
    let open = || own.iter().filter(|membership| membership.open.is_ok());
    let mut nodes: BTreeMap<&str, BTreeSet<&String>> = BTreeMap::new();
    for membership in open() {
        nodes.entry(&membership.node.name).or_default().extend(&membership.resources);
    }
    let ports = open().flat_map(|membership| membership.group.ports.iter().copied()).collect();
    let verdicts =
        [("Accepted", accepted(outcomes, workload)), ("Programmed", programmed(outcomes, &own, workload))];
    let before = exposure.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let condition =
        |(kind, verdict): (&str, Verdict)| verdict.condition(kind, exposure.metadata.generation, before, now);
    HostPortExposureStatus {
        conditions: verdicts.map(condition).into(),
        ports: listed(&ports),
        node_count: i32::try_from(nodes.len()).unwrap_or(i32::MAX),
        addresses: addresses(index, &own),
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
struct Verdict {
    holds: bool,
    reason: String,
    message: String,
}

impl Verdict {
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

fn accepted(outcomes: &Outcomes, workload: &Workload) -> Verdict {
    let concerns = |notice: &&Notice| {
        let object = &notice.object;
        object.kind == KIND && object.namespace == workload.namespace && object.name == workload.name
    };
    // What the cloud refuses is told on the object too, but is no fault of what it asks for.
    let fault = |notice: &&Notice| {
        ["InvalidExposure", "InvalidSelector", "PortDenied", "TooManyRules"].contains(&notice.reason.as_str())
    };
    match outcomes.problems.iter().filter(concerns).find(fault) {
        Some(problem) => Verdict::new(false, &problem.reason, &problem.message),
        None => Verdict::new(true, "Accepted", "it can be understood, and no guardrail stands against it"),
    }
}

fn programmed(outcomes: &Outcomes, own: &[&Membership], workload: &Workload) -> Verdict {
    let failed = own.iter().find_map(|membership| Some((membership, membership.open.as_ref().err()?)));
    if let Some((membership, (reason, message))) = failed {
        return Verdict::new(false, reason, &format!("on node {}: {message}", membership.node.name));
    }
    let known: BTreeSet<&str> = own.iter().map(|membership| membership.node.name.as_str()).collect();
    let mut asked = outcomes.asked.iter().filter(|(other, _)| other == workload);
    match asked.find(|(_, node)| !known.contains(node.name.as_str())) {
        Some((_, node)) => {
            let message = format!("no cloud has confirmed node {}; its Events say more", node.name);
            Verdict::new(false, "NotConfirmed", &message)
        }
        None if own.is_empty() => {
            Verdict::new(false, "NoPods", "no pod that it selects binds a port that it names")
        }
        None => Verdict::new(true, "Programmed", "the cloud has confirmed everything that it asks for"),
    }
}

/// The addresses of nodes where ports are open and a pod is ready.
fn addresses(index: &Index, own: &[&Membership]) -> Vec<OpenAddress> {
    let ready =
        |pod: &ObjectRef| index.pod(&pod.namespace, &pod.name).is_some_and(|pod| pod.status.is_ready());
    let serving =
        own.iter().filter(|membership| membership.open.is_ok() && membership.pods.iter().any(ready));
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
