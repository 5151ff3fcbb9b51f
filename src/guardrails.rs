//! Guardrails: what no intent can open, whoever asks. Only the administrator sets them.

mod file;
mod ports;

use std::collections::{BTreeMap, BTreeSet};

use firewall_core::{PortRange, Protocol, RuleSet};
use ipnet::IpNet;
use kube::core::{Selector, SelectorExt};

use crate::k8s::objects::Namespace;

pub use file::{GuardrailsError, read};
pub use ports::Ports;

/// SSH, etcd, the Kubernetes API, and the kubelet's and control plane's own ports, all TCP: whoever opens one of
/// these to the world has most likely not meant to.
const DENIED: [(u16, u16); 4] = [(22, 22), (2379, 2380), (6443, 6443), (10248, 10259)];

/// The administrator's limits. By default only the ports of the node itself are denied.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Guardrails {
    /// Ports that nobody can open, beside those denied by default
    pub denied_ports: Vec<Ports>,
    /// Ports that can be opened although they are denied by default
    pub allowed_ports: Vec<Ports>,
    /// Every source lies in one of these; any if absent
    pub allowed_source_ranges: Option<Vec<IpNet>>,
    /// The shortest prefix of an IPv4 source
    pub widest_ipv4: u8,
    /// The shortest prefix of an IPv6 source
    pub widest_ipv6: u8,
    /// The most rules of one group
    pub most_rules: Option<usize>,
    /// Hostnames are one of these, or below it; any if absent
    pub allowed_hostnames: Option<Vec<String>>,
    /// Who can open anything; everyone if absent
    pub namespaces: Option<Vec<Namespaces>>,
}

/// Namespaces that can open ports.
#[derive(Clone, Debug, PartialEq)]
pub struct Namespaces {
    /// Which
    pub who: Who,
    /// What they can open; any port that is not denied if absent
    pub ports: Option<Vec<Ports>>,
}

/// Which namespaces are meant.
#[derive(Clone, Debug, PartialEq)]
pub enum Who {
    /// Those of these names
    Names(BTreeSet<String>),
    /// Those with such labels
    Labelled(Selector),
}

/// What an intent would open for a pod or a Service.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// The namespace of the intent
    pub namespace: &'a str,
    /// The namespace as it is, if it is known
    pub known: Option<&'a Namespace>,
    /// The ports
    pub ports: &'a BTreeSet<(Protocol, u16)>,
    /// What is let in
    pub rules: &'a RuleSet,
    /// The hostname that is to lead there
    pub hostname: Option<&'a str>,
}

/// The guardrail that stands against an opening, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// One word in `CamelCase`
    pub reason: &'static str,
    /// Which guardrail, and what of the opening it refuses
    pub message: String,
}

impl Breach {
    const fn new(reason: &'static str, message: String) -> Self {
        Self { reason, message }
    }
}

impl Guardrails {
    /// Whether all of it may be opened.
    ///
    /// # Errors
    /// If a guardrail stands against any of it: the first that does.
    pub fn check(&self, opening: &Opening<'_>) -> Result<(), Breach> {
        self.denied(opening.ports)?;
        self.by_namespace(opening)?;
        self.sources(opening.rules)?;
        self.rules(opening.rules)?;
        opening.hostname.map_or(Ok(()), |hostname| self.hostname(hostname))
    }

    fn denied(&self, ports: &BTreeSet<(Protocol, u16)>) -> Result<(), Breach> {
        let by_default = |protocol: Protocol, port: u16| {
            let own = DENIED.iter().filter_map(|(first, last)| PortRange::new(*first, *last).ok());
            let named = self.allowed_ports.iter().any(|allowed| allowed.hold(protocol, port));
            !named && own.map(Ports::tcp).any(|denied| denied.hold(protocol, port))
        };
        let by_file = |protocol: Protocol, port: u16| {
            self.denied_ports.iter().any(|denied| denied.hold(protocol, port))
        };
        if let Some(refused) = listed(ports, by_file) {
            let message = format!("{refused} is denied by the guardrail deniedPorts");
            return Err(Breach::new("PortDenied", message));
        }
        let Some(refused) = listed(ports, by_default) else { return Ok(()) };
        Err(Breach::new(
            "PortDenied",
            format!(
                "{refused} is a port of the node itself, which are denied by default; an administrator can allow it with \
                 the guardrail allowedPorts, or --allow-ports"
            ),
        ))
    }

