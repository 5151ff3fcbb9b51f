//! Port owners: the pods and Services that bind ports of nodes.

use std::collections::BTreeSet;

use super::node_port::find_endpoint_nodes;
use crate::k8s::index::Index;
use crate::k8s::objects::reference::{pod_reference, service_reference};
use crate::k8s::objects::{Endpoint, ObjectRef, Pod};

/// The objects that bind ports of nodes now, whether or not the ports are exposed.
#[derive(Clone, Debug, Default)]
pub struct PortOwners {
    /// Pods, and Services that only nodes with an endpoint serve; each with the node
    on_nodes: BTreeSet<(ObjectRef, String)>,
    /// These Services, on the nodes where an endpoint is ready
    ready: BTreeSet<(ObjectRef, String)>,
    /// Services that every node serves
    everywhere: BTreeSet<ObjectRef>,
}

impl PortOwners {
    /// Returns true if the same objects bind ports on the same nodes, ready or not.
    #[must_use]
    pub fn same_owners(&self, other: &Self) -> bool {
        self.on_nodes == other.on_nodes && self.everywhere == other.everywhere
    }

    /// Returns true if the object binds ports on the node.
    #[must_use]
    pub fn owns(&self, port_owner: &ObjectRef, node: &str) -> bool {
        self.everywhere.contains(port_owner) || self.on_nodes.contains(&(port_owner.clone(), node.to_owned()))
    }

    /// Returns true if the object is a Service that takes new clients on the node, provided that the node
    /// does. Where all its endpoints are terminating it still binds the ports, but no new client should be
    /// sent there.
    #[must_use]
    pub fn accepts_new_clients(&self, service: &ObjectRef, node: &str) -> bool {
        self.everywhere.contains(service) || self.ready.contains(&(service.clone(), node.to_owned()))
    }
}

/// Collects all objects that bind ports of nodes now.
#[must_use]
pub fn collect_port_owners(index: &Index) -> PortOwners {
    let on_node = |pod| Some((pod_reference(pod), node_of_running_pod(pod)?.to_owned()));
    let mut owners =
        PortOwners { on_nodes: index.pods().filter_map(on_node).collect(), ..PortOwners::default() };
    for service in index.services() {
        if service.has_node_ports() && !service.is_local() {
            owners.everywhere.insert(service_reference(service));
        }
    }
    for slice in index.endpoint_slices() {
        let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
        let service = slice.service().and_then(|name| index.service(namespace, name));
        let Some(service) = service.filter(|service| service.has_node_ports() && service.is_local()) else {
            continue;
        };
        let on_node = |node: &str| (service_reference(service), node.to_owned());
        owners.on_nodes.extend(find_endpoint_nodes(slice, Endpoint::takes_traffic).map(on_node));
        owners.ready.extend(find_endpoint_nodes(slice, Endpoint::is_ready).map(on_node));
    }
    owners
}

/// Returns the node on which the pod binds its ports. A pod that is being deleted binds them until it is
/// gone.
pub(super) fn node_of_running_pod(pod: &Pod) -> Option<&str> {
    let is_finished = matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed"));
    pod.spec.node_name.as_deref().filter(|name| !name.is_empty() && !is_finished)
}
