//! This cluster's own security groups.

use std::collections::BTreeSet;
use std::slice;

use aws_sdk_ec2::types::SecurityGroup as Ec2Group;
use firewall_core::GroupLabel;

use crate::client::Client;
use crate::config::AwsConfig;
use crate::ec2_cache::Ec2Cache;
use crate::ownership;
use crate::resource::{Egress, GroupName, RuleCapacity, SecurityGroup};
use crate::wire::error::CallError;
use crate::wire::permission;

/// Describes the groups with the cluster's tag, and records them in the cache.
///
/// A list by tag can leave out a group that has it, for a while. So groups that were ours before are asked
/// for by their ids: that they do not exist, or have lost the tag, is then a fact.
pub(super) async fn describe_own_groups(
    client: &Client,
    config: &AwsConfig,
    cache: &Ec2Cache,
) -> Result<Vec<SecurityGroup>, CallError> {
    let filter = format!("tag:{}", ownership::CLUSTER_TAG);
    let mut groups = client.describe_groups(&filter, slice::from_ref(&config.cluster)).await?;
    groups.retain(|group| {
        let is_named_ours = ownership::has_own_name(group, &config.cluster);
        if !is_named_ours {
            tell_of_tagged(group, config, cache);
        }
        is_named_ours
    });
    let listed: BTreeSet<&str> = groups.iter().filter_map(Ec2Group::group_id).collect();
    for group in describe_unlisted(client, &cache.unlisted(&listed)).await? {
        let own = security_group(&group, config);
        if ownership::is_own_group(&group, &config.cluster) {
            groups.push(group);
            continue;
        }
        tracing::error!(
            group = own.id,
            name = %own.name,
            "a security group of this cluster has lost its tag {}={}: it is no longer changed, and stays where it \
             is attached; tag it again, or detach and delete it",
            ownership::CLUSTER_TAG,
            config.cluster
        );
        cache.record_deleted(&own.name);
    }
    let groups: Vec<SecurityGroup> = groups.iter().map(|group| security_group(group, config)).collect();
    cache.record_listed(groups.iter().filter_map(|group| Some((group.name.clone(), group.id.clone()?))));
    Ok(groups)
}

/// Tells, once, of a group that has the cluster's tag and not a name of ours: it is somebody else's.
fn tell_of_tagged(group: &Ec2Group, config: &AwsConfig, cache: &Ec2Cache) {
    let id = group.group_id().unwrap_or_default();
    if !cache.record_tagged(id) {
        return;
    }
    tracing::warn!(
        group = id,
        name = group.group_name().unwrap_or_default(),
        "a security group has the tag {}={}, and not a name that this controller gives: it is left alone; take \
         the tag off",
        ownership::CLUSTER_TAG,
        config.cluster
    );
}

/// Describes those of these groups that are ours.
pub(super) async fn describe_groups_by_id(
    client: &Client,
    config: &AwsConfig,
    ids: &[String],
) -> Result<Vec<SecurityGroup>, CallError> {
    let mut groups = describe_unlisted(client, ids).await?;
    groups.retain(|group| ownership::is_own_group(group, &config.cluster));
    Ok(groups.iter().map(|group| security_group(group, config)).collect())
}

/// Returns those of the groups that exist.
async fn describe_unlisted(client: &Client, ids: &[String]) -> Result<Vec<Ec2Group>, CallError> {
    let mut groups = client.describe_groups("group-id", ids).await?;
    let found: BTreeSet<String> = groups.iter().filter_map(|group| group.group_id.clone()).collect();
    for id in ids.iter().filter(|id| !found.contains(*id)) {
        groups.extend(client.find_group(id).await?);
    }
    Ok(groups)
}

/// Returns the group as a resource. The tag names the firewall groups that it was created for; the
/// descriptions of the rules name those that it serves now.
fn security_group(group: &Ec2Group, config: &AwsConfig) -> SecurityGroup {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let (rules, foreign) = permission::parse_permissions(group.ip_permissions());
    let mut serves = permission::descriptions(group.ip_permissions());
    serves.retain(|text| !GroupLabel::read(text).is_empty());
    if serves.is_empty() {
        serves.extend(ownership::tag_value(group.tags(), ownership::GROUP_TAG).map(ToOwned::to_owned));
    }
    SecurityGroup {
        name: GroupName { vpc: text(group.vpc_id()), name: text(group.group_name()) },
        id: group.group_id().map(ToOwned::to_owned),
        serves,
        rules,
        foreign,
        egress: if group.ip_permissions_egress().is_empty() { Egress::Closed } else { Egress::Open },
        rule_capacity: RuleCapacity::per_family(config.rules_per_group),
    }
}
