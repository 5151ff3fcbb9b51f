//! What EC2 says of the instances and of the user's security groups: read, never changed.

use std::collections::{BTreeMap, BTreeSet};

use firewall_core::{IngressRule, InstanceId};

use crate::resource::{GroupName, Room};
use crate::session::Dialect;

/// Facts that compiling needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The members that exist
    pub instances: BTreeMap<InstanceId, InstanceFacts>,
    /// Which of the groups that stand alone on a member's interface carry a `kubernetes.io/cluster/…` tag
    pub cluster_tagged: BTreeSet<String>,
    /// What each of our security groups lets in; mode `attach` only
    pub security_groups: BTreeMap<GroupName, BTreeSet<IngressRule>>,
    /// The user's groups that may hold our rules, by id; mode `shared` only
    pub shared_groups: BTreeMap<String, SharedGroup>,
    /// By which calls groups are attached
    pub dialect: Dialect,
    /// Whether the permission to revoke egress is known to be missing
    pub egress_unmanaged: bool,
}

/// One instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceFacts {
    /// Its VPC
    pub vpc: String,
    /// Its primary network interface
    pub interface: String,
    /// The groups on that interface that are not ours
    pub groups: BTreeSet<String>,
    /// Those that are
    pub ours: BTreeSet<GroupName>,
    /// How many interfaces it has
    pub interfaces: usize,
    /// Whether the primary interface has an IPv6 address
    pub ipv6: bool,
    /// The AWS service that manages it and refuses changes by others, if one does
    pub managed_by: Option<String>,
}

#[cfg(test)]
impl Inventory {
    /// Instances by id, each with these groups, none of them ours, on its only interface.
    pub(crate) fn of_instances(instances: &[(&str, &[&str])]) -> Self {
        let facts = |groups: &[&str]| InstanceFacts {
            vpc: "vpc-1".into(),
            interface: "eni-1".into(),
            groups: groups.iter().map(ToString::to_string).collect(),
            ours: BTreeSet::new(),
            interfaces: 1,
            ipv6: false,
            managed_by: None,
        };
        let instances = instances.iter().map(|(id, groups)| (InstanceId::new(*id), facts(groups)));
        Self { instances: instances.collect(), ..Self::default() }
    }
}

/// One of the user's security groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedGroup {
    /// Ingress rules that are not ours
    pub foreign: BTreeSet<IngressRule>,
    /// How many other ingress permissions that are not ours it has
    pub foreign_others: usize,
    /// Ingress rules that are ours
    pub ours: BTreeSet<IngressRule>,
}

impl SharedGroup {
    /// How many rules of ours fit beside what is there, if `limit` rules fit in all.
    #[must_use]
    pub fn room(&self, limit: usize) -> Room {
        Room::each(limit).beside(&self.foreign, self.foreign_others)
    }
}
