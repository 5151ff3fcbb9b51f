//! The watches that feed the index.

use std::borrow::Cow;

/// One watch: the objects that are listed and followed by one stream, and become stale together when it
/// breaks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watch {
    /// All pods
    Pods,
    /// All nodes
    Nodes,
    /// All namespaces
    Namespaces,
    /// All Services
    Services,
    /// All `EndpointSlice`s
    EndpointSlices,
    /// Ingresses of one API group
    Ingresses(String),
    /// All `HostPortExposure`s
    HostPortExposures,
    /// Our own `DNSEndpoint`s
    DNSEndpoints,
}

impl Watch {
    /// The kinds that every cluster serves.
    pub const ALWAYS: [Self; 5] =
        [Self::Pods, Self::Nodes, Self::Namespaces, Self::Services, Self::EndpointSlices];

    /// Returns API version and kind of the watched objects, as Events name them.
    pub(in crate::k8s) fn kind(&self) -> (Cow<'static, str>, &'static str) {
        match self {
            Self::Pods => ("v1".into(), "Pod"),
            Self::Nodes => ("v1".into(), "Node"),
            Self::Namespaces => ("v1".into(), "Namespace"),
            Self::Services => ("v1".into(), "Service"),
            Self::EndpointSlices => ("discovery.k8s.io/v1".into(), "EndpointSlice"),
            Self::Ingresses(group) => (format!("{group}/v1").into(), "Ingress"),
            Self::HostPortExposures => ("hostport-firewall.dev/v1alpha1".into(), "HostPortExposure"),
            Self::DNSEndpoints => ("externaldns.k8s.io/v1alpha1".into(), "DNSEndpoint"),
        }
    }
}

impl Watch {
    /// Returns true if what is asked for depends on whether this kind is complete. Without all pods or all
    /// nodes nothing closes at all, whatever is asked for; no port depends on namespaces or DNS being listed.
    pub(super) const fn decides_by_gap(&self) -> bool {
        matches!(self, Self::Services | Self::EndpointSlices | Self::Ingresses(_) | Self::HostPortExposures)
    }
}

impl std::fmt::Display for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pods => f.write_str("pods"),
            Self::Nodes => f.write_str("nodes"),
            Self::Namespaces => f.write_str("namespaces"),
            Self::Services => f.write_str("services"),
            Self::EndpointSlices => f.write_str("endpointslices.discovery.k8s.io"),
            Self::Ingresses(group) => write!(f, "ingresses.{group}"),
            Self::HostPortExposures => f.write_str("hostportexposures.hostport-firewall.dev"),
            Self::DNSEndpoints => f.write_str("dnsendpoints.externaldns.k8s.io"),
        }
    }
}
