//! The index: what is known of the cluster, fed by `apply`, `delete` and `reset` per watched kind, and whether
//! it is complete.

mod object;
pub mod shared_index;

use std::borrow::Cow;
use std::collections::BTreeMap;

use firewall_core::Completeness;

use super::host_port_exposure::HostPortExposure;
use super::objects::{DNSEndpoint, EndpointSlice, Ingress, Namespace, Node, Pod, Service};
use super::problem::Problem;
use object::Kind;

pub use object::{Name, Object};

/// One watch: what is listed and followed together, and breaks together.
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
    /// What every cluster serves.
    pub const ALWAYS: [Self; 5] =
        [Self::Pods, Self::Nodes, Self::Namespaces, Self::Services, Self::EndpointSlices];

    /// API version and kind of what is watched, as Events name them.
    #[must_use]
    pub fn kind(&self) -> (Cow<'static, str>, &'static str) {
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

/// What is known of the cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Index {
    /// By watch, because `networking.k8s.io` and `voyager.appscode.com` can hold Ingresses of the same name.
    objects: BTreeMap<Watch, BTreeMap<Name, Object>>,
    /// What cannot be read, and what to say of it.
    unreadable: BTreeMap<Watch, BTreeMap<Name, Problem>>,
    /// Per expected watch: `None` once it has been listed since its last break, else what is missing.
    gaps: BTreeMap<Watch, Option<String>>,
}

impl Index {
    /// An empty index that is complete once each of these has been listed.
    pub fn expecting(watches: impl IntoIterator<Item = Watch>) -> Self {
        let mut index = Self::default();
        for watch in watches {
            index.expect_kind(watch);
        }
        index
    }

    /// Another kind is to be listed before anything is complete. Returns whether that is new.
    pub fn expect_kind(&mut self, watch: Watch) -> bool {
        let new = !self.gaps.contains_key(&watch);
        self.gaps.entry(watch).or_insert_with(|| Some("not listed yet".to_owned()));
        new
    }

    /// A kind is no longer served: its objects are gone. Returns whether anything changed.
    pub fn drop_kind(&mut self, watch: &Watch) -> bool {
        let known = self.gaps.remove(watch).is_some();
        self.unreadable.remove(watch);
        self.objects.remove(watch).is_some_and(|objects| !objects.is_empty()) || known
    }

    /// Replaces everything of a kind by a complete list. Returns whether anything changed.
    pub fn reset(&mut self, watch: Watch, objects: Vec<Object>) -> bool {
        let was_complete = self.gaps.get(&watch) == Some(&None);
        let objects = objects.into_iter().filter(Object::is_relevant).map(Object::normalized);
        let fresh: BTreeMap<Name, Object> = objects.map(|object| (object.name(), object)).collect();
        let same = self.objects.get(&watch).map_or(fresh.is_empty(), |known| *known == fresh);
        self.objects.insert(watch.clone(), fresh);
        let told = self.unreadable.remove(&watch).is_some_and(|unreadable| !unreadable.is_empty());
        self.gaps.insert(watch, None);
        !same || !was_complete || told
    }

    /// Adds or changes one object. Returns whether anything that matters changed.
    pub fn apply(&mut self, watch: &Watch, object: Object) -> bool {
        let object = object.normalized();
        if !object.is_relevant() {
            return self.delete(watch, &object.name());
        }
        let affects_plan = self.affects_plan(&object);
        let name = object.name();
        let was_unreadable = self.readable(watch, &name);
        let objects = self.objects.entry(watch.clone()).or_default();
        let news = objects.get(&name).is_none_or(|known| known.without_status() != object.without_status());
        objects.insert(name, object);
        news && affects_plan || was_unreadable
    }

    /// Removes one object. Returns whether it was there.
    pub fn delete(&mut self, watch: &Watch, name: &Name) -> bool {
        let was_unreadable = self.readable(watch, name);
        let removed = self.objects.get_mut(watch).and_then(|objects| objects.remove(name));
        removed.is_some_and(|object| self.affects_plan(&object)) || was_unreadable
    }

