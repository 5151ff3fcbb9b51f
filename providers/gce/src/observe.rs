//! Reads the rules and tags that carry this cluster's ownership mark, and the facts about the members.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use firewall_core::{ChangesSince, InstanceId, Observed, Owner, ProviderError, ResourceSet};
use futures::future::try_join_all;
use tokio::time::Instant;

use crate::client::Client;
use crate::config::{GceConfig, Mode, TAGS_PER_INSTANCE};
use crate::instance_cache::{Answer, InstanceCache, Known};
use crate::inventory::{InstanceFacts, Inventory};
use crate::network::Network;
use crate::ownership;
use crate::provider_id::Location;
use crate::resource::{FirewallRule, GceKey, GceResource, InstanceTags};
use crate::wire::error::CallError;
use crate::wire::firewall;

/// Reads everything that a plan starts from.
pub(crate) async fn observe(
    client: &Client,
    config: &GceConfig,
    cache: &Mutex<InstanceCache>,
    members: &BTreeSet<InstanceId>,
) -> Result<Observed<GceResource, Inventory>, ProviderError> {
    let prefix = ownership::prefix(&config.cluster);
    let rules = client.list_rules(&prefix).await?;
    let rules: Vec<FirewallRule> = rules.iter().map(|rule| firewall::read(rule, config)).collect();
    let known = know_instances(client, config, cache, members, &rules).await?;
    let is_member = |id: &InstanceId| members.contains(id);
    let tags = known.instances.iter().filter_map(|(id, facts)| own_tags(id, facts));
    let resources = rules.into_iter().map(GceResource::Rule).chain(tags.map(GceResource::Tags));
    let resources: ResourceSet<GceResource> = resources.collect();
    let mut inventory = Inventory {
        instances: known.instances.iter().filter(|(id, _)| is_member(id)).map(clone_pair).collect(),
        unknown_instances: known.unknown.clone(),
        ..Inventory::default()
    };
    follow(&mut inventory, &resources, resources.keys());
    inventory.missing_network = find_missing_network(client, config, &inventory.instances).await?;
    Ok(Observed { resources, inventory, unknown_instances: known.unknown })
}

/// Reads the rules that a plan relies on, and the members that are not known. A rule that somebody has widened must not
/// get one more destination or tag, and one that is somebody else's now must not be changed.
pub(crate) async fn observe_added(
    client: &Client,
    config: &GceConfig,
    cache: &Mutex<InstanceCache>,
    known: &mut Observed<GceResource, Inventory>,
    changes: &ChangesSince<GceKey>,
) -> Result<bool, ProviderError> {
    let prefix = ownership::prefix(&config.cluster);
    let relied_on =
        changes.relied_on.as_ref().map(|keys| keys.iter().filter_map(GceKey::rule_name).collect::<Vec<_>>());
    let rules = match &relied_on {
        Some(names) => client.list_rules_of(&prefix, names).await?,
        None => client.list_rules(&prefix).await?,
    };
    let rules = rules.iter().map(|rule| GceResource::Rule(firewall::read(rule, config))).collect();
    let Observed { resources, inventory, unknown_instances } = known;
    let is_read = |key: &GceKey| {
        let of_rule = key.rule_name();
        of_rule.is_some_and(|name| relied_on.as_ref().is_none_or(|names| names.contains(&name)))
    };
    let mut differences = resources.take_over(rules, is_read);
    for left in &changes.left {
        inventory.instances.remove(left);
    }
    let is_added = |id: &&InstanceId| is_in_project(id, config) && !inventory.instances.contains_key(*id);
    let added: BTreeSet<InstanceId> = changes.members.iter().filter(is_added).cloned().collect();
    let answer = read_zones(client, config, &added).await?;
    let answer = read_absent_again(client, config, cache, &added, answer).await?;
    let found = lock(cache).record_added(&added, answer, Instant::now().into_std());
    for (id, facts) in &found.instances {
        // It may have tags from another time, and no longer those that it had then.
        let (key, tags) = (GceKey::Tags(id.clone()), own_tags(id, facts).map(GceResource::Tags));
        resources.take_over_one(&key, tags, &mut differences);
    }
    inventory.instances.extend(found.instances);
    inventory.unknown_instances.clone_from(&found.unknown);
    follow(inventory, resources, changes.resources.iter().chain(&differences.keys));
    *unknown_instances = found.unknown;
    Ok(differences.is_surprise)
}

