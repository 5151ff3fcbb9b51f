//! Compiles firewall groups to firewall rules and network tags within Compute Engine's limits. Pure.

mod former_mode;
mod member;
mod shard;
#[cfg(test)]
mod tests;

pub(crate) use former_mode::has_former_mode;

use std::collections::{BTreeMap, BTreeSet};

use firewall_core::{
    Compiled, Desired, FirewallGroup, GroupKey, Incumbency, Infeasible, InstanceId, MemberRequirements,
    Owner, Requirements, Resource, ResourceSet, select_within_capacity,
};

use ipnet::IpNet;

use self::shard::Parts;
use crate::config::{GceConfig, Mode, TAGS_PER_INSTANCE};
use crate::inventory::{InstanceFacts, Interface, Inventory};
use crate::network::Network;
use crate::ownership;
use crate::reasons;
use crate::resource::{FirewallRule, GceKey, GceResource, InstanceTags, PortsBySources, RuleCapacity};
use crate::target::RuleTarget;

/// The numbers of chunks that are looked for beyond the numbers that there should be.
const SPARE_CHUNK_NUMBERS: usize = 16;

/// Compiles the groups for the configured mode.
pub(crate) fn compile(desired: &Desired, inventory: &Inventory, config: &GceConfig) -> Compiled<GceResource> {
    let mut compiler = Compiler {
        inventory,
        config,
        resources: ResourceSet::<GceResource>::new(),
        requirements: BTreeMap::new(),
        infeasible: Vec::new(),
    };
    let mut groups = Vec::new();
    for (key, group) in &desired.groups {
        for (network, members) in compiler.members_by_network(key, group) {
            let templates = compiler.rule_templates(key, group, &network);
            groups.push(NetworkGroup { key, members, templates });
        }
    }
    match config.mode {
        Mode::Destination => groups.iter().for_each(|group| compiler.compile_destinations(group)),
        Mode::Tags => compiler.compile_tags(&groups),
    }
    let Compiler { resources, requirements, infeasible, .. } = compiler;
    let mut unknown = desired.unknown.clone();
    former_mode::keep(&mut unknown, desired, &resources, &requirements, inventory);
    let whole = Compiled { resources, requirements, infeasible, unknown }.keeping_infeasible(desired);
    let unknown = whole.unknown.by_ids(|instance| ids_of(instance, inventory));
    Compiled { unknown, ..whole }
}

/// Returns the ids under which resources of either mode know the instance; none if its addresses are not
/// known.
fn ids_of(instance: &InstanceId, inventory: &Inventory) -> BTreeSet<InstanceId> {
    let Some(facts) = inventory.instances.get(instance) else { return BTreeSet::new() };
    let addresses = facts.interfaces.iter().flat_map(|interface| {
        let addresses = [false, true].map(|ipv6| interface.addresses(ipv6)).into_iter().flatten();
        addresses.map(|address| RuleTarget::Address(address, interface.network.clone()).id())
    });
    addresses.chain([instance.clone()]).collect()
}

/// Returns this cluster's tags of an instance; those of substitutes as the tags that they stand for.
fn tags_in_place(facts: &InstanceFacts) -> BTreeSet<String> {
    let first = |tag: &String| Some(ownership::shard_name(ownership::split_shard_name(tag)?.0, 0));
    facts.own_tags.iter().map(|tag| first(tag).unwrap_or_else(|| tag.clone())).collect()
}

struct Compiler<'a> {
    inventory: &'a Inventory,
    config: &'a GceConfig,
    resources: ResourceSet<GceResource>,
    requirements: MemberRequirements<GceResource>,
    infeasible: Vec<Infeasible>,
}

/// A firewall group's members and rules in one network.
struct NetworkGroup<'a> {
    key: &'a GroupKey,
    members: NetworkMembers<'a>,
    templates: Vec<RuleTemplate>,
}

/// The members of a group in one network, each with its interface there.
type NetworkMembers<'a> = BTreeMap<&'a InstanceId, &'a Interface>;

/// The tags that each group needs on an instance.
type TagsByGroup<'a> = BTreeMap<&'a GroupKey, BTreeSet<String>>;