    /// An object is there and cannot be read: it asks for nothing any more, and is told so. Returns whether that is new.
    pub fn mark_unreadable(&mut self, watch: &Watch, name: Name, notice: Problem) -> bool {
        let removed = self.objects.get_mut(watch).is_some_and(|objects| objects.remove(&name).is_some());
        let unreadable = self.unreadable.entry(watch.clone()).or_default();
        unreadable.insert(name, notice.clone()) != Some(notice) || removed
    }

    /// The object can be read, or is gone. Returns whether that is new.
    fn readable(&mut self, watch: &Watch, name: &Name) -> bool {
        self.unreadable.get_mut(watch).is_some_and(|unreadable| unreadable.remove(name).is_some())
    }

    /// What to say of objects that cannot be read.
    pub fn unreadable(&self) -> impl Iterator<Item = &Problem> {
        self.unreadable.values().flat_map(BTreeMap::values)
    }

    /// Endpoints come and go with every pod of the cluster; those of most Services decide about nothing here. And what
    /// we write ourselves is no news.
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

    /// A watch broke: what it brought stays, but is no longer known to be all. Returns whether that is new.
    pub fn mark_incomplete(&mut self, watch: Watch, reason: String) -> bool {
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
        // Ports do not depend on what is published.
        let decide = self.gaps.iter().filter(|(watch, _)| **watch != Watch::DNSEndpoints);
        let gaps = decide.filter_map(|(watch, gap)| Some(format!("{watch}: {}", gap.as_ref()?)));
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
        self.all(&Watch::Pods)
    }

    /// A pod by namespace and name.
    #[must_use]
    pub fn pod(&self, namespace: &str, name: &str) -> Option<&Pod> {
        self.object(&Watch::Pods, namespace, name)
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.all(&Watch::Nodes)
    }

    /// A node by name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.object(&Watch::Nodes, "", name)
    }

    /// A namespace by name.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Option<&Namespace> {
        self.object(&Watch::Namespaces, "", name)
    }

    /// The Services that matter, by namespace and name.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.all(&Watch::Services)
    }

    /// A Service by namespace and name.
    #[must_use]
    pub fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        self.object(&Watch::Services, namespace, name)
    }

    /// The parts of the endpoints of all Services.
    pub fn endpoint_slices(&self) -> impl Iterator<Item = &EndpointSlice> {
        self.all(&Watch::EndpointSlices)
    }

    /// The Ingresses of that namespace and name, with their API groups.
    pub fn ingresses(&self, namespace: &str, name: &str) -> impl Iterator<Item = (&str, &Ingress)> {
        let name = (namespace.to_owned(), name.to_owned());
        self.objects.iter().filter_map(move |(watch, objects)| match (watch, objects.get(&name)) {
            (Watch::Ingresses(group), Some(Object::Ingress(ingress))) => Some((group.as_str(), ingress)),
            _ => None,
        })
    }

    /// All Ingresses.
    pub fn all_ingresses(&self) -> impl Iterator<Item = (&str, &Ingress)> {
        let all = self.objects.iter().flat_map(|(watch, of)| of.values().map(move |object| (watch, object)));
        all.filter_map(|(watch, object)| match (watch, object) {
            (Watch::Ingresses(group), Object::Ingress(ingress)) => Some((group.as_str(), ingress)),
            _ => None,
        })
    }

    /// All `HostPortExposure`s.
    pub fn host_port_exposures(&self) -> impl Iterator<Item = &HostPortExposure> {
        self.all(&Watch::HostPortExposures)
    }

    /// Our own `DNSEndpoint`s, as they were when they were last heard of; none if they have never been listed, or are not
    /// served any more.
    #[must_use]
    pub fn dns_endpoints(&self) -> Option<impl Iterator<Item = &DNSEndpoint>> {
        self.objects.contains_key(&Watch::DNSEndpoints).then(|| self.all(&Watch::DNSEndpoints))
    }

    fn all<K: Kind>(&self, watch: &Watch) -> impl Iterator<Item = &K> {
        self.objects.get(watch).into_iter().flat_map(BTreeMap::values).filter_map(K::of)
    }

    fn object<K: Kind>(&self, watch: &Watch, namespace: &str, name: &str) -> Option<&K> {
        K::of(self.objects.get(watch)?.get(&(namespace.to_owned(), name.to_owned()))?)
    }
}

#[cfg(test)]
mod tests;
