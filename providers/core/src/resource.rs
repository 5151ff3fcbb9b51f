//! The resources that firewall groups compile to in one cloud, and the questions that planning asks of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Display};
use std::ops::{Deref, DerefMut};

use crate::{Desired, GroupKey, InstanceId, RuleSet, Unknown};

/// All resources of one cloud by key: as they should be, or as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceSet<R: Resource>(BTreeMap<R::Key, R>);

impl<R: Resource> ResourceSet<R> {
    /// Returns a set without resources.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Returns everything that the set lets in to `instance`.
    #[must_use]
    pub fn reach(&self, instance: &InstanceId) -> Reach {
        R::reach(self, instance)
    }

    /// Returns the resources alone, in the order of their keys.
    pub fn into_values(self) -> impl Iterator<Item = R> {
        self.0.into_values()
    }
}

impl<R: Resource> Default for ResourceSet<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: Resource> Deref for ResourceSet<R> {
    type Target = BTreeMap<R::Key, R>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<R: Resource> DerefMut for ResourceSet<R> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<R: Resource> FromIterator<R> for ResourceSet<R> {
    fn from_iter<I: IntoIterator<Item = R>>(resources: I) -> Self {
        Self(resources.into_iter().map(|resource| (resource.key(), resource)).collect())
    }
}

impl<R: Resource, const N: usize> From<[R; N]> for ResourceSet<R> {
    fn from(resources: [R; N]) -> Self {
        resources.into_iter().collect()
    }
}

impl<R: Resource> Extend<R> for ResourceSet<R> {
    fn extend<I: IntoIterator<Item = R>>(&mut self, resources: I) {
        self.0.extend(resources.into_iter().map(|resource| (resource.key(), resource)));
    }
}

impl<'a, R: Resource> IntoIterator for &'a ResourceSet<R> {
    type Item = (&'a R::Key, &'a R);
    type IntoIter = std::collections::btree_map::Iter<'a, R::Key, R>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
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

    /// Returns true if the cloud replaces the resource in a single call. If not, an update opens in one step
    /// and closes in another.
    fn is_replaced_at_once(&self) -> bool;

    /// Returns the instances whose reach depends on this resource in `set`.
    fn instances(&self, set: &ResourceSet<Self>) -> BTreeSet<InstanceId>;

    /// Returns everything that `set` lets in to `instance`.
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

    /// Returns true if `other` lets nothing in that this does not.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.other_traffic.is_superset(&other.other_traffic) && self.rules.covers(&other.rules)
    }
}

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

/// A part of the desired state that the provider cannot or must not bring about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Infeasible {
    /// The firewall group concerned
    pub group: GroupKey,
    /// The instance, if only one of the group's is concerned
    pub instance: Option<InstanceId>,
    /// One word in `CamelCase`, stable for machines: `UntaggedNodeGroup`, `TooManyRules`, …
    pub reason: &'static str,
    /// The cause and the remedy
    pub message: String,
    /// True if it is a fact that ends the demand: the machine is gone. If false, what is open stays open.
    pub ends: bool,
}

impl Infeasible {
    /// Returns the report on a whole group.
    #[must_use]
    pub fn of_group(group: &GroupKey, reason: &'static str, message: String) -> Self {
        Self { group: group.clone(), instance: None, reason, message, ends: false }
    }

    /// Returns the report on one member of a group.
    #[must_use]
    pub fn of_member(group: &GroupKey, instance: &InstanceId, reason: &'static str, message: String) -> Self {
        Self { instance: Some(instance.clone()), ..Self::of_group(group, reason, message) }
    }

    /// Returns the report as a fact that ends the demand.
    #[must_use]
    pub fn ending(self) -> Self {
        Self { ends: true, ..self }
    }
}
