//! What a pass knows of the cluster: one look at the index, from which everything else follows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use firewall_core::Completeness;
use tokio::time::Instant;

use crate::intents::collect::{Collected, collect_exposures};
use crate::intents::exposure::Exposure;
use crate::intents::fingerprint::{Fingerprints, fingerprints};
use crate::intents::port_owner::{PortOwners, collect_port_owners};
use crate::intents::settings::Settings;
use crate::k8s::index::Index;
use crate::k8s::objects::reference::pod_reference;
use crate::k8s::objects::{ObjectRef, has_readiness_gate};
use crate::k8s::problem::Problem;

/// What the cluster asked for when it was looked at, on whichever cloud.
#[derive(Clone, Debug, Default)]
pub struct ClusterDemand {
    /// When that was
    pub at: Option<Instant>,
    /// Ports on nodes
    pub exposures: Arc<[Exposure]>,
    /// The generation of each `HostPortExposure`
    pub generations: Arc<BTreeMap<ObjectRef, i64>>,
    /// The pods that declare the readiness gate
    pub pods_with_gate: Arc<BTreeSet<ObjectRef>>,
}

/// What one look at the cluster has found.
#[derive(Debug)]
pub struct Snapshot {
    /// All that is asked for
    pub demand: ClusterDemand,
    settings: Settings,
    pub(crate) problems: BTreeSet<Problem>,
    pub(crate) port_owners: PortOwners,
    pub(crate) fingerprints: Fingerprints,
    pub(crate) completeness: Completeness,
}

impl Snapshot {
    /// Looks at the cluster. Nothing else may wait for the index longer than this takes.
    #[must_use]
    pub fn take(index: &Index, settings: &Settings) -> Self {
        let Collected { exposures, problems } = collect_exposures(index, settings);
        let generations = index
            .host_port_exposures()
            .map(|exposure| (exposure.reference(), exposure.metadata.generation.unwrap_or_default()));
        let generations: BTreeMap<_, _> = generations.collect();
        let demand = ClusterDemand {
            at: Some(Instant::now()),
            exposures: exposures.into(),
            generations: generations.into(),
            pods_with_gate: pods_with_gate(index).into(),
        };
        let (port_owners, fingerprints, completeness) =
            (collect_port_owners(index), fingerprints(index), index.completeness());
        let settings = settings.clone();
        Self { demand, settings, problems, port_owners, fingerprints, completeness }
    }

    /// Whether a plan, or what is said of it, can be another than before. Which pods are ready only matters to statuses,
    /// readiness gates and hostnames.
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

/// The pods that declare the gate.
#[must_use]
pub(crate) fn pods_with_gate(index: &Index) -> BTreeSet<ObjectRef> {
    index.pods().filter(|pod| has_readiness_gate(pod)).map(pod_reference).collect()
}
