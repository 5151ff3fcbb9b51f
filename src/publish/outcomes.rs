//! Outcomes: the results of all clouds for everything that is exposed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rpds::RedBlackTreeSetSync;

use super::served_machines::ServedMachines;
use crate::intents::exposures::Exposures;
use crate::intents::port_owner::PortOwners;
use crate::k8s::objects::ObjectRef;
use crate::k8s::problem::Problem;
use crate::reconcile::outcome::Membership;

/// The results of all clouds for everything that is exposed.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcomes {
    /// The name of this controller
    pub(super) controller: String,
    /// The machines that this controller serves
    pub(super) machines: ServedMachines,
    /// All problems found
    pub(super) problems: BTreeSet<Problem>,
    /// The state of each workload's ports, on every node that this controller serves
    pub(super) memberships: Vec<Arc<Membership>>,
    /// Everything that is exposed on machines that this controller serves, or that none does
    pub(super) exposures: Exposures,
    /// The intents that expose something on other controllers' machines too, each with one of these nodes
    pub(super) elsewhere: BTreeMap<ObjectRef, String>,
    /// The objects that bind ports by now
    pub(super) port_owners: PortOwners,
    /// The generation of each `HostPortExposure` that the outcomes cover
    pub(super) generations: BTreeMap<ObjectRef, i64>,
    /// The pods with the readiness gate that the outcomes cover
    pub(super) pods_with_gate: RedBlackTreeSetSync<ObjectRef>,
    /// True if the memberships of a cloud may be missing or outdated: it cannot be observed, or was planned
    /// for other exposures
    pub(super) is_incomplete: bool,
}
