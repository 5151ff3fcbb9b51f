//! Endings: the facts that ended memberships. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use firewall_core::{GroupKey, InstanceId};

use super::snapshot::{Machine, Snapshot};
use crate::intents::fingerprint::Fingerprints;
use crate::k8s::objects::ObjectRef;
use crate::k8s::objects::object_set::ObjectSet;
use crate::k8s::problem::Verdict;

/// The fact that ended each membership, for people: `pod shop/web was deleted`.
pub type Endings = BTreeMap<(GroupKey, InstanceId), String>;

/// The objects behind a membership.
#[derive(Debug)]
pub(super) struct Behind {
    pub(super) port_owners: ObjectSet,
    pub(super) intents: ObjectSet,
    /// The fingerprints of the intents, in the same order, once the membership is not asked for any more
    pub(super) fingerprints: Box<[Option<Arc<str>>]>,
    pub(super) node: String,
    /// The node's machine
    pub(super) machine: Option<Arc<Machine>>,
}

impl Behind {
    /// Records the fingerprints that the intents had when the membership was asked for last: whatever an edit
    /// changes, it was asked for after it.
    pub(super) fn intents_were(&mut self, fingerprints: &Fingerprints) {
        self.fingerprints =
            self.intents.iter().map(|intent| fingerprints.fingerprint(intent).cloned()).collect();
    }

    /// Returns each intent with its fingerprint.
    fn intents(&self) -> impl Iterator<Item = (&ObjectRef, Option<&Arc<str>>)> {
        self.intents.iter().zip(self.fingerprints.iter().map(Option::as_ref))
    }

    /// Returns true if the port owners have gone, and an intent goes on asking for the same on the same machine:
    /// one that has got another address would open there what nobody asks for. A pod that is its own intent
    /// counts as unchanged.
    pub(super) fn lingers(&self, snapshot: &Snapshot) -> bool {
        let goes_on = |(intent, before): (&ObjectRef, Option<&Arc<str>>)| {
            let now = snapshot.fingerprints.fingerprint(intent);
            intent.kind == "Pod" || before.is_some() && now == before
        };
        let machine = snapshot.machines.get(&self.node);
        let is_same_machine = machine.is_none() || machine == self.machine.as_ref();
        is_same_machine
            && !self.port_owners.iter().any(|port_owner| snapshot.port_owners.owns(port_owner, &self.node))
            && self.intents().any(goes_on)
    }
}

/// Returns the fact that ended a membership: what has become of the objects behind it.
pub(super) fn find_ending(snapshot: &Snapshot, behind: &Behind) -> String {
    if let Some(rejected) = find_rejection(snapshot, behind) {
        return rejected;
    }
    for (intent, before) in behind.intents() {
        match snapshot.fingerprints.fingerprint(intent) {
            None if before.is_some() => return format!("{intent} was deleted"),
            Some(now) if before.is_some_and(|before| before != now) => {
                return format!("{intent} was edited");
            }
            _ => {}
        }
    }
    let owns = |owner: &&ObjectRef| snapshot.port_owners.owns(owner, &behind.node);
    let Some(owner) = behind.port_owners.iter().find(owns) else {
        return describe_departure(behind);
    };
    if let (Some(now), Some(before)) = (snapshot.machines.get(&behind.node), &behind.machine)
        && now.provider_id != before.provider_id
    {
        return format!("node {} is another machine now, {}", behind.node, now.provider_id);
    }
    format!("{owner} asks for it no longer")
}

/// Returns the guardrail, or the mistake, for which an object behind the membership is rejected now.
fn find_rejection(snapshot: &Snapshot, behind: &Behind) -> Option<String> {
    let is_behind = |object: &ObjectRef| {
        behind.intents.iter().chain(&behind.port_owners).any(|other| {
            (&other.kind, &other.namespace, &other.name) == (&object.kind, &object.namespace, &object.name)
        })
    };
    let namespaces: BTreeSet<&str> =
        behind.intents.iter().chain(&behind.port_owners).map(|object| object.namespace.as_str()).collect();
    let mut problems = namespaces.into_iter().flat_map(|namespace| snapshot.problems.of_namespace(namespace));
    let problem =
        problems.find(|problem| problem.verdict == Verdict::Rejected && is_behind(&problem.object))?;
    Some(format!("{} is rejected: {}", problem.object, problem.message))
}

fn describe_departure(behind: &Behind) -> String {
    match behind.port_owners.first() {
        Some(pod) if pod.kind == "Pod" => format!("{pod} was deleted or has finished"),
        Some(service) => format!("{service} is no longer served by node {}", behind.node),
        None => "nothing asks for it".to_owned(),
    }
}
