//! Reasons: every word by which a problem, a condition or a closed port is classified.
//!
//! A reason is in an Event's text, in the conditions of statuses and readiness gates, and in a label of the
//! metrics, so that alerts and people look for it; docs/operations.md says what to do about each.

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = $text;)*

        /// All reasons, in alphabetical order.
        pub const ALL: &[&str] = &[$($name),*];
    };
}

reasons! {
    /// The condition `Accepted` is true.
    ACCEPTED = "Accepted";
    /// The labels of a pod or Service of Voyager's fit more than one Ingress.
    AMBIGUOUS_INGRESS = "AmbiguousIngress";
    /// A hostname is outside the guardrail `allowedHostnames`.
    HOSTNAME_NOT_ALLOWED = "HostnameNotAllowed";
    /// A `HostPortExposure` is not accepted, so it is not programmed.
    INVALID = "Invalid";
    /// The value of an annotation is not understood, or contradicts another one.
    INVALID_ANNOTATION = "InvalidAnnotation";
    /// The ports, sources or hostname of a `HostPortExposure` are not understood, or no pod port matches.
    INVALID_EXPOSURE = "InvalidExposure";
    /// A container, a Service or an Ingress has a number or a protocol that is not one.
    INVALID_PORT = "InvalidPort";
    /// A label selector of a `HostPortExposure` is not understood, or selects every pod.
    INVALID_SELECTOR = "InvalidSelector";
    /// The source ranges of a Voyager Ingress are not understood.
    INVALID_SOURCE_RANGES = "InvalidSourceRanges";
    /// The port of Voyager's stats page is not understood.
    INVALID_STATS_PORT = "InvalidStatsPort";
    /// A change failed that somebody with the permission can make by hand.
    MANUAL_CHANGE_REQUIRED = "ManualChangeRequired";
    /// A namespace has more problems than are reported.
    MORE_PROBLEMS = "MoreProblems";
    /// The guardrail `namespaces` does not list the namespace.
    NAMESPACE_NOT_ALLOWED = "NamespaceNotAllowed";
    /// A `HostPortExposure` selects no pod that has a host port.
    NO_PODS = "NoPods";
    /// The node has no `spec.providerID`.
    NO_PROVIDER_ID = "NoProviderId";
    /// All sources of a port are of an address family by which it cannot be reached.
    NO_SOURCES = "NoSources";
    /// No cloud has confirmed a node of a `HostPortExposure`.
    NOT_CONFIRMED = "NotConfirmed";
    /// A pod has the readiness gate, and nothing exposes its ports on an active cloud.
    NOT_EXPOSED = "NotExposed";
    /// A hostname is requested, and the controller publishes none or cannot write it.
    NOT_PUBLISHED = "NotPublished";
    /// A pod claims to serve a Service for k3s' `ServiceLB`, outside the namespaces where k3s runs such pods.
    NOT_SERVICE_LB = "NotServiceLb";
    /// All pods that a `HostPortExposure` selects run on nodes that another controller can serve.
    ON_OTHER_NODES = "OnOtherNodes";
    /// A readiness gate is open.
    OPEN = "Open";
    /// The cloud has not confirmed the ports yet.
    PENDING = "Pending";
    /// A port is denied by default or by the guardrail `deniedPorts`.
    PORT_DENIED = "PortDenied";
    /// A port is not among those that the guardrail `namespaces` allows the namespace.
    PORT_NOT_ALLOWED = "PortNotAllowed";
    /// The condition `Programmed` is true.
    PROGRAMMED = "Programmed";
    /// A source is outside the guardrail `allowedSourceRanges`.
    SOURCE_NOT_ALLOWED = "SourceNotAllowed";
    /// A source is wider than the guardrail `widestSourceRanges` allows.
    SOURCE_TOO_WIDE = "SourceTooWide";
    /// More `HostPortExposure`s select a pod than can open ports of one.
    TOO_MANY_EXPOSURES = "TooManyExposures";
    /// Ports and sources make more rules than a cloud or the guardrail `mostRules` allows.
    TOO_MANY_RULES = "TooManyRules";
    /// An annotation under the project's domain has no meaning on the object.
    UNKNOWN_ANNOTATION = "UnknownAnnotation";
    /// The node of a pod or endpoint is not in the index.
    UNKNOWN_NODE = "UnknownNode";
    /// An object does not have the fields of its kind.
    UNREADABLE = "Unreadable";
    /// The machine of a node belongs to no active cloud.
    UNSUPPORTED_NODE = "UnsupportedNode";
    /// A port belongs to Voyager's stats page or exporter.
    VOYAGER_INTERNAL_PORT = "VoyagerInternalPort";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_distinct_camel_case_words_in_order() {
        assert!(ALL.is_sorted_by(|one, next| one < next), "{ALL:?}");
        for reason in ALL {
            let camel_case = reason.starts_with(|first: char| first.is_ascii_uppercase())
                && reason.chars().all(|letter| letter.is_ascii_alphabetic());
            assert!(camel_case, "{reason}");
        }
    }
}
