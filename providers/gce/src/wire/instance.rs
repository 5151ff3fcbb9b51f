//! Reads instances from the types of Google's client library.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use google_cloud_compute_v1::model::{Instance, NetworkInterface};

use crate::inventory::{InstanceFacts, Interface};
use crate::network::Network;

/// Returns the facts that compiling needs; `prefix` is the prefix of this cluster's tags.
pub(crate) fn facts(instance: &Instance, prefix: &str) -> InstanceFacts {
    InstanceFacts {
        interfaces: instance.network_interfaces.iter().filter_map(interface).collect(),
        foreign_tag_count: foreign_tag_count(instance, prefix),
        own_tags: own_tags(instance, prefix),
    }
}

/// Returns the interface; `None` if it has no network: a network attachment connects it to another VPC
/// network, where no rule of this cluster applies.
fn interface(interface: &NetworkInterface) -> Option<Interface> {
    let network = Network::parse(interface.network.as_deref()?, "").ok()?;
    let external = interface.ipv_6_access_configs.iter().filter_map(|access| access.external_ipv_6.as_ref());
    let ipv6: BTreeSet<Ipv6Addr> =
        interface.ipv_6_address.iter().chain(external).filter_map(|text| parse_address(text)).collect();
    let ipv4 = interface.network_ip.as_deref().and_then(|text| text.parse::<Ipv4Addr>().ok());
    Some(Interface { network, ipv4, ipv6 })
}

/// Parses an address like `2600:1900::1`, with or without a prefix length.
fn parse_address(text: &str) -> Option<Ipv6Addr> {
    text.split('/').next()?.parse().ok()
}

/// Returns all network tags of the instance.
pub(crate) fn tags(instance: &Instance) -> impl Iterator<Item = &String> {
    instance.tags.iter().flat_map(|tags| &tags.items)
}

/// Returns the number of tags that are not this cluster's.
pub(crate) fn foreign_tag_count(instance: &Instance, prefix: &str) -> usize {
    tags(instance).filter(|tag| !tag.starts_with(prefix)).count()
}

/// Returns the tags that are this cluster's.
pub(crate) fn own_tags(instance: &Instance, prefix: &str) -> BTreeSet<String> {
    tags(instance).filter(|tag| tag.starts_with(prefix)).cloned().collect()
}

/// Returns the instance's id, `project/zone/name`.
pub(crate) fn id(instance: &Instance, project: &str) -> Option<String> {
    let zone = instance.zone.as_deref()?.rsplit('/').next()?;
    Some(format!("{project}/{zone}/{}", instance.name.as_deref()?))
}
