//! Reads this cluster's resources from EC2, and the facts about the members.

use std::collections::{BTreeMap, BTreeSet};
use std::slice;

use aws_sdk_ec2::types::{SecurityGroup as Ec2Group, SecurityGroupRule};
use firewall_core::{InstanceId, Observed, ProviderError, ResourceSet};

use crate::client::Client;
use crate::config::{AwsConfig, SharedTargets};
use crate::ec2_cache::{AttachApi, Ec2Cache};
use crate::inventory::{InstanceFacts, Inventory, SharedGroup};
use crate::ownership;
use crate::resource::{Attachment, AwsResource, Egress, GroupName, RuleCapacity, SecurityGroup, SharedRules};
use crate::wire::error::CallError;
use crate::wire::instance::{Instance, Interface};
use crate::wire::permission::{self, ParsedPermission};

type AwsObserved = Observed<AwsResource, Inventory>;

/// Observes in mode `attach`: the groups with the cluster's tag, and their attachments.
pub(crate) async fn observe_attach(
    client: &Client,
    config: &AwsConfig,
    cache: &Ec2Cache,
    members: &BTreeSet<InstanceId>,
) -> Result<AwsObserved, ProviderError> {
    let filter = format!("tag:{}", ownership::CLUSTER_TAG);
    let groups = client.describe_groups(&filter, slice::from_ref(&config.cluster)).await?;
    let groups: Vec<SecurityGroup> = groups.iter().map(|group| security_group(group, config)).collect();
    cache.record_listed(groups.iter().filter_map(|group| Some((group.name.clone(), group.id.clone()?))));
    let own_groups = cache.group_names();
    let attach_api = detect_attach_api(client, cache).await?;
    let interfaces = interfaces_with_groups(client, attach_api, &own_groups).await?;
    let instances = describe_members(client, members).await?;
    let instances: BTreeMap<_, _> =
        instances.iter().map(|instance| (instance.id.clone(), facts(instance, &own_groups))).collect();
    let cluster_tagged = find_cluster_tagged(client, &instances).await?;

    let security_groups = groups.iter().map(|group| (group.name.clone(), group.rules.clone())).collect();
    let attachments = interfaces.iter().filter_map(|interface| attachment(interface, &own_groups, config));
    let attachments = attachments.map(AwsResource::Attachment);
    let resources = groups.into_iter().map(AwsResource::SecurityGroup).chain(attachments);
    let inventory = Inventory {
        instances,
        cluster_tagged,
        security_groups,
        shared_groups: BTreeMap::new(),
        attach_api,
        is_egress_unmanaged: cache.is_egress_denied(),
    };
    Ok(Observed { resources: resources.collect(), inventory })
}

/// Returns the calls by which groups are attached. EC2 is asked once, because a policy is not changed while
/// it is in use.
pub(crate) async fn detect_attach_api(client: &Client, cache: &Ec2Cache) -> Result<AttachApi, CallError> {
    if let Some(attach_api) = cache.attach_api() {
        return Ok(attach_api);
    }
    let attach_api = if client.may_describe_interfaces().await? {
        AttachApi::NetworkInterface
    } else {
        tracing::warn!(
            "ec2:DescribeNetworkInterfaces is not granted: groups are attached with ModifyInstanceAttribute, \
             to instances with a single interface only; grant the policy of mode attach (`iam/`) and restart \
             to change that"
        );
        AttachApi::Instance
    };
    cache.record_attach_api(attach_api);
    Ok(attach_api)
}

fn security_group(group: &Ec2Group, config: &AwsConfig) -> SecurityGroup {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let (rules, foreign) = permission::parse_permissions(group.ip_permissions());
    let serves = ownership::tag_value(group.tags(), ownership::GROUP_TAG).map(ToOwned::to_owned);
    SecurityGroup {
        name: GroupName { vpc: text(group.vpc_id()), name: text(group.group_name()) },
        id: group.group_id().map(ToOwned::to_owned),
        serves: serves.into_iter().collect(),
        rules,
        foreign,
        egress: if group.ip_permissions_egress().is_empty() { Egress::Closed } else { Egress::Open },
        rule_capacity: RuleCapacity::per_family(config.rules_per_group),
    }
}

async fn interfaces_with_groups(
    client: &Client,
    attach_api: AttachApi,
    own_groups: &BTreeMap<String, GroupName>,
) -> Result<Vec<Interface>, CallError> {
    let ids: Vec<String> = own_groups.keys().cloned().collect();
    match attach_api {
        AttachApi::NetworkInterface => client.describe_interfaces_with_groups(&ids).await,
        AttachApi::Instance => {
            let instances = client.describe_instances("instance.group-id", &ids).await?;
            Ok(instances.into_iter().map(|instance| instance.primary).collect())
        }
    }
}

