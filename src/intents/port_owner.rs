//! Port owners: the pods and Services that bind ports of nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rpds::RedBlackTreeMapSync;

use super::node_port::find_endpoint_nodes;
use crate::k8s::index::{Index, NamespacedName};
use crate::k8s::objects::reference::{pod_reference, service_reference};
use crate::k8s::objects::{Endpoint, ObjectRef, Pod};

/// The objects that bind ports of nodes now, whether or not the ports are exposed. A copy shares what has not
/// changed with the original.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortOwners {
    /// Pods, each with its node
    pods: RedBlackTreeMapSync<NamespacedName, Arc<(ObjectRef, String)>>,
    /// Services with node ports
    services: RedBlackTreeMapSync<NamespacedName, Arc<ServiceNodes>>,
}

/// The nodes that serve the node ports of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ServiceNodes {
    service: ObjectRef,
    /// None if every node does
    local: Option<LocalNodes>,
}

/// The nodes with an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct LocalNodes {
    /// Those with an endpoint that takes traffic
    serving: BTreeSet<String>,
    /// Those with an endpoint that is ready
    ready: BTreeSet<String>,
}

impl PortOwners {
    /// Returns true if the same objects bind ports on the same nodes, ready or not.
    #[must_use]
    pub fn same_owners(&self, other: &Self) -> bool {
        let is_same = |one: &Arc<ServiceNodes>, other: &Arc<ServiceNodes>| {
            Arc::ptr_eq(one, other) || one.service == other.service && one.serving() == other.serving()
        };
        (self.pods.ptr_eq(&other.pods) || self.pods == other.pods)
            && self.services.size() == other.services.size()
            && self.services.values().zip(other.services.values()).all(|(one, other)| is_same(one, other))
    }

    /// Returns true if the object binds ports on the node.
    #[must_use]
    pub fn owns(&self, port_owner: &ObjectRef, node: &str) -> bool {
        let name = (port_owner.namespace.clone(), port_owner.name.clone());
        if port_owner.kind == "Pod" {
            return self.pods.get(&name).is_some_and(|pod| pod.0 == *port_owner && pod.1 == node);
        }
        let service = self.services.get(&name).filter(|service| service.service == *port_owner);
        service.is_some_and(|service| service.serving().is_none_or(|nodes| nodes.contains(node)))
    }

    /// Returns true if the object is a Service that takes new clients on the node, provided that the node
    /// does. Where all its endpoints are terminating it still binds the ports, but no new client should be
    /// sent there.
    #[must_use]
    pub fn accepts_new_clients(&self, service: &ObjectRef, node: &str) -> bool {
        let name = (service.namespace.clone(), service.name.clone());
        let nodes = self.services.get(&name).filter(|nodes| nodes.service == *service);
        nodes.is_some_and(|nodes| nodes.local.as_ref().is_none_or(|local| local.ready.contains(node)))
    }

    /// Returns the nodes that serve a Service, if not every node does; none if it has no node ports.
    pub(super) fn serving_nodes(&self, service: &NamespacedName) -> Option<&BTreeSet<String>> {
        self.services.get(service).and_then(|service| service.serving())
    }

    /// Updates a pod. Returns true if it owns other ports.
    pub(super) fn update_pod(&mut self, index: &Index, name: &NamespacedName) -> bool {
        let pod = index.pod(&name.0, &name.1);
        let now = pod.and_then(|pod| Some((pod_reference(pod), node_of_running_pod(pod)?.to_owned())));
        if self.pods.get(name).map(|before| &**before) == now.as_ref() {
            return false;
        }
        match now {
            Some(now) => self.pods.insert_mut(name.clone(), Arc::new(now)),
            None => _ = self.pods.remove_mut(name),
        }
        true
    }

    /// Updates a Service. Returns true if it owns other ports, or the same on other nodes.
    pub(super) fn update_service(
        &mut self,
        index: &Index,
        slices: &SlicesByService,
        name: &NamespacedName,
    ) -> bool {
        let service = index.service(&name.0, &name.1).filter(|service| service.has_node_ports());
        let now = service.map(|service| ServiceNodes {
            service: service_reference(service),
            local: service.is_local().then(|| slices.find_nodes(index, name)),
        });
        let before = self.services.get(name).map(|before| &**before);
        if before == now.as_ref() {
            return false;
        }
        let differs =
            before.map(ServiceNodes::without_readiness) != now.as_ref().map(ServiceNodes::without_readiness);
        match now {
            Some(now) => self.services.insert_mut(name.clone(), Arc::new(now)),
            None => _ = self.services.remove_mut(name),
        }
        differs
    }
}

impl ServiceNodes {
    fn without_readiness(&self) -> impl PartialEq {
        (&self.service, self.serving())
    }

    fn serving(&self) -> Option<&BTreeSet<String>> {
        self.local.as_ref().map(|local| &local.serving)
    }
}

/// `EndpointSlice`s by the namespace and name of their Service.
#[derive(Default)]
pub(super) struct SlicesByService(BTreeMap<NamespacedName, BTreeSet<NamespacedName>>);

impl SlicesByService {
    /// Adds a slice of an index.
    pub(super) fn add(&mut self, index: &Index, slice: &NamespacedName) {
        if let Some(service) = find_service(index, slice) {
            self.0.entry(service).or_default().insert(slice.clone());
        }
    }

    /// Removes a slice of an earlier index.
    pub(super) fn remove(&mut self, before: &Index, slice: &NamespacedName) {
        let Some(service) = find_service(before, slice) else { return };
        let Some(slices) = self.0.get_mut(&service) else { return };
        slices.remove(slice);
        if slices.is_empty() {
            self.0.remove(&service);
        }
    }

    fn find_nodes(&self, index: &Index, service: &NamespacedName) -> LocalNodes {
        let mut nodes = LocalNodes::default();
        for slice in self.0.get(service).into_iter().flatten().filter_map(|name| index.endpoint_slice(name)) {
            nodes.serving.extend(find_endpoint_nodes(slice, Endpoint::takes_traffic).map(str::to_owned));
            nodes.ready.extend(find_endpoint_nodes(slice, Endpoint::is_ready).map(str::to_owned));
        }
        nodes
    }
}

/// Returns the Service of a slice.
pub(super) fn find_service(index: &Index, slice: &NamespacedName) -> Option<NamespacedName> {
    let service = index.endpoint_slice(slice)?.service()?;
    Some((slice.0.clone(), service.to_owned()))
}

/// Returns the node on which the pod binds its ports. A pod that is being deleted binds them until it is
/// gone.
pub(super) fn node_of_running_pod(pod: &Pod) -> Option<&str> {
    let is_finished = matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed"));
    pod.spec.node_name.as_deref().filter(|name| !name.is_empty() && !is_finished)
}
