//! The exposure: what every intent comes to, ports of one node and who may connect.

use std::collections::BTreeSet;

use firewall_core::{GroupKey, PortRange, Protocol, RuleSet, Workload};

use crate::k8s::objects::ObjectRef;
use crate::parse::ports::port_ranges;

/// Ports × source ranges on one node, with what binds them and what asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// What binds the ports on the node: a pod, or a Service whose node ports every node serves
    pub port_owner: ObjectRef,
    /// The node
    pub node: ObjectRef,
    /// The machine behind the node, by the cloud's id
    pub provider_id: String,
    /// What asked for it: the pod itself, a Service, an Ingress, or a `HostPortExposure`
    pub intent: ObjectRef,
    /// Whose ports they are
    pub workload: Workload,
    /// The exposed ports
    pub ports: BTreeSet<(Protocol, u16)>,
    /// What is let in
    pub rules: RuleSet,
    /// What sets this group apart from others of the workload with the same ports
    pub variant: String,
    /// The hostname by which clients are to find it
    pub hostname: Option<String>,
}

impl Exposure {
    /// The exposed ports as the fewest ranges.
    #[must_use]
    pub fn port_ranges(&self) -> BTreeSet<(Protocol, PortRange)> {
        port_ranges(&self.ports)
    }

    /// The firewall group that it is part of.
    #[must_use]
    pub fn group(&self) -> GroupKey {
        GroupKey { workload: self.workload.clone(), ports: self.port_ranges(), variant: self.variant.clone() }
    }
}
