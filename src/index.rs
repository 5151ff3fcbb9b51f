//! The index: what is known of the cluster, fed by `apply`, `delete` and `reset` per watched kind, and whether
//! it is complete.

use std::collections::BTreeMap;

use firewall_model::Completeness;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::host_port_exposure::HostPortExposure;
use crate::objects::{DOMAIN, Ingress, Node, Pod};
use crate::readiness;

/// Namespace and name of an object; the namespace is empty for nodes.
pub type Name = (String, String);

/// An object of a watched kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// A pod
    Pod(Pod),
    /// A node
    Node(Node),
    /// An Ingress, with its `api_version` filled in
    Ingress(Ingress),
    /// A `HostPortExposure`
    HostPortExposure(Box<HostPortExposure>),
}

/// One watch: what is listed and followed together, and breaks together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watch {
    /// All pods
    Pods,
    /// All nodes
    Nodes,
    /// Ingresses of one API group
    Ingresses(String),
    /// All `HostPortExposure`s
    HostPortExposures,
}

impl std::fmt::Display for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pods => f.write_str("pods"),
            Self::Nodes => f.write_str("nodes"),
            Self::Ingresses(group) => write!(f, "ingresses.{group}"),
            Self::HostPortExposures => f.write_str("hostportexposures.hostport-firewall.dev"),
        }
    }
}

/// What is known of the cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Index {
    pods: BTreeMap<Name, Pod>,
    nodes: BTreeMap<String, Node>,
    /// By API group: `networking.k8s.io` and `voyager.appscode.com` can hold Ingresses of the same name.
    ingresses: BTreeMap<String, BTreeMap<Name, Ingress>>,
    host_port_exposures: BTreeMap<Name, HostPortExposure>,
    /// Per expected watch: `None` once it has been listed since its last break, else what is missing.
    gaps: BTreeMap<Watch, Option<String>>,
}

impl Index {
    /// An empty index that is complete once each of these has been listed.
    pub fn expecting(watches: impl IntoIterator<Item = Watch>) -> Self {
        let mut index = Self::default();
        for watch in watches {
            index.expect(watch);
        }
        index
    }

    /// Another kind is to be listed before anything is complete. Returns whether that is new.
    pub fn expect(&mut self, watch: Watch) -> bool {
        let new = !self.gaps.contains_key(&watch);
        self.gaps.entry(watch).or_insert_with(|| Some("not listed yet".to_owned()));
        new
    }

    /// A kind is no longer served: its objects are gone. Returns whether anything changed.
    pub fn forget(&mut self, watch: &Watch) -> bool {
        let known = self.gaps.remove(watch).is_some();
        self.clear(watch) || known
    }

    /// Replaces everything of a kind by a complete list. Returns whether anything changed.
    pub fn reset(&mut self, watch: Watch, objects: Vec<Object>) -> bool {
        let was_complete = self.gaps.get(&watch) == Some(&None);
        let mut fresh = Self::default();
        for object in objects {
            fresh.apply(&watch, object);
        }
        let same = self.same(&watch, &fresh);
        if !same {
            self.clear(&watch);
            self.take(&watch, fresh);
        }
        let changed = !same || !was_complete;
        self.gaps.insert(watch, None);
        changed
    }

    /// Adds or changes one object. Returns whether anything that matters changed.
    pub fn apply(&mut self, watch: &Watch, object: Object) -> bool {
        match (watch, object) {
            (Watch::Pods, Object::Pod(pod)) if !matters(&pod) => {
                self.pods.remove(&name(&pod.metadata)).is_some()
            }
            (Watch::Pods, Object::Pod(mut pod)) => {
                // It changes with every status update; keeping it would make each of them look like a change.
                pod.metadata.resource_version = None;
                put(&mut self.pods, name(&pod.metadata), pod)
            }
            (Watch::Nodes, Object::Node(mut node)) => {
                node.metadata.resource_version = None;
                put(&mut self.nodes, name(&node.metadata).1, node)
            }
            (Watch::Ingresses(group), Object::Ingress(mut ingress)) => {
                ingress.metadata.resource_version = None;
                let ingresses = self.ingresses.entry(group.clone()).or_default();
                put(ingresses, name(&ingress.metadata), ingress)
            }
            (Watch::HostPortExposures, Object::HostPortExposure(mut exposure)) => {
                exposure.metadata.resource_version = None;
                exposure.metadata.managed_fields = None;
                // A status is ours: its coming back is no news.
                let asks =
                    |exposure: &HostPortExposure| HostPortExposure { status: None, ..exposure.clone() };
                let asked = asks(&exposure);
                let old = self.host_port_exposures.insert(name(&exposure.metadata), *exposure);
                old.is_none_or(|old| asks(&old) != asked)
            }
            _ => false,
        }
    }

    /// Removes one object. Returns whether it was there.
    pub fn delete(&mut self, watch: &Watch, object: &Object) -> bool {
        match (watch, object) {
            (Watch::Pods, Object::Pod(pod)) => self.pods.remove(&name(&pod.metadata)).is_some(),
            (Watch::Nodes, Object::Node(node)) => self.nodes.remove(&name(&node.metadata).1).is_some(),
            (Watch::Ingresses(group), Object::Ingress(ingress)) => self
                .ingresses
                .get_mut(group)
                .is_some_and(|ingresses| ingresses.remove(&name(&ingress.metadata)).is_some()),
            (Watch::HostPortExposures, Object::HostPortExposure(exposure)) => {
                self.host_port_exposures.remove(&name(&exposure.metadata)).is_some()
            }
            _ => false,
        }
    }

