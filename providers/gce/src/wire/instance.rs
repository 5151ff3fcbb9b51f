//! Instances as the Compute Engine API writes them.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use google_cloud_compute_v1::model::{Instance, NetworkInterface};

use crate::inventory::{InstanceFacts, Interface};
use crate::network::Network;

/// Reads what compiling needs; `prefix` is what our tags begin with.
pub(crate) fn facts(instance: &Instance, prefix: &str) -> InstanceFacts {
    InstanceFacts {
        interfaces: instance.network_interfaces.iter().filter_map(interface).collect(),
        other_tags: other_tags(instance, prefix),
        tags: our_tags(instance, prefix),
    }
}

/// An interface without a network is a network attachment of somebody else's; no rule of ours applies there.
fn interface(interface: &NetworkInterface) -> Option<Interface> {
    let network = Network::parse(interface.network.as_deref()?, "").ok()?;
    let external = interface.ipv_6_access_configs.iter().filter_map(|access| access.external_ipv_6.as_ref());
    let ipv6: BTreeSet<Ipv6Addr> =
        interface.ipv_6_address.iter().chain(external).filter_map(|text| address(text)).collect();
    let ipv4 = interface.network_ip.as_deref().and_then(|text| text.parse::<Ipv4Addr>().ok());
    Some(Interface { network, ipv4, ipv6 })
}

/// `2600:1900::1`, with or without a prefix length.
fn address(text: &str) -> Option<Ipv6Addr> {
    text.split('/').next()?.parse().ok()
}

/// All tags of the instance.
pub(crate) fn tags(instance: &Instance) -> impl Iterator<Item = &String> {
    instance.tags.iter().flat_map(|tags| &tags.items)
}

/// How many tags are not ours.
pub(crate) fn other_tags(instance: &Instance, prefix: &str) -> usize {
    tags(instance).filter(|tag| !tag.starts_with(prefix)).count()
}

/// The tags that are ours.
pub(crate) fn our_tags(instance: &Instance, prefix: &str) -> BTreeSet<String> {
    tags(instance).filter(|tag| tag.starts_with(prefix)).cloned().collect()
}

/// `project/zone/name`, as instance ids are written.
pub(crate) fn id(instance: &Instance, project: &str) -> Option<String> {
    let zone = instance.zone.as_deref()?.rsplit('/').next()?;
    Some(format!("{project}/{zone}/{}", instance.name.as_deref()?))
}
