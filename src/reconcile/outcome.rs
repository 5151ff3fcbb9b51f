//! The outcome of a pass for each port owner on each node.

use std::sync::Arc;

use firewall_core::{GroupKey, InstanceId};

use crate::k8s::objects::ObjectRef;
use crate::k8s::objects::object_set::ObjectSet;

/// The ports of a workload on one node. There are thousands, which passes, statuses and Events share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The firewall group: the workload, and which of its host ports
    pub group: GroupKey,
    /// The node's machine
    pub instance: InstanceId,
    /// The objects that ask for it
    pub intents: ObjectSet,
    /// The node
    pub node: ObjectRef,
    /// The objects that bind the ports: pods, or a Service
    pub port_owners: ObjectSet,
    /// The cloud's objects that open the ports, each with the id that the cloud gave it if that is not its
    /// name
    pub resources: CloudObjects,
    /// `Ok` once the cloud has confirmed the ports open; else the reason and message
    pub open: Result<(), (String, String)>,
    /// True if each of the ports is open to some of its sources, if not to all, or may still be: it was not
    /// tried
    pub partly_open: bool,
    /// True if this pass has opened it
    pub opened: bool,
}

/// Objects of the cloud, each with the id that the cloud gave it if that is not its name, in order of their
/// names. Memberships of one group share them.
pub type CloudObjects = Arc<[(String, Option<String>)]>;

/// The cloud's objects, as messages and statuses name them.
pub fn with_ids(resources: &[(String, Option<String>)]) -> impl Iterator<Item = String> {
    resources.iter().map(|(key, id)| match id {
        Some(id) => format!("{key} ({id})"),
        None => key.clone(),
    })
}
