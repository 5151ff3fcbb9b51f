//! The snapshot: one immutable view of the cluster, from which everything else follows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use firewall_core::Completeness;

use crate::intents::collect::{Collected, collect_exposures};
use crate::intents::exposure::Exposure;
use crate::intents::fingerprint::{Fingerprints, compute_fingerprints};
use crate::intents::port_owner::{PortOwners, collect_port_owners};
use crate::intents::settings::Settings;
use crate::k8s::index::Index;
use crate::k8s::objects::reference::pod_reference;
use crate::k8s::objects::{ObjectRef, has_readiness_gate};
use crate::k8s::problem::Problem;

/// Everything that the cluster asks for, on whichever cloud.
#[derive(Clone, Debug, Default)]
pub struct ClusterDemand {
    /// Time of the snapshot, on the clock of whoever took it
    pub taken_at: Duration,
    /// Ports on nodes
    pub exposures: Arc<[Exposure]>,
    /// The generation of each `HostPortExposure`
    pub generations: Arc<BTreeMap<ObjectRef, i64>>,
    /// The pods that declare the readiness gate
    pub pods_with_gate: Arc<BTreeSet<ObjectRef>>,
}

/// One immutable view of the cluster.
#[derive(Debug)]
pub struct Snapshot {
    /// Everything that is asked for
    pub demand: ClusterDemand,
    pub(crate) settings: Settings,
    pub(crate) problems: BTreeSet<Problem>,
    pub(crate) port_owners: PortOwners,
    pub(crate) fingerprints: Fingerprints,
    pub(crate) completeness: Completeness,
}

impl Snapshot {
    /// Takes a snapshot of the index. `now` is a time on any clock that only moves forward: it tells a newer
    /// snapshot from an older one.
    #[must_use]
    pub fn take(index: &Index, settings: &Settings, now: Duration) -> Self {
        let Collected { exposures, problems } = collect_exposures(index, settings);
        let generations = index
            .host_port_exposures()
            .map(|exposure| (exposure.reference(), exposure.metadata.generation.unwrap_or_default()));
        let generations: BTreeMap<_, _> = generations.collect();
        let demand = ClusterDemand {
            taken_at: now,
            exposures: exposures.into(),
            generations: generations.into(),
            pods_with_gate: pods_with_gate(index).into(),
        };
        Self {
            demand,
            settings: settings.clone(),
            problems,
            port_owners: collect_port_owners(index),
            fingerprints: compute_fingerprints(index),
            completeness: index.completeness(),
        }
    }

    /// Returns true if the plan, or what is reported of it, can differ from the one made from `before`.
    /// Readiness of pods matters to statuses, readiness gates and hostnames only.
    #[must_use]
    pub fn changes_plan_since(&self, before: &Self) -> bool {
        self.demand.exposures != before.demand.exposures
            || self.settings != before.settings
            || self.problems != before.problems
            || self.fingerprints != before.fingerprints
            || self.completeness != before.completeness
            || !self.port_owners.same_owners(&before.port_owners)
    }
}

/// Returns the pods that declare the readiness gate.
#[must_use]
pub(crate) fn pods_with_gate(index: &Index) -> BTreeSet<ObjectRef> {
    index.pods().filter(|pod| has_readiness_gate(pod)).map(pod_reference).collect()
}
