//! All exposures of the cluster, by the part of the demand that they come from.

use std::sync::Arc;

use rpds::RedBlackTreeMapSync;

use super::exposure::Exposure;
use crate::k8s::index::{NamespacedName, Watch};

/// The parts in which demand is computed: each alone, when something changes that it depends on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PartKey {
    /// What is wrong with an object by itself
    Object(Watch, NamespacedName),
    /// Node ports of Services that are not known
    UnknownServices,
    /// A pod
    Pod(NamespacedName),
    /// A Service, whatever nodes serve it
    Service(NamespacedName),
    /// A Service on one node
    ServiceOnNode(NamespacedName, String),
}

/// Exposures: those of pods, and then those of Services, in order of namespace and name. A copy shares what
/// has not changed with the original.
#[derive(Clone, Debug, Default)]
pub struct Exposures(RedBlackTreeMapSync<PartKey, Arc<[Exposure]>>);

impl Exposures {
    /// Returns all of them.
    pub fn iter(&self) -> impl Iterator<Item = &Exposure> {
        self.0.values().flat_map(|exposures| exposures.iter())
    }

    /// Returns those of one part.
    #[must_use]
    pub fn of_part(&self, part: &PartKey) -> Option<&Arc<[Exposure]>> {
        self.0.get(part)
    }

    /// Returns all of them, by part.
    pub fn parts(&self) -> impl Iterator<Item = (&PartKey, &Arc<[Exposure]>)> {
        self.0.iter()
    }

    /// Returns those of the parts that `is_meant` selects.
    pub(crate) fn select(&self, is_meant: impl Fn(&[Exposure]) -> bool) -> Self {
        let mut selected = RedBlackTreeMapSync::new_sync();
        for (key, part) in self.0.iter().filter(|(_, part)| is_meant(part)) {
            selected.insert_mut(key.clone(), Arc::clone(part));
        }
        Self(selected)
    }

    /// Returns the parts that have any, from one on.
    pub(super) fn keys_from(&self, first: &PartKey) -> impl Iterator<Item = &PartKey> {
        self.0.range(first.clone()..).map(|(key, _)| key)
    }

    /// Replaces those of one part. Returns true if they differ.
    pub(super) fn replace(&mut self, key: &PartKey, exposures: Vec<Exposure>) -> bool {
        if exposures.is_empty() {
            // Removing what is not there would copy part of the map.
            return self.0.contains_key(key) && self.0.remove_mut(key);
        }
        let differs = self.0.get(key).is_none_or(|before| **before != *exposures);
        if differs {
            self.0.insert_mut(key.clone(), exposures.into());
        }
        differs
    }
}

impl PartialEq for Exposures {
    fn eq(&self, other: &Self) -> bool {
        let mut pairs = self.0.iter().zip(other.0.iter());
        let mut has_same_pairs = || {
            pairs.all(|((key, one), (other_key, other))| {
                Arc::ptr_eq(one, other) || key == other_key && one == other
            })
        };
        self.0.ptr_eq(&other.0) || self.0.size() == other.0.size() && has_same_pairs()
    }
}

impl FromIterator<Exposure> for Exposures {
    fn from_iter<T: IntoIterator<Item = Exposure>>(exposures: T) -> Self {
        let mut by_key = RedBlackTreeMapSync::new_sync();
        for exposure in exposures {
            let owner = &exposure.port_owner;
            let name = (owner.namespace.clone(), owner.name.clone());
            let key = if owner.kind == "Pod" {
                PartKey::Pod(name)
            } else {
                PartKey::ServiceOnNode(name, exposure.node.name.clone())
            };
            let before: &[Exposure] = by_key.get(&key).map_or(&[], |before: &Arc<[Exposure]>| before);
            let all = before.iter().cloned().chain([exposure]).collect();
            by_key.insert_mut(key, all);
        }
        Self(by_key)
    }
}
