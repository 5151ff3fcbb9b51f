//! Touched: what has changed since something was published last, and which statuses and readiness gates that can
//! reach. The others are as they were, and are not computed again. Pure.
//!
//! Results of passes and demands are recorded as they come; of the cluster itself, what has changed is compared
//! with what was published last. A property test holds what is published to what is computed of everything.

mod concerned;

use std::collections::BTreeSet;

use super::readiness::GateUpdate;
use crate::desired::snapshot::ClusterDemand;
use crate::intents::exposure::Exposure;
use crate::intents::exposures::{Exposures, PartKey};
use crate::k8s::index::difference::differing_keys;
use crate::k8s::index::{Changes, Index, NamespacedName, Watch};
use crate::k8s::objects::{GATE, Node, ObjectRef, Pod, has_readiness_gate};
use crate::reconcile::outcome::Membership;

pub(super) use concerned::Concerned;

/// What has changed since something was published last.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// None if anything may have changed
    changed: Option<Changed>,
    /// The objects of the index that have changed
    in_index: Changes,
    /// The index as it was then; none before the first time. Of Services no status tells the readiness
    last: Option<Index>,
    /// Those of which something was still to be written
    unwritten: Concerned,
}

/// Objects that have changed, or that a changed result is about.
#[derive(Clone, Debug, Default)]
struct Changed {
    objects: Concerned,
    /// The nodes on which everything is to be told again
    nodes: BTreeSet<String>,
}

impl Touched {
    /// Records that anything may have changed.
    pub(super) fn add_everything(&mut self) {
        self.changed = None;
    }

    /// Records that something about an object has changed.
    pub(super) fn add_object(&mut self, object: &ObjectRef) {
        if let Some(changed) = &mut self.changed {
            changed.objects.add(object);
        }
    }

    /// Records that a membership has come, gone or changed.
    pub(super) fn add_membership(&mut self, membership: &Membership) {
        let Some(changed) = &mut self.changed else { return };
        membership.intents.iter().chain(&membership.port_owners).for_each(|one| changed.objects.add(one));
    }

    /// Records that other generations are covered.
    pub(super) fn add_generations(&mut self, before: &ClusterDemand, now: &ClusterDemand) {
        let (before, now) = (&before.generations, &now.generations);
        if self.changed.is_some() && !before.ptr_eq(now) {
            for exposure in differing_keys(before, now, PartialEq::eq) {
                self.add_object(exposure);
            }
        }
    }

    /// Records that there is another demand. On a node of another controller, nobody's gates are written.
    pub(super) fn add_demand(
        &mut self,
        before: &ClusterDemand,
        now: &ClusterDemand,
        is_anothers: impl Fn(&Exposure) -> bool,
    ) {
        self.add_generations(before, now);
        let Some(parts) = now.parts_since(before) else { return self.add_everything() };
        let Some(changed) = &mut self.changed else { return };
        for key in parts {
            let parts = [&before.exposures, &now.exposures].map(|exposures| exposures.of_part(&key));
            for exposure in parts.into_iter().flatten().flat_map(|part| part.iter()) {
                changed.objects.add(&exposure.intent);
                changed.objects.add(&exposure.port_owner);
                if is_anothers(exposure) {
                    changed.nodes.insert(exposure.node.name.clone());
                }
            }
        }
        if before.pods_with_gate.ptr_eq(&now.pods_with_gate) {
            return;
        }
        let [before, now] = [before, now].map(|demand| demand.pods_with_gate.iter().map(|pod| (pod, &())));
        for pod in differing_keys(before, now, PartialEq::eq) {
            changed.objects.add(pod);
        }
    }

    /// Records that objects of the index have changed.
    pub(super) fn add_changes(&mut self, changes: &Changes) {
        self.in_index.append(changes);
    }

    /// Records that something about an object is to be written, or to be looked at again.
    pub(super) fn add_unwritten(&mut self, object: &ObjectRef) {
        self.unwritten.add(object);
    }

