//! Watches the Kubernetes API: keeps the index equal to the cluster, and marks it incomplete while it may not
//! be.
//!
//! Objects that cannot decide about ports are dropped while they are decoded, also in the first list.

mod answer;
mod event;
mod frames;
mod json;
mod kind;
mod kind_watch;
mod listing;
mod optional_kinds;
pub(crate) mod progress;
mod protobuf;
mod session;

use kube::Client;

use super::dns_zone::Zone;
use super::index::Watch;
use super::index::shared_index::SharedIndex;
use kind::Kind;
use kind_watch::watch_kind;
use progress::Progress;

/// Returns the watches that have to be listed before the index is complete. Kinds that a cluster may lack are
/// among them, until discovery has found that they are not served.
pub(crate) fn expected_watches(zone: Option<&Zone>) -> impl Iterator<Item = Watch> {
    Watch::ALWAYS.into_iter().chain(optional_kinds::optional_watches(zone))
}

/// Watches the kinds that every cluster serves, and those of the others that this one does, forever.
///
/// With a zone, the `DNSEndpoint`s of that zone too.
pub(crate) async fn watch_cluster(client: Client, index: SharedIndex, zone: Option<Zone>) {
    watch_with_progress(client, index, zone, Progress::default()).await;
}

/// Watches the cluster, and counts what the lists have read.
pub(crate) async fn watch_with_progress(
    client: Client,
    index: SharedIndex,
    zone: Option<Zone>,
    progress: Progress,
) {
    // A pod without a node binds no port yet, a finished one none any more.
    let pods = Kind::new(Watch::Pods).fields("spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed");
    // A headless Service has no ports on nodes.
    let slices =
        Kind::new(Watch::EndpointSlices).labels("kubernetes.io/service-name,!service.kubernetes.io/headless");
    let watch = |kind| Box::pin(watch_kind(client.clone(), kind, &index, &progress));
    tokio::join!(
        watch(pods),
        watch(Kind::new(Watch::Nodes)),
        watch(Kind::new(Watch::Namespaces)),
        watch(Kind::new(Watch::Services)),
        watch(slices),
        optional_kinds::watch_optional_kinds(client.clone(), &index, zone, &progress),
    );
}

#[cfg(test)]
mod tests;
