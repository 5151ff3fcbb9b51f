//! The difference between the desired and the observed resources.

use crate::{Owner, Resource, ResourceSet};

/// The changes that turn observed into desired, in no order yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diff<R> {
    /// Desired and absent
    pub create: Vec<R>,
    /// Present with another spec
    pub update: Vec<Change<R>>,
    /// Ours, present and not desired
    pub delete: Vec<R>,
}

/// One resource before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<R> {
    /// The resource as it is
    pub from: R,
    /// The resource as it should be
    pub to: R,
}

impl<R> Diff<R> {
    /// Returns true if there is nothing to change.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.create.is_empty() && self.update.is_empty() && self.delete.is_empty()
    }
}

/// Compares two sets of resources by key and spec. Leaves out foreign resources, and a desired resource whose
/// key a foreign one has.
#[must_use]
pub fn diff<R: Resource>(desired: &ResourceSet<R>, observed: &ResourceSet<R>) -> Diff<R> {
    let mut diff = Diff { create: Vec::new(), update: Vec::new(), delete: Vec::new() };
    for (key, to) in desired {
        match observed.get(key) {
            None => diff.create.push(to.clone()),
            Some(from) if from.owner() == Owner::Foreign || from.has_same_spec(to) => {}
            Some(from) => diff.update.push(Change { from: from.clone(), to: to.clone() }),
        }
    }
    let obsolete = observed
        .iter()
        .filter(|(key, resource)| resource.owner() == Owner::Ours && !desired.contains_key(key));
    diff.delete.extend(obsolete.map(|(_, resource)| resource.clone()));
    diff
}
