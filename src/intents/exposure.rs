//! The exposure: the result of every intent, ports of one node and the sources that may connect to them.

use std::sync::Arc;

use firewall_core::{GroupKey, RuleSet};

use crate::k8s::objects::ObjectRef;

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
    /// The key of the firewall group that it is part of
    pub group: GroupKey,
    /// The ingress rules, shared by all nodes of a request with the same address families
    pub rules: Arc<RuleSet>,
    /// The hostname to publish for the node
    pub hostname: Option<String>,
}
