//! Addresses: the addresses at which clients reach open ports. Pure.
//!
//! An address counts from when the cloud has confirmed the ports open and the pod is ready, until one of both
//! ends. While the state is unknown an address stays as it was: clients must not lose it because a cloud does
//! not answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use firewall_core::GroupKey;
use ipnet::IpNet;

use super::outcomes::Outcomes;
use crate::intents::exposure::Exposure;
use crate::k8s::index::Index;
use crate::k8s::objects::{Node, NodeAddress};
use crate::reconcile::outcome::Membership;

/// The reachability of an exposure's ports on its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reachability {
    /// The ports are open, and their owner is ready
    Yes,
    /// The ports are closed, or their owner is not ready
    No,
    /// The cloud's state is unknown, or about to change
    Unknown,
}

/// Resolves the reachability and the addresses of exposures.
pub(super) struct AddressResolver<'a> {
    index: &'a Index,
    outcomes: &'a Outcomes,
    /// By group and node
    memberships: BTreeMap<(&'a GroupKey, &'a str), &'a Membership>,
}

impl<'a> AddressResolver<'a> {
    /// Returns a resolver over this index and these outcomes.
    pub(super) fn new(index: &'a Index, outcomes: &'a Outcomes) -> Self {
        let key = |membership: &'a Arc<Membership>| {
            ((&membership.group, membership.node.name.as_str()), &**membership)
        };
        let memberships = outcomes.memberships.iter().map(key).collect();
        Self { index, outcomes, memberships }
    }

    /// Reports whether clients reach the exposure on its node.
    pub(super) fn reachability(&self, exposure: &Exposure) -> Reachability {
        if !self.is_ready(exposure) {
            return Reachability::No;
        }
        match self.memberships.get(&(&exposure.group, exposure.node.name.as_str())) {
            Some(membership) if membership.open.is_ok() => Reachability::Yes,
            Some(membership) if membership.partly_open => Reachability::Unknown,
            None if self.outcomes.is_incomplete => Reachability::Unknown,
            _ => Reachability::No,
        }
    }

    /// Returns true if the exposure's port owner can take clients on its node.
    fn is_ready(&self, exposure: &Exposure) -> bool {
        let port_owner = &exposure.port_owner;
        let pod = (port_owner.kind == "Pod")
            .then(|| self.index.pod(&port_owner.namespace, &port_owner.name))
            .flatten();
        if let Some(pod) = pod {
            return pod.is_ready() && pod.metadata.uid.as_deref().unwrap_or_default() == port_owner.uid;
        }
        // A Service: every node that is ready serves it, or the nodes of its ready endpoints.
        let node = self.index.node(&exposure.node.name);
        self.outcomes.port_owners.accepts_new_clients(port_owner, &exposure.node.name)
            && node.is_some_and(Node::is_ready)
    }
}

/// Returns all IP addresses of a node, with their types.
pub(super) fn node_addresses<'a>(index: &'a Index, node: &str) -> impl Iterator<Item = &'a NodeAddress> {
    let addresses = index.node(node).into_iter().flat_map(|node| &node.status.addresses);
    addresses.filter(|address| ["ExternalIP", "InternalIP"].contains(&address.kind.as_str()))
}

/// Returns the addresses of the exposure's node that are reachable from furthest away: of each address family
/// of its sources, the external ones, or else the internal.
pub(super) fn client_addresses(index: &Index, exposure: &Exposure) -> BTreeSet<IpAddr> {
    let with_kind = |kind: &'static str| {
        let addresses =
            node_addresses(index, &exposure.node.name).filter(move |address| address.kind == kind);
        addresses.filter_map(|address| address.address.parse::<IpAddr>().ok())
    };
    let has_sources = |v4: bool| exposure.rules.iter().any(|rule| matches!(rule.source, IpNet::V4(_)) == v4);
    let mut addresses = BTreeSet::new();
    for v4 in [true, false].into_iter().filter(|v4| has_sources(*v4)) {
        let external: BTreeSet<IpAddr> =
            with_kind("ExternalIP").filter(|address| address.is_ipv4() == v4).collect();
        if external.is_empty() {
            addresses.extend(with_kind("InternalIP").filter(|address| address.is_ipv4() == v4));
        } else {
            addresses.extend(external);
        }
    }
    addresses
}
