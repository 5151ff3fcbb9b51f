//! Reads the rules and tags that carry this cluster's ownership mark, and the facts about the members.

use std::collections::{BTreeMap, BTreeSet};

use firewall_core::{InstanceId, Observed, ProviderError, ResourceSet};
use google_cloud_compute_v1::model::Instance;

use crate::client::Client;
use crate::config::{GceConfig, Mode, TAGS_PER_INSTANCE};
use crate::inventory::{InstanceFacts, Inventory};
use crate::network::Network;
use crate::ownership;
use crate::provider_id::Location;
use crate::resource::{FirewallRule, GceResource, InstanceTags};
use crate::wire::error::CallError;
use crate::wire::{firewall, instance};

/// Reads everything that a plan starts from.
pub(crate) async fn observe(
    client: &Client,
    config: &GceConfig,
    members: &BTreeSet<InstanceId>,
) -> Result<Observed<GceResource, Inventory>, ProviderError> {
    let prefix = ownership::prefix(&config.cluster);
    let rules = client.list_rules(&prefix).await?;
    let rules: Vec<FirewallRule> = rules.iter().map(|rule| firewall::read(rule, config)).collect();
    let instances = read_instances(client, config, members, &rules, &prefix).await?;
    let mut inventory = Inventory {
        instances: instances
            .iter()
            .filter(|(id, _)| members.contains(id))
            .map(|(id, instance)| (id.clone(), instance::facts(instance, &prefix)))
            .collect(),
        shards: destinations_by_shard(&rules),
        missing_network: None,
    };
    inventory.missing_network = find_missing_network(client, config, &inventory.instances).await?;
    let tags = instances.iter().filter_map(|(id, found)| read_own_tags(id, found, &prefix));
    let resources = rules.into_iter().map(GceResource::Rule).chain(tags.map(GceResource::Tags));
    let resources: ResourceSet<GceResource> = resources.collect();
    Ok(Observed { resources, inventory })
}

/// Reads the members or, where this cluster's tags may exist, all instances: a former member may still have
/// them. In mode `destination` only an earlier mode can have left tags; a pass without members searches for
/// them in any case, because it has no other instances to read.
async fn read_instances(
    client: &Client,
    config: &GceConfig,
    members: &BTreeSet<InstanceId>,
    rules: &[FirewallRule],
    prefix: &str,
) -> Result<BTreeMap<InstanceId, Instance>, CallError> {
    let selects_by_tag = |rule: &FirewallRule| rule.tags.contains(&rule.name);
    if config.mode == Mode::Tags || members.is_empty() || rules.iter().any(selects_by_tag) {
        return client.list_all_instances().await;
    }
    let found = read_members(client, config, members).await?;
    let tagged = found.values().any(|found| !instance::own_tags(found, prefix).is_empty());
    if tagged { client.list_all_instances().await } else { Ok(found) }
}

/// Reads the members, zone by zone: listing one zone costs less than a filtered list of all zones.
async fn read_members(
    client: &Client,
    config: &GceConfig,
    members: &BTreeSet<InstanceId>,
) -> Result<BTreeMap<InstanceId, Instance>, CallError> {
    let mut zones: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let locations = members.iter().filter_map(|id| Location::parse(id.as_str()));
    for location in locations.filter(|location| location.project == config.project) {
        zones.entry(location.zone).or_default().push(location.name);
    }
    let mut found = BTreeMap::new();
    for (zone, names) in zones {
        found.extend(client.list_instances(zone, &names).await?);
    }
    Ok(found)
}

/// Returns the configured network, if no member is in it because it does not exist. A network that may not be
/// read is not reported as missing.
async fn find_missing_network(
    client: &Client,
    config: &GceConfig,
    instances: &BTreeMap<InstanceId, InstanceFacts>,
) -> Result<Option<Network>, ProviderError> {
    let Some(network) = config.configured_network().ok().flatten() else { return Ok(None) };
    let mut interfaces = instances.values().flat_map(|facts| &facts.interfaces);
    if instances.is_empty() || interfaces.any(|interface| interface.network == network) {
        return Ok(None);
    }
    match client.has_network(&network).await {
        Ok(exists) => Ok((!exists).then_some(network)),
        Err(error) if error.is_denied() => {
            tracing::warn!("cannot check whether {network} exists: {}", ProviderError::from(error));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns the rules' destination addresses by the rule's name without shard number, and by shard number.
fn destinations_by_shard(
    rules: &[FirewallRule],
) -> BTreeMap<String, BTreeMap<usize, BTreeSet<ipnet::IpNet>>> {
    let mut shards: BTreeMap<String, BTreeMap<usize, BTreeSet<ipnet::IpNet>>> = BTreeMap::new();
    for rule in rules {
        if let Some((base, shard)) = ownership::split_shard_name(&rule.name) {
            shards.entry(base.to_owned()).or_default().insert(shard, rule.destinations.clone());
        }
    }
    shards
}

/// Returns this cluster's tags on an instance, if there are any.
fn read_own_tags(id: &InstanceId, found: &Instance, prefix: &str) -> Option<InstanceTags> {
    let tags = instance::own_tags(found, prefix);
    let capacity = TAGS_PER_INSTANCE.saturating_sub(instance::foreign_tag_count(found, prefix));
    (!tags.is_empty()).then(|| InstanceTags { instance: id.clone(), tags, capacity })
}
