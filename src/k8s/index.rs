//! The index: the cluster's objects as far as they decide about ports, and the gaps in them.
//!
//! It is fed per watched kind by the `watcher`: `reset` with a complete list, `apply` and `delete` with
//! single events, `mark_unreadable` with objects that do not have their kind's fields, `mark_incomplete` when
//! a watch breaks, `mark_resumed` when it goes on; the objects of a broken watch stay, so that nothing looks
//! deleted. Kinds that a cluster may lack come and go by `expect_kind` and `drop_kind`. With `--manifests` the
//! [`manifests`](super::manifests) feed it instead: `replace` swaps the whole index for one that was read
//! from files. [`shared_index`] shares it and wakes its readers.
//!
//! Of each kind it holds the slim objects of [`objects`](super::objects), by namespace and name:
//!
//! | kind | held | used for |
//! | --- | --- | --- |
//! | Pod | with a host port, an annotation of ours or the readiness gate | intents, port owners, readiness |
//! | Node | all | the machine, its addresses, its labels |
//! | Namespace | all | labels, for guardrails |
//! | Service | with node ports or an annotation of ours | intents, port owners |
//! | `EndpointSlice` | all but those of headless Services | nodes that serve a `Local` Service |
//! | Ingress | all, per API group | intents of Voyager's pods and Services |
//! | `HostPortExposure` | all, with statuses | intents; statuses are compared before they are written |
//! | `DNSEndpoint` | this controller's own | compared before they are written |
//!
//! The kinds link by these fields:
//!
//! ```text
//! Pod ───────────────── spec.nodeName ────────────────▶ Node ── spec.providerID ──▶ machine of a cloud
//! EndpointSlice ─────── label service-name ───────────▶ Service
//! EndpointSlice ─────── endpoints[].nodeName ─────────▶ Node
//! HostPortExposure ──── spec.podSelector ─────────────▶ Pod
//! HostPortExposure ──── spec.nodeSelector ────────────▶ Node
//! Pod, Service ──────── Voyager's origin labels ──────▶ Ingress
//! Pod of k3s ────────── labels svcname, svcnamespace ─▶ Service
//! Pod, Service, … ───── metadata.namespace ───────────▶ Namespace
//! ```

mod object;
pub mod shared_index;

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::host_port_exposure::HostPortExposure;
use super::objects::{DNSEndpoint, EndpointSlice, Ingress, Namespace, Node, Pod, Service};
use super::problem::Problem;
use object::IndexedKind;

pub use object::{NamespacedName, Object};

/// The gap of a cluster without a Node.
pub(super) const NO_NODE: &str = "the cluster lists no Node, so nothing is known of it; does the kubeconfig name \
                                  another cluster, or may this user not list nodes?";

/// One watch: the objects that are listed and followed by one stream, and become stale together when it
/// breaks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watch {
    /// All pods
    Pods,
    /// All nodes
    Nodes,
    /// All namespaces
    Namespaces,
    /// All Services
    Services,
    /// All `EndpointSlice`s
    EndpointSlices,
    /// Ingresses of one API group
    Ingresses(String),
    /// All `HostPortExposure`s
    HostPortExposures,
    /// Our own `DNSEndpoint`s
    DNSEndpoints,
}

impl Watch {
    /// The kinds that every cluster serves.
    pub const ALWAYS: [Self; 5] =
        [Self::Pods, Self::Nodes, Self::Namespaces, Self::Services, Self::EndpointSlices];

    /// Returns API version and kind of the watched objects, as Events name them.
    pub(super) fn kind(&self) -> (Cow<'static, str>, &'static str) {
        match self {
            Self::Pods => ("v1".into(), "Pod"),
            Self::Nodes => ("v1".into(), "Node"),
            Self::Namespaces => ("v1".into(), "Namespace"),
            Self::Services => ("v1".into(), "Service"),
            Self::EndpointSlices => ("discovery.k8s.io/v1".into(), "EndpointSlice"),
            Self::Ingresses(group) => (format!("{group}/v1").into(), "Ingress"),
            Self::HostPortExposures => ("hostport-firewall.dev/v1alpha1".into(), "HostPortExposure"),
            Self::DNSEndpoints => ("externaldns.k8s.io/v1alpha1".into(), "DNSEndpoint"),
        }
    }
}

