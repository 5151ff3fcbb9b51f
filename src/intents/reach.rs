//! The parts of the demand that changes reach.

use std::collections::{BTreeMap, BTreeSet};

use super::dependents::{Dependency, Dependent, Dependents};
use super::host_port_exposure::PodSelection;
use crate::k8s::index::{Index, NamespacedName, Watch};
use crate::k8s::objects::{Namespace, Node, Pod};

/// The nodes on which a Service is reached.
#[derive(Debug)]
pub(super) enum Nodes {
    All,
    Some(BTreeSet<String>),
}

/// What has to be computed anew.
#[derive(Debug, Default)]
pub(super) struct Reached {
    /// Objects that may be wrong by themselves
    pub(super) objects: BTreeSet<(Watch, NamespacedName)>,
    pub(super) pods: BTreeSet<NamespacedName>,
    pub(super) services: BTreeMap<NamespacedName, Nodes>,
    /// Namespaces whose problems name them
    pub(super) namespaces: BTreeSet<String>,
    /// True if everything is added: nothing has to be looked for
    pub(super) is_everything: bool,
    /// True if other objects own ports, or the same on other nodes
    pub(super) owners_differ: bool,
}

impl Reached {
    /// Adds all parts that these objects have.
    pub(super) fn add_everything<'n>(
        &mut self,
        names: impl Iterator<Item = (&'n Watch, &'n NamespacedName)>,
    ) {
        for (watch, name) in names {
            match watch {
                Watch::Pods => _ = self.pods.insert(name.clone()),
                Watch::Services => self.add_service(name.clone()),
                Watch::Namespaces => _ = self.namespaces.insert(name.1.clone()),
                _ => {}
            }
            self.objects.insert((watch.clone(), name.clone()));
        }
    }

    /// Adds a Service on all nodes.
    pub(super) fn add_service(&mut self, name: NamespacedName) {
        self.services.insert(name, Nodes::All);
    }

    /// Adds a Service on some nodes.
    pub(super) fn add_service_on<'n>(
        &mut self,
        name: &NamespacedName,
        nodes: impl IntoIterator<Item = &'n String>,
    ) {
        for node in nodes {
            let all = self.services.entry(name.clone()).or_insert_with(|| Nodes::Some(BTreeSet::new()));
            if let Nodes::Some(all) = all {
                all.insert(node.clone());
            }
        }
    }

    /// Adds the dependents of an object.
    pub(super) fn add_dependents(&mut self, dependents: &Dependents, dependency: &Dependency) {
        if self.is_everything {
            return;
        }
        for dependent in dependents.of(dependency) {
            match (dependent, dependency) {
                (Dependent::Pod(name), _) => _ = self.pods.insert(name.clone()),
                (Dependent::Service(name), Dependency::Node(node)) => self.add_service_on(name, [node]),
                (Dependent::Service(name), _) => self.add_service(name.clone()),
            }
        }
    }

    /// Adds what a node reaches, if it differs in what decides about ports. Its readiness does not.
    pub(super) fn add_node(&mut self, before: &Index, now: &Index, dependents: &Dependents, name: &str) {
        fn facts(node: &Node) -> impl PartialEq {
            (&node.metadata.labels, &node.spec.provider_id, &node.status.addresses)
        }
        if self.is_everything || before.node(name).map(facts) == now.node(name).map(facts) {
            return;
        }
        let name = name.to_owned();
        for dependent in dependents.of(&Dependency::EveryNode) {
            if let Dependent::Service(service) = dependent {
                self.add_service_on(service, [&name]);
            }
        }
        self.add_dependents(dependents, &Dependency::Node(name));
    }

    /// Adds what a namespace reaches: whatever is in it, and what serves Services of it.
    pub(super) fn add_namespace(&mut self, before: &Index, now: &Index, dependents: &Dependents, name: &str) {
        fn facts(namespace: &Namespace) -> impl PartialEq {
            (&namespace.metadata.labels, &namespace.metadata.uid)
        }
        if self.is_everything || before.namespace(name).map(facts) == now.namespace(name).map(facts) {
            return;
        }
        self.namespaces.insert(name.to_owned());
        self.pods.extend(now.pods_in(name).map(pod_name));
        for service in now.services_in(name) {
            self.add_service((name.to_owned(), service.metadata.name.clone().unwrap_or_default()));
        }
        self.add_dependents(dependents, &Dependency::Namespace(name.to_owned()));
    }

    /// Adds the pods that a `HostPortExposure` selected before, or selects now. While it cannot be read, it
    /// may select any pod of its namespace.
    pub(super) fn add_selected(
        &mut self,
        before: &Index,
        now: &Index,
        name: &NamespacedName,
        selections: [Option<&PodSelection>; 2],
    ) {
        if self.is_everything {
            return;
        }
        // What it may have open is what it asked for when it could last be read.
        let unreadable = |index: &Index| {
            let (problem, last) = index.unreadable_exposure(name)?;
            Some((problem.object.clone(), last.map(|last| last.spec.clone())))
        };
        let is_doubtful = unreadable(before) != unreadable(now);
        let is_selected = |pod: &&Pod| {
            let node = pod.spec.node_name.as_deref().and_then(|node| now.node(node));
            is_doubtful || selections.into_iter().flatten().any(|selection| selection.selects(pod, node))
        };
        self.pods.extend(now.pods_in(&name.0).filter(is_selected).map(pod_name));
    }
}

fn pod_name(pod: &Pod) -> NamespacedName {
    let metadata = &pod.metadata;
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}
