//! What a firewall group compiles to on AWS.

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

/// Names one resource.
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

/// An ingress permission that no [`IngressRule`] can express: all protocols, ICMP, port 0, a group or a prefix
/// list as its source. We never make one; somebody added it to a group of ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stray {
    /// The protocol as EC2 writes it; `-1` means all
    pub protocol: String,
    /// The first port or the ICMP type
    pub from: Option<i32>,
    /// The last port or the ICMP code
    pub to: Option<i32>,
    /// Who may connect
    pub source: StraySource,
}

/// Who may connect by a [`Stray`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StraySource {
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

impl fmt::Display for Stray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = if self.protocol == "-1" { "all protocols" } else { &self.protocol };
        write!(f, "{protocol}")?;
        if let (Some(from), Some(to)) = (self.from, self.to) {
            write!(f, "/{from}-{to}")?;
        }
        match &self.source {
            StraySource::V4(source) | StraySource::V6(source) => write!(f, " from {source}"),
            StraySource::PrefixList(id) => write!(f, " from prefix list {id}"),
            StraySource::Group { id, .. } => write!(f, " from security group {id}"),
        }
    }
}

/// Whether a group lets anything out. Groups on an interface add up, so one that does widens all the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Egress {
    /// It has no egress rule.
    Closed,
    /// It has one, as every new group does.
    Open,
    /// Desired only: the permission to revoke egress is not granted, so whatever is there stays.
    Unmanaged,
}

/// How many rules fit, IPv4 and IPv6 counted apart, as EC2 does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// IPv4 rules
    pub v4: usize,
    /// IPv6 rules
    pub v6: usize,
}

impl Room {
    /// As many of either family.
    #[must_use]
    pub const fn each(rules: usize) -> Self {
        Self { v4: rules, v6: rules }
    }

    /// What is left beside `rules` and `others`, which count in both families because what a group or a prefix
    /// list holds may be of either.
    #[must_use]
    pub fn beside<'a>(self, rules: impl IntoIterator<Item = &'a IngressRule>, others: usize) -> Self {
        let (v4, v6) = families(rules);
        Self { v4: self.v4.saturating_sub(v4 + others), v6: self.v6.saturating_sub(v6 + others) }
    }

    /// Whether `rules` and `others` fit.
    #[must_use]
    pub fn fits<'a>(self, rules: impl IntoIterator<Item = &'a IngressRule>, others: usize) -> bool {
        let (v4, v6) = families(rules);
        v4 + others <= self.v4 && v6 + others <= self.v6
    }
}

fn families<'a>(rules: impl IntoIterator<Item = &'a IngressRule>) -> (usize, usize) {
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
    /// The firewall groups it serves; as observed, one text for all
    pub serves: BTreeSet<String>,
    /// Its ingress rules
    pub rules: BTreeSet<IngressRule>,
    /// Its other ingress permissions
    pub strays: BTreeSet<Stray>,
    /// Whether it lets anything out
    pub egress: Egress,
    /// How many rules fit
    pub room: Room,
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
    /// How many groups of ours fit beside the others
    pub capacity: usize,
}

/// Our rules in a security group of the user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedRules {
    /// The group's id
    pub group: String,
    /// The firewall groups they serve
    pub serves: BTreeSet<String>,
    /// The rules
    pub rules: BTreeSet<IngressRule>,
    /// The ids of those that exist
    pub ids: BTreeMap<IngressRule, String>,
    /// Rules that carry our mark but that we never make, by id, as text: somebody changed them
    pub strays: BTreeMap<String, String>,
    /// How many rules fit beside the others
    pub room: Room,
}

/// One object of ours in EC2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AwsResource {
    /// A security group
    SecurityGroup(SecurityGroup),
    /// Its attachments to one instance
    Attachment(Attachment),
    /// Rules in somebody else's group
    SharedRules(SharedRules),
}

impl SharedRules {
    /// No rules yet.
    pub(crate) fn none(group: String, room: Room) -> Self {
        let (serves, rules) = (BTreeSet::new(), BTreeSet::new());
        Self { group, serves, rules, ids: BTreeMap::new(), strays: BTreeMap::new(), room }
    }
}

impl AwsResource {
    pub(crate) const fn as_attachment(&self) -> Option<&Attachment> {
        match self {
            Self::Attachment(attachment) => Some(attachment),
            Self::SecurityGroup(_) | Self::SharedRules(_) => None,
        }
    }

    pub(crate) const fn as_shared_rules(&self) -> Option<&SharedRules> {
        match self {
            Self::SharedRules(shared) => Some(shared),
            Self::SecurityGroup(_) | Self::Attachment(_) => None,
        }
    }
}
