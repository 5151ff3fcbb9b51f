//! The snapshot: one immutable view of the cluster, from which everything else follows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::intents::collect::{Collected, collect_exposures};
use crate::intents::exposure::Exposure;
use crate::intents::fingerprint::{Fingerprints, compute_fingerprints};
use crate::intents::port_owner::{PortOwners, collect_port_owners};
use crate::intents::settings::Settings;
use crate::intents::unknown::{UnknownDemand, why_everything_is_unknown};
use crate::k8s::index::Index;
use crate::k8s::objects::reference::pod_reference;
use crate::k8s::objects::{Node, ObjectRef, has_readiness_gate};
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
    /// Ports that may be asked for
    pub(crate) unknown: BTreeSet<UnknownDemand>,
    /// The reasons for which nothing may be closed at all
    pub(crate) why_everything_is_unknown: Vec<String>,
    /// The machine of each node that names one
    pub(crate) machines: BTreeMap<String, Machine>,
}

/// The machine behind a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    /// The cloud's id of it
    pub(crate) provider_id: String,
    /// Its addresses, as the node reports them: a machine that is made anew can come back under its id
    pub(crate) addresses: Vec<String>,
}

impl Snapshot {
    /// Takes a snapshot of the index. `now` is a time on any clock that only moves forward: it tells a newer
    /// snapshot from an older one.
    #[must_use]
    pub fn take(index: &Index, settings: &Settings, now: Duration) -> Self {
        let Collected { exposures, problems, unknown } = collect_exposures(index, settings);
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
            unknown,
            why_everything_is_unknown: why_everything_is_unknown(index),
            machines: find_machines(index),
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
            || self.unknown != before.unknown
            || self.why_everything_is_unknown != before.why_everything_is_unknown
            || self.machines != before.machines
            || !self.port_owners.same_owners(&before.port_owners)
    }
}

fn find_machines(index: &Index) -> BTreeMap<String, Machine> {
    let machine = |node: &Node| {
        let provider_id = node.spec.provider_id.clone().filter(|id| !id.is_empty())?;
        let addresses = node.status.addresses.iter().map(|address| address.address.clone()).collect();
        Some((node.metadata.name.clone()?, Machine { provider_id, addresses }))
    };
    index.nodes().filter_map(machine).collect()
}

/// Returns the pods that declare the readiness gate.
#[must_use]
pub(crate) fn pods_with_gate(index: &Index) -> BTreeSet<ObjectRef> {
    index.pods().filter(|pod| has_readiness_gate(pod)).map(pod_reference).collect()
}
