//! Compute Engine's resources as planning sees them: `impl Resource`.

use std::collections::BTreeSet;

use firewall_core::{InstanceId, Owner, Reach, Resource, ResourceSet, RuleSet};
use ipnet::IpNet;

use crate::ownership;
use crate::resource::{FirewallRule, GceKey, GceResource, InstanceTags, PortsBySources, RuleCapacity};
use crate::target::RuleTarget;

/// One of the three sets whose product a rule is.
enum Dimension {
    Rules,
    Destinations,
    Tags,
}

impl FirewallRule {
    /// Returns the dimension in which two rules differ; `None` if they differ in none or in several.
    fn differing_dimension(&self, other: &Self) -> Option<Dimension> {
        match (self.rules != other.rules, self.destinations != other.destinations, self.tags != other.tags) {
            (true, false, false) => Some(Dimension::Rules),
            (false, true, false) => Some(Dimension::Destinations),
            (false, false, true) => Some(Dimension::Tags),
            _ => None,
        }
    }

    /// Returns the rule that allows all that either does. A rule is a product: the union of two is one only
    /// if they differ in one dimension, or one covers the other.
    fn union(&self, other: &Self) -> Option<Self> {
        if !self.is_enabled || !other.is_enabled {
            return Some(if self.is_enabled { self.clone() } else { other.clone() });
        }
        if other.covers(self) {
            return Some(other.clone());
        }
        let both = Self { foreign_parts: &self.foreign_parts | &other.foreign_parts, ..other.clone() };
        if self.covers(other) {
            let Self { rules, destinations, tags, .. } = self.clone();
            return Some(Self { rules, destinations, tags, ..both });
        }
        let union = match self.differing_dimension(other)? {
            Dimension::Rules => Self { rules: self.rules.union(&other.rules), ..both },
            Dimension::Destinations => {
                Self { destinations: &self.destinations | &other.destinations, ..both }
            }
            Dimension::Tags => Self { tags: &self.tags | &other.tags, ..both },
        };
        union.is_within_capacity().then_some(union)
    }

    fn is_within_capacity(&self) -> bool {
        let RuleCapacity { ranges, ports } = self.capacity;
        PortsBySources::from_rules(&self.rules)
            .is_some_and(|own| own.sources.len() <= ranges && own.ports.len() <= ports)
            && self.destinations.len() <= ranges
    }

    /// Returns true if this rule allows all that `other` allows, at every target of `other`.
    fn covers(&self, other: &Self) -> bool {
        self.rules.covers(&other.rules)
            && includes(&self.destinations, &other.destinations)
            && includes(&self.tags, &other.tags)
            && self.foreign_parts.is_superset(&other.foreign_parts)
    }

    fn intersection(&self, other: &Self) -> Option<Self> {
        if !self.is_enabled {
            return Some(self.clone());
        }
        let rules = self.rules.intersection(&other.rules);
        let destinations = intersect(&self.destinations, &other.destinations)?;
        let tags = intersect(&self.tags, &other.tags)?;
        let foreign_parts = &self.foreign_parts & &other.foreign_parts;
        let rest = Self { rules, destinations, tags, foreign_parts, ..other.clone() };
        (other.is_enabled && PortsBySources::from_rules(&rest.rules).is_some()).then_some(rest)
    }

    /// Returns true if the rule names the target. A rule without targets applies to its network and to every
    /// address there.
    fn applies_to(&self, target: &RuleTarget) -> bool {
        let whole_network = self.destinations.is_empty() && self.tags.is_empty();
        match target {
            RuleTarget::WholeNetwork(network) => *network == self.network && whole_network,
            RuleTarget::Address(address, network) => {
                *network == self.network && (whole_network || self.destinations.contains(address))
            }
            RuleTarget::Tag(base, network) => {
                *network == self.network && self.tags.iter().any(|tag| base_of_tag(tag) == base)
            }
        }
    }

    /// Returns all that the rule allows where it applies: nothing if it is disabled.
    fn admits(&self) -> Reach {
        if self.is_enabled {
            Reach { rules: self.rules.clone(), other_traffic: self.foreign_parts.clone() }
        } else {
            Reach::default()
        }
    }

    fn details(&self) -> BTreeSet<String> {
        let mut details: BTreeSet<String> = self.rules.iter().map(ToString::to_string).collect();
        details.extend(self.destinations.iter().map(|address| format!("to {}", address.addr())));
        details.extend(self.tags.iter().map(|tag| format!("to instances tagged {tag}")));
        details.extend(self.foreign_parts.iter().cloned());
        if !self.is_enabled {
            details.insert("disabled".to_owned());
        }
        details
    }
}

