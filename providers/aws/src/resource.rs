//! The AWS resources that firewall groups compile to, and the capacity of a security group.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use firewall_core::{IngressRule, InstanceId};
use ipnet::IpNet;

/// The name of a security group; names are unique in a VPC.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName {
    /// The VPC's id
    pub vpc: String,
    /// The name in the VPC
    pub name: String,
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.vpc, self.name)
    }
}

/// The name of one resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AwsKey {
    /// A security group of ours
    SecurityGroup(GroupName),
    /// Our groups on an instance's primary interface
    Attachment(InstanceId),
    /// Our rules in a security group of the user's, by its id
    SharedRules(String),
}

impl fmt::Display for AwsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SecurityGroup(name) => write!(f, "security group {name}"),
            Self::Attachment(instance) => write!(f, "attachment to {instance}"),
            Self::SharedRules(group) => write!(f, "rules in {group}"),
        }
    }
}

/// An ingress permission that no [`IngressRule`] can express: all protocols, ICMP, port 0, a group or a
/// prefix list as its source. We never create one; another writer added it to a group of ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ForeignPermission {
    /// The protocol as EC2 writes it; `-1` means all
    pub protocol: String,
    /// The first port or the ICMP type
    pub from: Option<i32>,
    /// The last port or the ICMP code
    pub to: Option<i32>,
    /// The source that it admits
    pub source: PermissionSource,
}

/// The source that a [`ForeignPermission`] admits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PermissionSource {
    /// An IPv4 range as EC2 writes it
    V4(String),
    /// An IPv6 range as EC2 writes it
    V6(String),
    /// A prefix list by id
    PrefixList(String),
    /// The interfaces of a security group
    Group {
        /// The group's id
        id: String,
        /// The account that owns it
        account: Option<String>,
    },
}

impl fmt::Display for ForeignPermission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = if self.protocol == "-1" { "all protocols" } else { &self.protocol };
        write!(f, "{protocol}")?;
        if let (Some(from), Some(to)) = (self.from, self.to) {
            write!(f, "/{from}-{to}")?;
        }
        match &self.source {
            PermissionSource::V4(source) | PermissionSource::V6(source) => write!(f, " from {source}"),
            PermissionSource::PrefixList(id) => write!(f, " from prefix list {id}"),
            PermissionSource::Group { id, .. } => write!(f, " from security group {id}"),
        }
    }
}

/// A security group's egress. Groups on an interface add up, so one with an egress rule widens all the
/// others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Egress {
    /// It has no egress rule.
    Closed,
    /// It has an egress rule, as every new group does.
    Open,
    /// Desired only: the permission to revoke egress is not granted, so the egress rules stay as they are.
    Unmanaged,
}

/// The number of rules that a security group can still hold, IPv4 and IPv6 counted apart, as EC2 does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleCapacity {
    /// IPv4 rules
    pub v4: usize,
    /// IPv6 rules
    pub v6: usize,
}

impl RuleCapacity {
    /// Returns a capacity of that many rules of either family.
    #[must_use]
    pub const fn per_family(rules: usize) -> Self {
        Self { v4: rules, v6: rules }
    }

    /// Returns the capacity less `rules` and `others` more permissions. Those count in both families, because
    /// a group or a prefix list as a source may hold addresses of either.
    #[must_use]
    pub fn minus<'a>(self, rules: impl IntoIterator<Item = &'a IngressRule>, others: usize) -> Self {
        let (v4, v6) = count_by_family(rules);
        Self { v4: self.v4.saturating_sub(v4 + others), v6: self.v6.saturating_sub(v6 + others) }
    }

    /// Returns true if `rules` and `others` more permissions fit.
    #[must_use]
    pub fn fits<'a>(self, rules: impl IntoIterator<Item = &'a IngressRule>, others: usize) -> bool {
        let (v4, v6) = count_by_family(rules);
        v4 + others <= self.v4 && v6 + others <= self.v6
    }
}

/// Returns the numbers of IPv4 and of IPv6 rules.
fn count_by_family<'a>(rules: impl IntoIterator<Item = &'a IngressRule>) -> (usize, usize) {
    rules.into_iter().fold((0, 0), |(v4, v6), rule| match rule.source {
        IpNet::V4(_) => (v4 + 1, v6),
        IpNet::V6(_) => (v4, v6 + 1),
    })
}

/// A security group of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityGroup {
    /// Its name
    pub name: GroupName,
    /// Its id, if it exists
    pub id: Option<String>,
    /// The firewall groups that it serves; as observed, one text for all
    pub serves: BTreeSet<String>,
    /// Its ingress rules
    pub rules: BTreeSet<IngressRule>,
    /// Its other ingress permissions
    pub foreign: BTreeSet<ForeignPermission>,
    /// Its egress
    pub egress: Egress,
    /// The number of rules that it can hold
    pub rule_capacity: RuleCapacity,
}

/// Our groups on the primary interface of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The instance
    pub instance: InstanceId,
    /// The id of its primary interface
    pub interface: String,
    /// Our groups on it
    pub groups: BTreeSet<GroupName>,
    /// The number of our groups that the interface can have beside the others
    pub capacity: usize,
}

/// Our rules in a security group of the user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedRules {
    /// The group's id
    pub group: String,
    /// The firewall groups that the rules serve
    pub serves: BTreeSet<String>,
    /// The rules
    pub rules: BTreeSet<IngressRule>,
    /// The ids of the rules that exist
    pub ids: BTreeMap<IngressRule, String>,
    /// Rules with our tag that we never create, by id, as text: another writer altered them
    pub altered: BTreeMap<String, String>,
    /// The number of our rules that fit beside the others
    pub rule_capacity: RuleCapacity,
}

/// One object of ours in EC2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AwsResource {
    /// A security group
    SecurityGroup(SecurityGroup),
    /// The attachments of our groups to one instance
    Attachment(Attachment),
    /// Our rules in one of the user's groups
    SharedRules(SharedRules),
}

impl SharedRules {
    /// Returns the group without rules of ours.
    pub(crate) fn empty(group: String, rule_capacity: RuleCapacity) -> Self {
        let (serves, rules) = (BTreeSet::new(), BTreeSet::new());
        Self { group, serves, rules, ids: BTreeMap::new(), altered: BTreeMap::new(), rule_capacity }
    }
}

impl AwsResource {
    /// Returns the attachment, if it is one.
    pub(crate) const fn as_attachment(&self) -> Option<&Attachment> {
        match self {
            Self::Attachment(attachment) => Some(attachment),
            Self::SecurityGroup(_) | Self::SharedRules(_) => None,
        }
    }

    /// Returns our rules in a group of the user's, if it is those.
    pub(crate) const fn as_shared_rules(&self) -> Option<&SharedRules> {
        match self {
            Self::SharedRules(shared) => Some(shared),
            Self::SecurityGroup(_) | Self::Attachment(_) => None,
        }
    }
}
