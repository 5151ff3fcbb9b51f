//! The request: what one intent asks for, before guardrails and the node have been asked.

use firewall_core::Workload;

use super::host_port::HostPort;
use super::rules::Sources;
use crate::k8s::objects::ObjectRef;
use crate::k8s::problem::{Problem, Verdict};

/// Something is wrong; `object` is told.
pub(super) type Rejected = Box<Problem>;

/// What is asked for is not understood, or not allowed.
pub(super) fn rejected(object: &ObjectRef, reason: &str, message: String) -> Rejected {
    Box::new(Problem {
        object: object.clone(),
        verdict: Verdict::Refused,
        reason: reason.to_owned(),
        message,
    })
}

/// What is asked for is fine, and the node stands against it.
pub(super) fn failed(object: &ObjectRef, reason: &str, message: String) -> Rejected {
    Box::new(Problem { verdict: Verdict::Failed, ..*rejected(object, reason, message) })
}

/// What an intent requests for: these ports, each from these sources.
pub(super) struct PortRequest<'a> {
    pub(super) intent: ObjectRef,
    pub(super) workload: Workload,
    pub(super) ports: Vec<(&'a HostPort, Sources)>,
    pub(super) variant: GroupVariant,
    pub(super) hostname: Option<String>,
}

/// What sets apart the rules of pods of one workload that bind the same ports; see [`crate::desired::grouping`].
pub(super) enum GroupVariant {
    /// The pods name their sources themselves, and change one by one
    PerPod,
    /// The intent names the sources, for all its pods at once; only nodes differ, and of an intent that can have several
    /// sources for one number, which of them that number has
    PerNode(String),
}
