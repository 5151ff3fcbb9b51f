//! The snapshot: one immutable view of the cluster, from which everything else follows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};

use super::change_log::{ChangeLog, SnapshotChanges};
use crate::intents::demand::UnknownDemands;
use crate::intents::exposures::{Exposures, PartKey};
use crate::intents::fingerprint::Fingerprints;
use crate::intents::port_owner::PortOwners;
use crate::intents::problems::ClusterProblems;
use crate::intents::settings::Settings;
use crate::k8s::objects::{Node, ObjectRef};

/// Everything that the cluster asks for, on whichever cloud. A copy shares all of it with the original, and
/// what has not changed with other snapshots.
#[derive(Clone, Debug, Default)]
pub struct ClusterDemand {
    /// Time of the snapshot, on the clock of whoever took it
    pub taken_at: Duration,
    /// Ports on nodes
    pub exposures: Exposures,
    /// The generation of each `HostPortExposure`
    pub generations: RedBlackTreeMapSync<ObjectRef, i64>,
    /// The pods that declare the readiness gate
    pub pods_with_gate: RedBlackTreeSetSync<ObjectRef>,
    pub(crate) revision: Revision,
}

/// One immutable view of the cluster.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Everything that is asked for
    pub demand: ClusterDemand,
    pub(crate) settings: Settings,
    pub(crate) problems: ClusterProblems,
    pub(crate) port_owners: PortOwners,
    pub(crate) fingerprints: Fingerprints,
    /// Ports that may be asked for
    pub(crate) unknown: UnknownDemands,
    /// The reasons for which nothing may be closed at all
    pub(crate) why_everything_is_unknown: Vec<String>,
    /// The machine of each node that names one
    pub(crate) machines: RedBlackTreeMapSync<String, Arc<Machine>>,
}

/// Numbers the snapshots of one series: those with the same number lead to the same plan.
#[derive(Clone, Debug, Default)]
pub(crate) struct Revision {
    series: Arc<()>,
    number: u64,
    log: ChangeLog,
}

impl Revision {
    /// Begins the next, which differs in this; `None` is that anything may differ.
    pub(super) fn advance(&mut self, changes: Option<SnapshotChanges>) {
        self.number += 1;
        self.log.record(self.number, changes);
    }

    fn is_of_series(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.series, &other.series)
    }

    /// Returns what differs from an earlier one; `None` if that is not known.
    fn changes_since(&self, before: &Self) -> Option<SnapshotChanges> {
        self.is_of_series(before).then(|| self.log.since(before.number, self.number))?
    }
}

impl ClusterDemand {
    /// Returns the parts of the exposures that differ from an earlier demand; `None` if that is not known.
    pub(crate) fn parts_since(&self, before: &Self) -> Option<BTreeSet<PartKey>> {
        self.revision.changes_since(&before.revision).map(|changes| changes.parts)
    }
}

/// The machine behind a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    /// The cloud's id of it
    pub(crate) provider_id: String,
    /// Its addresses, as the node reports them: a machine that is made anew can come back under its id
    pub(crate) addresses: Vec<String>,
}

impl Machine {
    /// Returns the machine of a node; none if the node names none.
    pub(super) fn of(node: &Node) -> Option<Self> {
        let provider_id = node.spec.provider_id.clone().filter(|id| !id.is_empty())?;
        let addresses = node.status.addresses.iter().map(|address| address.address.clone()).collect();
        Some(Self { provider_id, addresses })
    }
}

impl Snapshot {
    /// Returns what differs from an earlier snapshot; `None` if that is not known, or other things differ too.
    pub(crate) fn changes_since(&self, before: &Self) -> Option<SnapshotChanges> {
        let knows_all = |one: &Self| one.why_everything_is_unknown.is_empty() && one.unknown.is_empty();
        if !knows_all(self) || !knows_all(before) || self.settings != before.settings {
            return None;
        }
        self.demand.revision.changes_since(&before.demand.revision)
    }

    /// Returns true if the plan, or what is reported of it, can differ from the one made from `before`.
    /// Readiness of pods matters to statuses, readiness gates and hostnames only.
    #[must_use]
    pub fn changes_plan_since(&self, before: &Self) -> bool {
        let (revision, last) = (&self.demand.revision, &before.demand.revision);
        if revision.is_of_series(last) {
            return revision.number != last.number;
        }
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
