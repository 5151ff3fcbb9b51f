//! The objects that something has to be told of again.

use std::collections::{BTreeMap, BTreeSet};

use crate::k8s::index::NamespacedName;
use crate::k8s::objects::ObjectRef;

/// The objects whose status or readiness gate may be outdated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::publish) struct Concerned {
    /// `HostPortExposure`s
    intents: Names,
    pods: Names,
}

/// Names by namespace: looking for one copies none.
type Names = BTreeMap<String, BTreeSet<String>>;

impl Concerned {
    /// Returns true if nothing may be outdated.
    pub(in crate::publish) fn is_empty(&self) -> bool {
        self.intents.is_empty() && self.pods.is_empty()
    }

    /// Adds an object, if it has a status or can have a gate.
    pub(super) fn add(&mut self, object: &ObjectRef) {
        if !self.has(object)
            && let Some(names) = self.names_mut(object)
        {
            names.entry(object.namespace.clone()).or_default().insert(object.name.clone());
        }
    }

    /// Adds a `HostPortExposure`.
    pub(super) fn add_intent(&mut self, (namespace, name): NamespacedName) {
        self.intents.entry(namespace).or_default().insert(name);
    }

    /// Adds a pod.
    pub(super) fn add_pod(&mut self, (namespace, name): NamespacedName) {
        self.pods.entry(namespace).or_default().insert(name);
    }

    /// Adds all of another.
    pub(super) fn append(&mut self, other: &Self) {
        names(&other.intents).for_each(|name| self.add_intent(name));
        names(&other.pods).for_each(|name| self.add_pod(name));
    }

    /// Returns true if the status or the gate of this object may be outdated.
    pub(in crate::publish) fn has(&self, object: &ObjectRef) -> bool {
        let names = match &*object.kind {
            "HostPortExposure" => &self.intents,
            "Pod" => &self.pods,
            _ => return false,
        };
        names.get(&object.namespace).is_some_and(|names| names.contains(&object.name))
    }

    /// Returns the `HostPortExposure`s, by namespace and name.
    pub(in crate::publish) fn intents(&self) -> impl Iterator<Item = NamespacedName> {
        names(&self.intents)
    }

    /// Returns the pods, by namespace and name.
    pub(in crate::publish) fn pods(&self) -> impl Iterator<Item = NamespacedName> {
        names(&self.pods)
    }

    fn names_mut(&mut self, object: &ObjectRef) -> Option<&mut Names> {
        match &*object.kind {
            "HostPortExposure" => Some(&mut self.intents),
            "Pod" => Some(&mut self.pods),
            _ => None,
        }
    }
}

fn names(names: &Names) -> impl Iterator<Item = NamespacedName> {
    names.iter().flat_map(|(namespace, names)| names.iter().map(|name| (namespace.clone(), name.clone())))
}
