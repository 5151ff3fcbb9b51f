//! Reads what there is: the rules and tags that carry this cluster's mark, and what is known of the members.

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

pub(crate) async fn observe(
    client: &Client,
    config: &GceConfig,
    members: &BTreeSet<InstanceId>,
) -> Result<Observed<GceResource, Inventory>, ProviderError> {
    let prefix = ownership::prefix(&config.cluster);
    let rules = client.rules(&prefix).await?;
    let rules: Vec<FirewallRule> = rules.iter().map(|rule| firewall::read(rule, config)).collect();
    let instances = instances(client, config, members, &rules, &prefix).await?;
    let mut inventory = Inventory {
        instances: instances
            .iter()
            .filter(|(id, _)| members.contains(id))
            .map(|(id, instance)| (id.clone(), instance::facts(instance, &prefix)))
            .collect(),
        shards: shards(&rules),
        missing_network: None,
    };
    inventory.missing_network = missing_network(client, config, &inventory.instances).await?;
    let tags = instances.iter().filter_map(|(id, found)| our_tags(id, found, &prefix));
    let resources = rules.into_iter().map(GceResource::Rule).chain(tags.map(GceResource::Tags));
    let resources: ResourceSet<GceResource> = resources.collect();
    Ok(Observed { resources, inventory })
}

/// The members and, where there may be tags of ours, all instances: one that is no member any more may still have
/// them. In mode `destination` only a former mode has left some; without members there is time to look.
async fn instances(
    client: &Client,
    config: &GceConfig,
    members: &BTreeSet<InstanceId>,
    rules: &[FirewallRule],
    prefix: &str,
) -> Result<BTreeMap<InstanceId, Instance>, CallError> {
    let by_tags = |rule: &FirewallRule| rule.tags.contains(&rule.name);
    if config.mode == Mode::Tags || members.is_empty() || rules.iter().any(by_tags) {
        return client.all_instances().await;
    }
    let found = members_only(client, config, members).await?;
    let tagged = found.values().any(|found| !instance::our_tags(found, prefix).is_empty());
    if tagged { client.all_instances().await } else { Ok(found) }
}

/// The members, zone by zone: a list of one zone costs less than a filtered list of all.
async fn members_only(
    client: &Client,
    config: &GceConfig,
    members: &BTreeSet<InstanceId>,
) -> Result<BTreeMap<InstanceId, Instance>, CallError> {
    let mut zones: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let own = members.iter().filter_map(|id| Location::parse(id.as_str()));
    for location in own.filter(|location| location.project == config.project) {
        zones.entry(location.zone).or_default().push(location.name);
    }
    let mut found = BTreeMap::new();
    for (zone, names) in zones {
        found.extend(client.instances(zone, &names).await?);
    }
    Ok(found)
}

/// The chosen network, if no member is in it because it does not exist. What cannot be asked is not claimed.
async fn missing_network(
    client: &Client,
    config: &GceConfig,
    instances: &BTreeMap<InstanceId, InstanceFacts>,
) -> Result<Option<Network>, ProviderError> {
    let Some(chosen) = config.chosen_network().ok().flatten() else { return Ok(None) };
    let mut interfaces = instances.values().flat_map(|facts| &facts.interfaces);
    if instances.is_empty() || interfaces.any(|interface| interface.network == chosen) {
        return Ok(None);
    }
    match client.has_network(&chosen).await {
        Ok(exists) => Ok((!exists).then_some(chosen)),
        Err(error) if error.is_denied() => {
            tracing::warn!("cannot see whether the network exists: {}", ProviderError::from(error));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn shards(rules: &[FirewallRule]) -> BTreeMap<String, BTreeMap<usize, BTreeSet<ipnet::IpNet>>> {
    let mut shards: BTreeMap<String, BTreeMap<usize, BTreeSet<ipnet::IpNet>>> = BTreeMap::new();
    for rule in rules {
        if let Some((base, shard)) = ownership::shard_of(&rule.name) {
            shards.entry(base.to_owned()).or_default().insert(shard, rule.destinations.clone());
        }
    }
    shards
}

fn our_tags(id: &InstanceId, found: &Instance, prefix: &str) -> Option<InstanceTags> {
    let tags = instance::our_tags(found, prefix);
    let capacity = TAGS_PER_INSTANCE.saturating_sub(instance::other_tags(found, prefix));
    (!tags.is_empty()).then(|| InstanceTags { instance: id.clone(), tags, capacity })
}
