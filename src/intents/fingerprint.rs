//! Fingerprints: the objects that can ask for ports, and what each of them fingerprint now.

use std::collections::BTreeMap;

use firewall_core::digest;

use super::voyager;
use crate::k8s::index::Index;
use crate::k8s::objects::ObjectRef;
use crate::k8s::objects::reference::service_reference;

/// What each object that can ask for ports fingerprint, whether or not it does. That of a pod is the pod itself, and not here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprints(BTreeMap<Name, String>);

/// An object without its API version, which can change while it stays.
type Name = (String, String, String, String);

impl Fingerprints {
    /// What the object fingerprint, as text that only serves to be compared; none if it is not there.
    #[must_use]
    pub fn fingerprint(&self, object: &ObjectRef) -> Option<&str> {
        self.0.get(&name(object)).map(String::as_str)
    }
}

fn name(object: &ObjectRef) -> Name {
    let ObjectRef { kind, namespace, name, uid, .. } = object.clone();
    (kind.into_owned(), namespace, name, uid)
}

/// All that the index has.
#[must_use]
pub fn fingerprints(index: &Index) -> Fingerprints {
    let services = index.services().map(|service| {
        (service_reference(service), format!("{:?} {:?}", service.metadata.annotations, service.spec))
    });
    let ingresses = index.all_ingresses().map(|(group, ingress)| {
        (voyager::reference(ingress, group), format!("{:?} {:?}", ingress.metadata.annotations, ingress.spec))
    });
    let exposures =
        index.host_port_exposures().map(|exposure| (exposure.reference(), format!("{:?}", exposure.spec)));
    let all = services.chain(ingresses).chain(exposures);
    Fingerprints(all.map(|(object, text)| (name(&object), digest([text.as_str()]))).collect())
}
