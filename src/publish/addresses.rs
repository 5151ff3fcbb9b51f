//! Addresses: where clients find what is open. Pure.
//!
//! An address counts from when the cloud has confirmed the ports open and the pod is ready, until one of both ends.
//! While neither is known it stays what it was: clients must not lose their way because a cloud does not answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use firewall_core::GroupKey;
use ipnet::IpNet;

use super::outcomes::Outcomes;
use crate::intents::exposure::Exposure;
use crate::intents::port_owner::{PortOwners, collect_port_owners};
use crate::k8s::index::Index;
use crate::k8s::objects::{Node, NodeAddress};
use crate::reconcile::outcome::Membership;

/// Whether clients can be sent to an exposure's node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reachability {
    /// It is open, and what binds the ports is ready
    Yes,
    /// One of both is not so
    No,
    /// What the cloud has is not known, or about to change
    Unknown,
}

/// What decides where clients can be sent.
pub struct AddressResolver<'a> {
    index: &'a Index,
    outcomes: &'a Outcomes,
    /// By group and node
    memberships: BTreeMap<(&'a GroupKey, &'a str), &'a Membership>,
    binding: PortOwners,
}

impl<'a> AddressResolver<'a> {
    /// Those of this index and these outcomes.
    #[must_use]
    pub fn new(index: &'a Index, outcomes: &'a Outcomes) -> Self {
        let key =
            |membership: &'a Membership| ((&membership.group, membership.node.name.as_str()), membership);
        let memberships = outcomes.memberships.iter().map(key).collect();
        Self { index, outcomes, memberships, binding: collect_port_owners(index) }
    }

    /// Whether clients can be sent to the exposure's node.
    #[must_use]
    pub fn reachability(&self, exposure: &Exposure) -> Reachability {
        if !self.is_ready(exposure) {
            return Reachability::No;
        }
        match self.memberships.get(&(&exposure.group(), exposure.node.name.as_str())) {
            Some(membership) if membership.open.is_ok() => Reachability::Yes,
            Some(membership) if membership.partly_open => Reachability::Unknown,
            None if self.outcomes.unknown => Reachability::Unknown,
            _ => Reachability::No,
        }
    }

    fn is_ready(&self, exposure: &Exposure) -> bool {
        let port_owner = &exposure.port_owner;
        let pod = (port_owner.kind == "Pod")
            .then(|| self.index.pod(&port_owner.namespace, &port_owner.name))
            .flatten();
        if let Some(pod) = pod {
            return pod.is_ready() && pod.metadata.uid.as_deref().unwrap_or_default() == port_owner.uid;
        }
        // A Service, which every node serves that can, or the nodes of its ready endpoints.
        let node = self.index.node(&exposure.node.name);
        self.binding.accepts_new_clients(port_owner, &exposure.node.name) && node.is_some_and(Node::is_ready)
    }
}

/// All addresses of a node, with their types.
pub fn of_node<'a>(index: &'a Index, node: &str) -> impl Iterator<Item = &'a NodeAddress> {
    let addresses = index.node(node).into_iter().flat_map(|node| &node.status.addresses);
    addresses.filter(|address| ["ExternalIP", "InternalIP"].contains(&address.kind.as_str()))
}

/// The addresses of the exposure's node by which it is reached from the furthest away: of each family that it lets in,
/// the external ones, or else the internal.
#[must_use]
pub fn client_addresses(index: &Index, exposure: &Exposure) -> BTreeSet<IpAddr> {
    let of = |kind: &'static str| {
        let addresses = of_node(index, &exposure.node.name).filter(move |address| address.kind == kind);
        addresses.filter_map(|address| address.address.parse::<IpAddr>().ok())
    };
    let let_in = |v4: bool| exposure.rules.iter().any(|rule| matches!(rule.source, IpNet::V4(_)) == v4);
    let mut public = BTreeSet::new();
    for v4 in [true, false].into_iter().filter(|v4| let_in(*v4)) {
        let external: BTreeSet<IpAddr> = of("ExternalIP").filter(|address| address.is_ipv4() == v4).collect();
        if external.is_empty() {
            public.extend(of("InternalIP").filter(|address| address.is_ipv4() == v4));
        } else {
            public.extend(external);
        }
    }
    public
}
