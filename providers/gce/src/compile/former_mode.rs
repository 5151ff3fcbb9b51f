//! After a change of mode, keeps what the former mode has open until the configured one has it open too.
//!
//! Planning knows an instance by its addresses in one mode and by its own id in the other: it cannot see that
//! what closes at the one is open at the other, nor that it is not.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};

use firewall_core::{Desired, MemberRequirements, ResourceSet, Unknown};
use ipnet::IpNet;

use super::tags_in_place;
use crate::config::{GceConfig, Mode};
use crate::inventory::{InstanceFacts, Inventory};
use crate::ownership;
use crate::resource::{FirewallRule, GceResource};

/// Adds to what may be asked for what is asked for on the instances that have resources of the former mode, and
/// not yet those of the configured one.
pub(super) fn keep(
    unknown: &mut Unknown,
    desired: &Desired,
    resources: &ResourceSet<GceResource>,
    requirements: &MemberRequirements<GceResource>,
    inventory: &Inventory,
) {
    // Of all members of all rules: only where the configured mode has tags.
    let destinations: LazyCell<BTreeSet<&IpNet>, _> =
        LazyCell::new(|| inventory.shards.values().flat_map(|shards| shards.values().flatten()).collect());
    for ((key, instance), required) in requirements {
        let (Some(facts), Some(group)) = (inventory.instances.get(instance), desired.groups.get(key)) else {
            continue;
        };
        let rules =
            required.resources.iter().filter_map(|key| resources.get(key)).filter_map(GceResource::as_rule);
        let (by_address, by_tag): (Vec<&FirewallRule>, Vec<_>) =
            rules.partition(|rule| !rule.destinations.is_empty());
        let waits_for_addresses = !facts.own_tags.is_empty()
            && by_address.into_iter().any(|rule| !has_addresses(rule, facts, inventory));
        let tags = tags_in_place(facts);
        let waits = |rule: &FirewallRule| !tags.contains(&rule.name) || shards_of(rule, inventory).is_none();
        let waits_for_tags =
            by_tag.into_iter().any(waits) && addresses(facts).any(|address| destinations.contains(&address));
        if waits_for_addresses || waits_for_tags {
            let missing = format!("{key} is asked for, and open by the former mode only");
            unknown.add_at(instance, &group.rules, &missing);
        }
    }
}

/// Returns true if resources of the other mode may be left.
pub(crate) fn has_former_mode(inventory: &Inventory, config: &GceConfig) -> bool {
    match config.mode {
        Mode::Destination => inventory.instances.values().any(|facts| !facts.own_tags.is_empty()),
        Mode::Tags => {
            inventory.shards.values().flat_map(BTreeMap::values).any(|addresses| !addresses.is_empty())
        }
    }
}

fn addresses(facts: &InstanceFacts) -> impl Iterator<Item = IpNet> {
    facts
        .interfaces
        .iter()
        .flat_map(|interface| [false, true].map(|ipv6| interface.addresses(ipv6)))
        .flatten()
}

/// Returns true if the rules of this name have those of the instance's addresses now that the rule is to have.
fn has_addresses(rule: &FirewallRule, facts: &InstanceFacts, inventory: &Inventory) -> bool {
    let shards = shards_of(rule, inventory).into_iter().flat_map(BTreeMap::values);
    let now: BTreeSet<&IpNet> = shards.flatten().collect();
    addresses(facts)
        .filter(|address| rule.destinations.contains(address))
        .all(|address| now.contains(&address))
}

/// Returns the destinations of the rules with the same name but for the shard number, if there are any.
fn shards_of<'a>(
    rule: &FirewallRule,
    inventory: &'a Inventory,
) -> Option<&'a BTreeMap<usize, BTreeSet<IpNet>>> {
    let (base, _) = ownership::split_shard_name(&rule.name)?;
    inventory.shards.get(base)
}
