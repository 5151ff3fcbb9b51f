//! The labels by which Voyager's operator marks the objects that it manages.

use kube::core::ObjectMeta;

use crate::k8s::objects::{Pod, Service};

/// Returns true if the pod is managed by Voyager's operator.
pub(in crate::intents) fn is_haproxy(pod: &Pod) -> bool {
    has_voyager_labels(&pod.metadata)
}

/// Returns true if the Service is the one that Voyager's operator manages for an Ingress. That of the stats
/// page has another name.
pub(in crate::intents) fn is_voyager_service(service: &Service) -> bool {
    let metadata = &service.metadata;
    let ingress = metadata.name.as_deref().and_then(|name| name.strip_prefix("voyager-"));
    has_voyager_labels(metadata) && ingress == find_label(metadata, "origin-name")
}

/// Returns true if the labels name Voyager and an Ingress.
pub(in crate::intents) fn has_voyager_labels(metadata: &ObjectMeta) -> bool {
    find_label(metadata, "origin") == Some("voyager") && find_label(metadata, "origin-name").is_some()
}

pub(in crate::intents) fn find_label<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.labels.as_ref()?.get(name).map(String::as_str)
}