/// Returns true if one set has all elements of another, where an empty set means all there are.
fn includes<T: Ord>(one: &BTreeSet<T>, other: &BTreeSet<T>) -> bool {
    one.is_empty() || !other.is_empty() && other.is_subset(one)
}

/// Returns the elements that two sets have in common, where an empty set means all there are; `None` if there
/// are none.
fn intersect<T: Ord + Clone>(one: &BTreeSet<T>, two: &BTreeSet<T>) -> Option<BTreeSet<T>> {
    match (one.is_empty(), two.is_empty()) {
        (true, _) => Some(two.clone()),
        (_, true) => Some(one.clone()),
        (false, false) => Some(one & two).filter(|both| !both.is_empty()),
    }
}

/// Returns the reach of several rules together.
fn combined_reach<'a>(rules: impl Iterator<Item = &'a FirewallRule>) -> Reach {
    Reach::union_of(&rules.map(FirewallRule::admits).collect::<Vec<_>>())
}

/// Returns a tag without its shard number: what a rule and its substitutes have in common.
fn base_of_tag(tag: &str) -> &str {
    ownership::split_shard_name(tag).map_or(tag, |(base, _)| base)
}

/// Returns the place of the rules with tags of this base, whatever their network. It is distinct from the id of
/// every instance and target.
fn place_of_tags(base: &str) -> InstanceId {
    InstanceId::new(format!("tag {base}"))
}

impl InstanceTags {
    fn with_tags(&self, tags: BTreeSet<String>) -> Self {
        Self { tags, ..self.clone() }
    }
}

impl Resource for GceResource {
    type Key = GceKey;

    fn key(&self) -> GceKey {
        match self {
            Self::Rule(rule) => GceKey::Rule(rule.name.clone()),
            Self::Tags(tags) => GceKey::Tags(tags.instance.clone()),
        }
    }

    fn owner(&self) -> Owner {
        match self {
            Self::Rule(rule) => rule.owner,
            // Only tags with this cluster's prefix are ever read as a resource.
            Self::Tags(_) => Owner::Ours,
        }
    }

