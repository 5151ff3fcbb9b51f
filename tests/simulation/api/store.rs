//! The objects, their versions, and the log of changes that watches follow.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// A kind of object that the model serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Pods,
    Nodes,
    Namespaces,
    Services,
    EndpointSlices,
    KubernetesIngresses,
    VoyagerIngresses,
    Exposures,
    Leases,
    Events,
}

impl Kind {
    pub(crate) const ALL: [Self; 10] = [
        Self::Pods,
        Self::Nodes,
        Self::Namespaces,
        Self::Services,
        Self::EndpointSlices,
        Self::KubernetesIngresses,
        Self::VoyagerIngresses,
        Self::Exposures,
        Self::Leases,
        Self::Events,
    ];

    /// Returns group, version, plural and kind.
    pub(crate) const fn names(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::Pods => ("", "v1", "pods", "Pod"),
            Self::Nodes => ("", "v1", "nodes", "Node"),
            Self::Namespaces => ("", "v1", "namespaces", "Namespace"),
            Self::Services => ("", "v1", "services", "Service"),
            Self::EndpointSlices => ("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
            Self::KubernetesIngresses => ("networking.k8s.io", "v1", "ingresses", "Ingress"),
            Self::VoyagerIngresses => ("voyager.appscode.com", "v1beta1", "ingresses", "Ingress"),
            Self::Exposures => ("hostport-firewall.dev", "v1alpha1", "hostportexposures", "HostPortExposure"),
            Self::Leases => ("coordination.k8s.io", "v1", "leases", "Lease"),
            Self::Events => ("events.k8s.io", "v1", "events", "Event"),
        }
    }

    pub(crate) fn api_version(self) -> String {
        let (group, version, ..) = self.names();
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
    }

    pub(crate) const fn is_namespaced(self) -> bool {
        !matches!(self, Self::Nodes | Self::Namespaces)
    }
}

/// Namespace, empty for a cluster-scoped object, and name.
pub(crate) type Name = (String, String);

/// One change of one object.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) kind: Kind,
    pub(super) before: Option<Value>,
    pub(super) after: Option<Value>,
}

/// All objects.
#[derive(Debug, Default)]
pub(crate) struct Store {
    version: u64,
    objects: BTreeMap<Kind, BTreeMap<Name, Value>>,
    log: Vec<Change>,
}

impl Store {
    /// Returns the version of the last change.
    pub(crate) const fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Value> {
        self.objects.get(&kind)?.get(&(namespace.to_owned(), name.to_owned()))
    }

    pub(crate) fn all(&self, kind: Kind) -> impl Iterator<Item = &Value> {
        self.objects.get(&kind).into_iter().flat_map(BTreeMap::values)
    }

    /// Creates or replaces an object; what the API server assigns is kept or made.
    pub(crate) fn put(&mut self, kind: Kind, mut object: Value) -> Value {
        let key = name_of(&object);
        let before = self.objects.get(&kind).and_then(|all| all.get(&key)).cloned();
        self.version += 1;
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = json!(self.version.to_string());
        metadata["uid"] = match &before {
            Some(before) => before["metadata"]["uid"].clone(),
            None => json!(format!("uid-{}", self.version)),
        };
        object["apiVersion"] = json!(kind.api_version());
        object["kind"] = json!(kind.names().3);
        let after = Some(object.clone());
        self.log.push(Change { version: self.version, kind, before, after });
        self.objects.entry(kind).or_default().insert(key, object.clone());
        object
    }

    /// Deletes an object, if it is there.
    pub(crate) fn delete(&mut self, kind: Kind, namespace: &str, name: &str) -> bool {
        let key = (namespace.to_owned(), name.to_owned());
        let Some(before) = self.objects.get_mut(&kind).and_then(|all| all.remove(&key)) else { return false };
        self.version += 1;
        self.log.push(Change { version: self.version, kind, before: Some(before), after: None });
        true
    }

    /// Returns the changes of a kind since a version.
    pub(super) fn changes_since(&self, kind: Kind, version: u64) -> impl Iterator<Item = &Change> {
        let first = self.log.partition_point(|change| change.version <= version);
        self.log[first..].iter().filter(move |change| change.kind == kind)
    }
}

pub(crate) fn name_of(object: &Value) -> Name {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}
