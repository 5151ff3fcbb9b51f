//! Demand: everything that is asked for, kept by the parts that ask for it, and computed anew only where a
//! change reaches.
//!
//! A part is one pod, or one Service on one node. What it depends on is found in both directions: from the
//! part, when it is computed, and from whatever changes, in `reach.rs`. A property test holds the result to
//! the one that is computed from nothing.

use std::collections::{BTreeMap, BTreeSet};

use rpds::RedBlackTreeMapSync;

use super::collect::{Inputs, ServiceParts};
use super::dependents::{
    Dependency, Dependent, Dependents, find_pod_dependencies, find_service_dependencies,
};
use super::exposure::Exposure;
use super::exposures::{Exposures, PartKey};
use super::part::Part;
use super::port_owner::{PortOwners, SlicesByService, find_service};
use super::problems::{ClusterProblems, Problems};
use super::reach::{Nodes, Reached};
use super::selections::Selections;
use super::settings::Settings;
use super::unknown::{UnknownDemand, find_unknown_node_ports};
use crate::k8s::host_port_exposure::HostPortExposure;
use crate::k8s::index::{Index, NamespacedName, Watch};
use crate::k8s::problem::Problem;

/// The ports that may be asked for, each with the number of parts that say so.
pub(crate) type UnknownDemands = RedBlackTreeMapSync<UnknownDemand, usize>;

/// Everything that is asked for, and what has been derived to compute it.
#[derive(Default)]
pub(crate) struct Demand {
    index: Index,
    settings: Settings,
    selections: Selections,
    slices: SlicesByService,
    port_owners: PortOwners,
    dependents: Dependents,
    /// What is wrong, or not known, in each part
    parts: BTreeMap<PartKey, Part>,
    exposures: Exposures,
    /// The parts whose exposures have changed since somebody asked
    changed: BTreeSet<PartKey>,
    problems: Problems,
    unknown: UnknownDemands,
}

/// The result of all intents. A copy costs the same however much there is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Demanded {
    pub(crate) exposures: Exposures,
    /// The intents, pods, Services and nodes because of which something is not opened
    pub(crate) problems: ClusterProblems,
    pub(crate) unknown: UnknownDemands,
    pub(crate) port_owners: PortOwners,
}

impl Demand {
    /// Computes the demand of another index and other settings, where these objects have changed since the
    /// last call; `any` says that anything else may have changed as well. Returns true if anything is asked
    /// for, or wrong, that was not before.
    pub(crate) fn update(
        &mut self,
        index: &Index,
        changed: &BTreeSet<(Watch, NamespacedName)>,
        any: bool,
        settings: &Settings,
    ) -> bool {
        let before = std::mem::replace(&mut self.index, index.clone());
        let mut reached = Reached { is_everything: any || self.settings != *settings, ..Reached::default() };
        if reached.is_everything {
            self.settings.clone_from(settings);
            reached.add_everything(before.names().chain(index.names()));
        }
        self.derive(&before, changed, &mut reached);
        self.compute(reached)
    }

    /// Returns the result of the last update.
    pub(crate) fn result(&mut self) -> Demanded {
        Demanded {
            exposures: self.exposures.clone(),
            problems: self.problems.settle(&self.index).clone(),
            unknown: self.unknown.clone(),
            port_owners: self.port_owners.clone(),
        }
    }

    /// Returns the parts whose exposures have changed since the last call.
    pub(crate) fn take_changed(&mut self) -> BTreeSet<PartKey> {
        std::mem::take(&mut self.changed)
    }

