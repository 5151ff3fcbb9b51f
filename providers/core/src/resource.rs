//! The resources that firewall groups compile to in one cloud, and the questions that planning asks of them.

mod differences;

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::fmt::{Debug, Display};
use std::ops::Deref;

pub use differences::Differences;

use crate::{Desired, GroupKey, Infeasible, InstanceId, RuleSet, Unknown};

/// All resources of one cloud by key: as they should be, or as they are. It finds those that refer to one, and
/// those at a place, without looking at the others.
#[derive(Clone, Debug)]
pub struct ResourceSet<R: Resource> {
    resources: BTreeMap<R::Key, R>,
    /// The keys of the resources that refer to each
    referrers: BTreeMap<R::Key, BTreeSet<R::Key>>,
    /// The keys of the resources at each place
    by_place: BTreeMap<InstanceId, BTreeSet<R::Key>>,
}

impl<R: Resource> ResourceSet<R> {
    /// Returns a set without resources.
    #[must_use]
    pub const fn new() -> Self {
        Self { resources: BTreeMap::new(), referrers: BTreeMap::new(), by_place: BTreeMap::new() }
    }

    /// Adds a resource under its own key. Returns the one that it replaces.
    pub fn insert(&mut self, key: R::Key, resource: R) -> Option<R> {
        debug_assert!(key == resource.key(), "{key} is not the key of {resource:?}");
        let replaced = self.remove(&key);
        for other in resource.refers_to() {
            self.referrers.entry(other).or_default().insert(key.clone());
        }
        for place in resource.places() {
            self.by_place.entry(place).or_default().insert(key.clone());
        }
        self.resources.insert(key, resource);
        replaced
    }

    /// Removes and returns a resource.
    pub fn remove(&mut self, key: &R::Key) -> Option<R> {
        let removed = self.resources.remove(key)?;
        for other in removed.refers_to() {
            remove_from_index(&mut self.referrers, other, key);
        }
        for place in removed.places() {
            remove_from_index(&mut self.by_place, place, key);
        }
        Some(removed)
    }

    /// Changes a resource, if it is there.
    pub fn change(&mut self, key: &R::Key, change: impl FnOnce(&mut R)) {
        if let Some(mut resource) = self.remove(key) {
            change(&mut resource);
            self.insert(key.clone(), resource);
        }
    }

    /// Returns the resources that refer to one.
    pub fn referrers<'a>(&'a self, key: &R::Key) -> impl Iterator<Item = &'a R> + use<'a, R> {
        self.referrers.get(key).into_iter().flatten().map(|referrer| &self.resources[referrer])
    }

    /// Returns true if whatever refers to a resource here does so in `other` too.
    pub(crate) fn has_no_other_referrers(&self, key: &R::Key, other: &Self) -> bool {
        let others = other.referrers.get(key);
        self.referrers.get(key).is_none_or(|own| others.is_some_and(|others| own.is_subset(others)))
    }

    /// Returns the resources at a [place](Resource::places).
    pub fn at<'a>(&'a self, place: &InstanceId) -> impl Iterator<Item = &'a R> + use<'a, R> {
        self.by_place.get(place).into_iter().flatten().map(|key| &self.resources[key])
    }

    /// Returns, for each instance whose reach depends on any, the resources that it depends on.
    pub(crate) fn by_instance(&self) -> BTreeMap<InstanceId, Vec<&R>> {
        let mut by_instance: BTreeMap<InstanceId, Vec<&R>> = BTreeMap::new();
        for resource in self.resources.values() {
            for instance in resource.instances(self) {
                by_instance.entry(instance).or_default().push(resource);
            }
        }
        by_instance
    }

    /// Returns everything that the set lets in to `instance`.
    #[must_use]
    pub fn reach(&self, instance: &InstanceId) -> Reach {
        R::reach(self, instance)
    }

    /// Returns the resources alone, in the order of their keys.
    pub fn into_values(self) -> impl Iterator<Item = R> {
        self.resources.into_values()
    }
}

fn remove_from_index<P: Ord, K: Ord>(index: &mut BTreeMap<P, BTreeSet<K>>, place: P, key: &K) {
    if let Entry::Occupied(mut keys) = index.entry(place) {
        keys.get_mut().remove(key);
        if keys.get().is_empty() {
            keys.remove();
        }
    }
}

impl<R: Resource> PartialEq for ResourceSet<R> {
    fn eq(&self, other: &Self) -> bool {
        self.resources == other.resources
    }
}

impl<R: Resource> Eq for ResourceSet<R> {}

impl<R: Resource> Default for ResourceSet<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: Resource> Deref for ResourceSet<R> {
    type Target = BTreeMap<R::Key, R>;

    fn deref(&self) -> &Self::Target {
        &self.resources
    }
}

