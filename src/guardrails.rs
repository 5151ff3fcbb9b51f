//! Guardrails: limits that no intent can exceed. Only the administrator sets them. Pure.

pub mod file;
mod ports;

use std::collections::{BTreeMap, BTreeSet};

use firewall_core::{PortRange, Protocol, RuleSet};
use ipnet::IpNet;
use kube::core::{Selector, SelectorExt};

use crate::k8s::objects::Namespace;
use crate::k8s::reasons;
use crate::parse::ports::{PortRanges, format_ports, intersect, merge, subtract};

pub use ports::Ports;

/// The ports of the node itself: SSH, etcd, the Kubernetes API, the kubelet and the control plane; and the tunnels of
/// pod networks (VXLAN, Geneve, and VXLAN by Linux' former number), which take packets for any pod from whoever
/// reaches them. An intent that opens one of them is most likely a mistake, or names a range that is too long.
const DENIED_BY_DEFAULT: [(Protocol, u16, u16); 7] = [
    (Protocol::Tcp, 22, 22),
    (Protocol::Tcp, 2379, 2380),
    (Protocol::Tcp, 6443, 6443),
    (Protocol::Tcp, 10248, 10259),
    (Protocol::Udp, 4789, 4789),
    (Protocol::Udp, 6081, 6081),
    (Protocol::Udp, 8472, 8472),
];

/// The administrator's limits. By default only the ports of the node itself are denied.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Guardrails {
    /// Ports that no intent can open, beside those denied by default
    pub denied_ports: Vec<Ports>,
    /// Ports that can be opened although they are denied by default
    pub allowed_ports: Vec<Ports>,
    /// Every source lies in one of these; any if absent
    pub allowed_source_ranges: Option<Vec<IpNet>>,
    /// The shortest prefix of an IPv4 source, in bits
    pub widest_ipv4: u8,
    /// The shortest prefix of an IPv6 source, in bits
    pub widest_ipv6: u8,
    /// The most rules of one group
    pub most_rules: Option<usize>,
    /// Hostnames are one of these, or below it; any if absent
    pub allowed_hostnames: Option<Vec<String>>,
    /// The namespaces that can open ports; all if absent
    pub namespaces: Option<Vec<NamespaceRule>>,
}

/// Allows some namespaces to open ports.
#[derive(Clone, Debug, PartialEq)]
pub struct NamespaceRule {
    /// Selects the namespaces
    pub matcher: NamespaceMatcher,
    /// The ports that they can open; any port that is not denied if absent
    pub ports: Option<Vec<Ports>>,
}

/// Selects namespaces.
#[derive(Clone, Debug, PartialEq)]
pub enum NamespaceMatcher {
    /// By their names
    Names(BTreeSet<String>),
    /// By their labels
    Labels(Selector),
}

/// The ports and hostname that an intent would open for a pod or a Service.
#[derive(Clone, Copy, Debug)]
pub struct OpeningRequest<'a> {
    /// The name of the intent's namespace
    pub namespace: &'a str,
    /// The namespace object; none while the index does not have it
    pub namespace_object: Option<&'a Namespace>,
    /// The ports
    pub ports: &'a PortRanges,
    /// The hostname to publish for the nodes
    pub hostname: Option<&'a str>,
}

/// The guardrail that an opening would exceed, and the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// One of [`reasons`]
    pub reason: &'static str,
    /// Names the guardrail, and the part of the request that it denies
    pub message: String,
    /// True if the namespace's labels would decide, and are not known
    pub is_unknown: bool,
}

impl Denial {
    const fn new(reason: &'static str, message: String) -> Self {
        Self { reason, message, is_unknown: false }
    }
}

impl Guardrails {
    /// Checks that a request may open its ports and its hostname, whatever its rules are: these take time to
    /// build, which a request that is forbidden must not cost.
    ///
    /// # Errors
    /// If any of it exceeds a guardrail: the first that it exceeds.
    pub fn check(&self, request: &OpeningRequest<'_>) -> Result<(), Denial> {
        self.check_denied_ports(request.ports)?;
        self.check_namespace(request)?;
        request.hostname.map_or(Ok(()), |hostname| self.check_hostname(hostname))
    }

    /// Checks that all of these rules may be opened.
    ///
    /// # Errors
    /// If any of them exceeds a guardrail: the first that one exceeds.
    pub fn check_rules(&self, rules: &RuleSet) -> Result<(), Denial> {
        self.check_sources(rules)?;
        self.check_rule_count(rules)
    }

    /// Returns those of a request's ports that may be opened, or of which that is not known yet.
    #[must_use]
    pub fn find_allowed_ports(&self, request: &OpeningRequest<'_>) -> PortRanges {
        let denied = self.find_denied_ports(request.ports);
        let ports = subtract(&subtract(request.ports, &denied), &self.find_node_ports(request.ports));
        match self.find_namespace_ports(request) {
            Ok(None) => ports,
            Ok(Some(allowed)) => intersect(&ports, &ports::merge(&allowed)),
            Err(denial) if denial.is_unknown => ports,
            Err(_) => PortRanges::new(),
        }
    }

    /// Returns those of the ports that the administrator denies.
    fn find_denied_ports(&self, ports: &PortRanges) -> PortRanges {
        intersect(ports, &ports::merge(&self.denied_ports))
    }

    /// Returns those of the ports that are the node's own, and not allowed.
    fn find_node_ports(&self, ports: &PortRanges) -> PortRanges {
        let range = |(protocol, first, last)| Some((protocol, PortRange::new(first, last).ok()?));
        let of_node = intersect(ports, &merge(DENIED_BY_DEFAULT.into_iter().filter_map(range)));
        subtract(&of_node, &ports::merge(&self.allowed_ports))
    }

