//! The resources of the cloud in memory, as planning sees them.

use std::collections::BTreeSet;
use std::fmt;

use crate::{IngressRule, InstanceId, Owner, Reach, Resource, ResourceSet, RuleSet};

/// The key of a resource of the cloud in memory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemoryKey {
    /// A group, by cluster and digest
    Group(String, String),
    /// The groups that one cluster has attached to an instance
    Attachment(String, InstanceId),
}

impl fmt::Display for MemoryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(cluster, name) => write!(f, "group {cluster}/{name}"),
            Self::Attachment(cluster, instance) => write!(f, "attachment {cluster}/{instance}"),
        }
    }
}

/// A resource of the cloud in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryResource {
    /// Its name
    pub key: MemoryKey,
    /// The firewall group that it serves, for people
    pub label: String,
    /// Its owner
    pub owner: Owner,
    /// Its rules, if it is a group
    pub rules: BTreeSet<IngressRule>,
    /// The groups it attaches, if it is an attachment
    pub groups: BTreeSet<MemoryKey>,
}

impl Resource for MemoryResource {
    type Key = MemoryKey;

    fn key(&self) -> MemoryKey {
        self.key.clone()
    }

    fn owner(&self) -> Owner {
        self.owner
    }

    fn has_same_spec(&self, other: &Self) -> bool {
        self.rules == other.rules && self.groups == other.groups
    }

    fn serves(&self) -> BTreeSet<String> {
        BTreeSet::from([self.label.clone()]).into_iter().filter(|label| !label.is_empty()).collect()
    }

    fn details(&self) -> BTreeSet<String> {
        self.rules
            .iter()
            .map(ToString::to_string)
            .chain(self.groups.iter().map(ToString::to_string))
            .collect()
    }

    fn refers_to(&self) -> BTreeSet<MemoryKey> {
        self.groups.clone()
    }

    fn without_references(&self, missing: &BTreeSet<MemoryKey>) -> Option<Self> {
        let groups: BTreeSet<_> = &self.groups - missing;
        let empty = groups.is_empty() && matches!(self.key, MemoryKey::Attachment(..));
        (!empty).then(|| Self { groups, ..self.clone() })
    }

    fn union(&self, other: &Self) -> Option<Self> {
        let (rules, groups) = (&self.rules | &other.rules, &self.groups | &other.groups);
        Some(Self { rules, groups, ..other.clone() })
    }

    fn intersection(&self, other: &Self) -> Option<Self> {
        let (rules, groups) = (&self.rules & &other.rules, &self.groups & &other.groups);
        let empty = groups.is_empty() && matches!(self.key, MemoryKey::Attachment(..));
        (!empty).then(|| Self { rules, groups, ..other.clone() })
    }

    fn restrict_to(&self, other: &Self) -> Option<Self> {
        let rules = IngressRule::select_covered(&self.rules, &other.rules);
        Some(Self { rules, ..self.intersection(other)? })
    }

    fn retain(&self, _: &BTreeSet<InstanceId>, rules: &RuleSet) -> Option<Self> {
        Some(Self { rules: rules.select_within(&self.rules), ..self.clone() })
    }

    fn substitute(&self, number: usize) -> Option<Self> {
        let MemoryKey::Group(cluster, name) = &self.key else { return None };
        Some(Self { key: MemoryKey::Group(cluster.clone(), format!("{name}-{number}")), ..self.clone() })
    }

    fn redirect(&self, from: &MemoryKey, to: &MemoryKey) -> Self {
        let groups = self.groups.iter().map(|group| if group == from { to } else { group });
        Self { groups: groups.cloned().collect(), ..self.clone() }
    }

    fn is_replaced_at_once(&self) -> bool {
        matches!(self.key, MemoryKey::Attachment(..))
    }

    fn instances(&self, set: &ResourceSet<Self>) -> BTreeSet<InstanceId> {
        match &self.key {
            MemoryKey::Attachment(_, instance) => BTreeSet::from([instance.clone()]),
            group @ MemoryKey::Group(..) => {
                set.referrers(group).flat_map(|attachment| attachment.instances(set)).collect()
            }
        }
    }

    fn places(&self) -> BTreeSet<InstanceId> {
        match &self.key {
            MemoryKey::Attachment(_, instance) => BTreeSet::from([instance.clone()]),
            MemoryKey::Group(..) => BTreeSet::new(),
        }
    }

    fn reach(set: &ResourceSet<Self>, instance: &InstanceId) -> Reach {
        let groups = set.at(instance).flat_map(|attachment| &attachment.groups);
        let rules =
            groups.filter_map(|group| set.get(group)).flat_map(|group| group.rules.iter().copied()).collect();
        Reach { rules, other_traffic: BTreeSet::new() }
    }
}