    /// A watch broke: what it brought stays, but is no longer known to be all. Returns whether that is new.
    pub fn broken(&mut self, watch: Watch, reason: String) -> bool {
        let gap = Some(reason);
        let new = self.gaps.get(&watch) != Some(&gap);
        self.gaps.insert(watch, gap);
        new
    }

    /// Replaces everything by another index. Returns whether anything changed.
    pub fn replace(&mut self, other: Self) -> bool {
        let changed = *self != other;
        *self = other;
        changed
    }

    /// Whether everything expected has been listed since its last break; if not, what is missing.
    #[must_use]
    pub fn completeness(&self) -> Completeness {
        let gaps = self.gaps.iter().filter_map(|(watch, gap)| Some(format!("{watch}: {}", gap.as_ref()?)));
        let gaps: Vec<String> = gaps.collect();
        if gaps.is_empty() { Completeness::Complete } else { Completeness::Partial(gaps) }
    }

    /// Whether every expected kind is listed now, and at least one is expected.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        !self.gaps.is_empty() && self.completeness().is_complete()
    }

    /// The pods that matter, by namespace and name.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values()
    }

    /// A pod by namespace and name.
    #[must_use]
    pub fn pod(&self, namespace: &str, name: &str) -> Option<&Pod> {
        self.pods.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// All `HostPortExposure`s.
    pub fn all_host_port_exposures(&self) -> impl Iterator<Item = &HostPortExposure> {
        self.host_port_exposures.values()
    }

    /// A node by name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// The Ingresses of that namespace and name, with their API groups.
    pub fn ingresses(&self, namespace: &str, name: &str) -> impl Iterator<Item = (&str, &Ingress)> {
        let name = (namespace.to_owned(), name.to_owned());
        self.ingresses.iter().filter_map(move |(group, all)| Some((group.as_str(), all.get(&name)?)))
    }

    /// The `HostPortExposure`s of a namespace.
    pub fn host_port_exposures(&self, namespace: &str) -> impl Iterator<Item = &HostPortExposure> {
        let all = self.host_port_exposures.range((namespace.to_owned(), String::new())..);
        all.take_while(move |((own, _), _)| own == namespace).map(|(_, exposure)| exposure)
    }

    fn clear(&mut self, watch: &Watch) -> bool {
        let count = self.count(watch);
        match watch {
            Watch::Pods => self.pods.clear(),
            Watch::Nodes => self.nodes.clear(),
            Watch::Ingresses(group) => _ = self.ingresses.remove(group),
            Watch::HostPortExposures => self.host_port_exposures.clear(),
        }
        count > 0
    }

    fn count(&self, watch: &Watch) -> usize {
        match watch {
            Watch::Pods => self.pods.len(),
            Watch::Nodes => self.nodes.len(),
            Watch::Ingresses(group) => self.ingresses.get(group).map_or(0, BTreeMap::len),
            Watch::HostPortExposures => self.host_port_exposures.len(),
        }
    }

    fn same(&self, watch: &Watch, other: &Self) -> bool {
        match watch {
            Watch::Pods => self.pods == other.pods,
            Watch::Nodes => self.nodes == other.nodes,
            Watch::Ingresses(group) => {
                let empty = BTreeMap::new();
                self.ingresses.get(group).unwrap_or(&empty) == other.ingresses.get(group).unwrap_or(&empty)
            }
            Watch::HostPortExposures => self.host_port_exposures == other.host_port_exposures,
        }
    }

    fn take(&mut self, watch: &Watch, mut other: Self) {
        match watch {
            Watch::Pods => self.pods = other.pods,
            Watch::Nodes => self.nodes = other.nodes,
            Watch::Ingresses(group) => {
                self.ingresses.insert(group.clone(), other.ingresses.remove(group).unwrap_or_default());
            }
            Watch::HostPortExposures => self.host_port_exposures = other.host_port_exposures,
        }
    }
}

/// Whether a pod can ever be exposed, or says that it wants to be. All others are dropped here: most pods of a
/// cluster have no host port.
fn matters(pod: &Pod) -> bool {
    let containers = || pod.spec.containers.iter().chain(&pod.spec.init_containers);
    let ports = || containers().flat_map(|container| &container.ports);
    let asks =
        |annotations: &BTreeMap<String, String>| annotations.keys().any(|name| name.starts_with(DOMAIN));
    ports().any(|port| port.host_port.is_some_and(|port| port != 0))
        || pod.spec.host_network && ports().next().is_some()
        || pod.metadata.annotations.as_ref().is_some_and(asks)
        || readiness::declares(pod)
}

fn name(metadata: &ObjectMeta) -> Name {
    // The API server sets a namespace on everything that has one; a manifest may leave it out.
    let namespace = metadata.namespace.clone().unwrap_or_else(|| "default".to_owned());
    (namespace, metadata.name.clone().unwrap_or_default())
}

fn put<K: Ord, V: PartialEq>(map: &mut BTreeMap<K, V>, key: K, value: V) -> bool {
    let changed = map.get(&key) != Some(&value);
    map.insert(key, value);
    changed
}

#[cfg(test)]
mod tests;
