//! Turns firewall groups into firewall rules and tags within Compute Engine's limits. Pure.

mod member;
mod shard;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use firewall_model::{
    Compiled, Desired, FirewallGroup, GroupKey, InstanceId, Memberships, Owner, Rejection, Resource, Takes,
    World,
};

use crate::config::{GceConfig, Mode, TAGS_PER_INSTANCE};
use crate::inventory::{Interface, Inventory};
use crate::mark;
use crate::network::Network;
use crate::place::Place;
use crate::resource::{Capacity, FirewallRule, GceKey, GceResource, InstanceTags, Product};

/// Compiles for the configured mode.
pub(crate) fn compile(desired: &Desired, inventory: &Inventory, config: &GceConfig) -> Compiled<GceResource> {
    let mut compiler = Compiler {
        inventory,
        config,
        resources: World::<GceResource>::new(),
        memberships: BTreeMap::new(),
        rejections: Vec::new(),
    };
    for (key, group) in &desired.groups {
        for (network, members) in compiler.members(key, group) {
            compiler.group(key, group, &network, &members);
        }
    }
    let Compiler { resources, memberships, rejections, .. } = compiler;
    Compiled { resources, memberships, rejections }
}

struct Compiler<'a> {
    inventory: &'a Inventory,
    config: &'a GceConfig,
    resources: World<GceResource>,
    memberships: Memberships<GceResource>,
    rejections: Vec<Rejection>,
}

/// The members of a group in one network, each with its interface there.
type InNetwork<'a> = BTreeMap<&'a InstanceId, &'a Interface>;

impl<'a> Compiler<'a> {
    fn members(&mut self, key: &GroupKey, group: &'a FirewallGroup) -> BTreeMap<Network, InNetwork<'a>> {
        let mut by_network: BTreeMap<Network, InNetwork<'a>> = BTreeMap::new();
        for instance in &group.members {
            match member::interface(instance, self.inventory, self.config) {
                Ok(interface) => {
                    by_network.entry(interface.network.clone()).or_default().insert(instance, interface);
                }
                Err((reason, message)) => {
                    self.rejections.push(Rejection::of_member(key, instance, reason, message));
                }
            }
        }
        by_network
    }

    fn group(&mut self, key: &GroupKey, group: &FirewallGroup, network: &Network, members: &InNetwork<'_>) {
        let parts = self.parts(key, group, network);
        match self.config.mode {
            Mode::Destination => self.by_destination(key, members, &parts),
            Mode::Tags => self.by_tags(key, members, &parts),
        }
    }

    /// Rules that hold all of the group's, without targets yet. IPv4 and IPv6 cannot be in one rule; ports with
    /// different sources neither.
    fn parts(&self, key: &GroupKey, group: &FirewallGroup, network: &Network) -> Vec<Part> {
        let mut parts = Vec::new();
        for ipv6 in [false, true] {
            let rules = group.rules.iter().filter(|rule| rule.source.addr().is_ipv6() == ipv6);
            for (chunk, product) in Product::all_of(rules).iter().flat_map(|product| self.chunks(product)) {
                let base = mark::base_name(&self.config.cluster, key, network, &product, chunk);
                let rule = FirewallRule {
                    name: String::new(),
                    network: network.clone(),
                    rules: product.rules(),
                    destinations: BTreeSet::new(),
                    tags: self.config.target_tags.clone(),
                    strays: BTreeSet::new(),
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
    fn chunks(&self, product: &Product) -> Vec<(usize, Product)> {
        let Capacity { ranges, ports: most } = self.config.capacity();
        let ports: Vec<_> = product.ports.iter().copied().collect();
        let sources: Vec<_> = product.sources.iter().copied().collect();
        let mut chunks = Vec::new();
        for ports in ports.chunks(most) {
            for (chunk, sources) in sources.chunks(ranges).enumerate() {
                let (ports, sources) = (ports.iter().copied().collect(), sources.iter().copied().collect());
                chunks.push((chunk, Product { ports, sources }));
            }
        }
        chunks
    }

    fn by_destination(&mut self, key: &GroupKey, members: &InNetwork<'_>, parts: &[Part]) {
        for part in parts {
            let addresses = members.values().flat_map(|interface| interface.addresses(part.ipv6)).collect();
            let now = self.inventory.shards.get(&part.base);
            for (shard, destinations) in shard::assign(&addresses, now, self.config.ranges_per_rule) {
                let rule = GceKey::Rule(mark::shard_name(&part.base, shard));
                for (&instance, interface) in members {
                    let own = &interface.addresses(part.ipv6) & &destinations;
                    if !own.is_empty() {
                        let place = |address| Place::Address(address, interface.network.clone()).id();
                        self.takes(key, instance, [rule.clone()], own.into_iter().map(place));
                    }
                }
                self.insert(GceResource::Rule(FirewallRule { destinations, ..part.named(shard) }));
            }
        }
    }

    /// An instance gets all the tags that the group takes or none: half of what was asked for is not opened.
    fn by_tags(&mut self, key: &GroupKey, members: &InNetwork<'_>, parts: &[Part]) {
        let mut used = BTreeSet::new();
        for (&instance, interface) in members {
            let reachable = parts.iter().filter(|part| !interface.addresses(part.ipv6).is_empty());
            let names: BTreeSet<String> = reachable.map(|part| part.named(0).name).collect();
            match self.tagged(instance, &names) {
                Ok(tags) => {
                    let rules = names.iter().cloned().map(GceKey::Rule);
                    let resources = rules.chain([GceKey::Tags(instance.clone())]);
                    self.takes(key, instance, resources, [instance.clone()]);
                    used.extend(names);
                    self.insert(GceResource::Tags(tags));
                }
                Err((reason, message)) => {
                    self.rejections.push(Rejection::of_member(key, instance, reason, message));
                }
            }
        }
        for part in parts {
            let rule = part.named(0);
            if used.contains(&rule.name) {
                let tags = BTreeSet::from([rule.name.clone()]);
                self.insert(GceResource::Rule(FirewallRule { tags, ..rule }));
            }
        }
    }

    /// The instance's tags with more of them.
    fn tagged(&self, instance: &InstanceId, more: &BTreeSet<String>) -> Result<InstanceTags, member::Reason> {
        let others = self.inventory.instances.get(instance).map_or(0, |facts| facts.other_tags);
        let capacity = TAGS_PER_INSTANCE.saturating_sub(others);
        let already = self.resources.get(&GceKey::Tags(instance.clone())).and_then(GceResource::as_tags);
        let tags: BTreeSet<String> =
            already.map(|own| &own.tags).into_iter().flatten().chain(more).cloned().collect();
        if tags.len() > capacity {
            return Err(member::too_many_tags(instance, others));
        }
        match more.iter().find(|tag| member::name_begins_with(instance, tag)) {
            Some(tag) => Err(member::name_trap(instance, tag)),
            None => Ok(InstanceTags { instance: instance.clone(), tags, capacity }),
        }
    }

    /// The membership takes these resources, and they open these places.
    fn takes(
        &mut self,
        key: &GroupKey,
        instance: &InstanceId,
        resources: impl IntoIterator<Item = GceKey>,
        at: impl IntoIterator<Item = InstanceId>,
    ) {
        let none = || Takes { resources: BTreeSet::new(), at: BTreeSet::new() };
        let takes = self.memberships.entry((key.clone(), instance.clone())).or_insert_with(none);
        takes.resources.extend(resources);
        takes.at.extend(at);
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
        FirewallRule { name: mark::shard_name(&self.base, shard), ..self.rule.clone() }
    }
}