    fn has_same_spec(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Rule(one), Self::Rule(two)) => {
                one.rules == two.rules
                    && one.destinations == two.destinations
                    && one.tags == two.tags
                    && one.foreign_parts == two.foreign_parts
                    && one.priority == two.priority
                    && one.is_enabled == two.is_enabled
            }
            (Self::Tags(one), Self::Tags(two)) => one.tags == two.tags,
            _ => false,
        }
    }

    fn serves(&self) -> BTreeSet<String> {
        match self {
            Self::Rule(rule) => rule.serves.clone(),
            Self::Tags(_) => BTreeSet::new(),
        }
    }

    fn details(&self) -> BTreeSet<String> {
        match self {
            Self::Rule(rule) => rule.details(),
            Self::Tags(tags) => tags.tags.clone(),
        }
    }

    fn refers_to(&self) -> BTreeSet<GceKey> {
        match self {
            Self::Rule(_) => BTreeSet::new(),
            Self::Tags(tags) => tags.tags.iter().cloned().map(GceKey::Rule).collect(),
        }
    }

    fn without_references(&self, missing: &BTreeSet<GceKey>) -> Option<Self> {
        let Self::Tags(tags) = self else { return Some(self.clone()) };
        let present = |tag: &&String| !missing.contains(&GceKey::Rule((*tag).clone()));
        let kept: BTreeSet<_> = tags.tags.iter().filter(present).cloned().collect();
        (!kept.is_empty()).then(|| Self::Tags(tags.with_tags(kept)))
    }

    fn union(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Rule(one), Self::Rule(two)) => one.union(two).map(Self::Rule),
            (Self::Tags(one), Self::Tags(two)) => {
                let tags = &one.tags | &two.tags;
                (tags.len() <= two.capacity).then(|| Self::Tags(two.with_tags(tags)))
            }
            _ => None,
        }
    }

    fn intersection(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Rule(one), Self::Rule(two)) => one.intersection(two).map(Self::Rule),
            (Self::Tags(one), Self::Tags(two)) => {
                let tags = &one.tags & &two.tags;
                (!tags.is_empty()).then(|| Self::Tags(two.with_tags(tags)))
            }
            _ => None,
        }
    }

    /// Returns a rule without the addresses that are not among the ids. Its ports and sources stay as they are
    /// where what is left of them is no product.
    fn retain(&self, ids: &BTreeSet<InstanceId>, rules: &RuleSet) -> Option<Self> {
        let Self::Rule(rule) = self else { return Some(self.clone()) };
        let is_retained =
            |address: &&IpNet| ids.contains(&RuleTarget::Address(**address, rule.network.clone()).id());
        let destinations: BTreeSet<IpNet> = rule.destinations.iter().filter(is_retained).copied().collect();
        if destinations.is_empty() != rule.destinations.is_empty() {
            return None;
        }
        let part = rule.rules.intersection(rules);
        let rules = if PortsBySources::from_rules(&part).is_some() { part } else { rule.rules.clone() };
        Some(Self::Rule(FirewallRule { rules, destinations, foreign_parts: BTreeSet::new(), ..rule.clone() }))
    }

    /// Returns a rule as another shard.
    fn substitute(&self, number: usize) -> Option<Self> {
        let Self::Rule(rule) = self else { return None };
        let (base, shard) = ownership::split_shard_name(&rule.name)?;
        let name = ownership::shard_name(base, shard + number);
        let tags = rule.tags.iter().map(|tag| if *tag == rule.name { &name } else { tag }).cloned().collect();
        Some(Self::Rule(FirewallRule { name, tags, ..rule.clone() }))
    }

    fn redirect(&self, from: &GceKey, to: &GceKey) -> Self {
        let (Self::Tags(tags), GceKey::Rule(from), GceKey::Rule(to)) = (self, from, to) else {
            return self.clone();
        };
        let redirected = tags.tags.iter().map(|tag| if tag == from { to } else { tag }).cloned().collect();
        Self::Tags(tags.with_tags(redirected))
    }

    /// One PATCH replaces every list of a rule, one setTags all tags of an instance.
    fn is_replaced_at_once(&self) -> bool {
        true
    }

    /// Returns a target's id in place of the instance where the rule names addresses or its whole network, or
    /// a tag that no instance has.
    fn instances(&self, resources: &ResourceSet<Self>) -> BTreeSet<InstanceId> {
        let rule = match self {
            Self::Rule(rule) => rule,
            Self::Tags(tags) => return BTreeSet::from([tags.instance.clone()]),
        };
        let network = || rule.network.clone();
        if rule.destinations.is_empty() && rule.tags.is_empty() {
            return BTreeSet::from([RuleTarget::WholeNetwork(network()).id()]);
        }
        if !rule.destinations.is_empty() {
            return rule
                .destinations
                .iter()
                .map(|address| RuleTarget::Address(*address, network()).id())
                .collect();
        }
        let tagged = |tag: &String| -> BTreeSet<InstanceId> {
            let tags = resources.referrers(&GceKey::Rule(tag.clone())).filter_map(Self::as_tags);
            tags.map(|tags| tags.instance.clone()).collect()
        };
        let instances_or_target = |tag: &String| {
            let instances = tagged(tag);
            if instances.is_empty() {
                BTreeSet::from([RuleTarget::Tag(base_of_tag(tag).to_owned(), network()).id()])
            } else {
                instances
            }
        };
        rule.tags.iter().flat_map(instances_or_target).collect()
    }

    fn places(&self) -> BTreeSet<InstanceId> {
        let Self::Rule(rule) = self else { return BTreeSet::new() };
        if rule.destinations.is_empty() && rule.tags.is_empty() {
            return BTreeSet::from([RuleTarget::WholeNetwork(rule.network.clone()).id()]);
        }
        let address = |address: &IpNet| RuleTarget::Address(*address, rule.network.clone()).id();
        let addresses = rule.destinations.iter().map(address);
        addresses.chain(rule.tags.iter().map(|tag| place_of_tags(base_of_tag(tag)))).collect()
    }

    fn reach(resources: &ResourceSet<Self>, instance: &InstanceId) -> Reach {
        let rules_at = |place: InstanceId| resources.at(&place).filter_map(Self::as_rule).collect::<Vec<_>>();
        let Some(target) = RuleTarget::from_id(instance) else {
            let own = resources.get(&GceKey::Tags(instance.clone())).and_then(Self::as_tags);
            let tags = own.into_iter().flat_map(|own| &own.tags);
            let rules = tags.flat_map(|tag| {
                let rules = rules_at(place_of_tags(base_of_tag(tag))).into_iter();
                rules.filter(move |rule| rule.tags.contains(tag))
            });
            return combined_reach(rules.filter(|rule| rule.destinations.is_empty()));
        };
        let rules = match &target {
            RuleTarget::WholeNetwork(_) => rules_at(target.id()),
            RuleTarget::Address(_, network) => {
                [rules_at(target.id()), rules_at(RuleTarget::WholeNetwork(network.clone()).id())].concat()
            }
            RuleTarget::Tag(base, _) => rules_at(place_of_tags(base)),
        };
        combined_reach(rules.into_iter().filter(|rule| rule.applies_to(&target)))
    }
}

#[cfg(test)]
mod tests;
