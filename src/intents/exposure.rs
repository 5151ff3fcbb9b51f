//! The exposure: the result of every intent, ports of one node and the sources that may connect to them.

use std::collections::BTreeSet;
use std::sync::Arc;

use firewall_core::{GroupKey, PortRange, Protocol, RuleSet, Workload};

use crate::k8s::objects::ObjectRef;
use crate::parse::ports::merge_into_ranges;

/// Ports × source ranges on one node, with their port owner and their intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// The owner of the ports on the node: a pod, or a Service whose node ports every node serves
    pub port_owner: ObjectRef,
    /// The node
    pub node: ObjectRef,
    /// The cloud's id of the machine behind the node
    pub provider_id: String,
    /// The object that requests it: the pod itself, a Service, an Ingress, or a `HostPortExposure`
    pub intent: ObjectRef,
    /// The workload whose instances share a firewall group
    pub workload: Workload,
    /// The exposed ports
    pub ports: Arc<BTreeSet<(Protocol, u16)>>,
    /// The ingress rules, shared by all nodes of a request with the same address families
    pub rules: Arc<RuleSet>,
    /// Distinguishes this group from others of the workload with the same ports
    pub variant: Arc<str>,
    /// The hostname to publish for the node
    pub hostname: Option<String>,
}

impl Exposure {
    /// Returns the exposed ports as the fewest ranges.
    #[must_use]
    pub fn port_ranges(&self) -> BTreeSet<(Protocol, PortRange)> {
        merge_into_ranges(&self.ports)
    }

    /// Returns the key of the firewall group that it is part of.
    #[must_use]
    pub fn group(&self) -> GroupKey {
        GroupKey {
            workload: self.workload.clone(),
            ports: self.port_ranges(),
            variant: self.variant.to_string(),
        }
    }
}
