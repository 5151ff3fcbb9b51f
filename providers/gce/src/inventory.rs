//! What Compute Engine says of the instances and of the rules as they are: read, never changed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use firewall_core::InstanceId;
use ipnet::IpNet;

use crate::network::Network;

/// Facts that compiling needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The members that exist
    pub instances: BTreeMap<InstanceId, InstanceFacts>,
    /// Which addresses each rule of ours holds, by the rule's name without its shard, and by shard
    pub shards: BTreeMap<String, BTreeMap<usize, BTreeSet<IpNet>>>,
    /// The network that the configuration names, if it is known not to exist
    pub missing_network: Option<Network>,
}

/// One instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceFacts {
    /// Its interfaces, the first one first
    pub interfaces: Vec<Interface>,
    /// How many tags it has that are not ours
    pub other_tags: usize,
    /// Those that are
    pub tags: BTreeSet<String>,
}

/// One interface of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The network it is in
    pub network: Network,
    /// Its internal IPv4 address
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 addresses, internal and external: IPv6 is not translated on the way in
    pub ipv6: BTreeSet<Ipv6Addr>,
}

impl Interface {
    /// Its addresses of one family, as a rule's destination ranges have them.
    #[must_use]
    pub fn addresses(&self, ipv6: bool) -> BTreeSet<IpNet> {
        if ipv6 {
            self.ipv6.iter().map(|address| IpNet::from(std::net::IpAddr::from(*address))).collect()
        } else {
            self.ipv4.iter().map(|address| IpNet::from(std::net::IpAddr::from(*address))).collect()
        }
    }
}