impl<R: Resource> FromIterator<R> for ResourceSet<R> {
    fn from_iter<I: IntoIterator<Item = R>>(resources: I) -> Self {
        let mut set = Self::new();
        set.extend(resources);
        set
    }
}

impl<R: Resource, const N: usize> From<[R; N]> for ResourceSet<R> {
    fn from(resources: [R; N]) -> Self {
        resources.into_iter().collect()
    }
}

impl<R: Resource> Extend<R> for ResourceSet<R> {
    fn extend<I: IntoIterator<Item = R>>(&mut self, resources: I) {
        for resource in resources {
            self.insert(resource.key(), resource);
        }
    }
}

impl<'a, R: Resource> IntoIterator for &'a ResourceSet<R> {
    type Item = (&'a R::Key, &'a R);
    type IntoIter = std::collections::btree_map::Iter<'a, R::Key, R>;

    fn into_iter(self) -> Self::IntoIter {
        self.resources.iter()
    }
}

/// The owner of a resource, by the mark it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// It carries this cluster's ownership mark.
    Ours,
    /// It carries none, or another cluster's. It is never changed.
    Foreign,
}

/// One cloud's own object: a security group, its attachment to an interface, a firewall rule.
///
/// Everything here is pure. A resource that applies to instances only together with another (an attachment
/// and its groups) shows that in [`refers_to`](Self::refers_to) and [`reach`](Self::reach), so that a plan
/// can be ordered, and checked, by what is open after each of its steps.
pub trait Resource: Clone + Debug + Eq + Send + Sync + 'static {
    /// The name of one resource within the cloud.
    type Key: Clone + Debug + Display + Ord + Send + Sync + 'static;

    /// Returns the resource's name.
    fn key(&self) -> Self::Key;

    /// Returns the owner, by the mark that the resource carries.
    fn owner(&self) -> Owner;

    /// Returns true if no call is needed to turn `self` into `other`. Ids that the cloud assigns and
    /// descriptions for people are not part of the spec.
    fn has_same_spec(&self, other: &Self) -> bool;

    /// Returns the firewall groups that the resource serves, as text for reasons and reports.
    fn serves(&self) -> BTreeSet<String>;

    /// Returns everything that the resource lets in or attaches, one text each, so that a plan can show what
    /// an update adds and removes.
    fn details(&self) -> BTreeSet<String>;

    /// Returns the resources that must exist as long as this one does.
    fn refers_to(&self) -> BTreeSet<Self::Key>;

    /// Returns the resource without its references to `missing`; `None` if nothing of it is left.
    fn without_references(&self, missing: &BTreeSet<Self::Key>) -> Option<Self>;

    /// Returns the resource that lets in all that `self` or `other` does and nothing else; `None` if it
    /// exceeds the cloud's limits, or no single resource can express it.
    fn union(&self, other: &Self) -> Option<Self>;

    /// Returns the resource that lets in only what both do; `None` if nothing of it is left.
    fn intersection(&self, other: &Self) -> Option<Self>;

    /// Returns the part of the resource that lets in no more than `other` does, in however many rules; `None`
    /// if nothing is left.
    fn restrict_to(&self, other: &Self) -> Option<Self> {
        self.intersection(other)
    }

    /// Returns the part of the resource that lets in nothing but `rules`, and that at no other of its ids than
    /// `ids`. Where no single resource can express that it lets in more of what it does now; `None` if
    /// nothing is left.
    fn retain(&self, ids: &BTreeSet<InstanceId>, rules: &RuleSet) -> Option<Self>;

    /// Returns the resource under the `number`th of the other names that it can have, counted from one, so that
    /// what its own name cannot take is open beside it; `None` if it can have no other.
    fn substitute(&self, number: usize) -> Option<Self>;

    /// Returns the resource with its reference to `from`, if it has one, replaced by one to `to`.
    #[must_use]
    fn redirect(&self, from: &Self::Key, to: &Self::Key) -> Self;

    /// Returns true if the cloud replaces the resource in a single call. If not, an update opens in one step
    /// and closes in another.
    fn is_replaced_at_once(&self) -> bool;

    /// Returns the places at which [`ResourceSet::at`] finds the resource: whatever
    /// [`reach`](Self::reach) looks it up by, if that is not its key.
    fn places(&self) -> BTreeSet<InstanceId> {
        BTreeSet::new()
    }

    /// Returns the instances whose reach depends on this resource in `set`.
    fn instances(&self, set: &ResourceSet<Self>) -> BTreeSet<InstanceId>;

    /// Returns everything that `set` lets in to `instance`. It is asked for every instance: it must not look
    /// at all resources.
    fn reach(set: &ResourceSet<Self>, instance: &InstanceId) -> Reach;
}