impl std::fmt::Display for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pods => f.write_str("pods"),
            Self::Nodes => f.write_str("nodes"),
            Self::Namespaces => f.write_str("namespaces"),
            Self::Services => f.write_str("services"),
            Self::EndpointSlices => f.write_str("endpointslices.discovery.k8s.io"),
            Self::Ingresses(group) => write!(f, "ingresses.{group}"),
            Self::HostPortExposures => f.write_str("hostportexposures.hostport-firewall.dev"),
            Self::DNSEndpoints => f.write_str("dnsendpoints.externaldns.k8s.io"),
        }
    }
}

/// Holds the cluster's objects by watch, and what is missing of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Index {
    /// By watch, because `networking.k8s.io` and `voyager.appscode.com` can hold Ingresses of the same name.
    objects: BTreeMap<Watch, BTreeMap<NamespacedName, Object>>,
    /// The problem of each object that cannot be read.
    unreadable: BTreeMap<Watch, BTreeMap<NamespacedName, Problem>>,
    /// Per expected watch: `None` once it has been listed since its last break, else what is missing.
    gaps: BTreeMap<Watch, Option<String>>,
}

impl Index {
    /// Returns an empty index that is complete once each of these has been listed.
    pub fn expecting(watches: impl IntoIterator<Item = Watch>) -> Self {
        let mut index = Self::default();
        for watch in watches {
            index.expect_kind(watch);
        }
        index
    }

    /// Expects another kind: the index is incomplete until it has been listed. Returns whether it was
    /// unexpected so far.
    pub(super) fn expect_kind(&mut self, watch: Watch) -> bool {
        let is_new = !self.gaps.contains_key(&watch);
        self.gaps.entry(watch).or_insert_with(|| Some("not listed yet".to_owned()));
        is_new
    }

    /// Drops a kind that is no longer served, with its objects. Returns whether anything changed.
    pub(super) fn drop_kind(&mut self, watch: &Watch) -> bool {
        let was_expected = self.gaps.remove(watch).is_some();
        self.unreadable.remove(watch);
        self.objects.remove(watch).is_some_and(|objects| !objects.is_empty()) || was_expected
    }

    /// Replaces all objects of a kind by a complete list. Returns whether anything changed.
    pub fn reset(&mut self, watch: Watch, objects: Vec<Object>) -> bool {
        let was_complete = self.gaps.get(&watch) == Some(&None);
        let objects = objects.into_iter().filter(Object::is_relevant).map(Object::normalized);
        let listed: BTreeMap<NamespacedName, Object> =
            objects.map(|object| (object.name(), object)).collect();
        let is_same = self.objects.get(&watch).map_or(listed.is_empty(), |current| *current == listed);
        self.objects.insert(watch.clone(), listed);
        let had_unreadable = self.unreadable.remove(&watch).is_some_and(|objects| !objects.is_empty());
        self.gaps.insert(watch, None);
        !is_same || !was_complete || had_unreadable
    }

    /// Adds or changes one object. Returns whether that can affect a plan.
    pub fn apply(&mut self, watch: &Watch, object: Object) -> bool {
        let object = object.normalized();
        if !object.is_relevant() {
            return self.delete(watch, &object.name());
        }
        let affects_plan = self.affects_plan(&object);
        let name = object.name();
        let was_unreadable = self.clear_unreadable(watch, &name);
        let objects = self.objects.entry(watch.clone()).or_default();
        let differs =
            objects.get(&name).is_none_or(|current| current.without_status() != object.without_status());
        objects.insert(name, object);
        differs && affects_plan || was_unreadable
    }

