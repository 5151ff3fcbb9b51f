//! Fingerprints: a digest of each intent's spec, to detect edits.

use std::collections::BTreeMap;

use firewall_core::digest;

use super::voyager::ingress_reference;
use crate::k8s::index::Index;
use crate::k8s::objects::ObjectRef;
use crate::k8s::objects::reference::service_reference;

/// Digests of the objects that can request ports, whether or not they do. Pods are not among them: a pod that
/// requests its own ports and is gone is taken to have gone unedited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprints(BTreeMap<ObjectKey, String>);

/// Kind, namespace, name and UID of an object, without its API version, which can change while the object
/// remains.
type ObjectKey = (String, String, String, String);

impl Fingerprints {
    /// Returns the digest of the object, which only serves to be compared; none if the object does not exist.
    #[must_use]
    pub fn fingerprint(&self, object: &ObjectRef) -> Option<&str> {
        self.0.get(&object_key(object)).map(String::as_str)
    }
}

fn object_key(object: &ObjectRef) -> ObjectKey {
    let ObjectRef { kind, namespace, name, uid, .. } = object.clone();
    (kind.into_owned(), namespace, name, uid)
}

/// Computes the digests of all Services, Ingresses and `HostPortExposure`s in the index.
#[must_use]
pub fn compute_fingerprints(index: &Index) -> Fingerprints {
    let services = index.services().map(|service| {
        (service_reference(service), format!("{:?} {:?}", service.metadata.annotations, service.spec))
    });
    let ingresses = index.all_ingresses().map(|(group, ingress)| {
        (ingress_reference(ingress, group), format!("{:?} {:?}", ingress.metadata.annotations, ingress.spec))
    });
    let exposures =
        index.host_port_exposures().map(|exposure| (exposure.reference(), format!("{:?}", exposure.spec)));
    let all = services.chain(ingresses).chain(exposures);
    Fingerprints(all.map(|(object, text)| (object_key(&object), digest([text.as_str()]))).collect())
}
