//! Dependents: the port owners whose demand depends on another object.

use std::collections::{BTreeMap, BTreeSet};

use super::node_port::has_node_port_annotation;
use super::port_owner::{PortOwners, node_of_running_pod};
use super::service_lb::find_served_service;
use super::voyager::labels::{find_label, is_haproxy, is_voyager_service};
use crate::k8s::index::NamespacedName;
use crate::k8s::objects::{Pod, Service};

/// An object that port owners of any namespace, or of its own, depend on. What depends on a namespace because
/// it is in it, or on a `HostPortExposure`, is looked for in the index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Dependency {
    Node(String),
    /// An Ingress, of whatever API group
    Ingress(NamespacedName),
    Service(NamespacedName),
    /// The namespace of a Service that a pod of another serves
    Namespace(String),
    /// Every node: a Service that all of them serve
    EveryNode,
}

/// A pod or a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Dependent {
    Pod(NamespacedName),
    Service(NamespacedName),
}

/// The dependents of each object.
#[derive(Default)]
pub(super) struct Dependents {
    by_dependency: BTreeMap<Dependency, BTreeSet<Dependent>>,
    /// In order; nearly all have one, and there are as many as port owners
    dependencies: BTreeMap<Dependent, Box<[Dependency]>>,
}

impl Dependents {
    /// Returns the dependents of an object.
    pub(super) fn of(&self, dependency: &Dependency) -> impl Iterator<Item = &Dependent> {
        self.by_dependency.get(dependency).into_iter().flatten()
    }

    /// Replaces everything that a dependent depends on.
    pub(super) fn replace(&mut self, dependent: &Dependent, now: BTreeSet<Dependency>) {
        let before = self.dependencies.get(dependent);
        if before.map_or(now.is_empty(), |before| before.iter().eq(&now)) {
            return;
        }
        let before: BTreeSet<Dependency> =
            self.dependencies.remove(dependent).into_iter().flatten().collect();
        for gone in before.difference(&now) {
            let Some(dependents) = self.by_dependency.get_mut(gone) else { continue };
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.by_dependency.remove(gone);
            }
        }
        for new in now.difference(&before) {
            self.by_dependency.entry(new.clone()).or_default().insert(dependent.clone());
        }
        if !now.is_empty() {
            self.dependencies.insert(dependent.clone(), now.into_iter().collect());
        }
    }
}

/// Returns what a pod depends on.
pub(super) fn find_pod_dependencies(pod: Option<&Pod>) -> BTreeSet<Dependency> {
    let mut found = BTreeSet::new();
    let Some(pod) = pod else { return found };
    let Some(node) = node_of_running_pod(pod) else { return found };
    found.insert(Dependency::Node(node.to_owned()));
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    if is_haproxy(pod)
        && let Some(name) = find_label(&pod.metadata, "origin-name")
    {
        found.insert(Dependency::Ingress((namespace.to_owned(), name.to_owned())));
    }
    if let Some((namespace, name)) = find_served_service(pod, namespace) {
        found.insert(Dependency::Service((namespace.to_owned(), name.to_owned())));
        found.insert(Dependency::Namespace(namespace.to_owned()));
    }
    found
}

/// Returns what a Service depends on.
pub(super) fn find_service_dependencies(
    service: Option<&Service>,
    name: &NamespacedName,
    port_owners: &PortOwners,
) -> BTreeSet<Dependency> {
    let mut found = BTreeSet::new();
    let Some(service) = service else { return found };
    if is_voyager_service(service)
        && let Some(ingress) = find_label(&service.metadata, "origin-name")
    {
        found.insert(Dependency::Ingress((name.0.clone(), ingress.to_owned())));
    }
    if !is_voyager_service(service) && !has_node_port_annotation(service) {
        return found;
    }
    if service.is_local() {
        let nodes = port_owners.serving_nodes(name).into_iter().flatten();
        found.extend(nodes.cloned().map(Dependency::Node));
    } else {
        found.insert(Dependency::EveryNode);
    }
    found
}
