//! Reasons of the conditions and problems that publishing itself finds.

/// `Accepted`: the `HostPortExposure` can be understood, and no guardrail forbids any of it.
pub(super) const ACCEPTED: &str = "Accepted";
/// `Programmed`: the cloud has confirmed everything that the `HostPortExposure` exposes.
pub(super) const PROGRAMMED: &str = "Programmed";
/// `Programmed`: no cloud has confirmed a node of the `HostPortExposure`.
pub(super) const NOT_CONFIRMED: &str = "NotConfirmed";
/// `Programmed`: the `HostPortExposure` is not accepted.
pub(super) const INVALID: &str = "Invalid";
/// `Programmed`: the `HostPortExposure` selects no pod that has a host port.
pub(super) const NO_PODS: &str = "NoPods";
/// Readiness gate: everything that exposes the pod's ports is open.
pub(super) const OPEN: &str = "Open";
/// Readiness gate: nothing exposes the pod's ports on an active cloud.
pub(super) const NOT_EXPOSED: &str = "NotExposed";
/// A hostname has no `DNSEndpoint`.
pub(super) const NOT_PUBLISHED: &str = "NotPublished";
/// The pod's node does not exist.
pub(super) const UNKNOWN_NODE: &str = "UnknownNode";
/// The node names no machine.
pub(super) const NO_PROVIDER_ID: &str = "NoProviderId";
/// The node's machine belongs to no active cloud.
pub(super) const UNSUPPORTED_NODE: &str = "UnsupportedNode";
/// No source range has an address family of the node.
pub(super) const NO_SOURCES: &str = "NoSources";