    /// Derives anew what is derived of changed objects, and adds the parts that they reach.
    fn derive(&mut self, before: &Index, changed: &BTreeSet<(Watch, NamespacedName)>, reached: &mut Reached) {
        // Those whose serving nodes may differ: once each, however many slices they have.
        let mut services = BTreeSet::new();
        for (watch, name) in changed {
            match watch {
                Watch::Pods => self.derive_pod(name, reached),
                Watch::Services => {
                    reached.add_service(name.clone());
                    reached.add_dependents(&self.dependents, &Dependency::Service(name.clone()));
                    services.insert(name.clone());
                }
                Watch::EndpointSlices => {
                    self.slices.remove(before, name);
                    self.slices.add(&self.index, name);
                    services.extend(
                        [before, &self.index].into_iter().filter_map(|index| find_service(index, name)),
                    );
                }
                Watch::HostPortExposures => self.derive_selection(before, name, reached),
                Watch::Ingresses(_) => {
                    reached.add_dependents(&self.dependents, &Dependency::Ingress(name.clone()));
                }
                Watch::Nodes => reached.add_node(before, &self.index, &self.dependents, &name.1),
                Watch::Namespaces => reached.add_namespace(before, &self.index, &self.dependents, &name.1),
                Watch::DNSEndpoints => continue,
            }
            reached.objects.insert((watch.clone(), name.clone()));
        }
        for service in services {
            self.derive_serving(&service, reached);
        }
    }

    fn derive_pod(&mut self, name: &NamespacedName, reached: &mut Reached) {
        reached.owners_differ |= self.port_owners.update_pod(&self.index, name);
        let dependencies = find_pod_dependencies(self.index.pod(&name.0, &name.1));
        self.dependents.replace(&Dependent::Pod(name.clone()), dependencies);
        reached.pods.insert(name.clone());
    }

    /// Derives the nodes that serve a Service. Of one whose endpoints alone have changed, these are reached.
    fn derive_serving(&mut self, name: &NamespacedName, reached: &mut Reached) {
        let before = self.port_owners.serving_nodes(name).cloned().unwrap_or_default();
        reached.owners_differ |= self.port_owners.update_service(&self.index, &self.slices, name);
        let service = self.index.service(&name.0, &name.1);
        let dependencies = find_service_dependencies(service, name, &self.port_owners);
        self.dependents.replace(&Dependent::Service(name.clone()), dependencies);
        let nodes = self.port_owners.serving_nodes(name);
        let differing = nodes.into_iter().flat_map(|nodes| before.symmetric_difference(nodes));
        reached.add_service_on(name, differing);
    }

    fn derive_selection(&mut self, before: &Index, name: &NamespacedName, reached: &mut Reached) {
        fn fields(exposure: &HostPortExposure) -> impl PartialEq {
            (&exposure.spec, &exposure.metadata.uid)
        }
        let exposure = before.host_port_exposure(name);
        if exposure.is_some() && exposure.map(fields) == self.index.host_port_exposure(name).map(fields) {
            return;
        }
        let then = self.selections.replace(&self.index, name);
        let now = self.selections.get(name).and_then(|selection| selection.as_ref().ok());
        let then = then.as_ref().and_then(|selection| selection.as_ref().ok());
        reached.add_selected(before, &self.index, name, [then, now]);
    }

    /// Computes parts anew.
    fn compute(&mut self, reached: Reached) -> bool {
        let mut differs = reached.owners_differ;
        for (watch, name) in reached.objects {
            let part = self.compute_object(&watch, &name);
            differs |= self.replace(PartKey::Object(watch, name), part);
        }
        let part =
            Part { unknown: find_unknown_node_ports(&self.index).into_iter().collect(), ..Part::default() };
        differs |= self.replace(PartKey::UnknownServices, part);
        for name in reached.pods {
            let pod = self.index.pod(&name.0, &name.1);
            let part = pod.map(|pod| self.inputs().collect_pod(pod)).unwrap_or_default();
            differs |= self.replace(PartKey::Pod(name), part);
        }
        for (name, nodes) in reached.services {
            differs |= self.compute_service(&name, &nodes);
        }
        for namespace in &reached.namespaces {
            differs |= self.problems.namespace_changed(namespace);
        }
        differs
    }

