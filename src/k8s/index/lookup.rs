//! Finding objects in the index: by kind, by namespace, by name.

use super::object::{IndexedKind, NamespacedName, Object};
use super::{ByName, Index, Watch};
use crate::k8s::host_port_exposure::HostPortExposure;
use crate::k8s::objects::{DNSEndpoint, EndpointSlice, Ingress, Namespace, Node, Pod, Service};
use crate::k8s::problem::Problem;

impl Index {
    /// Returns the problems of the objects that cannot be read.
    #[cfg(test)]
    pub(crate) fn unreadable(&self) -> impl Iterator<Item = &Problem> {
        self.unreadable.values().flat_map(ByName::values)
    }

    /// Returns the watches of Ingresses that are expected.
    pub(crate) fn ingress_watches(&self) -> impl Iterator<Item = &Watch> {
        self.gaps.keys().filter(|watch| matches!(watch, Watch::Ingresses(_)))
    }

    /// Returns the problems of the objects of one kind that cannot be read.
    pub(crate) fn unreadable_of(&self, watch: &Watch) -> impl Iterator<Item = &Problem> {
        self.unreadable.get(watch).into_iter().flat_map(ByName::values)
    }

    /// Returns the problem of an object that cannot be read.
    pub(crate) fn unreadable_object(&self, watch: &Watch, name: &NamespacedName) -> Option<&Problem> {
        self.unreadable.get(watch)?.get(name)
    }

    /// Returns the problem of each `HostPortExposure` in a namespace that cannot be read, with the object as it
    /// was when it last could.
    pub(crate) fn unreadable_exposures_in(
        &self,
        namespace: &str,
    ) -> impl Iterator<Item = (&Problem, Option<&HostPortExposure>)> {
        let first = (namespace.to_owned(), String::new());
        let all = self.unreadable.get(&Watch::HostPortExposures);
        let all = all.into_iter().flat_map(move |all| all.range(first.clone()..));
        let own = all.take_while(move |((found, _), _)| found == namespace);
        own.map(|(name, problem)| {
            (problem, self.last_readable.get(name).and_then(HostPortExposure::from_object))
        })
    }

    /// Returns the problem of a `HostPortExposure` that cannot be read, with the object as it was when it last
    /// could.
    pub(crate) fn unreadable_exposure(
        &self,
        name: &NamespacedName,
    ) -> Option<(&Problem, Option<&HostPortExposure>)> {
        let problem = self.unreadable_object(&Watch::HostPortExposures, name)?;
        Some((problem, self.last_readable.get(name).and_then(HostPortExposure::from_object)))
    }

    /// Returns the names of all objects, those that cannot be read among them.
    pub(crate) fn names(&self) -> impl Iterator<Item = (&Watch, &NamespacedName)> {
        let readable =
            self.objects.iter().flat_map(|(watch, objects)| objects.keys().map(move |name| (watch, name)));
        let unreadable =
            self.unreadable.iter().flat_map(|(watch, objects)| objects.keys().map(move |name| (watch, name)));
        readable.chain(unreadable)
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

    /// Returns the relevant pods of a namespace, by name.
    pub(crate) fn pods_in<'a>(&'a self, namespace: &str) -> impl Iterator<Item = &'a Pod> + use<'a> {
        self.all_in(&Watch::Pods, namespace)
    }

    /// Returns the relevant Services of a namespace, by name.
    pub(crate) fn services_in<'a>(&'a self, namespace: &str) -> impl Iterator<Item = &'a Service> + use<'a> {
        self.all_in(&Watch::Services, namespace)
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

    /// Returns one slice of the endpoints of a Service.
    pub(crate) fn endpoint_slice(&self, (namespace, name): &NamespacedName) -> Option<&EndpointSlice> {
        self.object(&Watch::EndpointSlices, namespace, name)
    }

    /// Returns a `HostPortExposure`.
    pub(crate) fn host_port_exposure(&self, (namespace, name): &NamespacedName) -> Option<&HostPortExposure> {
        self.object(&Watch::HostPortExposures, namespace, name)
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
        self.objects.get(watch).into_iter().flat_map(ByName::values).filter_map(K::from_object)
    }

    fn all_in<'a, K: IndexedKind>(
        &'a self,
        watch: &Watch,
        namespace: &str,
    ) -> impl Iterator<Item = &'a K> + use<'a, K> {
        let (first, namespace) = ((namespace.to_owned(), String::new()), namespace.to_owned());
        let from_first =
            self.objects.get(watch).into_iter().flat_map(move |objects| objects.range(first.clone()..));
        from_first
            .take_while(move |(name, _)| name.0 == namespace)
            .filter_map(|(_, object)| K::from_object(object))
    }

    fn object<K: IndexedKind>(&self, watch: &Watch, namespace: &str, name: &str) -> Option<&K> {
        K::from_object(self.objects.get(watch)?.get(&(namespace.to_owned(), name.to_owned()))?)
    }
}
