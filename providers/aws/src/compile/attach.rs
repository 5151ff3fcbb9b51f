//! Mode `attach`: one security group per VPC and firewall group, and the attachments of each instance.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use firewall_core::{
    Compiled, Desired, FirewallGroup, GroupKey, Incumbency, Infeasible, InstanceId, MemberRequirements,
    Requirements, Resource, ResourceSet, RuleSet, digest, select_within_capacity,
};

use super::{former_mode, too_many_rules, without_facts};
use crate::config::AwsConfig;
use crate::ec2_cache::AttachApi;
use crate::inventory::{InstanceFacts, Inventory, Provisioner};
use crate::resource::{Attachment, AwsKey, AwsResource, Egress, GroupName, RuleCapacity, SecurityGroup};
use crate::{ownership, reasons};

/// The firewall groups of one instance, by identity.
type InstanceGroups<'a> = BTreeMap<&'a GroupKey, &'a FirewallGroup>;

/// Compiles firewall groups to security groups, and to one attachment for each instance.
pub(super) fn compile(desired: &Desired, inventory: &Inventory, config: &AwsConfig) -> Compiled<AwsResource> {
    let mut compiler = Compiler {
        inventory,
        config,
        resources: ResourceSet::<AwsResource>::new(),
        requirements: BTreeMap::new(),
        infeasible: Vec::new(),
    };
    for (instance, groups) in compiler.groups_by_instance(desired) {
        compiler.compile_instance(&instance, &groups);
    }
    let Compiler { resources, requirements, infeasible, .. } = compiler;
    let mut unknown = desired.unknown.clone();
    for (key, instance) in requirements.keys().filter(|_| !inventory.former_mode.is_empty()) {
        if let (Some(group), Some(facts)) = (desired.groups.get(key), inventory.instances.get(instance)) {
            let own = facts.own_groups.iter().filter_map(|name| inventory.security_groups.get(name));
            let rules: RuleSet = own.flatten().copied().collect();
            former_mode::keep(&mut unknown, key, group, instance, &rules);
        }
    }
    let all = Compiled { resources, requirements, infeasible, unknown }.keeping_infeasible(desired);
    former_mode::in_shared_groups_too(all, inventory)
}

/// Holds the input and the result so far.
struct Compiler<'a> {
    inventory: &'a Inventory,
    config: &'a AwsConfig,
    resources: ResourceSet<AwsResource>,
    requirements: MemberRequirements<AwsResource>,
    infeasible: Vec<Infeasible>,
}

