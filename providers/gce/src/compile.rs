//! Turns firewall groups into firewall rules and tags within Compute Engine's limits. Pure.

mod member;
mod shard;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use firewall_core::{
    Compiled, Desired, FirewallGroup, GroupKey, Incumbency, Infeasible, InstanceId, MemberRequirements,
    Owner, Requirements, Resource, ResourceSet, select_within_capacity,
};

use crate::config::{GceConfig, Mode, TAGS_PER_INSTANCE};
use crate::inventory::{Interface, Inventory};
use crate::network::Network;
use crate::ownership;
use crate::resource::{Capacity, FirewallRule, GceKey, GceResource, InstanceTags, PortsBySources};
use crate::target::RuleTarget;

/// Compiles for the configured mode.
pub(crate) fn compile(desired: &Desired, inventory: &Inventory, config: &GceConfig) -> Compiled<GceResource> {
    let mut compiler = Compiler {
        inventory,
        config,
        resources: ResourceSet::<GceResource>::new(),
        requirements: BTreeMap::new(),
        infeasible: Vec::new(),
    };
    let mut asked = Vec::new();
    for (key, group) in &desired.groups {
        for (network, members) in compiler.members(key, group) {
            let parts = compiler.parts(key, group, &network);
            asked.push(Asked { key, members, parts });
        }
    }
    match config.mode {
        Mode::Destination => {
            for Asked { key, members, parts } in &asked {
                compiler.by_destination(key, members, parts);
            }
        }
        Mode::Tags => compiler.by_tags(&asked),
    }
    let Compiler { resources, requirements, infeasible, .. } = compiler;
    Compiled { resources, requirements, infeasible }
}

struct Compiler<'a> {
    inventory: &'a Inventory,
    config: &'a GceConfig,
    resources: ResourceSet<GceResource>,
    requirements: MemberRequirements<GceResource>,
    infeasible: Vec<Infeasible>,
}

/// What a group asks for in one network.
struct Asked<'a> {
    key: &'a GroupKey,
    members: InNetwork<'a>,
    parts: Vec<Part>,
}

/// The members of a group in one network, each with its interface there.
type InNetwork<'a> = BTreeMap<&'a InstanceId, &'a Interface>;

/// The tags that each group takes on an instance.
type Wanted<'a> = BTreeMap<&'a GroupKey, BTreeSet<String>>;

