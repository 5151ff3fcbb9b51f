//! The request: the ports and sources of one intent, before the guardrails and the node have been considered.

use firewall_core::Workload;

use super::host_port::HostPort;
use super::rules::Sources;
use crate::k8s::objects::ObjectRef;
use crate::k8s::problem::{Problem, Verdict};
use crate::parse::ports::{PortRanges, merge};

/// The problem because of which a request opens nothing, with the object that it is reported on.
pub(super) type Rejected = Box<Problem>;

/// Returns the problem of a request that is not understood, or not allowed.
pub(super) fn reject(object: &ObjectRef, reason: &str, message: String) -> Rejected {
    Box::new(Problem::new(object.clone(), Verdict::Rejected, reason, message))
}

/// Returns the problem of a valid request that the node or the controller's settings do not let succeed.
pub(super) fn fail(object: &ObjectRef, reason: &str, message: String) -> Rejected {
    Box::new(Problem { verdict: Verdict::Failed, ..*reject(object, reason, message) })
}

/// The ports that an intent requests, each with its sources.
pub(super) struct PortRequest {
    pub(super) intent: ObjectRef,
    pub(super) workload: Workload,
    pub(super) ports: Vec<(HostPort, Sources)>,
    pub(super) variant: GroupVariant,
    pub(super) hostname: Option<String>,
}

impl PortRequest {
    /// Returns the ports, from whichever sources.
    pub(super) fn merge_ports(&self) -> PortRanges {
        merge(self.ports.iter().map(|(port, _)| (port.protocol, port.ports)))
    }
}

/// Distinguishes the rules of pods of one workload that bind the same ports; `desired/grouping.rs` has the
/// groups.
pub(super) enum GroupVariant {
    /// The pods name their sources themselves, and change one by one
    PerPod,
    /// The intent names the sources, for all its pods at once; only nodes differ. Of an intent that can have
    /// several sources for one number, the text says which of them that number has.
    PerNode(String),
}
