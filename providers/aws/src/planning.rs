//! The operations that planning needs on AWS resources: keys, differences, unions, reach.

use std::collections::{BTreeMap, BTreeSet};

use firewall_core::{IngressRule, InstanceId, Owner, Reach, Resource, ResourceSet, RuleSet};

use crate::resource::{
    Attachment, AwsKey, AwsResource, Egress, ForeignPermission, GroupName, SecurityGroup, SharedRules,
};

/// The text for open egress in [`Reach::other_traffic`].
const OPEN_EGRESS: &str = "egress to anywhere";

impl Egress {
    fn matches(self, other: Self) -> bool {
        self == other || self == Self::Unmanaged || other == Self::Unmanaged
    }

    fn union(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unmanaged, _) | (_, Self::Unmanaged) => Self::Unmanaged,
            (Self::Open, _) | (_, Self::Open) => Self::Open,
            (Self::Closed, Self::Closed) => Self::Closed,
        }
    }

    fn intersection(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unmanaged, _) | (_, Self::Unmanaged) => Self::Unmanaged,
            (Self::Closed, _) | (_, Self::Closed) => Self::Closed,
            (Self::Open, Self::Open) => Self::Open,
        }
    }
}

impl SecurityGroup {
    fn union(&self, other: &Self) -> Option<Self> {
        let (rules, foreign) = (&self.rules | &other.rules, &self.foreign | &other.foreign);
        other
            .rule_capacity
            .fits(&rules, foreign.len())
            .then(|| self.with_contents(other, rules, foreign, Egress::union))
    }

    fn intersection(&self, other: &Self) -> Self {
        self.with_contents(
            other,
            &self.rules & &other.rules,
            &self.foreign & &other.foreign,
            Egress::intersection,
        )
    }

    fn with_contents(
        &self,
        other: &Self,
        rules: BTreeSet<IngressRule>,
        foreign: BTreeSet<ForeignPermission>,
        egress: fn(Egress, Egress) -> Egress,
    ) -> Self {
        let id = other.id.clone().or_else(|| self.id.clone());
        Self { id, rules, foreign, egress: egress(self.egress, other.egress), ..other.clone() }
    }

    /// Returns the texts of all that the group lets through besides its rules.
    fn other_traffic(&self) -> impl Iterator<Item = String> {
        let egress = (self.egress != Egress::Closed).then(|| OPEN_EGRESS.to_owned());
        self.foreign.iter().map(ToString::to_string).chain(egress)
    }
}

impl Attachment {
    fn with(&self, groups: BTreeSet<GroupName>) -> Self {
        Self { groups, ..self.clone() }
    }
}

impl SharedRules {
    fn union(&self, other: &Self) -> Option<Self> {
        let rules = &self.rules | &other.rules;
        let altered: BTreeMap<_, _> = self.altered.iter().chain(&other.altered).map(clone_pair).collect();
        other.rule_capacity.fits(&rules, altered.len()).then(|| self.with_contents(other, rules, altered))
    }

    fn intersection(&self, other: &Self) -> Self {
        let altered =
            self.altered.iter().filter(|(id, _)| other.altered.contains_key(*id)).map(clone_pair).collect();
        self.with_contents(other, &self.rules & &other.rules, altered)
    }

    fn into_non_empty(self) -> Option<Self> {
        (!self.rules.is_empty() || !self.altered.is_empty()).then_some(self)
    }

    fn with_contents(
        &self,
        other: &Self,
        rules: BTreeSet<IngressRule>,
        altered: BTreeMap<String, String>,
    ) -> Self {
        let ids = self.ids.iter().chain(&other.ids).map(clone_pair).collect();
        Self { rules, ids, altered, ..other.clone() }
    }
}

fn clone_pair<K: Clone, V: Clone>((key, value): (&K, &V)) -> (K, V) {
    (key.clone(), value.clone())
}

impl Resource for AwsResource {
    type Key = AwsKey;

    fn key(&self) -> AwsKey {
        match self {
            Self::SecurityGroup(group) => AwsKey::SecurityGroup(group.name.clone()),
            Self::Attachment(attachment) => AwsKey::Attachment(attachment.instance.clone()),
            Self::SharedRules(shared) => AwsKey::SharedRules(shared.group.clone()),
        }
    }

    /// Returns [`Owner::Ours`]: only objects with our tag are read as resources. A group name that is taken
    /// shows when the group is created.
    fn owner(&self) -> Owner {
        Owner::Ours
    }