impl<'a> Compiler<'a> {
    /// Returns the group's members by network, and records those that cannot have its rules.
    fn members_by_network(
        &mut self,
        key: &GroupKey,
        group: &'a FirewallGroup,
    ) -> BTreeMap<Network, NetworkMembers<'a>> {
        let mut by_network: BTreeMap<Network, NetworkMembers<'a>> = BTreeMap::new();
        for instance in &group.members {
            match member::select_interface(instance, self.inventory, self.config) {
                Ok(interface) => {
                    by_network.entry(interface.network.clone()).or_default().insert(instance, interface);
                }
                Err(reason) => self.add_infeasible(key, instance, reason),
            }
        }
        by_network
    }

    /// Returns templates that together hold all rules of the group, without targets yet. One rule cannot hold
    /// both IPv4 and IPv6, nor ports with different sources.
    fn rule_templates(&self, key: &GroupKey, group: &FirewallGroup, network: &Network) -> Vec<RuleTemplate> {
        let mut templates = Vec::new();
        for ipv6 in [false, true] {
            let rules = group.rules.iter().filter(|rule| rule.source.addr().is_ipv6() == ipv6);
            let base_name = |part: &PortsBySources, chunk: usize| {
                ownership::base_name(self.config, key, network, part, chunk)
            };
            let parts = PortsBySources::partition(rules);
            for (base_name, part) in parts.iter().flat_map(|part| self.split_to_capacity(part, base_name)) {
                let rule = FirewallRule {
                    name: String::new(),
                    network: network.clone(),
                    rules: part.to_rules(),
                    destinations: BTreeSet::new(),
                    tags: self.config.target_tags.clone(),
                    foreign_parts: BTreeSet::new(),
                    priority: self.config.priority,
                    is_enabled: true,
                    serves: BTreeSet::from([key.to_string()]),
                    owner: Owner::Ours,
                    capacity: self.config.rule_capacity(),
                };
                templates.push(RuleTemplate { base_name, ipv6, rule });
            }
        }
        templates
    }

    /// Splits into chunks that each fit within one rule's capacity. Each comes with its name, which holds its
    /// number among those of the same ports. A source stays in the chunk that has it now.
    fn split_to_capacity(
        &self,
        whole: &PortsBySources,
        base_name: impl Fn(&PortsBySources, usize) -> String,
    ) -> Vec<(String, PortsBySources)> {
        let RuleCapacity { ranges, ports: max_ports } = self.config.rule_capacity();
        let ports: Vec<_> = whole.ports.iter().copied().collect();
        let mut chunks = Vec::new();
        for ports in ports.chunks(max_ports) {
            let part =
                PortsBySources { ports: ports.iter().copied().collect(), sources: whole.sources.clone() };
            if part.sources.len() <= ranges {
                chunks.push((base_name(&part, 0), part));
                continue;
            }
            // Numbers are the lowest that were free, so none is far beyond what there are.
            let numbers = 0..part.sources.len().div_ceil(ranges) * 2 + SPARE_CHUNK_NUMBERS;
            let observed =
                |number| Some((number, self.inventory.sources.get(&base_name(&part, number))?.clone()));
            let current: Parts = numbers.filter_map(observed).collect();
            for (number, sources) in shard::assign(&part.sources, Some(&current), ranges) {
                chunks.push((base_name(&part, number), PortsBySources { sources, ..part.clone() }));
            }
        }
        chunks
    }

    /// Compiles one group for mode `destination`: the members' addresses, spread over the rules' destination
    /// ranges. A member that is unknown keeps its last known addresses where they are, and gets no others.
    fn compile_destinations(&mut self, group: &NetworkGroup<'_>) {
        let NetworkGroup { key, members, templates } = group;
        for template in templates {
            let current = self.inventory.shards.get(&template.base_name);
            let held: BTreeSet<IpNet> =
                current.into_iter().flatten().flat_map(|(_, held)| held).copied().collect();
            let mut owners: BTreeMap<IpNet, Vec<(&InstanceId, &Interface)>> = BTreeMap::new();
            for (&instance, &interface) in members {
                let is_unknown = self.inventory.unknown_instances.contains_key(instance);
                let own = interface.addresses(template.ipv6).into_iter();
                for address in own.filter(|address| !is_unknown || held.contains(address)) {
                    owners.entry(address).or_default().push((instance, interface));
                }
            }
            let addresses = owners.keys().copied().collect();
            for (shard, destinations) in shard::assign(&addresses, current, self.config.ranges_per_rule) {
                let rule = GceKey::Rule(ownership::shard_name(&template.base_name, shard));
                for address in &destinations {
                    for (instance, interface) in owners.get(address).into_iter().flatten() {
                        let target = RuleTarget::Address(*address, interface.network.clone()).id();
                        self.require(key, instance, [rule.clone()], [target]);
                    }
                }
                self.insert(GceResource::Rule(FirewallRule { destinations, ..template.shard(shard) }));
            }
        }
        self.report_unknown(key, members.keys().copied());
    }

    /// Records the members that are unknown and have nothing open that could be kept.
    fn report_unknown<'m>(&mut self, key: &GroupKey, members: impl Iterator<Item = &'m InstanceId>) {
        for instance in members {
            if let Some(reason) = member::unknown(instance, self.inventory)
                && !self.requirements.contains_key(&(key.clone(), instance.clone()))
            {
                self.add_infeasible(key, instance, reason);
            }
        }
    }

    /// Compiles all groups for mode `tags`: the tags of each instance, and the rules whose tag an instance
    /// has.
    fn compile_tags(&mut self, groups: &[NetworkGroup<'_>]) {
        let mut wanted: BTreeMap<&InstanceId, TagsByGroup<'_>> = BTreeMap::new();
        for NetworkGroup { key, members, templates } in groups {
            for (&instance, interface) in members {
                let reachable =
                    templates.iter().filter(|template| !interface.addresses(template.ipv6).is_empty());
                let tags: BTreeSet<String> = reachable.map(|template| template.shard(0).name).collect();
                if !tags.is_empty() {
                    wanted.entry(instance).or_default().insert(key, tags);
                }
            }
        }
        let mut used = BTreeSet::new();
        for (instance, tags) in wanted {
            used.extend(self.tag_instance(instance, tags));
        }
        for group in groups {
            for template in &group.templates {
                let rule = template.shard(0);
                if used.contains(&rule.name) {
                    let tags = BTreeSet::from([rule.name.clone()]);
                    self.insert(GceResource::Rule(FirewallRule { tags, ..rule }));
                }
            }
            self.report_unknown(group.key, group.members.keys().copied());
        }
    }

    /// Compiles the instance's tags, and returns them.
    fn tag_instance(&mut self, instance: &InstanceId, mut groups: TagsByGroup<'_>) -> BTreeSet<String> {
        let Some(facts) = self.inventory.instances.get(instance) else { return BTreeSet::new() };
        let capacity = TAGS_PER_INSTANCE.saturating_sub(facts.foreign_tag_count);
        if self.inventory.unknown_instances.contains_key(instance) {
            groups.retain(|_, tags| tags.is_subset(&tags_in_place(facts)));
        }
        let groups = self.admit_groups(instance, facts, capacity, groups);
        for (key, tags) in &groups {
            let rules = tags.iter().cloned().map(GceKey::Rule);
            self.require(key, instance, rules.chain([GceKey::Tags(instance.clone())]), [instance.clone()]);
        }
        let tags: BTreeSet<String> = groups.into_values().flatten().collect();
        if !tags.is_empty() {
            let tags = tags.clone();
            self.insert(GceResource::Tags(InstanceTags { instance: instance.clone(), tags, capacity }));
        }
        tags
    }

    /// Returns the groups whose tags the instance can have. A group gets all its tags or none, because half
    /// of an intent is not opened. Where the capacity is too small for all groups, those whose tags the
    /// instance has take precedence.
    fn admit_groups<'d>(
        &mut self,
        instance: &InstanceId,
        facts: &InstanceFacts,
        capacity: usize,
        mut groups: TagsByGroup<'d>,
    ) -> TagsByGroup<'d> {
        groups.retain(|key, tags| match tags.iter().find(|tag| member::has_name_prefix(instance, tag)) {
            Some(tag) => {
                self.add_infeasible(key, instance, member::name_prefix_conflict(instance, tag));
                false
            }
            None => true,
        });
        let own_tags = tags_in_place(facts);
        let incumbency = |key: &&GroupKey| {
            let tags = &groups[key];
            if tags.is_subset(&own_tags) {
                Incumbency::Established
            } else if tags.is_disjoint(&own_tags) {
                Incumbency::New
            } else {
                Incumbency::PartlyOpen
            }
        };
        let candidates: BTreeSet<&GroupKey> = groups.keys().copied().collect();
        let admitted = select_within_capacity(&candidates, incumbency, |keys| {
            keys.iter().map(|key| groups[key].len()).sum::<usize>() <= capacity
        });
        for key in &candidates - &admitted {
            self.add_infeasible(key, instance, member::too_many_tags(instance, facts.foreign_tag_count));
        }
        groups.retain(|key, _| admitted.contains(key));
        groups
    }

    fn add_infeasible(
        &mut self,
        key: &GroupKey,
        instance: &InstanceId,
        (reason, message): member::ReasonAndMessage,
    ) {
        let infeasible = Infeasible::of_member(key, instance, reason, message);
        // Nothing of this cluster's can be open on a machine that is gone, or is another project's.
        self.infeasible.push(match reason {
            reasons::INSTANCE_NOT_FOUND => infeasible.ending(),
            reasons::OTHER_PROJECT => infeasible.ending().lasting(),
            _ => infeasible,
        });
    }

    /// Records the resources that open a membership, and the ids under which its instance is then reachable.
    fn require(
        &mut self,
        key: &GroupKey,
        instance: &InstanceId,
        resources: impl IntoIterator<Item = GceKey>,
        reachable_at: impl IntoIterator<Item = InstanceId>,
    ) {
        let none = || Requirements { resources: BTreeSet::new(), reachable_at: BTreeSet::new() };
        let required = self.requirements.entry((key.clone(), instance.clone())).or_insert_with(none);
        required.resources.extend(resources);
        required.reachable_at.extend(reachable_at);
    }

    fn insert(&mut self, resource: GceResource) {
        self.resources.insert(resource.key(), resource);
    }
}

/// A rule without name and targets, from which as many rules are made as the targets need.
struct RuleTemplate {
    /// The name, without the shard number
    base_name: String,
    ipv6: bool,
    rule: FirewallRule,
}

impl RuleTemplate {
    /// Returns the rule with the name of the shard of this number.
    fn shard(&self, number: usize) -> FirewallRule {
        FirewallRule { name: ownership::shard_name(&self.base_name, number), ..self.rule.clone() }
    }
}
