//! The pods that `HostPortExposure`s select, by namespace: each is parsed once for all pods.

use std::collections::BTreeMap;

use super::host_port_exposure::PodSelection;
use super::request::Rejected;
use crate::k8s::index::{Index, NamespacedName};

/// Every `HostPortExposure`, parsed, by namespace and name.
#[derive(Default)]
pub(super) struct Selections(BTreeMap<String, BTreeMap<String, Selection>>);

/// The selection of an object, or the mistake in it.
type Selection = Result<PodSelection, Rejected>;

impl Selections {
    /// Returns those of a namespace that are understood, in order of name.
    pub(super) fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &PodSelection> {
        self.0.get(namespace).into_iter().flat_map(BTreeMap::values).flatten()
    }

    /// Returns one object's; none if it does not exist, or cannot be read.
    pub(super) fn get(&self, (namespace, name): &NamespacedName) -> Option<&Selection> {
        self.0.get(namespace)?.get(name)
    }

    /// Parses an object as it is now. Returns what there was before.
    pub(super) fn replace(&mut self, index: &Index, name: &NamespacedName) -> Option<Selection> {
        let now = index.host_port_exposure(name).map(PodSelection::parse);
        let (namespace, name) = name;
        if let Some(now) = now {
            return self.0.entry(namespace.clone()).or_default().insert(name.clone(), now);
        }
        let all = self.0.get_mut(namespace)?;
        let before = all.remove(name);
        if all.is_empty() {
            self.0.remove(namespace);
        }
        before
    }
}