    fn check_denied_ports(&self, ports: &PortRanges) -> Result<(), Denial> {
        let denied = self.find_denied_ports(ports);
        if !denied.is_empty() {
            let message = format!("{} is denied by the guardrail deniedPorts", format_ports(&denied));
            return Err(Denial::new(reasons::PORT_DENIED, message));
        }
        let of_node = self.find_node_ports(ports);
        if of_node.is_empty() {
            return Ok(());
        }
        Err(Denial::new(
            reasons::PORT_DENIED,
            format!(
                "{} is a port of the node itself, and these are denied by default; an administrator \
                 can allow it with the guardrail allowedPorts, or --allow-ports",
                format_ports(&of_node)
            ),
        ))
    }

    /// Returns the ports that the request's namespace may open; none if it may open any.
    ///
    /// # Errors
    /// If it may open no port, or that is not known.
    fn find_namespace_ports(&self, request: &OpeningRequest<'_>) -> Result<Option<Vec<Ports>>, Denial> {
        let Some(entries) = &self.namespaces else { return Ok(None) };
        let applicable: Vec<&NamespaceRule> =
            entries.iter().filter(|entry| entry.matcher.matches(request)).collect();
        if applicable.is_empty() {
            let may_match_later = request.namespace_object.is_none()
                && entries.iter().any(|entry| matches!(entry.matcher, NamespaceMatcher::Labels(_)));
            let why = if may_match_later {
                "its labels are not known (yet)"
            } else {
                "neither its name nor its labels are among them"
            };
            let message = format!(
                "namespace {} may open no port by the guardrail namespaces: {why}",
                request.namespace
            );
            let denial = Denial::new(reasons::NAMESPACE_NOT_ALLOWED, message);
            return Err(Denial { is_unknown: may_match_later, ..denial });
        }
        let ports: Option<Vec<&[Ports]>> = applicable.iter().map(|entry| entry.ports.as_deref()).collect();
        Ok(ports.map(|ports| ports.concat()))
    }

    fn check_namespace(&self, request: &OpeningRequest<'_>) -> Result<(), Denial> {
        let Some(allowed) = self.find_namespace_ports(request)? else { return Ok(()) };
        let outside = subtract(request.ports, &ports::merge(&allowed));
        if outside.is_empty() {
            return Ok(());
        }
        let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        let message = format!(
            "{} is not among the ports that the guardrail namespaces allows namespace {}: {}",
            format_ports(&outside),
            request.namespace,
            allowed.join(", ")
        );
        Err(Denial::new(reasons::PORT_NOT_ALLOWED, message))
    }

    fn check_sources(&self, rules: &RuleSet) -> Result<(), Denial> {
        let sources = || rules.iter().map(|rule| rule.source);
        let widest = |source: &IpNet| match source {
            IpNet::V4(_) => self.widest_ipv4,
            IpNet::V6(_) => self.widest_ipv6,
        };
        if let Some(source) = sources().find(|source| source.prefix_len() < widest(source)) {
            let message = format!(
                "{source} is wider than the guardrail widestSourceRanges allows, which is /{}",
                widest(&source)
            );
            return Err(Denial::new(reasons::SOURCE_TOO_WIDE, message));
        }
        let Some(allowed) = &self.allowed_source_ranges else { return Ok(()) };
        // The rules' sources are aggregated too: what two adjacent ranges allow together is allowed as one.
        let allowed = IpNet::aggregate(allowed);
        match sources().find(|source| !allowed.iter().any(|allowed| allowed.contains(source))) {
            None => Ok(()),
            Some(source) => {
                let shown: Vec<String> = allowed.iter().take(10).map(ToString::to_string).collect();
                let more = if allowed.len() > shown.len() { ", …" } else { "" };
                let message = format!(
                    "{source} does not lie in what the guardrail allowedSourceRanges allows: {}{more}",
                    shown.join(", ")
                );
                Err(Denial::new(reasons::SOURCE_NOT_ALLOWED, message))
            }
        }
    }

    fn check_rule_count(&self, rules: &RuleSet) -> Result<(), Denial> {
        match self.most_rules {
            Some(most) if rules.len() > most => {
                let message = format!(
                    "its ports and source ranges make {} rules, and the guardrail mostRules allows {most}",
                    rules.len()
                );
                Err(Denial::new(reasons::TOO_MANY_RULES, message))
            }
            _ => Ok(()),
        }
    }

    fn check_hostname(&self, hostname: &str) -> Result<(), Denial> {
        let Some(allowed) = &self.allowed_hostnames else { return Ok(()) };
        let is_within = |domain: &String| {
            hostname.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        if allowed.iter().any(is_within) {
            return Ok(());
        }
        let message = format!(
            "hostname {hostname} is neither among nor below what the guardrail allowedHostnames allows: {}",
            allowed.join(", ")
        );
        Err(Denial::new(reasons::HOSTNAME_NOT_ALLOWED, message))
    }
}

impl NamespaceMatcher {
    /// Returns true if the request's namespace is selected. A namespace whose labels are unknown matches by
    /// name only.
    fn matches(&self, request: &OpeningRequest<'_>) -> bool {
        match self {
            Self::Names(names) => names.contains(request.namespace),
            Self::Labels(selector) => request.namespace_object.is_some_and(|namespace| {
                selector.matches(namespace.metadata.labels.as_ref().unwrap_or(&BTreeMap::new()))
            }),
        }
    }
}

#[cfg(test)]
mod tests;
