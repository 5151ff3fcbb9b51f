//! The cluster as it is when something is published. Readiness is told as it is by then, and not as it was when
//! a pass was planned.

use crate::intents::port_owner::PortOwners;
use crate::k8s::index::{Changes, Index};

/// One view of the cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClusterNow {
    pub(crate) index: Index,
    /// The objects of the index that have changed since it was read last
    pub(crate) changes: Changes,
    /// The objects of the index that bind ports
    pub(crate) port_owners: PortOwners,
}

/// Reads the cluster as it is now.
pub(crate) type ReadCluster<'a> = &'a (dyn Fn() -> ClusterNow + Send + Sync);
