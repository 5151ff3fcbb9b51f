//! Mode `attach`: one security group per VPC and firewall group, and the attachments of each instance.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use firewall_core::{
    Compiled, Desired, FirewallGroup, GroupKey, Incumbency, Infeasible, InstanceId, Requirements, Resource,
    ResourceSet, RuleSet, digest, select_within_capacity,
};

use super::{not_found, too_many_rules};
use crate::config::AwsConfig;
use crate::inventory::{InstanceFacts, Inventory};
use crate::resource::{Attachment, AwsKey, AwsResource, Egress, GroupName, Room, SecurityGroup};
use crate::session::Dialect;

/// Firewall groups by identity, as one instance is in them.
type Memberships<'a> = BTreeMap<&'a GroupKey, &'a FirewallGroup>;

pub(super) fn compile(desired: &Desired, inventory: &Inventory, config: &AwsConfig) -> Compiled<AwsResource> {
    let mut compiler = Compiler {
        inventory,
        config,
        resources: ResourceSet::<AwsResource>::new(),
        requirements: BTreeMap::new(),
        infeasible: Vec::new(),
    };
    for (instance, groups) in compiler.requirements(desired) {
        compiler.instance(&instance, &groups);
    }
    let Compiler { resources, requirements, infeasible, .. } = compiler;
    Compiled { resources, requirements, infeasible }
}

struct Compiler<'a> {
    inventory: &'a Inventory,
    config: &'a AwsConfig,
    resources: ResourceSet<AwsResource>,
    requirements: firewall_core::MemberRequirements<AwsResource>,
    infeasible: Vec<Infeasible>,
}

