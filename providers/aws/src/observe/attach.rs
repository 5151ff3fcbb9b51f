//! Mode `attach`: the groups with the cluster's tag, and their attachments.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::SecurityGroup as Ec2Group;
use firewall_core::{ChangesSince, InstanceId, ProviderError};

use super::AwsObserved;
use super::groups::{describe_groups_by_id, describe_own_groups};
use super::members::{describe_members, facts};
use crate::client::Client;
use crate::config::AwsConfig;
use crate::ec2_cache::{AttachApi, Ec2Cache};
use crate::inventory::{InstanceFacts, Inventory};
use crate::ownership;
use crate::resource::{Attachment, AwsKey, AwsResource, GroupName};
use crate::wire::error::CallError;
use crate::wire::instance::{Instance, Interface};

/// Observes the groups with the cluster's tag, and their attachments.
///
/// A member whose interface has one of our groups is known by that interface: only the others are described.
pub(crate) async fn observe_attach(
    client: &Client,
    config: &AwsConfig,
    cache: &Ec2Cache,
    members: &BTreeSet<InstanceId>,
) -> Result<AwsObserved, ProviderError> {
    let groups = describe_own_groups(client, config, cache).await?;
    let own_groups = cache.group_names();
    let attach_api = detect_attach_api(client, cache).await?;
    let mut attached = Attached::describe(client, attach_api, &own_groups).await?;
    let left: BTreeSet<InstanceId> =
        members.iter().filter(|member| !attached.instances.contains_key(*member)).cloned().collect();
    let described = describe_members(client, cache, &left).await?;
    attached.add_members(described.instances);

    let instances: BTreeMap<_, _> = attached
        .instances
        .iter()
        .filter(|(id, _)| members.contains(id))
        .map(|(id, instance)| (id.clone(), facts(instance, &own_groups)))
        .collect();
    let cluster_tagged = find_cluster_tagged(client, cache, &instances).await?;
    let security_groups = groups.iter().map(|group| (group.name.clone(), group.rules.clone())).collect();
    let interfaces = attached.instances.values().map(|instance| &instance.primary);
    let attachments = interfaces.filter_map(|interface| attachment(interface, &own_groups, config));
    let resources =
        groups.into_iter().map(AwsResource::SecurityGroup).chain(attachments.map(AwsResource::Attachment));
    let inventory = Inventory {
        instances,
        unknown_instances: described.unknown.clone(),
        cluster_tagged,
        security_groups,
        shared_groups: BTreeMap::new(),
        former_mode: BTreeSet::new(),
        attach_api,
        is_egress_unmanaged: cache.is_egress_denied(),
    };
    Ok(AwsObserved { resources: resources.collect(), inventory, unknown_instances: described.unknown })
}

/// Reads the groups that a plan relies on, and describes the members that are not known; attachments are known, and
/// looked at when they are changed. A group that somebody has added a rule to must not be attached to one more instance,
/// and one that is somebody else's now must not be changed.
pub(crate) async fn observe_added_attached(
    client: &Client,
    config: &AwsConfig,
    cache: &Ec2Cache,
    known: &mut AwsObserved,
    changes: &ChangesSince<AwsKey>,
) -> Result<bool, ProviderError> {
    let ids = changes.relied_on.as_ref().and_then(|keys| find_group_ids(cache, keys));
    let groups = match &ids {
        Some(ids) => describe_groups_by_id(client, config, ids).await?,
        None => describe_own_groups(client, config, cache).await?,
    };
    let groups = groups.into_iter().map(AwsResource::SecurityGroup).collect();
    let AwsObserved { resources, inventory, unknown_instances } = known;
    let meant = changes.relied_on.as_ref().filter(|_| ids.is_some());
    let is_read = |key: &AwsKey| {
        matches!(key, AwsKey::SecurityGroup(_)) && meant.is_none_or(|meant| meant.contains(key))
    };
    let mut differences = resources.take_over(groups, is_read);
    let added = inventory.follow_members(changes);
    let described = describe_members(client, cache, &added).await?;
    let own_groups = cache.group_names();
    for instance in &described.instances {
        inventory.instances.insert(instance.id.clone(), facts(instance, &own_groups));
        // It may have groups from another time, and no longer those that it had then.
        let key = AwsKey::Attachment(instance.id.clone());
        let attachment = attachment(&instance.primary, &own_groups, config).map(AwsResource::Attachment);
        resources.take_over_one(&key, attachment, &mut differences);
    }
    let is_known = |facts: &InstanceFacts| facts.foreign_groups.is_subset(&inventory.cluster_tagged);
    let facts = |id| Some((InstanceId::clone(id), inventory.instances.get(id)?.clone()));
    let added = added.iter().filter_map(facts).filter(|(_, facts)| !is_known(facts)).collect();
    inventory.cluster_tagged.extend(find_cluster_tagged(client, cache, &added).await?);
    inventory.is_egress_unmanaged = cache.is_egress_denied();
    inventory.unknown_instances.clone_from(&described.unknown);
    inventory.follow(resources, changes.resources.iter().chain(&differences.keys));
    *unknown_instances = described.unknown;
    Ok(differences.is_surprise)
}

