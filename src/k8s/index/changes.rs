//! Changes: the objects that have changed since somebody last asked.

use std::collections::BTreeSet;

use super::object::NamespacedName;
use super::watch::Watch;

/// The most objects that are named; beyond, anything may have changed. Endpoints change all the time, and are
/// asked for only when something else changes too.
const MOST_NAMED: usize = 100_000;

/// The objects that have changed. By default anything may have: nobody has seen any of it yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// None if anything may have changed
    named: Option<BTreeSet<(Watch, NamespacedName)>>,
}

impl Changes {
    /// Returns no changes.
    pub(crate) const fn none() -> Self {
        Self { named: Some(BTreeSet::new()) }
    }

    /// Returns the changed objects; none if anything may have changed.
    #[must_use]
    pub const fn named(&self) -> Option<&BTreeSet<(Watch, NamespacedName)>> {
        self.named.as_ref()
    }

    /// Records that an object has been added, changed or removed.
    pub(super) fn mark(&mut self, watch: &Watch, name: NamespacedName) {
        let Some(named) = &mut self.named else { return };
        if named.len() < MOST_NAMED {
            named.insert((watch.clone(), name));
        } else {
            self.mark_all();
        }
    }

    /// Adds what has changed after that.
    pub(crate) fn append(&mut self, later: &Self) {
        match &later.named {
            Some(named) => named.iter().for_each(|(watch, name)| self.mark(watch, name.clone())),
            None => self.mark_all(),
        }
    }

    /// Records that anything may have changed.
    pub(super) fn mark_all(&mut self) {
        self.named = None;
    }

    /// Returns the changes, and begins anew without any.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::none())
    }
}
