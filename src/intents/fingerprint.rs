//! Fingerprints: a digest of each intent's spec, to detect edits.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use firewall_core::digest;
use rpds::RedBlackTreeMapSync;

use super::voyager::ingress_reference;
use crate::k8s::index::{Index, NamespacedName, Watch};
use crate::k8s::objects::ObjectRef;
use crate::k8s::objects::reference::service_reference;

/// Digests of the objects that can request ports, whether or not they do. Pods are not among them: a pod that
/// requests its own ports and is gone is taken to have gone unedited. A copy shares what has not changed with
/// the original.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprints(RedBlackTreeMapSync<ObjectKey, Arc<str>>);

/// Kind, namespace, name and UID of an object, without its API version, which can change while the object
/// remains.
type ObjectKey = (String, String, String, String);

impl Fingerprints {
    /// Returns the digest of the object, which only serves to be compared; none if the object does not exist.
    #[must_use]
    pub fn fingerprint(&self, object: &ObjectRef) -> Option<&Arc<str>> {
        self.0.get(&object_key(object))
    }

    /// Updates the digests of an object that has changed. Returns true if one differs.
    pub(crate) fn update(
        &mut self,
        before: &Index,
        now: &Index,
        watch: &Watch,
        name: &NamespacedName,
    ) -> bool {
        let (before, now) =
            (compute_fingerprints(before, watch, name), compute_fingerprints(now, watch, name));
        let mut differs = false;
        for gone in before.keys().filter(|object| !now.contains_key(*object)) {
            differs |= self.0.remove_mut(gone);
        }
        for (object, fingerprint) in now {
            if self.0.get(&object) != Some(&fingerprint) {
                self.0.insert_mut(object, fingerprint);
                differs = true;
            }
        }
        differs
    }
}

fn object_key(object: &ObjectRef) -> ObjectKey {
    let ObjectRef { kind, namespace, name, uid, .. } = object.clone();
    (kind.into_owned(), namespace, name, uid)
}

/// Computes the digests of a Service, an Ingress of whatever API group, or a `HostPortExposure`. The API
/// server can serve one Ingress in two groups.
fn compute_fingerprints(
    index: &Index,
    watch: &Watch,
    name: &NamespacedName,
) -> BTreeMap<ObjectKey, Arc<str>> {
    let fingerprint = |object: &ObjectRef, spec: &dyn Debug| {
        (object_key(object), digest([format!("{spec:?}").as_str()]).into())
    };
    match watch {
        Watch::Services => index
            .service(&name.0, &name.1)
            .map(|service| {
                fingerprint(&service_reference(service), &(&service.metadata.annotations, &service.spec))
            })
            .into_iter()
            .collect(),
        Watch::Ingresses(_) => index
            .ingresses(&name.0, &name.1)
            .map(|(group, ingress)| {
                let spec = (&ingress.metadata.annotations, &ingress.spec);
                fingerprint(&ingress_reference(ingress, group), &spec)
            })
            .collect(),
        Watch::HostPortExposures => index
            .host_port_exposure(name)
            .map(|exposure| fingerprint(&exposure.reference(), &exposure.spec))
            .into_iter()
            .collect(),
        _ => BTreeMap::new(),
    }
}
