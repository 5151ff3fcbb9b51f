//! Reads what is ours in EC2, and what must be known of the members.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::{SecurityGroup as Ec2Group, SecurityGroupRule};
use firewall_core::{InstanceId, Observed, ProviderError, ResourceSet};

use crate::client::Client;
use crate::config::{AwsConfig, SharedTargets};
use crate::inventory::{InstanceFacts, Inventory, SharedGroup};
use crate::resource::{Attachment, AwsResource, Egress, GroupName, Room, SecurityGroup, SharedRules};
use crate::session::{Dialect, Session};
use crate::wire::error::CallError;
use crate::wire::machine::{Interface, Machine};
use crate::wire::permission::{self, Atom};
use crate::wire::tag;

type Everything = Observed<AwsResource, Inventory>;

/// The world of mode `attach`: groups with the cluster's tag, and where they are attached.
pub(crate) async fn attach(
    client: &Client,
    config: &AwsConfig,
    session: &Session,
    members: &BTreeSet<InstanceId>,
) -> Result<Everything, ProviderError> {
    let filter = format!("tag:{}", tag::CLUSTER_TAG);
    let groups = client.groups(&filter, std::slice::from_ref(&config.cluster)).await?;
    let groups: Vec<SecurityGroup> = groups.iter().map(|group| security_group(group, config)).collect();
    session.listed(groups.iter().filter_map(|group| Some((group.name.clone(), group.id.clone()?))));
    let ours = session.names();
    let dialect = dialect(client, session).await?;
    let interfaces = interfaces_with(client, dialect, &ours).await?;
    let machines = machines(client, members).await?;
    let instances: BTreeMap<_, _> =
        machines.iter().map(|machine| (machine.id.clone(), facts(machine, &ours))).collect();
    let cluster_tagged = cluster_tagged(client, &instances).await?;

    let security_groups = groups.iter().map(|group| (group.name.clone(), group.rules.clone())).collect();
    let attachments = interfaces.iter().filter_map(|interface| attachment(interface, &ours, config));
    let attachments = attachments.map(AwsResource::Attachment);
    let resources = groups.into_iter().map(AwsResource::SecurityGroup).chain(attachments);
    let inventory = Inventory {
        instances,
        cluster_tagged,
        security_groups,
        shared_groups: BTreeMap::new(),
        dialect,
        egress_unmanaged: session.egress_denied(),
    };
    Ok(Observed { resources: resources.collect(), inventory })
}

/// By which calls groups are attached: asked once, because a policy is not changed while it is in use.
pub(crate) async fn dialect(client: &Client, session: &Session) -> Result<Dialect, CallError> {
    if let Some(dialect) = session.dialect() {
        return Ok(dialect);
    }
    let dialect =
        if client.may_describe_interfaces().await? { Dialect::Interfaces } else { Dialect::Instances };
    if dialect == Dialect::Instances {
        tracing::warn!(
            "ec2:DescribeNetworkInterfaces is not granted: groups are attached with ModifyInstanceAttribute, to \
             instances with a single interface only; grant the policy of mode attach (`iam/`) and restart to change that"
        );
    }
    session.learn_dialect(dialect);
    Ok(dialect)
}

fn security_group(group: &Ec2Group, config: &AwsConfig) -> SecurityGroup {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let (rules, strays) = permission::atoms(group.ip_permissions());
    SecurityGroup {
        name: GroupName { vpc: text(group.vpc_id()), name: text(group.group_name()) },
        id: group.group_id().map(ToOwned::to_owned),
        serves: tag::value(group.tags(), tag::GROUP_TAG).map(ToOwned::to_owned).into_iter().collect(),
        rules,
        strays,
        egress: if group.ip_permissions_egress().is_empty() { Egress::Closed } else { Egress::Open },
        room: Room::each(config.rules_per_group),
    }
}

async fn interfaces_with(
    client: &Client,
    dialect: Dialect,
    ours: &BTreeMap<String, GroupName>,
) -> Result<Vec<Interface>, CallError> {
    let ids: Vec<String> = ours.keys().cloned().collect();
    match dialect {
        Dialect::Interfaces => client.interfaces_with_groups(&ids).await,
        Dialect::Instances => {
            let machines = client.instances("instance.group-id", &ids).await?;
            Ok(machines.into_iter().map(|machine| machine.primary).collect())
        }
    }
}

/// What of ours is attached to an instance by its primary interface. Whoever put our groups on another
/// interface (amazon-vpc-cni-k8s copies them to the ones it manages) takes them off again too.
fn attachment(
    interface: &Interface,
    ours: &BTreeMap<String, GroupName>,
    config: &AwsConfig,
) -> Option<Attachment> {
    let Some(instance) = &interface.primary_of else {
        tracing::debug!(
            interface = interface.id,
            "a group of ours is on an interface that is nobody's primary one"
        );
        return None;
    };
    let groups: BTreeSet<GroupName> =
        interface.groups.iter().filter_map(|id| ours.get(id)).cloned().collect();
    let others = interface.groups.len() - groups.len();
    let capacity = config.slots_per_interface.saturating_sub(others);
    let (instance, interface) = (instance.clone(), interface.id.clone());
    (!groups.is_empty()).then_some(Attachment { instance, interface, groups, capacity })
}

