//! Facts about the instances and the user's security groups: read from EC2, never changed.

use std::collections::{BTreeMap, BTreeSet};

use firewall_core::{ChangesSince, IngressRule, InstanceId, ResourceSet};

use crate::ec2_cache::AttachApi;
use crate::resource::{AwsKey, AwsResource, GroupName, RuleCapacity};

/// The facts that compiling needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The members that exist
    pub instances: BTreeMap<InstanceId, InstanceFacts>,
    /// The members of which it is not known whether they exist, with the reason
    pub unknown_instances: BTreeMap<InstanceId, String>,
    /// Sole security groups of a member's interface that carry a `kubernetes.io/cluster/…` tag, by id
    pub cluster_tagged: BTreeSet<String>,
    /// Ingress rules of our security groups; mode `attach` only
    pub security_groups: BTreeMap<GroupName, BTreeSet<IngressRule>>,
    /// The user's groups that may hold our rules, by id; mode `shared` only
    pub shared_groups: BTreeMap<String, SharedGroup>,
    /// Where resources of the other mode still let something in: instances, or the user's groups by id
    pub former_mode: BTreeSet<InstanceId>,
    /// The calls by which groups are attached
    pub attach_api: AttachApi,
    /// True if the permission to revoke egress is known to be missing
    pub is_egress_unmanaged: bool,
}

impl Inventory {
    /// Forgets the instances that are members no longer. Returns the members that are not known.
    pub(crate) fn follow_members(&mut self, changes: &ChangesSince<AwsKey>) -> BTreeSet<InstanceId> {
        for left in &changes.left {
            self.instances.remove(left);
        }
        changes.members.iter().filter(|id| !self.instances.contains_key(*id)).cloned().collect()
    }

    /// Takes over what resources that have changed say of our groups and where they are attached.
    pub(crate) fn follow<'a>(
        &mut self,
        resources: &ResourceSet<AwsResource>,
        changed: impl IntoIterator<Item = &'a AwsKey>,
    ) {
        for key in changed {
            match (key, resources.get(key)) {
                (AwsKey::Attachment(id), attachment) => {
                    let groups = attachment.and_then(AwsResource::as_attachment).map(|one| &one.groups);
                    if let Some(facts) = self.instances.get_mut(id) {
                        facts.own_groups = groups.cloned().unwrap_or_default();
                    }
                }
                (AwsKey::SecurityGroup(name), Some(AwsResource::SecurityGroup(group))) => {
                    self.security_groups.insert(name.clone(), group.rules.clone());
                }
                (AwsKey::SecurityGroup(name), _) => _ = self.security_groups.remove(name),
                (AwsKey::SharedRules(_), _) => {}
            }
        }
    }
}

/// Facts about one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceFacts {
    /// Its VPC
    pub vpc: String,
    /// Its primary network interface
    pub interface: String,
    /// The groups on that interface that are not ours, by id
    pub foreign_groups: BTreeSet<String>,
    /// The groups on that interface that are ours
    pub own_groups: BTreeSet<GroupName>,
    /// The number of its network interfaces
    pub interface_count: usize,
    /// True if the primary interface has an IPv6 address
    pub has_ipv6: bool,
    /// The AWS service that manages it and refuses changes by others, if one does
    pub managed_by: Option<String>,
    /// The provisioner that holds it to security groups of its own, if one does
    pub provisioner: Option<Provisioner>,
}

/// A program that makes nodes, and does not let an instance keep a security group that it has not given it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provisioner {
    /// Karpenter replaces each node whose groups are not those of its `EC2NodeClass`, and the next one again.
    /// Source: `areSecurityGroupsDrifted` in aws/karpenter-provider-aws.
    Karpenter,
    /// Cluster API sets the groups back to those of the machine's spec. Source: `securityGroupsChanged` in
    /// kubernetes-sigs/cluster-api-provider-aws.
    ClusterApi,
}

impl Provisioner {
    /// Returns the provisioner that gave an instance a tag with this key, if it is one's.
    #[must_use]
    pub fn of_tag(key: &str) -> Option<Self> {
        // The second until Karpenter 0.31.
        if ["karpenter.sh/nodepool", "karpenter.sh/provisioner-name"].contains(&key) {
            Some(Self::Karpenter)
        } else {
            key.starts_with("sigs.k8s.io/cluster-api-provider-aws/cluster/").then_some(Self::ClusterApi)
        }
    }
}

#[cfg(test)]
impl Inventory {
    /// Returns instances by id, each with these groups, none of them ours, on its only interface.
    pub(crate) fn of_instances(instances: &[(&str, &[&str])]) -> Self {
        let facts = |id: &str, groups: &[&str]| InstanceFacts {
            vpc: "vpc-1".into(),
            interface: format!("eni-of-{id}"),
            foreign_groups: groups.iter().map(ToString::to_string).collect(),
            own_groups: BTreeSet::new(),
            interface_count: 1,
            has_ipv6: false,
            managed_by: None,
            provisioner: None,
        };
        let instances = instances.iter().map(|(id, groups)| (InstanceId::new(*id), facts(id, groups)));
        Self { instances: instances.collect(), ..Self::default() }
    }
}

/// One of the user's security groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedGroup {
    /// Ingress rules that are not ours
    pub foreign_rules: BTreeSet<IngressRule>,
    /// The number of its other ingress permissions that are not ours
    pub foreign_permission_count: usize,
    /// Ingress rules that are ours
    pub own_rules: BTreeSet<IngressRule>,
}

impl SharedGroup {
    /// Returns what the group has beside our rules.
    pub(crate) fn without_own_rules(&self) -> Self {
        Self { own_rules: BTreeSet::new(), ..self.clone() }
    }

    /// Returns the capacity for our rules beside the foreign ones, if `limit` rules fit in all.
    #[must_use]
    pub fn rule_capacity(&self, limit: usize) -> RuleCapacity {
        RuleCapacity::per_family(limit).minus(&self.foreign_rules, self.foreign_permission_count)
    }
}