    /// Returns what is wrong with an object by itself.
    fn compute_object(&self, watch: &Watch, name: &NamespacedName) -> Part {
        let mut part = Part::default();
        part.problems.extend(self.index.unreadable_object(watch, name).cloned());
        if *watch == Watch::HostPortExposures
            && let Some(Err(mistake)) = self.selections.get(name)
        {
            part.problems.report(mistake, &[]);
        }
        part
    }

    fn compute_service(&mut self, name: &NamespacedName, nodes: &Nodes) -> bool {
        let only = match nodes {
            Nodes::All => None,
            Nodes::Some(nodes) => Some(nodes),
        };
        let service = self.index.service(&name.0, &name.1);
        let parts = service.map(|service| self.inputs().collect_service(service, only));
        let ServiceParts { own, mut on_nodes } = parts.unwrap_or_default();
        let mut differs = self.replace(PartKey::Service(name.clone()), own);
        let gone: Vec<String> = match only {
            Some(only) => only.iter().filter(|node| !on_nodes.contains_key(*node)).cloned().collect(),
            None => self.nodes_of(name).into_iter().filter(|node| !on_nodes.contains_key(node)).collect(),
        };
        on_nodes.extend(gone.into_iter().map(|node| (node, Part::default())));
        for (node, part) in on_nodes {
            differs |= self.replace(PartKey::ServiceOnNode(name.clone(), node), part);
        }
        differs
    }

    /// Returns the nodes on which a Service has a part.
    fn nodes_of(&self, service: &NamespacedName) -> BTreeSet<String> {
        let first = PartKey::ServiceOnNode(service.clone(), String::new());
        let of_service = |key: &PartKey| match key {
            PartKey::ServiceOnNode(of, node) if of == service => Some(node.clone()),
            _ => None,
        };
        let exposed = self.exposures.keys_from(&first).map_while(of_service);
        exposed.chain(self.parts.range(first.clone()..).map_while(|(key, _)| of_service(key))).collect()
    }

    /// Replaces a part. Returns true if it differs.
    fn replace(&mut self, key: PartKey, mut part: Part) -> bool {
        let differs = self.exposures.replace(&key, std::mem::take(&mut part.exposures));
        if differs {
            self.changed.insert(key.clone());
        }
        let before = self.parts.get(&key);
        if before.map_or(part.is_empty(), |before| *before == part) {
            return differs;
        }
        let before = self.parts.remove(&key).unwrap_or_default();
        self.problems.add(&part.problems);
        self.problems.remove(&before.problems);
        for demand in part.unknown.difference(&before.unknown) {
            let count = self.unknown.get(demand).copied().unwrap_or_default();
            self.unknown.insert_mut(demand.clone(), count + 1);
        }
        for demand in before.unknown.difference(&part.unknown) {
            match self.unknown.get(demand).copied() {
                Some(count) if count > 1 => self.unknown.insert_mut(demand.clone(), count - 1),
                _ => _ = self.unknown.remove_mut(demand),
            }
        }
        if !part.is_empty() {
            self.parts.insert(key, part);
        }
        true
    }

    fn inputs(&self) -> Inputs<'_> {
        let Self { index, settings, selections, port_owners, .. } = self;
        Inputs { index, settings, selections, port_owners }
    }
}

/// The result of all intents in the index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Those of pods, and then those of Services, in order of namespace and name
    pub exposures: Vec<Exposure>,
    /// The intents, pods, Services and nodes because of which something is not opened
    pub problems: BTreeSet<Problem>,
    /// Ports that may be asked for
    pub unknown: BTreeSet<UnknownDemand>,
}

/// Collects the exposures of all pods and Services.
#[must_use]
pub fn collect_exposures(index: &Index, settings: &Settings) -> Collected {
    let mut demand = Demand::default();
    let all = index.names().map(|(watch, name)| (watch.clone(), name.clone())).collect();
    demand.update(index, &all, true, settings);
    let Demanded { exposures, problems, unknown, .. } = demand.result();
    Collected {
        exposures: exposures.iter().cloned().collect(),
        problems: problems.iter().cloned().collect(),
        unknown: unknown.keys().cloned().collect(),
    }
}
