//! The questions that planning asks of Compute Engine's resources.

use std::collections::BTreeSet;

use firewall_core::{InstanceId, Owner, Reach, Resource, ResourceSet};

use crate::resource::{Capacity, FirewallRule, GceKey, GceResource, InstanceTags, PortsBySources};
use crate::target::RuleTarget;

/// The three sets whose product a rule is.
enum Side {
    Rules,
    Destinations,
    Tags,
}

impl FirewallRule {
    /// The side in which two rules differ; `None` if it is not exactly one.
    fn difference(&self, other: &Self) -> Option<Side> {
        match (self.rules != other.rules, self.destinations != other.destinations, self.tags != other.tags) {
            (true, false, false) => Some(Side::Rules),
            (false, true, false) => Some(Side::Destinations),
            (false, false, true) => Some(Side::Tags),
            _ => None,
        }
    }

    /// A rule is a product: what two of them let in together is one only if they differ in one side.
    fn union(&self, other: &Self) -> Option<Self> {
        if !self.enabled || !other.enabled {
            return Some(if self.enabled { self.clone() } else { other.clone() });
        }
        if other.covers(self) {
            return Some(other.clone());
        }
        let both = Self { foreign_parts: &self.foreign_parts | &other.foreign_parts, ..other.clone() };
        if self.covers(other) {
            let Self { rules, destinations, tags, .. } = self.clone();
            return Some(Self { rules, destinations, tags, ..both });
        }
        let union = match self.difference(other)? {
            Side::Rules => Self { rules: self.rules.union(&other.rules), ..both },
            Side::Destinations => Self { destinations: &self.destinations | &other.destinations, ..both },
            Side::Tags => Self { tags: &self.tags | &other.tags, ..both },
        };
        union.fits().then_some(union)
    }

    fn fits(&self) -> bool {
        let Capacity { ranges, ports } = self.capacity;
        PortsBySources::of(&self.rules)
            .is_some_and(|product| product.sources.len() <= ranges && product.ports.len() <= ports)
            && self.destinations.len() <= ranges
    }

    /// Whether everything that `other` lets in somewhere, this lets in there.
    fn covers(&self, other: &Self) -> bool {
        self.rules.covers(&other.rules)
            && includes(&self.destinations, &other.destinations)
            && includes(&self.tags, &other.tags)
            && self.foreign_parts.is_superset(&other.foreign_parts)
    }

    fn intersection(&self, other: &Self) -> Option<Self> {
        if !self.enabled {
            return Some(self.clone());
        }
        let rules = self.rules.intersection(&other.rules);
        let destinations = common(&self.destinations, &other.destinations)?;
        let tags = common(&self.tags, &other.tags)?;
        let foreign_parts = &self.foreign_parts & &other.foreign_parts;
        let rest = Self { rules, destinations, tags, foreign_parts, ..other.clone() };
        (other.enabled && PortsBySources::of(&rest.rules).is_some()).then_some(rest)
    }

    /// Whether it applies at a place, as far as the rule itself tells.
    fn applies_at(&self, place: &RuleTarget) -> bool {
        let everywhere = self.destinations.is_empty() && self.tags.is_empty();
        match place {
            RuleTarget::Everywhere(network) => *network == self.network && everywhere,
            RuleTarget::Address(address, network) => {
                *network == self.network && (everywhere || self.destinations.contains(address))
            }
            RuleTarget::Tag(tag, network) => *network == self.network && self.tags.contains(tag),
        }
    }

    fn admits(&self) -> Reach {
        if self.enabled {
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
        if !self.enabled {
            details.insert("disabled".to_owned());
        }
        details
    }
}

/// Whether one set has all of another, where an empty one means no limit.
fn includes<T: Ord>(one: &BTreeSet<T>, other: &BTreeSet<T>) -> bool {
    one.is_empty() || !other.is_empty() && other.is_subset(one)
}

/// What two sets have in common, where an empty one means no limit; `None` if that is nothing.
fn common<T: Ord + Clone>(one: &BTreeSet<T>, two: &BTreeSet<T>) -> Option<BTreeSet<T>> {
    match (one.is_empty(), two.is_empty()) {
        (true, _) => Some(two.clone()),
        (_, true) => Some(one.clone()),
        (false, false) => Some(one & two).filter(|both| !both.is_empty()),
    }
}

/// All that the rules let in where they apply.
fn admitted<'a>(rules: impl Iterator<Item = &'a FirewallRule>) -> Reach {
    rules.fold(Reach::default(), |all, rule| all.union(&rule.admits()))
}

impl InstanceTags {
    fn with(&self, tags: BTreeSet<String>) -> Self {
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
            // Only tags with our prefix are ever read as a resource.
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
                    && one.enabled == two.enabled
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
        (!kept.is_empty()).then(|| Self::Tags(tags.with(kept)))
    }

    fn union(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Rule(one), Self::Rule(two)) => one.union(two).map(Self::Rule),
            (Self::Tags(one), Self::Tags(two)) => {
                let tags = &one.tags | &two.tags;
                (tags.len() <= two.capacity).then(|| Self::Tags(two.with(tags)))
            }
            _ => None,
        }
    }

    fn intersection(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Rule(one), Self::Rule(two)) => one.intersection(two).map(Self::Rule),
            (Self::Tags(one), Self::Tags(two)) => {
                let tags = &one.tags & &two.tags;
                (!tags.is_empty()).then(|| Self::Tags(two.with(tags)))
            }
            _ => None,
        }
    }

    /// One PATCH replaces every list of a rule, one setTags all tags of an instance.
    fn is_replaced_at_once(&self) -> bool {
        true
    }

    /// An address stands for the instance that has it, whoever that is.
    fn instances(&self, world: &ResourceSet<Self>) -> BTreeSet<InstanceId> {
        let rule = match self {
            Self::Rule(rule) => rule,
            Self::Tags(tags) => return BTreeSet::from([tags.instance.clone()]),
        };
        let network = || rule.network.clone();
        if rule.destinations.is_empty() && rule.tags.is_empty() {
            return BTreeSet::from([RuleTarget::Everywhere(network()).id()]);
        }
        if !rule.destinations.is_empty() {
            return rule
                .destinations
                .iter()
                .map(|address| RuleTarget::Address(*address, network()).id())
                .collect();
        }
        let tagged = |tag: &String| -> BTreeSet<InstanceId> {
            let holds = |resource: &GceResource| {
                resource.as_tags().filter(|tags| tags.tags.contains(tag)).map(|tags| tags.instance.clone())
            };
            world.values().filter_map(holds).collect()
        };
        let places = |tag: &String| {
            let instances = tagged(tag);
            if instances.is_empty() {
                BTreeSet::from([RuleTarget::Tag(tag.clone(), network()).id()])
            } else {
                instances
            }
        };
        rule.tags.iter().flat_map(places).collect()
    }

    fn reach(world: &ResourceSet<Self>, instance: &InstanceId) -> Reach {
        let rules = world.values().filter_map(|resource| match resource {
            Self::Rule(rule) => Some(rule),
            Self::Tags(_) => None,
        });
        if let Some(place) = RuleTarget::of(instance) {
            return admitted(rules.filter(|rule| rule.applies_at(&place)));
        }
        let Some(Self::Tags(own)) = world.get(&GceKey::Tags(instance.clone())) else {
            return Reach::default();
        };
        admitted(rules.filter(|rule| rule.destinations.is_empty() && !rule.tags.is_disjoint(&own.tags)))
    }
}

#[cfg(test)]
mod tests;