/// Takes over what resources that have changed say of our rules and tags.
fn follow<'a>(
    inventory: &mut Inventory,
    resources: &ResourceSet<GceResource>,
    changed: impl IntoIterator<Item = &'a GceKey>,
) {
    let mut bases: BTreeSet<&str> = BTreeSet::new();
    for key in changed {
        match key {
            GceKey::Rule(name) => bases.extend(ownership::split_shard_name(name).map(|(base, _)| base)),
            GceKey::Tags(id) => {
                let tags = resources.get(key).and_then(GceResource::as_tags).map(|own| &own.tags);
                if let Some(facts) = inventory.instances.get_mut(id) {
                    facts.own_tags = tags.cloned().unwrap_or_default();
                }
            }
        }
    }
    for base in bases {
        follow_rules(inventory, resources, base);
    }
}

/// Takes over the addresses and the sources in the rules whose name without shard number is this.
fn follow_rules(inventory: &mut Inventory, resources: &ResourceSet<GceResource>, base: &str) {
    inventory.shards.remove(base);
    inventory.sources.remove(base);
    let from_base = resources.range(GceKey::Rule(base.to_owned())..).filter_map(|(_, rule)| rule.as_rule());
    for rule in from_base.take_while(|rule| rule.name.starts_with(base)) {
        let Some((_, shard)) = ownership::split_shard_name(&rule.name).filter(|(own, _)| *own == base) else {
            continue;
        };
        let shards = inventory.shards.entry(base.to_owned()).or_default();
        shards.insert(shard, rule.destinations.clone());
        if rule.owner == Owner::Ours {
            let sources = inventory.sources.entry(base.to_owned()).or_default();
            sources.extend(rule.rules.iter().map(|rule| rule.source));
        }
    }
}

fn clone_pair<K: Clone, V: Clone>((key, value): (&K, &V)) -> (K, V) {
    (key.clone(), value.clone())
}

/// Reads instances, and adds what is known of those that were not read.
async fn know_instances(
    client: &Client,
    config: &GceConfig,
    cache: &Mutex<InstanceCache>,
    members: &BTreeSet<InstanceId>,
    rules: &[FirewallRule],
) -> Result<Known, CallError> {
    let prefix = ownership::prefix(&config.cluster);
    let members: BTreeSet<InstanceId> =
        members.iter().filter(|id| is_in_project(id, config)).cloned().collect();
    let answer = read_instances(client, config, &members, rules, &prefix).await?;
    let answer = read_absent_again(client, config, cache, &members, answer).await?;
    Ok(lock(cache).record(&members, answer, Instant::now().into_std()))
}

fn is_in_project(id: &InstanceId, config: &GceConfig) -> bool {
    Location::parse(id.as_str()).is_some_and(|location| location.project == config.project)
}

/// Asks once more for the members that an answer leaves out for the first time. Returns the facts of both
/// answers.
async fn read_absent_again(
    client: &Client,
    config: &GceConfig,
    cache: &Mutex<InstanceCache>,
    members: &BTreeSet<InstanceId>,
    mut answer: Answer,
) -> Result<Answer, CallError> {
    let absent = lock(cache).newly_absent(members, &answer);
    answer.instances.extend(read_zones(client, config, &absent).await?.instances);
    Ok(answer)
}

fn lock(cache: &Mutex<InstanceCache>) -> MutexGuard<'_, InstanceCache> {
    // No code that holds the lock can leave the cache half changed.
    cache.lock().unwrap_or_else(PoisonError::into_inner)
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
) -> Result<Answer, CallError> {
    let selects_by_tag = |rule: &FirewallRule| rule.tags.contains(&rule.name);
    if config.mode == Mode::Tags || members.is_empty() || rules.iter().any(selects_by_tag) {
        return client.list_all_instances(prefix).await;
    }
    let answer = read_zones(client, config, members).await?;
    let tagged = answer.instances.values().any(|facts| !facts.own_tags.is_empty());
    if tagged { client.list_all_instances(prefix).await } else { Ok(answer) }
}

/// Reads instances zone by zone, all zones at once: listing one zone costs less than a filtered list of all.
async fn read_zones(
    client: &Client,
    config: &GceConfig,
    ids: &BTreeSet<InstanceId>,
) -> Result<Answer, CallError> {
    let prefix = ownership::prefix(&config.cluster);
    let mut zones: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for location in ids.iter().filter_map(|id| Location::parse(id.as_str())) {
        zones.entry(location.zone).or_default().push(location.name);
    }
    let answers = zones.iter().map(|(zone, names)| client.list_instances(zone, names, &prefix));
    let mut all = Answer::default();
    for answer in try_join_all(answers).await? {
        all.instances.extend(answer.instances);
        all.unread.extend(answer.unread);
    }
    Ok(all)
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

/// Returns this cluster's tags on an instance, if there are any.
fn own_tags(id: &InstanceId, facts: &InstanceFacts) -> Option<InstanceTags> {
    let tags = facts.own_tags.clone();
    let capacity = TAGS_PER_INSTANCE.saturating_sub(facts.foreign_tag_count);
    (!tags.is_empty()).then(|| InstanceTags { instance: id.clone(), tags, capacity })
}