/// Returns the ids of the groups among these resources; none if one is not known.
fn find_group_ids(cache: &Ec2Cache, resources: &BTreeSet<AwsKey>) -> Option<Vec<String>> {
    let names = resources.iter().filter_map(|key| match key {
        AwsKey::SecurityGroup(name) => Some(name),
        AwsKey::Attachment(_) | AwsKey::SharedRules(_) => None,
    });
    names.map(|name| cache.group_id(name)).collect()
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

/// The instances whose primary interface has one of our groups, and the members.
struct Attached {
    instances: BTreeMap<InstanceId, Instance>,
}

impl Attached {
    /// Describes the instances whose primary interface has one of our groups. On another interface our groups
    /// were put by another program (amazon-vpc-cni-k8s copies them to the ones that it manages), which removes
    /// them too.
    async fn describe(
        client: &Client,
        attach_api: AttachApi,
        own_groups: &BTreeMap<String, GroupName>,
    ) -> Result<Self, CallError> {
        let ids: Vec<String> = own_groups.keys().cloned().collect();
        let instances = match attach_api {
            AttachApi::NetworkInterface => {
                let interfaces = client.describe_interfaces_with_groups(&ids).await?;
                interfaces.into_iter().filter_map(instance_of).collect()
            }
            AttachApi::Instance => client.describe_instances("instance.group-id", &ids).await?.instances,
        };
        let instances = instances.into_iter().map(|instance| (instance.id.clone(), instance)).collect();
        Ok(Self { instances })
    }

    /// Adds members that were described since. One that has our groups after all, which the answer about
    /// interfaces left out, is thereby attached.
    fn add_members(&mut self, members: Vec<Instance>) {
        self.instances.extend(members.into_iter().map(|instance| (instance.id.clone(), instance)));
    }
}

/// Returns what an interface says about its instance, if it is the primary one. An instance that an AWS
/// service or a provisioner manages has no group of ours, and the number of interfaces matters only where they are
/// not read.
fn instance_of(primary: Interface) -> Option<Instance> {
    let Some(id) = primary.primary_of.clone() else {
        tracing::debug!(
            interface = primary.id,
            "a security group of this cluster is on an interface that is not the primary one of an instance"
        );
        return None;
    };
    Some(Instance { id, primary, interface_count: 1, managed_by: None, provisioner: None })
}

/// Returns the attachment of our groups to an instance by its primary interface.
fn attachment(
    interface: &Interface,
    own_groups: &BTreeMap<String, GroupName>,
    config: &AwsConfig,
) -> Option<Attachment> {
    let instance = interface.primary_of.clone()?;
    let groups: BTreeSet<GroupName> =
        interface.groups.iter().filter_map(|id| own_groups.get(id)).cloned().collect();
    let foreign_count = interface.groups.len() - groups.len();
    let capacity = config.slots_per_interface.saturating_sub(foreign_count);
    let interface = interface.id.clone();
    (!groups.is_empty()).then_some(Attachment { instance, interface, groups, capacity })
}

/// Returns the groups that are alone on an instance's interface, beside ours, and carry the cluster tag.
async fn find_cluster_tagged(
    client: &Client,
    cache: &Ec2Cache,
    instances: &BTreeMap<InstanceId, InstanceFacts>,
) -> Result<BTreeSet<String>, CallError> {
    let sole = instances.values().map(|facts| &facts.foreign_groups).filter(|groups| groups.len() == 1);
    let sole: BTreeSet<&String> = sole.flatten().collect();
    let sole: Vec<String> = sole.into_iter().cloned().collect();
    let described = client.describe_groups("group-id", &sole).await?;
    let is_tagged =
        |group: &Ec2Group| Some((group.group_id()?.to_owned(), ownership::is_node_group(group.tags())));
    Ok(cache.record_node_groups(described.iter().filter_map(is_tagged)))
}