    /// Removes one object. Returns whether that can affect a plan.
    pub fn delete(&mut self, watch: &Watch, name: &NamespacedName) -> bool {
        let was_unreadable = self.clear_unreadable(watch, name);
        let removed = self.objects.get_mut(watch).and_then(|objects| objects.remove(name));
        removed.is_some_and(|object| self.affects_plan(&object)) || was_unreadable
    }

    /// Records an object that exists but cannot be read: it opens nothing, what it may have opened stays open,
    /// and it gets this problem. Returns whether anything changed.
    pub(super) fn mark_unreadable(&mut self, watch: &Watch, name: NamespacedName, problem: Problem) -> bool {
        let was_readable = self.objects.get_mut(watch).is_some_and(|objects| objects.remove(&name).is_some());
        let unreadable = self.unreadable.entry(watch.clone()).or_default();
        unreadable.insert(name, problem.clone()) != Some(problem) || was_readable
    }

    /// Forgets that an object could not be read. Returns whether it had been recorded.
    fn clear_unreadable(&mut self, watch: &Watch, name: &NamespacedName) -> bool {
        self.unreadable.get_mut(watch).is_some_and(|unreadable| unreadable.remove(name).is_some())
    }

    /// Returns the problems of the objects that cannot be read.
    pub(crate) fn unreadable(&self) -> impl Iterator<Item = &Problem> {
        self.unreadable.values().flat_map(BTreeMap::values)
    }

    /// Returns true if a change of the object can change a plan. Endpoints change with every pod of the
    /// cluster, and only those of Services with the policy `Local` decide about ports. `DNSEndpoint`s are
    /// written by this controller.
    fn affects_plan(&self, object: &Object) -> bool {
        match object {
            Object::DNSEndpoint(_) => false,
            Object::EndpointSlice(slice) => {
                let (namespace, _) = object.name();
                let service = slice.service().and_then(|name| self.service(&namespace, name));
                service.is_some_and(Service::is_local)
            }
            _ => true,
        }
    }

    /// Records that a watch broke: its objects stay, but may no longer be all. Returns whether anything
    /// changed.
    pub fn mark_incomplete(&mut self, watch: Watch, reason: String) -> bool {
        let gap = Some(reason);
        let differs = self.gaps.get(&watch) != Some(&gap);
        self.gaps.insert(watch, gap);
        differs
    }

    /// Records that a broken watch goes on from where it broke: nothing is missing any more. Returns whether
    /// anything changed.
    pub(super) fn mark_resumed(&mut self, watch: &Watch) -> bool {
        self.gaps.get_mut(watch).is_some_and(|gap| gap.take().is_some())
    }

    /// Replaces everything by another index. Returns whether anything changed.
    pub(super) fn replace(&mut self, other: Self) -> bool {
        let changed = *self != other;
        *self = other;
        changed
    }

    /// Returns what is missing: the expected kinds that have not been listed since their watches last broke.
    #[must_use]
    pub fn gaps(&self) -> Vec<String> {
        // No port depends on DNS.
        let relevant = self.gaps.keys().filter(|watch| **watch != Watch::DNSEndpoints);
        relevant.filter_map(|watch| self.missing(watch)).collect()
    }

    /// Returns true if Nodes are listed, and there is none. Then the cluster is not known: its answer may
    /// leave out what is not permitted, or come from another cluster.
    #[must_use]
    pub fn lists_no_node(&self) -> bool {
        self.gaps.get(&Watch::Nodes) == Some(&None) && self.nodes().next().is_none()
    }

