//! The ingress rule: one protocol, one port range, one source range; the smallest part of both clouds'
//! firewalls.

use std::collections::BTreeSet;
use std::fmt;

use ipnet::IpNet;

use crate::{PortRange, Protocol};

/// A rule that lets one source range reach one port range over one protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IngressRule {
    /// The protocol
    pub protocol: Protocol,
    /// The ports on the instance
    pub ports: PortRange,
    /// The addresses that may connect; the host bits are zero
    pub source: IpNet,
}

impl IngressRule {
    /// Returns the rule with the source's host bits cleared: to EC2, `10.0.0.1/8` and `10.0.0.0/8` are the
    /// same rule, so keeping them apart here would make a difference that no call can remove.
    #[must_use]
    pub fn new(protocol: Protocol, ports: PortRange, source: IpNet) -> Self {
        Self { protocol, ports, source: source.trunc() }
    }

    /// Returns the rule for the traffic that both let in, if there is any.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        // Of two CIDRs, one contains the other, or they have nothing in common.
        let source = if self.source.contains(&other.source) {
            other.source
        } else if other.source.contains(&self.source) {
            self.source
        } else {
            return None;
        };
        let (first, last) =
            (self.ports.first().max(other.ports.first()), self.ports.last().min(other.ports.last()));
        let ports = PortRange::new(first, last).ok()?;
        (self.protocol == other.protocol).then_some(Self { protocol: self.protocol, ports, source })
    }

    /// Returns true if `other` lets nothing in that this rule does not.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.protocol == other.protocol
            && self.ports.covers(other.ports)
            && self.source.contains(&other.source)
    }

    /// Returns those of `rules` that one of `others` covers.
    #[must_use]
    pub fn select_covered(rules: &BTreeSet<Self>, others: &BTreeSet<Self>) -> BTreeSet<Self> {
        let is_covered =
            |rule: &&Self| others.contains(rule) || others.iter().any(|other| other.covers(rule));
        rules.iter().filter(is_covered).copied().collect()
    }
}

impl fmt::Display for IngressRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} from {}", self.protocol, self.ports, self.source)
    }
}