    /// Records that a gate is to be written.
    pub(super) fn add_unwritten_gate(&mut self, gate: &GateUpdate) {
        self.unwritten.add_pod((gate.namespace.clone(), gate.name.clone()));
    }

    /// Records that everything is published that differs in the cluster as it is now, but for what is
    /// [still to be written](Self::add_unwritten).
    pub(super) fn settle(&mut self, now: &Index) {
        *self = Self {
            changed: Some(Changed::default()),
            in_index: Changes::none(),
            last: Some(now.clone()),
            unwritten: Concerned::default(),
        };
    }

    /// Returns what has to be computed anew; none if that is everything. The exposures and memberships are all
    /// that there are.
    pub(super) fn find<'a>(
        &self,
        now: &Index,
        exposures: &Exposures,
        memberships: impl Iterator<Item = &'a Membership>,
    ) -> Option<Concerned> {
        let mut changed = self.changed.clone()?;
        let (last, names) = (self.last.as_ref()?, self.in_index.named()?);
        changed.add_differences(names, (last, now), exposures);
        let Changed { mut objects, nodes } = changed;
        objects.append(&self.unwritten);
        if nodes.is_empty() {
            return Some(objects);
        }
        let is_there = |exposure: &&Exposure| nodes.contains(&exposure.node.name);
        exposures.iter().filter(is_there).for_each(|exposure| objects.add(&exposure.intent));
        for membership in memberships.filter(|membership| nodes.contains(&membership.node.name)) {
            membership.intents.iter().chain(&membership.port_owners).for_each(|one| objects.add(one));
        }
        Some(objects)
    }
}

impl Changed {
    /// Adds what differs of these objects between two views of the cluster, as far as a status or a gate tells it.
    fn add_differences(
        &mut self,
        names: &BTreeSet<(Watch, NamespacedName)>,
        (before, now): (&Index, &Index),
        exposures: &Exposures,
    ) {
        let Self { objects, nodes } = self;
        let mut moved = BTreeSet::new();
        for (watch, name) in names {
            match watch {
                Watch::HostPortExposures => objects.add_intent(name.clone()),
                Watch::Pods => {
                    if pod_facts(before.pod(&name.0, &name.1)) == pod_facts(now.pod(&name.0, &name.1)) {
                        continue;
                    }
                    let exposed = exposures.of_part(&PartKey::Pod(name.clone()));
                    exposed.into_iter().flat_map(|part| part.iter()).for_each(|one| objects.add(&one.intent));
                    objects.add_pod(name.clone());
                }
                Watch::Nodes => {
                    let (before, now) = (before.node(&name.1), now.node(&name.1));
                    let machine = |node: Option<&Node>| node.map(|node| node.spec.provider_id.clone());
                    if machine(before) != machine(now) {
                        moved.insert(name.1.clone());
                    } else if node_facts(before) == node_facts(now) {
                        continue;
                    }
                    nodes.insert(name.1.clone());
                }
                _ => {}
            }
        }
        if moved.is_empty() {
            return;
        }
        // Who writes the gate of a pod depends on the machine.
        let runs_there = |pod: &&Pod| pod.spec.node_name.as_ref().is_some_and(|node| moved.contains(node));
        now.pods().filter(runs_there).for_each(|pod| objects.add_pod(name_of(pod)));
    }
}

fn name_of(Pod { metadata, .. }: &Pod) -> NamespacedName {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

/// Returns all of a node on which a status depends, beside its machine.
fn node_facts(node: Option<&Node>) -> impl PartialEq {
    node.map(|node| (node.is_ready(), node.status.addresses.clone()))
}

/// Returns all of a pod on which a status or its gate depends.
fn pod_facts(pod: Option<&Pod>) -> impl PartialEq {
    pod.map(|pod| {
        let gate = pod.status.conditions.iter().find(|condition| condition.kind == GATE).cloned();
        let (uid, node) = (pod.metadata.uid.clone(), pod.spec.node_name.clone());
        (uid, node, pod.is_ready(), has_readiness_gate(pod), gate)
    })
}

#[cfg(test)]
mod tests;