/// Returns the attachment of our groups to an instance by its primary interface. On another interface our
/// groups were put by another program (amazon-vpc-cni-k8s copies them to the ones that it manages), which
/// removes them too.
fn attachment(
    interface: &Interface,
    own_groups: &BTreeMap<String, GroupName>,
    config: &AwsConfig,
) -> Option<Attachment> {
    let Some(instance) = &interface.primary_of else {
        tracing::debug!(
            interface = interface.id,
            "a security group of this cluster is on an interface that is not the primary one of an instance"
        );
        return None;
    };
    let groups: BTreeSet<GroupName> =
        interface.groups.iter().filter_map(|id| own_groups.get(id)).cloned().collect();
    let foreign_count = interface.groups.len() - groups.len();
    let capacity = config.slots_per_interface.saturating_sub(foreign_count);
    let (instance, interface) = (instance.clone(), interface.id.clone());
    (!groups.is_empty()).then_some(Attachment { instance, interface, groups, capacity })
}

async fn describe_members(
    client: &Client,
    members: &BTreeSet<InstanceId>,
) -> Result<Vec<Instance>, CallError> {
    let ids: Vec<String> = members.iter().map(ToString::to_string).collect();
    client.describe_instances("instance-id", &ids).await
}

fn facts(instance: &Instance, own_groups: &BTreeMap<String, GroupName>) -> InstanceFacts {
    let primary = &instance.primary;
    InstanceFacts {
        vpc: primary.vpc.clone(),
        interface: primary.id.clone(),
        foreign_groups: primary.groups.iter().filter(|id| !own_groups.contains_key(*id)).cloned().collect(),
        own_groups: primary.groups.iter().filter_map(|id| own_groups.get(id)).cloned().collect(),
        interface_count: instance.interface_count,
        has_ipv6: primary.has_ipv6,
        managed_by: instance.managed_by.clone(),
    }
}

/// Returns the groups that are alone on an instance's interface, beside ours, and carry the cluster tag.
async fn find_cluster_tagged(
    client: &Client,
    instances: &BTreeMap<InstanceId, InstanceFacts>,
) -> Result<BTreeSet<String>, CallError> {
    let sole = instances.values().map(|facts| &facts.foreign_groups).filter(|groups| groups.len() == 1);
    let sole: BTreeSet<&String> = sole.flatten().collect();
    let sole: Vec<String> = sole.into_iter().cloned().collect();
    let groups = client.describe_groups("group-id", &sole).await?;
    let tagged = groups.iter().filter(|group| ownership::is_node_group(group.tags()));
    Ok(tagged.filter_map(Ec2Group::group_id).map(ToOwned::to_owned).collect())
}

/// Observes in mode `shared`: the rules with the cluster's tag in the user's groups.
pub(crate) async fn observe_shared(
    client: &Client,
    config: &AwsConfig,
    targets: &SharedTargets,
    members: &BTreeSet<InstanceId>,
) -> Result<AwsObserved, ProviderError> {
    let groups = find_target_groups(client, targets).await?;
    let rules = client.describe_rules(&groups.iter().cloned().collect::<Vec<_>>()).await?;
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
    let resources = shared_rules(&own, &shared_groups, config);
    let instances = describe_members(client, members).await?;
    let none = BTreeMap::new();
    let instances = instances.iter().map(|instance| (instance.id.clone(), facts(instance, &none))).collect();
    Ok(Observed { resources, inventory: Inventory { instances, shared_groups, ..Inventory::default() } })
}

async fn find_target_groups(client: &Client, targets: &SharedTargets) -> Result<BTreeSet<String>, CallError> {
    let ids: Vec<String> = targets.ids.iter().cloned().collect();
    let mut groups = client.describe_groups("group-id", &ids).await?;
    for missing in ids.iter().filter(|id| !groups.iter().any(|group| group.group_id() == Some(id))) {
        tracing::warn!(group = missing, "a security group named in the configuration does not exist");
    }
    if let Some((key, value)) = &targets.tag {
        groups.extend(client.describe_groups(&format!("tag:{key}"), slice::from_ref(value)).await?);
    }
    Ok(groups.into_iter().filter_map(|group| group.group_id).collect())
}

/// Returns our rules by the user's group that has them.
fn shared_rules(
    own: &[&SecurityGroupRule],
    groups: &BTreeMap<String, SharedGroup>,
    config: &AwsConfig,
) -> ResourceSet<AwsResource> {
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
