//! Mode `shared`: the rules with the cluster's tag in the user's groups.

use std::collections::{BTreeMap, BTreeSet};
use std::slice;

use aws_sdk_ec2::types::SecurityGroupRule;
use firewall_core::{ChangesSince, InstanceId, ProviderError};

use super::AwsObserved;
use super::members::{Members, describe_members, facts};
use crate::client::Client;
use crate::config::{AwsConfig, SharedTargets};
use crate::ec2_cache::Ec2Cache;
use crate::inventory::{InstanceFacts, Inventory, SharedGroup};
use crate::ownership;
use crate::resource::{AwsKey, AwsResource, RuleCapacity, SharedRules};
use crate::wire::error::CallError;
use crate::wire::instance::Instance;
use crate::wire::permission::{self, ParsedPermission};

/// Observes in mode `shared`: the rules with the cluster's tag in the user's groups.
pub(crate) async fn observe_shared(
    client: &Client,
    config: &AwsConfig,
    cache: &Ec2Cache,
    targets: &SharedTargets,
    members: &BTreeSet<InstanceId>,
) -> Result<AwsObserved, ProviderError> {
    let (resources, shared_groups) = read_rules(client, config, targets).await?;
    let Members { instances, unknown } = describe_members(client, cache, members).await?;
    let inventory = Inventory {
        instances: facts_by_id(&instances).collect(),
        unknown_instances: unknown.clone(),
        shared_groups,
        ..Inventory::default()
    };
    Ok(AwsObserved { resources: resources.into_iter().collect(), inventory, unknown_instances: unknown })
}

/// Reads the rules, whose ids are told nowhere else, and describes the members that are not known.
pub(crate) async fn observe_added_shared(
    client: &Client,
    config: &AwsConfig,
    cache: &Ec2Cache,
    targets: &SharedTargets,
    known: &mut AwsObserved,
    changes: &ChangesSince<AwsKey>,
) -> Result<bool, ProviderError> {
    // The rules of all groups are read when a pass begins, because others write there too: not again for its plan.
    if changes.relied_on.as_ref().is_some_and(|relied_on| !relied_on.is_empty()) {
        return Ok(false);
    }
    let is_surprise = read_rules_again(client, config, targets, known).await?;
    let inventory = &mut known.inventory;
    let added = inventory.follow_members(changes);
    let Members { instances, unknown } = describe_members(client, cache, &added).await?;
    inventory.instances.extend(facts_by_id(&instances));
    inventory.unknown_instances.clone_from(&unknown);
    known.unknown_instances = unknown;
    Ok(is_surprise)
}

/// Reads the rules of the user's groups. Returns true if somebody else has changed any.
async fn read_rules_again(
    client: &Client,
    config: &AwsConfig,
    targets: &SharedTargets,
    known: &mut AwsObserved,
) -> Result<bool, ProviderError> {
    let (resources, shared_groups) = read_rules(client, config, targets).await?;
    let differences = known.resources.take_over(resources, |_| true);
    let inventory = &mut known.inventory;
    let users = |groups: &BTreeMap<String, SharedGroup>| {
        let group = |(id, group): (&String, &SharedGroup)| (id.clone(), group.without_own_rules());
        groups.iter().map(group).collect::<BTreeMap<_, _>>()
    };
    let is_surprise = differences.is_surprise || users(&inventory.shared_groups) != users(&shared_groups);
    inventory.shared_groups = shared_groups;
    Ok(is_surprise)
}

fn facts_by_id(instances: &[Instance]) -> impl Iterator<Item = (InstanceId, InstanceFacts)> {
    instances.iter().map(|instance| (instance.id.clone(), facts(instance, &BTreeMap::new())))
}

/// Reads the rules of the user's groups: those that are ours, and what the groups have in all.
async fn read_rules(
    client: &Client,
    config: &AwsConfig,
    targets: &SharedTargets,
) -> Result<(Vec<AwsResource>, BTreeMap<String, SharedGroup>), CallError> {
    let groups = find_target_groups(client, targets, &config.cluster).await?;
    let rules = client.describe_rules("group-id", &groups.iter().cloned().collect::<Vec<_>>()).await?;
    let mut shared_groups: BTreeMap<String, SharedGroup> =
        groups.into_iter().map(|id| (id, SharedGroup::default())).collect();
    let ingress = rules.iter().filter(|rule| rule.is_egress() == Some(false));
    let (own, foreign): (Vec<_>, Vec<_>) =
        ingress.partition(|rule| ownership::is_ours(rule.tags(), &config.cluster));
    for rule in foreign {
        let group = shared_groups.entry(rule.group_id().unwrap_or_default().to_owned()).or_default();
        match permission::parse_rule(rule) {
            ParsedPermission::Rule(rule) => _ = group.foreign_rules.insert(rule),
            ParsedPermission::Foreign(_) => group.foreign_permission_count += 1,
        }
    }
    for rule in &own {
        let group = shared_groups.entry(rule.group_id().unwrap_or_default().to_owned()).or_default();
        if let ParsedPermission::Rule(rule) = permission::parse_rule(rule) {
            group.own_rules.insert(rule);
        }
    }
    Ok((shared_rules(&own, &shared_groups, config), shared_groups))
}

/// Returns the user's groups that exist. Our own of mode `attach` can have the tag too, which the administrator may have
/// given to all that is created; they are no targets.
async fn find_target_groups(
    client: &Client,
    targets: &SharedTargets,
    cluster: &str,
) -> Result<BTreeSet<String>, CallError> {
    let ids: Vec<String> = targets.ids.iter().cloned().collect();
    let mut groups = client.describe_groups("group-id", &ids).await?;
    for missing in ids.iter().filter(|id| !groups.iter().any(|group| group.group_id() == Some(id))) {
        tracing::warn!(group = missing, "a security group named in the configuration does not exist");
    }
    if let Some((key, value)) = &targets.tag {
        groups.extend(client.describe_groups(&format!("tag:{key}"), slice::from_ref(value)).await?);
    }
    groups.retain(|group| !ownership::is_own_group(group, cluster));
    Ok(groups.into_iter().filter_map(|group| group.group_id).collect())
}

/// Returns our rules by the user's group that has them.
pub(super) fn shared_rules(
    own: &[&SecurityGroupRule],
    groups: &BTreeMap<String, SharedGroup>,
    config: &AwsConfig,
) -> Vec<AwsResource> {
    let limit = config.rules_per_group;
    let mut by_group: BTreeMap<String, SharedRules> = BTreeMap::new();
    for rule in own {
        let id = rule.group_id().unwrap_or_default().to_owned();
        let group = groups.get(&id);
        let capacity = group.map_or(RuleCapacity::per_family(limit), |group| group.rule_capacity(limit));
        let shared = by_group.entry(id.clone()).or_insert_with(|| SharedRules::empty(id, capacity));
        let id = rule.security_group_rule_id().unwrap_or_default().to_owned();
        let serves = ownership::tag_value(rule.tags(), ownership::GROUP_TAG);
        shared.serves.extend(serves.map(ToOwned::to_owned));
        match permission::parse_rule(rule) {
            ParsedPermission::Rule(rule) => {
                shared.rules.insert(rule);
                shared.ids.insert(rule, id);
            }
            ParsedPermission::Foreign(permission) => _ = shared.altered.insert(id, permission.to_string()),
        }
    }
    by_group.into_values().map(AwsResource::SharedRules).collect()
}