async fn machines(client: &Client, members: &BTreeSet<InstanceId>) -> Result<Vec<Machine>, CallError> {
    let ids: Vec<String> = members.iter().map(ToString::to_string).collect();
    client.instances("instance-id", &ids).await
}

fn facts(machine: &Machine, ours: &BTreeMap<String, GroupName>) -> InstanceFacts {
    let primary = &machine.primary;
    InstanceFacts {
        vpc: primary.vpc.clone(),
        interface: primary.id.clone(),
        groups: primary.groups.iter().filter(|id| !ours.contains_key(*id)).cloned().collect(),
        ours: primary.groups.iter().filter_map(|id| ours.get(id)).cloned().collect(),
        interfaces: machine.interfaces,
        ipv6: primary.ipv6,
        managed_by: machine.managed_by.clone(),
    }
}

async fn cluster_tagged(
    client: &Client,
    instances: &BTreeMap<InstanceId, InstanceFacts>,
) -> Result<BTreeSet<String>, CallError> {
    let alone = instances.values().filter(|facts| facts.groups.len() == 1).flat_map(|facts| &facts.groups);
    let alone: BTreeSet<&String> = alone.collect();
    let alone: Vec<String> = alone.into_iter().cloned().collect();
    let groups = client.groups("group-id", &alone).await?;
    let tagged = groups.iter().filter(|group| tag::is_node_group(group.tags()));
    Ok(tagged.filter_map(Ec2Group::group_id).map(ToOwned::to_owned).collect())
}

/// The world of mode `shared`: rules with the cluster's tag in the user's groups.
pub(crate) async fn shared(
    client: &Client,
    config: &AwsConfig,
    targets: &SharedTargets,
    members: &BTreeSet<InstanceId>,
) -> Result<Everything, ProviderError> {
    let groups = target_groups(client, targets).await?;
    let rules = client.rules(&groups.iter().cloned().collect::<Vec<_>>()).await?;
    let mut shared_groups: BTreeMap<String, SharedGroup> =
        groups.into_iter().map(|id| (id, SharedGroup::default())).collect();
    let ingress = rules.iter().filter(|rule| rule.is_egress() == Some(false));
    let (ours, others): (Vec<_>, Vec<_>) =
        ingress.partition(|rule| tag::is_ours(rule.tags(), &config.cluster));
    for rule in others {
        let group = shared_groups.entry(rule.group_id().unwrap_or_default().to_owned()).or_default();
        match permission::of_rule(rule) {
            Atom::Rule(rule) => _ = group.foreign.insert(rule),
            Atom::Stray(_) => group.foreign_others += 1,
        }
    }
    for rule in &ours {
        let group = shared_groups.entry(rule.group_id().unwrap_or_default().to_owned()).or_default();
        if let Atom::Rule(rule) = permission::of_rule(rule) {
            group.ours.insert(rule);
        }
    }
    let resources = shared_rules(&ours, &shared_groups, config);
    let machines = machines(client, members).await?;
    let nothing = BTreeMap::new();
    let instances = machines.iter().map(|machine| (machine.id.clone(), facts(machine, &nothing))).collect();
    Ok(Observed { resources, inventory: Inventory { instances, shared_groups, ..Inventory::default() } })
}

async fn target_groups(client: &Client, targets: &SharedTargets) -> Result<BTreeSet<String>, CallError> {
    let ids: Vec<String> = targets.ids.iter().cloned().collect();
    let mut groups = client.groups("group-id", &ids).await?;
    for missing in ids.iter().filter(|id| !groups.iter().any(|group| group.group_id() == Some(id))) {
        tracing::warn!(group = missing, "a security group named in the configuration does not exist");
    }
    if let Some((key, value)) = &targets.tag {
        groups.extend(client.groups(&format!("tag:{key}"), std::slice::from_ref(value)).await?);
    }
    Ok(groups.into_iter().filter_map(|group| group.group_id).collect())
}

fn shared_rules(
    ours: &[&SecurityGroupRule],
    groups: &BTreeMap<String, SharedGroup>,
    config: &AwsConfig,
) -> ResourceSet<AwsResource> {
    let mut by_group: BTreeMap<String, SharedRules> = BTreeMap::new();
    for rule in ours {
        let group = rule.group_id().unwrap_or_default().to_owned();
        let room = groups
            .get(&group)
            .map_or(Room::each(config.rules_per_group), |group| group.room(config.rules_per_group));
        let shared = by_group.entry(group.clone()).or_insert_with(|| SharedRules::none(group, room));
        let id = rule.security_group_rule_id().unwrap_or_default().to_owned();
        shared.serves.extend(tag::value(rule.tags(), tag::GROUP_TAG).map(ToOwned::to_owned));
        match permission::of_rule(rule) {
            Atom::Rule(rule) => {
                shared.rules.insert(rule);
                shared.ids.insert(rule, id);
            }
            Atom::Stray(stray) => _ = shared.strays.insert(id, stray.to_string()),
        }
    }
    by_group.into_values().map(AwsResource::SharedRules).collect()
}
