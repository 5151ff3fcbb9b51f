//! Facts about the instances and the existing firewall rules, read from Compute Engine and never changed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use firewall_core::InstanceId;
use ipnet::IpNet;

use crate::network::Network;

/// The facts that compiling needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The members that exist; and as they were last, those of which that is not known now
    pub instances: BTreeMap<InstanceId, InstanceFacts>,
    /// The members of which it is not known whether they exist, with the reason
    pub unknown_instances: BTreeMap<InstanceId, String>,
    /// The destination addresses in each of this cluster's rules, by the rule's name without its shard
    /// number, and by shard number
    pub shards: BTreeMap<String, BTreeMap<usize, BTreeSet<IpNet>>>,
    /// The source ranges in this cluster's rules, by the rule's name without its shard number
    pub sources: BTreeMap<String, BTreeSet<IpNet>>,
    /// The configured network, if it is known not to exist
    pub missing_network: Option<Network>,
}

/// The facts about one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceFacts {
    /// Its interfaces, the first one first
    pub interfaces: Vec<Interface>,
    /// Number of its network tags that are not this cluster's
    pub foreign_tag_count: usize,
    /// Its network tags that are this cluster's
    pub own_tags: BTreeSet<String>,
}

/// One network interface of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The network it is in
    pub network: Network,
    /// Its internal IPv4 address
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 addresses, internal and external: ingress IPv6 traffic is not translated
    pub ipv6: BTreeSet<Ipv6Addr>,
}

impl Interface {
    /// Returns its addresses of one family, as single-address ranges like those in a rule's destination
    /// ranges.
    #[must_use]
    pub fn addresses(&self, ipv6: bool) -> BTreeSet<IpNet> {
        if ipv6 {
            self.ipv6.iter().map(|address| IpNet::from(std::net::IpAddr::from(*address))).collect()
        } else {
            self.ipv4.iter().map(|address| IpNet::from(std::net::IpAddr::from(*address))).collect()
        }
    }
}
