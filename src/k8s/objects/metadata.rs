//! Metadata: the fields that are held, and the prefixes of the annotations that are read.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use serde::{Deserialize, Deserializer};

/// Prefix of the project's own annotations, labels and tags.
pub const DOMAIN: &str = "hostport-firewall.dev/";

/// Returns true if the object has any of the project's own annotations.
pub(crate) fn carries_ours(metadata: &ObjectMeta) -> bool {
    metadata.annotations.iter().flatten().any(|(name, _)| name.starts_with(DOMAIN))
}

/// Deserialises null as the default, as the API server does.
pub(super) fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    source: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(source)?.unwrap_or_default())
}

/// Deserialises metadata without unused fields: names, labels, owners and the annotations that are read are
/// held.
pub(super) fn slim_metadata<'de, D: Deserializer<'de>>(source: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Slim {
        name: Option<String>,
        namespace: Option<String>,
        uid: Option<String>,
        resource_version: Option<String>,
        deletion_timestamp: Option<Time>,
        labels: Option<BTreeMap<String, String>>,
        annotations: Option<BTreeMap<String, String>>,
        owner_references: Option<Vec<OwnerReference>>,
    }
    let slim = Slim::deserialize(source)?;
    let annotations = slim.annotations.map(|mut all| {
        all.retain(|name, _| is_read(name));
        all
    });
    Ok(ObjectMeta {
        name: slim.name,
        namespace: slim.namespace,
        uid: slim.uid,
        resource_version: slim.resource_version,
        deletion_timestamp: slim.deletion_timestamp,
        labels: slim.labels.filter(|labels| !labels.is_empty()),
        annotations: annotations.filter(|annotations| !annotations.is_empty()),
        owner_references: slim.owner_references,
        ..ObjectMeta::default()
    })
}

/// Returns true if an annotation of this name is held.
pub(crate) fn is_read(name: &str) -> bool {
    READ_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Prefixes of the annotations that are held; `kubectl.kubernetes.io/last-applied-configuration` alone
/// doubles an object.
const READ_PREFIXES: [&str; 3] = [DOMAIN, "ingress.appscode.com/", LOAD_BALANCER_SOURCES];

/// The annotation of a Service that names the sources of its load balancer, as
/// `spec.loadBalancerSourceRanges` does.
pub const LOAD_BALANCER_SOURCES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