/// The traffic that is let in to one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// The part that ingress rules can express
    pub rules: RuleSet,
    /// The part that they cannot, as text: a security group referenced as a source, all protocols, open
    /// egress. Compared as it is written.
    pub other_traffic: BTreeSet<String>,
}

impl Reach {
    /// Returns all that either lets in.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self {
            rules: self.rules.union(&other.rules),
            other_traffic: &self.other_traffic | &other.other_traffic,
        }
    }

    /// Returns all that any of them lets in.
    #[must_use]
    pub fn union_of(reaches: &[Self]) -> Self {
        Self {
            rules: RuleSet::union_of(reaches.iter().map(|reach| &reach.rules)),
            other_traffic: reaches.iter().flat_map(|reach| reach.other_traffic.iter().cloned()).collect(),
        }
    }

    /// Returns true if `other` lets nothing in that this does not.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.other_traffic.is_superset(&other.other_traffic) && self.rules.covers(&other.rules)
    }
}

/// Substitutes of one resource that are looked for: each takes the first name that is free, so there are never many.
pub const MAX_SUBSTITUTES: usize = 8;

/// The requirements of every membership that can be open.
pub type MemberRequirements<R> = BTreeMap<(GroupKey, InstanceId), Requirements<<R as Resource>::Key>>;

/// The conditions under which a membership is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirements<K> {
    /// The resources that open it; none where foreign ones do already
    pub resources: BTreeSet<K>,
    /// The ids under which [`Resource::reach`] knows the instance: mostly its own
    pub reachable_at: BTreeSet<InstanceId>,
}

/// The result of compiling firewall groups.
#[derive(Clone, Debug)]
pub struct Compiled<R: Resource> {
    /// All resources as they should be
    pub resources: ResourceSet<R>,
    /// The requirements of each membership, without the infeasible ones
    pub requirements: MemberRequirements<R>,
    /// The groups and memberships that cannot be compiled, with the reasons
    pub infeasible: Vec<Infeasible>,
    /// The traffic that may be asked for beside these, by the ids under which [`Resource::reach`] knows each
    /// instance
    pub unknown: Unknown,
}

impl<R: Resource> Compiled<R> {
    /// Adds to what may be asked for what is asked for and infeasible: it stays open where it is open. Room is
    /// no reason to close what is open, nor is a machine of which the cloud tells nothing.
    #[must_use]
    pub fn keeping_infeasible(mut self, desired: &Desired) -> Self {
        for Infeasible { group: key, instance, reason, ends, .. } in &self.infeasible {
            let Some(group) = desired.groups.get(key).filter(|_| !ends) else { continue };
            let is_meant =
                |member: &&InstanceId| instance.as_ref().is_none_or(|instance| instance == *member);
            let missing = format!("{key} is asked for and cannot be changed ({reason})");
            for member in group.members.iter().filter(is_meant) {
                self.unknown.add_at(member, &group.rules, &missing);
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::memory::{MemoryKey, MemoryResource};

    fn group(number: u8) -> MemoryKey {
        MemoryKey::Group("c".into(), number.to_string())
    }

    fn instance(number: u8) -> InstanceId {
        InstanceId::new(format!("i-{number}"))
    }

    /// Returns a group, or an attachment with up to three of them.
    fn resource(number: u8, groups: &[u8]) -> MemoryResource {
        let key = if groups.is_empty() {
            group(number)
        } else {
            MemoryKey::Attachment((number % 2).to_string(), instance(number / 2))
        };
        let groups = groups.iter().map(|number| group(*number)).collect();
        MemoryResource { key, label: String::new(), owner: Owner::Ours, rules: BTreeSet::new(), groups }
    }

    proptest! {
        #[test]
        fn index_agrees_with_the_resources_after_any_changes(
            changes in prop::collection::vec((0..4_u8, 0..6_u8, prop::collection::vec(0..6_u8, 0..3)), 0..40),
        ) {
            let mut set = ResourceSet::<MemoryResource>::new();
            for (change, number, groups) in changes {
                let changed = resource(number, &groups);
                match change {
                    0 => drop(set.remove(&changed.key)),
                    1 => set.change(&changed.key.clone(), |resource| resource.groups = changed.groups),
                    _ => drop(set.insert(changed.key.clone(), changed)),
                }
            }
            for number in 0..6 {
                let referring = set.values().filter(|resource| resource.groups.contains(&group(number)));
                prop_assert!(set.referrers(&group(number)).eq(referring));
                let there = set.values().filter(|resource| resource.places().contains(&instance(number)));
                prop_assert!(set.at(&instance(number)).eq(there));
            }
            let rebuilt: ResourceSet<MemoryResource> = set.values().cloned().collect();
            prop_assert_eq!(set.referrers, rebuilt.referrers);
            prop_assert_eq!(set.by_place, rebuilt.by_place);
        }
    }
}