impl Compiler<'_> {
    /// Every instance with the groups it is in, less the groups that fit nowhere.
    fn requirements<'d>(&mut self, desired: &'d Desired) -> BTreeMap<InstanceId, Memberships<'d>> {
        let mut requirements: BTreeMap<InstanceId, Memberships<'d>> = BTreeMap::new();
        for (key, group) in &desired.groups {
            if !self.fit(&group.rules) {
                self.infeasible.push(too_many_rules(key, None, "it", self.config.rules_per_group));
                continue;
            }
            for instance in &group.members {
                requirements.entry(instance.clone()).or_default().insert(key, group);
            }
        }
        requirements
    }

    fn fit(&self, rules: &RuleSet) -> bool {
        Room::each(self.config.rules_per_group).fits(rules.iter(), 0)
    }

    fn instance(&mut self, instance: &InstanceId, groups: &Memberships<'_>) {
        let Some(facts) = self.inventory.instances.get(instance) else {
            self.infeasible.extend(groups.keys().map(|key| not_found(key, instance)));
            return;
        };
        let capacity = self.config.slots_per_interface.saturating_sub(facts.groups.len());
        let refusal =
            self.refusal(instance, facts).or_else(|| (capacity == 0).then(|| self.no_free_slot(facts)));
        if let Some((reason, message)) = refusal {
            let rejected =
                groups.keys().map(|key| Infeasible::of_member(key, instance, reason, message.clone()));
            self.infeasible.extend(rejected);
            return;
        }
        let groups = &self.with_room(instance, facts, groups, capacity);
        let attached = self.security_groups(facts, groups, capacity);
        let attachment = Attachment {
            instance: instance.clone(),
            interface: facts.interface.clone(),
            groups: attached.iter().map(|group| group.name.clone()).collect(),
            capacity,
        };
        let attachment = AwsResource::Attachment(attachment);
        for &key in groups.keys() {
            let serving = attached.iter().filter(|group| group.serves.contains(&key.to_string()));
            let serving = serving.map(|group| AwsKey::SecurityGroup(group.name.clone()));
            let resources = serving.chain([attachment.key()]).collect();
            let takes = Requirements { resources, reachable_at: BTreeSet::from([instance.clone()]) };
            self.requirements.insert((key.clone(), instance.clone()), takes);
        }
        let resources = attached.into_iter().map(AwsResource::SecurityGroup).chain([attachment]);
        self.resources.extend(resources);
    }

    /// Why nothing may be attached to the instance, if so.
    fn refusal(&self, instance: &InstanceId, facts: &InstanceFacts) -> Option<(&'static str, String)> {
        if let Some(manager) = &facts.managed_by {
            let message = format!(
                "instance {instance} is managed by {manager}, which lets nobody else change its interfaces; run the \
                 pod on nodes of your own, or use mode shared with a group that these nodes have"
            );
            return Some(("ManagedInstance", message));
        }
        if self.inventory.dialect == Dialect::Instances && facts.interfaces > 1 {
            let message = format!(
                "instance {instance} has {} network interfaces, which the granted policy cannot change; grant the \
                 policy of mode attach (`iam/`), with ec2:DescribeNetworkInterfaces and \
                 ec2:ModifyNetworkInterfaceAttribute, and restart",
                facts.interfaces
            );
            return Some(("MultipleInterfaces", message));
        }
        self.untagged_node_group(facts).map(|group| ("UntaggedNodeGroup", self.tag_it(group)))
    }

    /// The interface's only group, if no cloud controller would know it for the node's own.
    ///
    /// cloud-provider-aws fails on an instance with several groups of which none is tagged, and
    /// aws-load-balancer-controller on one of which not exactly one is. Sources: `findSecurityGroupForInstance`
    /// in kubernetes/cloud-provider-aws; `resolveSecurityGroup` in kubernetes-sigs/aws-load-balancer-controller.
    fn untagged_node_group<'f>(&self, facts: &'f InstanceFacts) -> Option<&'f String> {
        let alone = if facts.groups.len() == 1 { facts.groups.first() } else { None };
        let allowed = self.config.allow_untagged_node_groups;
        alone.filter(|group| !allowed && !self.inventory.cluster_tagged.contains(*group))
    }

    fn tag_it(&self, group: &str) -> String {
        format!(
            "the node's only security group {group} carries no kubernetes.io/cluster/… tag, and a second group \
             would break cloud-provider-aws and aws-load-balancer-controller; tag it: aws ec2 create-tags \
             --resources {group} --tags Key=kubernetes.io/cluster/{},Value=owned (or, if the cluster runs neither, \
             allow untagged node groups)",
            self.config.cluster
        )
    }

    fn no_free_slot(&self, facts: &InstanceFacts) -> (&'static str, String) {
        let message = format!(
            "interface {} has {} security groups already, and {} are allowed; take one off it, or raise the VPC quota \
             \"Security groups per network interface\" (L-2AFB9258) and the provider's slots per interface",
            facts.interface,
            facts.groups.len(),
            self.config.slots_per_interface
        );
        ("NoFreeSlot", message)
    }

    /// The groups that fit into the slots, or else into one security group for all of them together; the others are
    /// refused. Who is on the interface now stays.
    fn with_room<'d>(
        &mut self,
        instance: &InstanceId,
        facts: &InstanceFacts,
        groups: &Memberships<'d>,
        capacity: usize,
    ) -> Memberships<'d> {
        let candidates: BTreeSet<&GroupKey> = groups.keys().copied().collect();
        let all_of = |keys: &BTreeSet<&GroupKey>| -> RuleSet {
            keys.iter().flat_map(|key| groups[*key].rules.iter().copied()).collect()
        };
        let now = OnceCell::new();
        let standing = |key: &&'d GroupKey| {
            let now: &Attached = now.get_or_init(|| self.attached(facts, groups));
            if now.alone.contains(*key) {
                Incumbency::Established
            } else {
                Incumbency::classify(&groups[*key].rules, &now.others)
            }
        };
        let select_within_capacity = select_within_capacity(&candidates, standing, |keys| {
            keys.len() <= capacity || self.fit(&all_of(keys))
        });
        let (count, limit) = (groups.len(), self.config.rules_per_group);
        for key in &candidates - &select_within_capacity {
            let what = format!(
                "instance {instance} has {capacity} free slots for {count} groups, which would have to share one security \
                 group; that with this one"
            );
            self.infeasible.push(too_many_rules(key, Some(instance), &what, limit));
        }
        groups
            .iter()
            .filter(|(key, _)| select_within_capacity.contains(*key))
            .map(|(key, group)| (*key, *group))
            .collect()
    }

    /// What of ours is on the interface now.
    fn attached<'d>(&self, facts: &InstanceFacts, groups: &Memberships<'d>) -> Attached<'d> {
        let names = groups.keys().map(|key| (self.name(&facts.vpc, [*key]), *key));
        let alone: BTreeMap<GroupName, &GroupKey> =
            names.filter(|(name, _)| facts.ours.contains(name)).collect();
        let others = facts.ours.iter().filter(|name| !alone.contains_key(*name));
        let rules = others.filter_map(|name| self.inventory.security_groups.get(name)).flatten();
        Attached { others: rules.copied().collect(), alone: alone.into_values().collect() }
    }

    /// One security group for each firewall group if they fit, else one for all of them together.
    fn security_groups(
        &self,
        facts: &InstanceFacts,
        groups: &Memberships<'_>,
        capacity: usize,
    ) -> Vec<SecurityGroup> {
        if groups.len() > capacity {
            return vec![self.security_group(&facts.vpc, groups)];
        }
        let single = |(&key, &group)| self.security_group(&facts.vpc, &BTreeMap::from([(key, group)]));
        groups.iter().map(single).collect()
    }

    fn security_group(&self, vpc: &str, groups: &Memberships<'_>) -> SecurityGroup {
        let rules = groups.values().fold(RuleSet::default(), |all, group| all.union(&group.rules));
        SecurityGroup {
            name: self.name(vpc, groups.keys().copied()),
            id: None,
            serves: groups.keys().map(ToString::to_string).collect(),
            rules: rules.rules().clone(),
            strays: BTreeSet::new(),
            egress: if self.inventory.egress_unmanaged { Egress::Unmanaged } else { Egress::Closed },
            room: Room::each(self.config.rules_per_group),
        }
    }

    fn name<'a>(&self, vpc: &str, groups: impl IntoIterator<Item = &'a GroupKey>) -> GroupName {
        GroupName { vpc: vpc.to_owned(), name: name(&self.config.cluster, groups.into_iter()) }
    }
}

/// What of ours is on an interface.
struct Attached<'a> {
    /// Those that have a security group of their own there
    alone: BTreeSet<&'a GroupKey>,
    /// What other security groups let in, which may serve several
    others: RuleSet,
}

/// The security group's name. EC2 takes names that differ only in case for the same, so there is only one case.
fn name<'a>(cluster: &str, groups: impl Iterator<Item = &'a GroupKey>) -> String {
    let digests: BTreeSet<String> = groups.map(GroupKey::digest).collect();
    let digest = match digests.first() {
        Some(only) if digests.len() == 1 => only.clone(),
        _ => digest(digests.iter().map(String::as_str)),
    };
    format!("hostport-firewall-{}-{digest}", cluster.to_ascii_lowercase())
}

#[cfg(test)]
mod tests;