    fn has_same_spec(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::SecurityGroup(one), Self::SecurityGroup(two)) => {
                one.rules == two.rules && one.foreign == two.foreign && one.egress.matches(two.egress)
            }
            (Self::Attachment(one), Self::Attachment(two)) => one.groups == two.groups,
            (Self::SharedRules(one), Self::SharedRules(two)) => {
                one.rules == two.rules && one.altered.keys().eq(two.altered.keys())
            }
            _ => false,
        }
    }

    fn serves(&self) -> BTreeSet<String> {
        match self {
            Self::SecurityGroup(group) => group.serves.clone(),
            Self::Attachment(_) => BTreeSet::new(),
            Self::SharedRules(shared) => shared.serves.clone(),
        }
    }

    fn details(&self) -> BTreeSet<String> {
        match self {
            Self::SecurityGroup(group) => {
                let rules: RuleSet = group.rules.iter().copied().collect();
                rules.iter().map(ToString::to_string).chain(group.other_traffic()).collect()
            }
            Self::Attachment(attachment) => {
                attachment.groups.iter().map(|group| group.name.clone()).collect()
            }
            Self::SharedRules(shared) => {
                shared.rules.iter().map(ToString::to_string).chain(shared.altered.values().cloned()).collect()
            }
        }
    }

    fn refers_to(&self) -> BTreeSet<AwsKey> {
        match self {
            Self::Attachment(attachment) => {
                attachment.groups.iter().cloned().map(AwsKey::SecurityGroup).collect()
            }
            Self::SecurityGroup(_) | Self::SharedRules(_) => BTreeSet::new(),
        }
    }

    fn without_references(&self, missing: &BTreeSet<AwsKey>) -> Option<Self> {
        let Self::Attachment(attachment) = self else { return Some(self.clone()) };
        let present = |name: &&GroupName| !missing.contains(&AwsKey::SecurityGroup((*name).clone()));
        let groups: BTreeSet<_> = attachment.groups.iter().filter(present).cloned().collect();
        (!groups.is_empty()).then(|| Self::Attachment(attachment.with(groups)))
    }

    fn union(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::SecurityGroup(one), Self::SecurityGroup(two)) => one.union(two).map(Self::SecurityGroup),
            (Self::Attachment(one), Self::Attachment(two)) => {
                let groups = &one.groups | &two.groups;
                (groups.len() <= two.capacity).then(|| Self::Attachment(two.with(groups)))
            }
            (Self::SharedRules(one), Self::SharedRules(two)) => one.union(two).map(Self::SharedRules),
            _ => None,
        }
    }

    fn intersection(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::SecurityGroup(one), Self::SecurityGroup(two)) => {
                Some(Self::SecurityGroup(one.intersection(two)))
            }
            (Self::Attachment(one), Self::Attachment(two)) => {
                let groups = &one.groups & &two.groups;
                (!groups.is_empty()).then(|| Self::Attachment(two.with(groups)))
            }
            (Self::SharedRules(one), Self::SharedRules(two)) => {
                one.intersection(two).into_non_empty().map(Self::SharedRules)
            }
            _ => None,
        }
    }

    fn restrict_to(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::SecurityGroup(one), Self::SecurityGroup(two)) => {
                let rules = IngressRule::select_covered(&one.rules, &two.rules);
                Some(Self::SecurityGroup(SecurityGroup { rules, ..one.intersection(two) }))
            }
            (Self::SharedRules(one), Self::SharedRules(two)) => {
                let rules = IngressRule::select_covered(&one.rules, &two.rules);
                SharedRules { rules, ..one.intersection(two) }.into_non_empty().map(Self::SharedRules)
            }
            _ => self.intersection(other),
        }
    }

    fn retain(&self, _: &BTreeSet<InstanceId>, rules: &RuleSet) -> Option<Self> {
        match self {
            Self::SecurityGroup(group) => {
                let egress = group.egress.intersection(Egress::Closed);
                let rules = rules.select_within(&group.rules);
                let foreign = BTreeSet::new();
                Some(Self::SecurityGroup(SecurityGroup { rules, foreign, egress, ..group.clone() }))
            }
            Self::SharedRules(shared) => {
                let rules = rules.select_within(&shared.rules);
                SharedRules { rules, altered: BTreeMap::new(), ..shared.clone() }
                    .into_non_empty()
                    .map(Self::SharedRules)
            }
            Self::Attachment(_) => Some(self.clone()),
        }
    }

    fn substitute(&self, number: usize) -> Option<Self> {
        let Self::SecurityGroup(group) = self else { return None };
        let name = GroupName { name: format!("{}-{number}", group.name.name), ..group.name.clone() };
        Some(Self::SecurityGroup(SecurityGroup { name, id: None, ..group.clone() }))
    }

    fn redirect(&self, from: &AwsKey, to: &AwsKey) -> Self {
        let (Self::Attachment(attachment), AwsKey::SecurityGroup(from), AwsKey::SecurityGroup(to)) =
            (self, from, to)
        else {
            return self.clone();
        };
        let groups = attachment.groups.iter().map(|group| if group == from { to } else { group });
        Self::Attachment(attachment.with(groups.cloned().collect()))
    }

    /// Returns true for an attachment: one call replaces all groups of an interface. Rules are authorized and
    /// revoked in calls of their own.
    fn is_replaced_at_once(&self) -> bool {
        matches!(self, Self::Attachment(_))
    }

    /// Returns a group of the user's in place of the instances that have it: which ones do is not observed.
    fn instances(&self, resources: &ResourceSet<Self>) -> BTreeSet<InstanceId> {
        match self {
            Self::SecurityGroup(_) => {
                let attachments = resources.referrers(&self.key()).filter_map(Self::as_attachment);
                attachments.map(|attachment| attachment.instance.clone()).collect()
            }
            Self::Attachment(attachment) => BTreeSet::from([attachment.instance.clone()]),
            Self::SharedRules(shared) => BTreeSet::from([InstanceId::new(shared.group.clone())]),
        }
    }

    fn reach(resources: &ResourceSet<Self>, instance: &InstanceId) -> Reach {
        if let Some(Self::SharedRules(shared)) =
            resources.get(&AwsKey::SharedRules(instance.as_str().to_owned()))
        {
            let rules: RuleSet = shared.rules.iter().copied().collect();
            return Reach { rules, other_traffic: shared.altered.values().cloned().collect() };
        }
        let Some(Self::Attachment(attachment)) = resources.get(&AwsKey::Attachment(instance.clone())) else {
            return Reach::default();
        };
        let attached: Vec<&SecurityGroup> = attachment
            .groups
            .iter()
            .filter_map(|name| match resources.get(&AwsKey::SecurityGroup(name.clone())) {
                Some(Self::SecurityGroup(group)) => Some(group),
                _ => None,
            })
            .collect();
        Reach {
            rules: attached.iter().flat_map(|group| group.rules.iter().copied()).collect(),
            other_traffic: attached.iter().flat_map(|group| group.other_traffic()).collect(),
        }
    }
}