    /// Returns true if every expected kind is listed now, and at least one is expected.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        !self.gaps.is_empty() && self.gaps().is_empty()
    }

    /// Returns true if pods and nodes are listed now: without them nothing can be opened, without any other
    /// kind something can.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        let is_listed = |watch| self.gaps.contains_key(watch) && self.missing(watch).is_none();
        [Watch::Pods, Watch::Nodes].iter().all(is_listed)
    }

    /// Returns what is missing of a kind; none if it is not expected, or has been listed since its watch last
    /// broke.
    #[must_use]
    pub fn missing(&self, watch: &Watch) -> Option<String> {
        let gap = self.gaps.get(watch)?.as_deref();
        let gap = gap.or_else(|| (*watch == Watch::Nodes && self.lists_no_node()).then_some(NO_NODE));
        gap.map(|gap| format!("{watch}: {gap}"))
    }

    /// Returns the watches of Ingresses that are expected.
    pub(crate) fn ingress_watches(&self) -> impl Iterator<Item = &Watch> {
        self.gaps.keys().filter(|watch| matches!(watch, Watch::Ingresses(_)))
    }

    /// Returns the problems of the objects of one kind that cannot be read.
    pub(crate) fn unreadable_of(&self, watch: &Watch) -> impl Iterator<Item = &Problem> {
        self.unreadable.get(watch).into_iter().flat_map(BTreeMap::values)
    }

    /// Returns the relevant pods, by namespace and name.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.all(&Watch::Pods)
    }

    /// Returns a pod by namespace and name.
    #[must_use]
    pub fn pod(&self, namespace: &str, name: &str) -> Option<&Pod> {
        self.object(&Watch::Pods, namespace, name)
    }

    /// Returns all nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.all(&Watch::Nodes)
    }

    /// Returns a node by name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.object(&Watch::Nodes, "", name)
    }

    /// Returns a namespace by name.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Option<&Namespace> {
        self.object(&Watch::Namespaces, "", name)
    }

    /// Returns the relevant Services, by namespace and name.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.all(&Watch::Services)
    }

    /// Returns a Service by namespace and name.
    #[must_use]
    pub fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        self.object(&Watch::Services, namespace, name)
    }

    /// Returns the endpoint slices of all Services.
    pub fn endpoint_slices(&self) -> impl Iterator<Item = &EndpointSlice> {
        self.all(&Watch::EndpointSlices)
    }

    /// Returns the Ingresses of that namespace and name, with their API groups.
    pub fn ingresses(&self, namespace: &str, name: &str) -> impl Iterator<Item = (&str, &Ingress)> {
        let name = (namespace.to_owned(), name.to_owned());
        self.objects.iter().filter_map(move |(watch, objects)| match (watch, objects.get(&name)) {
            (Watch::Ingresses(group), Some(Object::Ingress(ingress))) => Some((group.as_str(), ingress)),
            _ => None,
        })
    }

    /// Returns all Ingresses, with their API groups.
    pub fn all_ingresses(&self) -> impl Iterator<Item = (&str, &Ingress)> {
        let all = self
            .objects
            .iter()
            .flat_map(|(watch, objects)| objects.values().map(move |object| (watch, object)));
        all.filter_map(|(watch, object)| match (watch, object) {
            (Watch::Ingresses(group), Object::Ingress(ingress)) => Some((group.as_str(), ingress)),
            _ => None,
        })
    }

    /// Returns all `HostPortExposure`s.
    pub fn host_port_exposures(&self) -> impl Iterator<Item = &HostPortExposure> {
        self.all(&Watch::HostPortExposures)
    }

    /// Returns the `DNSEndpoint`s of this controller's zone as they were last observed; none if they have
    /// never been listed, or are no longer served.
    #[must_use]
    pub fn dns_endpoints(&self) -> Option<impl Iterator<Item = &DNSEndpoint>> {
        self.objects.contains_key(&Watch::DNSEndpoints).then(|| self.all(&Watch::DNSEndpoints))
    }

    fn all<K: IndexedKind>(&self, watch: &Watch) -> impl Iterator<Item = &K> {
        self.objects.get(watch).into_iter().flat_map(BTreeMap::values).filter_map(K::from_object)
    }

    fn object<K: IndexedKind>(&self, watch: &Watch, namespace: &str, name: &str) -> Option<&K> {
        K::from_object(self.objects.get(watch)?.get(&(namespace.to_owned(), name.to_owned()))?)
    }
}

#[cfg(test)]
mod tests;