impl<'a> Compiler<'a> {
    fn members(&mut self, key: &GroupKey, group: &'a FirewallGroup) -> BTreeMap<Network, InNetwork<'a>> {
        let mut by_network: BTreeMap<Network, InNetwork<'a>> = BTreeMap::new();
        for instance in &group.members {
            match member::interface(instance, self.inventory, self.config) {
                Ok(interface) => {
                    by_network.entry(interface.network.clone()).or_default().insert(instance, interface);
                }
                Err((reason, message)) => {
                    self.infeasible.push(Infeasible::of_member(key, instance, reason, message));
                }
            }
        }
        by_network
    }

    /// Rules that hold all of the group's, without targets yet. IPv4 and IPv6 cannot be in one rule; ports with
    /// different sources neither.
    fn parts(&self, key: &GroupKey, group: &FirewallGroup, network: &Network) -> Vec<Part> {
        let mut parts = Vec::new();
        for ipv6 in [false, true] {
            let rules = group.rules.iter().filter(|rule| rule.source.addr().is_ipv6() == ipv6);
            for (chunk, product) in
                PortsBySources::all_of(rules).iter().flat_map(|product| self.chunks(product))
            {
                let base = ownership::base_name(&self.config.cluster, key, network, &product, chunk);
                let rule = FirewallRule {
                    name: String::new(),
                    network: network.clone(),
                    rules: product.rules(),
                    destinations: BTreeSet::new(),
                    tags: self.config.target_tags.clone(),
                    foreign_parts: BTreeSet::new(),
                    priority: self.config.priority,
                    enabled: true,
                    serves: BTreeSet::from([key.to_string()]),
                    owner: Owner::Ours,
                    capacity: self.config.capacity(),
                };
                parts.push(Part { base, ipv6, rule });
            }
        }
        parts
    }

    /// Pieces of the product that fit into a rule each, with the number of the piece among those of the same ports.
    fn chunks(&self, product: &PortsBySources) -> Vec<(usize, PortsBySources)> {
        let Capacity { ranges, ports: most } = self.config.capacity();
        let ports: Vec<_> = product.ports.iter().copied().collect();
        let sources: Vec<_> = product.sources.iter().copied().collect();
        let mut chunks = Vec::new();
        for ports in ports.chunks(most) {
            for (chunk, sources) in sources.chunks(ranges).enumerate() {
                let (ports, sources) = (ports.iter().copied().collect(), sources.iter().copied().collect());
                chunks.push((chunk, PortsBySources { ports, sources }));
            }
        }
        chunks
    }

    fn by_destination(&mut self, key: &GroupKey, members: &InNetwork<'_>, parts: &[Part]) {
        for part in parts {
            let addresses = members.values().flat_map(|interface| interface.addresses(part.ipv6)).collect();
            let now = self.inventory.shards.get(&part.base);
            for (shard, destinations) in shard::assign(&addresses, now, self.config.ranges_per_rule) {
                let rule = GceKey::Rule(ownership::shard_name(&part.base, shard));
                for (&instance, interface) in members {
                    let own = &interface.addresses(part.ipv6) & &destinations;
                    if !own.is_empty() {
                        let place = |address| RuleTarget::Address(address, interface.network.clone()).id();
                        self.takes(key, instance, [rule.clone()], own.into_iter().map(place));
                    }
                }
                self.insert(GceResource::Rule(FirewallRule { destinations, ..part.named(shard) }));
            }
        }
    }

    /// The tags of each instance, and the rules that some instance has the tags of.
    fn by_tags(&mut self, asked: &[Asked<'_>]) {
        let mut wanted: BTreeMap<&InstanceId, Wanted<'_>> = BTreeMap::new();
        for Asked { key, members, parts } in asked {
            for (&instance, interface) in members {
                let reachable = parts.iter().filter(|part| !interface.addresses(part.ipv6).is_empty());
                let names: BTreeSet<String> = reachable.map(|part| part.named(0).name).collect();
                if !names.is_empty() {
                    wanted.entry(instance).or_default().insert(key, names);
                }
            }
        }
        let mut used = BTreeSet::new();
        for (instance, groups) in wanted {
            used.extend(self.tag(instance, groups));
        }
        for part in asked.iter().flat_map(|asked| &asked.parts) {
            let rule = part.named(0);
            if used.contains(&rule.name) {
                let tags = BTreeSet::from([rule.name.clone()]);
                self.insert(GceResource::Rule(FirewallRule { tags, ..rule }));
            }
        }
    }

    /// The instance's tags: all that a group takes or none, because half of what was asked for is not opened. Where there
    /// is not room for all groups, those go first whose tags it has.
    fn tag(&mut self, instance: &InstanceId, mut groups: Wanted<'_>) -> BTreeSet<String> {
        let Some(facts) = self.inventory.instances.get(instance) else { return BTreeSet::new() };
        let trap = |names: &BTreeSet<String>| {
            let trap = names.iter().find(|tag| member::name_begins_with(instance, tag))?;
            Some(member::name_prefix_conflict(instance, trap))
        };
        groups.retain(|key, names| match trap(names) {
            Some((reason, message)) => {
                self.infeasible.push(Infeasible::of_member(key, instance, reason, message));
                false
            }
            None => true,
        });
        let capacity = TAGS_PER_INSTANCE.saturating_sub(facts.other_tags);
        let standing = |key: &&GroupKey| {
            let names = &groups[key];
            if names.is_subset(&facts.tags) {
                Incumbency::Established
            } else if names.is_disjoint(&facts.tags) {
                Incumbency::New
            } else {
                Incumbency::PartlyOpen
            }
        };
        let candidates: BTreeSet<&GroupKey> = groups.keys().copied().collect();
        let tagged = select_within_capacity(&candidates, standing, |keys| {
            keys.iter().map(|key| groups[key].len()).sum::<usize>() <= capacity
        });
        for key in &candidates - &tagged {
            let (reason, message) = member::too_many_tags(instance, facts.other_tags);
            self.infeasible.push(Infeasible::of_member(key, instance, reason, message));
        }
        groups.retain(|key, _| tagged.contains(key));
        for (key, names) in &groups {
            let rules = names.iter().cloned().map(GceKey::Rule);
            self.takes(key, instance, rules.chain([GceKey::Tags(instance.clone())]), [instance.clone()]);
        }
        let tags: BTreeSet<String> = groups.into_values().flatten().collect();
        if !tags.is_empty() {
            let tags = tags.clone();
            self.insert(GceResource::Tags(InstanceTags { instance: instance.clone(), tags, capacity }));
        }
        tags
    }

    /// The membership takes these resources, and they open these places.
    fn takes(
        &mut self,
        key: &GroupKey,
        instance: &InstanceId,
        resources: impl IntoIterator<Item = GceKey>,
        at: impl IntoIterator<Item = InstanceId>,
    ) {
        let none = || Requirements { resources: BTreeSet::new(), reachable_at: BTreeSet::new() };
        let takes = self.requirements.entry((key.clone(), instance.clone())).or_insert_with(none);
        takes.resources.extend(resources);
        takes.reachable_at.extend(at);
    }

    fn insert(&mut self, resource: GceResource) {
        self.resources.insert(resource.key(), resource);
    }
}

/// One rule, or as many as its targets take.
struct Part {
    /// The name, without the number of the shard
    base: String,
    ipv6: bool,
    /// The rule without name and targets
    rule: FirewallRule,
}

impl Part {
    fn named(&self, shard: usize) -> FirewallRule {
        FirewallRule { name: ownership::shard_name(&self.base, shard), ..self.rule.clone() }
    }
}
