//! The labels by which Voyager's operator marks what it makes.

use kube::api::ObjectMeta;

use crate::k8s::objects::{Pod, Service};

/// Whether Voyager's operator made the pod.
pub(in crate::intents) fn is_haproxy(pod: &Pod) -> bool {
    has_voyager_labels(&pod.metadata)
}

/// Whether Voyager's operator made the Service for an Ingress. That of the stats page has another name.
pub(in crate::intents) fn is_voyager_service(service: &Service) -> bool {
    let metadata = &service.metadata;
    let ingress = metadata.name.as_deref().and_then(|name| name.strip_prefix("voyager-"));
    has_voyager_labels(metadata) && ingress == label(metadata, "origin-name")
}

pub(in crate::intents) fn has_voyager_labels(metadata: &ObjectMeta) -> bool {
    label(metadata, "origin") == Some("voyager") && label(metadata, "origin-name").is_some()
}

pub(in crate::intents) fn label<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.labels.as_ref()?.get(name).map(String::as_str)
}
