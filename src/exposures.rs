//! Exposures: which ports of which nodes may be reached, from where, and because of which intent.
//!
//! Pure: the index goes in, exposures and notices come out. Everything in the index is untrusted. What cannot be
//! understood opens nothing, for that pod or intent alone, and is said on the objects it concerns.

mod annotation;
mod binder;
mod host_port;
mod hostname;
mod intents;
mod list;
mod node_port;
mod rules;
mod search;
mod selected;
mod service_lb;
mod service_ports;
mod source_ranges;
mod voyager;
mod workload;

use std::collections::{BTreeMap, BTreeSet};

use firewall_model::{GroupKey, PortRange, Protocol, RuleSet, Workload};
use ipnet::IpNet;

use crate::guardrails::Guardrails;
use crate::notice::{Notice, Verdict};
use crate::objects::ObjectRef;

pub(crate) use binder::pod_reference;
pub use binder::{Binding, binding};
use host_port::HostPort;
pub(crate) use hostname::hostname;
pub use intents::{Intents, intents};
use rules::Sources;
pub use rules::listed;
pub(crate) use rules::port_ranges;
pub use search::exposures;
pub(crate) use source_ranges::source_range;

/// Defaults and guardrails, which only the administrator sets.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The sources of an intent that names none
    pub default_source_ranges: Vec<IpNet>,
    /// What no intent can exceed
    pub guardrails: Guardrails,
    /// Where k3s runs the pods of `ServiceLB`
    pub service_lb_namespace: String,
    /// Whether hostnames are published
    pub external_dns: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let anywhere = ["0.0.0.0/0", "::/0"].map(|cidr| cidr.parse().expect("a constant CIDR"));
        Self {
            default_source_ranges: anywhere.to_vec(),
            guardrails: Guardrails::default(),
            service_lb_namespace: "kube-system".to_owned(),
            external_dns: false,
        }
    }
}

/// Ports × source ranges on one node, with what binds them and what asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// What binds the ports on the node: a pod, or a Service whose node ports every node serves
    pub binder: ObjectRef,
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

/// What the index asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Those of pods, and then those of Services, in order of namespace and name
    pub exposures: Vec<Exposure>,
    /// What is wrong, and with what
    pub problems: BTreeSet<Notice>,
}

/// Something is wrong; `object` is told.
type Refusal = Box<Notice>;

/// What is asked for is not understood, or not allowed.
fn refusal(object: &ObjectRef, reason: &str, message: String) -> Refusal {
    Box::new(Notice { object: object.clone(), verdict: Verdict::Refused, reason: reason.to_owned(), message })
}

/// What is asked for is fine, and the node stands against it.
fn failure(object: &ObjectRef, reason: &str, message: String) -> Refusal {
    Box::new(Notice { verdict: Verdict::Failed, ..*refusal(object, reason, message) })
}

/// What an intent asks for: these ports, each from these sources.
struct Ask<'a> {
    intent: ObjectRef,
    workload: Workload,
    ports: Vec<(&'a HostPort, Sources)>,
    varies: Varies,
    hostname: Option<String>,
}

/// What sets apart the rules of pods of one workload that bind the same ports; see [`crate::grouping`].
enum Varies {
    /// The pods name their sources themselves, and change one by one
    PodByPod,
    /// The intent names the sources, for all its pods at once; only nodes differ, and of an intent that can have several
    /// sources for one number, which of them that number has
    NodeByNode(String),
}

fn annotations(metadata: &kube::api::ObjectMeta) -> &BTreeMap<String, String> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    metadata.annotations.as_ref().unwrap_or(&NONE)
}

#[cfg(test)]
mod tests;
