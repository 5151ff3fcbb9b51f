//! What an earlier run in the other mode has left: only a start can bring a change of mode.

use std::collections::{BTreeMap, BTreeSet};
use std::slice;

use aws_sdk_ec2::types::SecurityGroupRule;
use firewall_core::{ErrorKind, ProviderError, Resource, ResourceSet};

use super::AwsObserved;
use super::attach::observe_attach;
use super::groups::describe_own_groups;
use super::shared::shared_rules;
use crate::client::Client;
use crate::config::{AwsConfig, Mode};
use crate::ec2_cache::Ec2Cache;
use crate::ownership;
use crate::resource::AwsResource;

/// Adds the resources of the other mode, until a read has found none. Where they cannot be read, they are left
/// alone.
pub(crate) async fn add_former_mode(
    client: &Client,
    config: &AwsConfig,
    cache: &Ec2Cache,
    observed: &mut AwsObserved,
) {
    if cache.is_former_mode_gone() {
        return;
    }
    let former = match &config.mode {
        Mode::Attach => former_shared_rules(client, config, cache).await,
        Mode::Shared(_) => former_attachments(client, config, cache).await,
    };
    let former = former.unwrap_or_else(|error| {
        // With the policy of one mode alone, there is nothing that could be done about the other.
        if error.kind == ErrorKind::PermissionDenied {
            cache.record_former_mode_gone();
            tracing::debug!("what another mode may have left is not looked for: {error}");
        } else {
            tracing::warn!("what another mode may have left is not known: {error}");
        }
        ResourceSet::<AwsResource>::new()
    });
    let places = former.values().flat_map(|resource| resource.instances(&former));
    observed.inventory.former_mode = places.collect();
    observed.resources.extend(former.into_values());
}

async fn former_attachments(
    client: &Client,
    config: &AwsConfig,
    cache: &Ec2Cache,
) -> Result<ResourceSet<AwsResource>, ProviderError> {
    if describe_own_groups(client, config, cache).await?.is_empty() {
        cache.record_former_mode_gone();
        return Ok(ResourceSet::<AwsResource>::new());
    }
    Ok(observe_attach(client, config, cache, &BTreeSet::new()).await?.resources)
}

/// Returns our rules in groups that are not ours.
async fn former_shared_rules(
    client: &Client,
    config: &AwsConfig,
    cache: &Ec2Cache,
) -> Result<ResourceSet<AwsResource>, ProviderError> {
    let filter = format!("tag:{}", ownership::CLUSTER_TAG);
    let rules = client.describe_rules(&filter, slice::from_ref(&config.cluster)).await?;
    let own_groups = cache.group_names();
    let is_former = |rule: &&SecurityGroupRule| {
        rule.is_egress() == Some(false)
            && ownership::is_ours(rule.tags(), &config.cluster)
            && rule.group_id().is_some_and(|group| !own_groups.contains_key(group))
    };
    let former: Vec<_> = rules.iter().filter(is_former).collect();
    if former.is_empty() {
        cache.record_former_mode_gone();
    }
    Ok(shared_rules(&former, &BTreeMap::new(), config).into_iter().collect())
}