    fn by_namespace(&self, opening: &Opening<'_>) -> Result<(), Breach> {
        let Some(entries) = &self.namespaces else { return Ok(()) };
        let meant: Vec<&Namespaces> = entries.iter().filter(|entry| entry.who.means(opening)).collect();
        if meant.is_empty() {
            let unknown =
                opening.known.is_none() && entries.iter().any(|entry| matches!(entry.who, Who::Labelled(_)));
            let why = if unknown {
                "its labels are not known (yet)"
            } else {
                "neither its name nor its labels are among them"
            };
            let message = format!(
                "namespace {} may open nothing by the guardrail namespaces: {why}",
                opening.namespace
            );
            return Err(Breach::new("NamespaceNotAllowed", message));
        }
        let outside = |protocol: Protocol, port: u16| {
            !meant.iter().any(|entry| {
                entry.ports.as_ref().is_none_or(|ports| ports.iter().any(|ports| ports.hold(protocol, port)))
            })
        };
        let Some(refused) = listed(opening.ports, outside) else { return Ok(()) };
        let allowed: Vec<String> =
            meant.iter().flat_map(|entry| entry.ports.iter().flatten()).map(ToString::to_string).collect();
        let message = format!(
            "{refused} is not among the ports that the guardrail namespaces allows namespace {}: {}",
            opening.namespace,
            allowed.join(", ")
        );
        Err(Breach::new("PortNotAllowed", message))
    }

    fn sources(&self, rules: &RuleSet) -> Result<(), Breach> {
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
            return Err(Breach::new("SourceTooWide", message));
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
                Err(Breach::new("SourceNotAllowed", message))
            }
        }
    }

    fn rules(&self, rules: &RuleSet) -> Result<(), Breach> {
        match self.most_rules {
            Some(most) if rules.len() > most => {
                let message = format!(
                    "its ports and source ranges make {} rules, and the guardrail mostRules allows {most}",
                    rules.len()
                );
                Err(Breach::new("TooManyRules", message))
            }
            _ => Ok(()),
        }
    }

    fn hostname(&self, hostname: &str) -> Result<(), Breach> {
        let Some(allowed) = &self.allowed_hostnames else { return Ok(()) };
        let below = |domain: &String| {
            hostname.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        if allowed.iter().any(below) {
            return Ok(());
        }
        let message = format!(
            "hostname {hostname} is neither among nor below what the guardrail allowedHostnames allows: {}",
            allowed.join(", ")
        );
        Err(Breach::new("HostnameNotAllowed", message))
    }
}

impl Who {
    fn means(&self, opening: &Opening<'_>) -> bool {
        match self {
            Self::Names(names) => names.contains(opening.namespace),
            Self::Labelled(selector) => opening.known.is_some_and(|namespace| {
                selector.matches(namespace.metadata.labels.as_ref().unwrap_or(&BTreeMap::new()))
            }),
        }
    }
}

/// Those of the ports that are refused, as a message names them; none if none is.
fn listed(ports: &BTreeSet<(Protocol, u16)>, refused: impl Fn(Protocol, u16) -> bool) -> Option<String> {
    let refused = ports.iter().filter(|(protocol, port)| refused(*protocol, *port)).copied().collect();
    let ranges = crate::parse::ports::port_ranges(&refused);
    (!ranges.is_empty()).then(|| crate::parse::ports::listed(&ranges))
}

#[cfg(test)]
mod tests;