impl Compiler<'_> {
    /// Returns every instance with its groups, without the groups that exceed one security group.
    fn groups_by_instance<'d>(&mut self, desired: &'d Desired) -> BTreeMap<InstanceId, InstanceGroups<'d>> {
        let mut by_instance: BTreeMap<InstanceId, InstanceGroups<'d>> = BTreeMap::new();
        for (key, group) in &desired.groups {
            if !self.fits_one_security_group(&group.rules) {
                self.infeasible.push(too_many_rules(key, None, "the group", self.config.rules_per_group));
                continue;
            }
            for instance in &group.members {
                by_instance.entry(instance.clone()).or_default().insert(key, group);
            }
        }
        by_instance
    }

    fn fits_one_security_group(&self, rules: &RuleSet) -> bool {
        RuleCapacity::per_family(self.config.rules_per_group).fits(rules.iter(), 0)
    }

    fn compile_instance(&mut self, instance: &InstanceId, groups: &InstanceGroups<'_>) {
        let Some(facts) = self.inventory.instances.get(instance) else {
            self.infeasible.extend(groups.keys().map(|key| without_facts(key, instance, self.inventory)));
            return;
        };
        let capacity = self.config.slots_per_interface.saturating_sub(facts.foreign_groups.len());
        if let Some((reason, message)) = self.why_infeasible(instance, facts, capacity) {
            let members =
                groups.keys().map(|key| Infeasible::of_member(key, instance, reason, message.clone()));
            self.infeasible.extend(members);
            return;
        }
        let groups = &self.admit_groups(instance, facts, groups, capacity);
        let security_groups = self.security_groups(facts, groups, capacity);
        let attachment = AwsResource::Attachment(Attachment {
            instance: instance.clone(),
            interface: facts.interface.clone(),
            groups: security_groups.iter().map(|group| group.name.clone()).collect(),
            capacity,
        });
        for &key in groups.keys() {
            let serving = security_groups.iter().filter(|group| group.serves.contains(&key.to_string()));
            let serving = serving.map(|group| AwsKey::SecurityGroup(group.name.clone()));
            let resources = serving.chain([attachment.key()]).collect();
            let requirements = Requirements { resources, reachable_at: BTreeSet::from([instance.clone()]) };
            self.requirements.insert((key.clone(), instance.clone()), requirements);
        }
        let resources = security_groups.into_iter().map(AwsResource::SecurityGroup).chain([attachment]);
        self.resources.extend(resources);
    }

    /// Returns the reason and the message if nothing may be attached to the instance.
    fn why_infeasible(
        &self,
        instance: &InstanceId,
        facts: &InstanceFacts,
        capacity: usize,
    ) -> Option<(&'static str, String)> {
        if let Some(manager) = &facts.managed_by {
            let message = format!(
                "instance {instance} is managed by {manager}, which does not let others change its \
                 interfaces; run the pod on nodes of your own, or use mode shared with a group that these \
                 nodes have"
            );
            return Some((reasons::MANAGED_INSTANCE, message));
        }
        let is_allowed = self.config.allow_provisioned_instances;
        if let Some(provisioner) = facts.provisioner.filter(|_| !is_allowed) {
            let message = provisioned_instance_remedy(instance, provisioner);
            return Some((reasons::PROVISIONED_INSTANCE, message));
        }
        if self.inventory.attach_api == AttachApi::Instance && facts.interface_count > 1 {
            let message = format!(
                "instance {instance} has {} network interfaces, which the granted policy cannot change; \
                 grant the policy of mode attach (`iam/`), with ec2:DescribeNetworkInterfaces and \
                 ec2:ModifyNetworkInterfaceAttribute, and restart",
                facts.interface_count
            );
            return Some((reasons::MULTIPLE_INTERFACES, message));
        }
        if let Some(group) = self.untagged_node_group(facts) {
            return Some((reasons::UNTAGGED_NODE_GROUP, self.untagged_node_group_remedy(group)));
        }
        (capacity == 0).then(|| (reasons::NO_FREE_SLOT, self.no_free_slot_remedy(facts)))
    }

    /// Returns the interface's only group, if cloud controllers would not know it as the node's own.
    ///
    /// cloud-provider-aws fails on an instance with several groups of which none is tagged, and
    /// aws-load-balancer-controller on one of which not exactly one is. Sources:
    /// `findSecurityGroupForInstance` in kubernetes/cloud-provider-aws; `resolveSecurityGroup` in
    /// kubernetes-sigs/aws-load-balancer-controller.
    fn untagged_node_group<'f>(&self, facts: &'f InstanceFacts) -> Option<&'f String> {
        let groups = &facts.foreign_groups;
        let sole = if groups.len() == 1 { groups.first() } else { None };
        let is_allowed = self.config.allow_untagged_node_groups;
        sole.filter(|group| !is_allowed && !self.inventory.cluster_tagged.contains(*group))
    }

    fn untagged_node_group_remedy(&self, group: &str) -> String {
        format!(
            "the node's only security group {group} carries no kubernetes.io/cluster/… tag, and a second \
             group would break cloud-provider-aws and aws-load-balancer-controller; tag it: aws ec2 \
             create-tags --resources {group} --tags Key=kubernetes.io/cluster/{},Value=owned (or, if the \
             cluster runs neither, set --aws-allow-untagged-node-groups)",
            self.config.cluster
        )
    }

    fn no_free_slot_remedy(&self, facts: &InstanceFacts) -> String {
        format!(
            "interface {} has {} security groups already, and {} are allowed; remove one, or raise the VPC \
             quota \"Security groups per network interface\" (L-2AFB9258) and the provider's slots per \
             interface",
            facts.interface,
            facts.foreign_groups.len(),
            self.config.slots_per_interface
        )
    }

    /// Returns the groups that fit into the slots, or else into one security group for all of them together;
    /// the others are infeasible. Groups that are on the interface now are kept before others are admitted.
    fn admit_groups<'d>(
        &mut self,
        instance: &InstanceId,
        facts: &InstanceFacts,
        groups: &InstanceGroups<'d>,
        capacity: usize,
    ) -> InstanceGroups<'d> {
        let candidates: BTreeSet<&GroupKey> = groups.keys().copied().collect();
        let rules_of = |keys: &BTreeSet<&GroupKey>| -> RuleSet {
            RuleSet::union_of(keys.iter().map(|key| &groups[*key].rules))
        };
        let current = OnceCell::new();
        let incumbency = |key: &&'d GroupKey| {
            let current: &CurrentAttachments =
                current.get_or_init(|| self.current_attachments(facts, groups));
            if current.dedicated.contains(*key) {
                Incumbency::Established
            } else {
                Incumbency::classify(&groups[*key].rules, &current.shared)
            }
        };
        let admitted = select_within_capacity(&candidates, incumbency, |keys| {
            keys.len() <= capacity || self.fits_one_security_group(&rules_of(keys))
        });
        let (count, limit) = (groups.len(), self.config.rules_per_group);
        for key in &candidates - &admitted {
            let subject = format!(
                "instance {instance} has {capacity} free slots for {count} groups, so they have to share one \
                 security group, which with this one"
            );
            self.infeasible.push(too_many_rules(key, Some(instance), &subject, limit));
        }
        let admitted_groups = groups.iter().filter(|(key, _)| admitted.contains(*key));
        admitted_groups.map(|(key, group)| (*key, *group)).collect()
    }

    /// Returns which of the groups our security groups on the interface serve now.
    fn current_attachments<'d>(
        &self,
        facts: &InstanceFacts,
        groups: &InstanceGroups<'d>,
    ) -> CurrentAttachments<'d> {
        let names = groups.keys().map(|key| (self.dedicated_group_name(&facts.vpc, key), *key));
        let dedicated: BTreeMap<GroupName, &GroupKey> =
            names.filter(|(name, _)| facts.own_groups.contains(name)).collect();
        let shared = facts.own_groups.iter().filter(|name| !dedicated.contains_key(*name));
        let rules = shared.filter_map(|name| self.inventory.security_groups.get(name)).flatten();
        CurrentAttachments { shared: rules.copied().collect(), dedicated: dedicated.into_values().collect() }
    }

    /// Returns one security group for each firewall group if they fit, else one for all of them together.
    fn security_groups(
        &self,
        facts: &InstanceFacts,
        groups: &InstanceGroups<'_>,
        capacity: usize,
    ) -> Vec<SecurityGroup> {
        if groups.len() > capacity {
            return vec![self.security_group(self.combined_group_name(facts), groups)];
        }
        let dedicated = |(&key, &group)| {
            let name = self.dedicated_group_name(&facts.vpc, key);
            self.security_group(name, &BTreeMap::from([(key, group)]))
        };
        groups.iter().map(dedicated).collect()
    }

    fn security_group(&self, name: GroupName, groups: &InstanceGroups<'_>) -> SecurityGroup {
        let rules = RuleSet::union_of(groups.values().map(|group| &group.rules));
        SecurityGroup {
            name,
            id: None,
            serves: groups.keys().map(ToString::to_string).collect(),
            rules: rules.rules().clone(),
            foreign: BTreeSet::new(),
            egress: if self.inventory.is_egress_unmanaged { Egress::Unmanaged } else { Egress::Closed },
            rule_capacity: RuleCapacity::per_family(self.config.rules_per_group),
        }
    }

    /// Returns the name of the security group for one firewall group.
    fn dedicated_group_name(&self, vpc: &str, group: &GroupKey) -> GroupName {
        self.security_group_name(vpc, &group.digest())
    }

    /// Returns the name of the security group that several firewall groups on one interface share. It does not
    /// depend on which they are, so that one more or one less changes its rules and not its name.
    fn combined_group_name(&self, facts: &InstanceFacts) -> GroupName {
        self.security_group_name(&facts.vpc, &digest(["interface", &facts.interface]))
    }

    fn security_group_name(&self, vpc: &str, digest: &str) -> GroupName {
        let prefix = ownership::group_name_prefix(&self.config.cluster);
        GroupName { vpc: vpc.to_owned(), name: format!("{prefix}{digest}") }
    }
}

fn provisioned_instance_remedy(instance: &InstanceId, provisioner: Provisioner) -> String {
    let (what, remedy) = match provisioner {
        Provisioner::Karpenter => (
            "belongs to Karpenter, which replaces nodes that have another security group than those of their \
             EC2NodeClass",
            "securityGroupSelectorTerms of the EC2NodeClass",
        ),
        Provisioner::ClusterApi => (
            "belongs to Cluster API, which takes security groups off that are not in the machine's spec",
            "additionalSecurityGroups of the AWSMachineTemplate",
        ),
    };
    format!(
        "instance {instance} {what}; use mode shared with a group that {remedy} gives to these nodes (or, if \
         nothing resets the groups of this one, set --aws-allow-provisioned-instances)"
    )
}

/// The firewall groups that our security groups on an interface serve.
struct CurrentAttachments<'a> {
    /// Firewall groups that have a security group of their own there
    dedicated: BTreeSet<&'a GroupKey>,
    /// The rules of the other security groups, each of which may serve several firewall groups
    shared: RuleSet,
}

#[cfg(test)]
mod tests;
