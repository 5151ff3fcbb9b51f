//! The resources that firewall groups compile to on Compute Engine, and their capacity: firewall rules and,
//! in mode `tags`, the network tags of instances.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use firewall_core::{IngressRule, InstanceId, Owner, PortRange, Protocol, RuleSet};
use ipnet::IpNet;

use crate::network::Network;

/// The key of one resource within the projects of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GceKey {
    /// A firewall rule, by name
    Rule(String),
    /// This cluster's network tags on an instance
    Tags(InstanceId),
}

impl GceKey {
    /// Returns the name of the firewall rule, if it is one's.
    pub(crate) fn rule_name(&self) -> Option<&str> {
        match self {
            Self::Rule(name) => Some(name),
            Self::Tags(_) => None,
        }
    }
}

impl fmt::Display for GceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(name) => write!(f, "firewall rule {name}"),
            Self::Tags(instance) => write!(f, "tags of {instance}"),
        }
    }
}

/// One resource of this cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GceResource {
    /// A firewall rule
    Rule(FirewallRule),
    /// This cluster's network tags on an instance
    Tags(InstanceTags),
}

impl GceResource {
    /// Returns the rule, if it is one.
    pub(crate) const fn as_rule(&self) -> Option<&FirewallRule> {
        match self {
            Self::Rule(rule) => Some(rule),
            Self::Tags(_) => None,
        }
    }

    /// Returns the tags of an instance, if it is these.
    pub(crate) const fn as_tags(&self) -> Option<&InstanceTags> {
        match self {
            Self::Tags(tags) => Some(tags),
            Self::Rule(_) => None,
        }
    }
}

/// An ingress allow rule: every source may reach every port of every target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirewallRule {
    /// Its name, unique in the project
    pub name: String,
    /// The network whose instances it applies to
    pub network: Network,
    /// The ingress rules that it allows: every port from every source, of one address family
    pub rules: RuleSet,
    /// Its destination ranges, all of them single addresses; empty means every address. Mode `destination`.
    pub destinations: BTreeSet<IpNet>,
    /// Its target tags, the network tags of the instances that it applies to; empty means every instance
    pub tags: BTreeSet<String>,
    /// Parts that this crate never writes, as text: a source tag, a protocol without ports, a destination
    /// range of more than one address
    pub foreign_parts: BTreeSet<String>,
    /// Its priority; a lower number takes precedence
    pub priority: u16,
    /// False if the rule is disabled
    pub is_enabled: bool,
    /// The firewall groups it serves
    pub serves: BTreeSet<String>,
    /// Its owner, by the ownership mark
    pub owner: Owner,
    /// The limits that its ports and ranges must stay within
    pub capacity: RuleCapacity,
}

/// The capacity of one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleCapacity {
    /// Most source ranges, and most destination ranges
    pub ranges: usize,
    /// Most ports and port ranges
    pub ports: usize,
}

/// This cluster's network tags on one instance. Each is the name of the rule that it makes apply to the
/// instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceTags {
    /// The instance
    pub instance: InstanceId,
    /// The tags
    pub tags: BTreeSet<String>,
    /// Most tags of this cluster that the instance can have beside its other tags
    pub capacity: usize,
}

/// Ports that all have the same sources: ports × sources, as one firewall rule expresses them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortsBySources {
    /// The ports
    pub ports: BTreeSet<(Protocol, PortRange)>,
    /// The source ranges, each of which may reach every port
    pub sources: BTreeSet<IpNet>,
}

impl PortsBySources {
    /// Returns the ingress rules: one for each port and source.
    #[must_use]
    pub fn to_rules(&self) -> RuleSet {
        let rule = |(protocol, ports): &(Protocol, PortRange), source: &IpNet| {
            IngressRule::new(*protocol, *ports, *source)
        };
        self.ports
            .iter()
            .flat_map(|ports| self.sources.iter().map(move |source| rule(ports, source)))
            .collect()
    }

    /// Returns the rules as ports with the same sources; `None` if there are no rules, or the ports differ in
    /// their sources.
    #[must_use]
    pub fn from_rules(rules: &RuleSet) -> Option<Self> {
        let mut parts = Self::partition(rules.iter());
        let only = parts.pop()?;
        parts.is_empty().then_some(only)
    }

    /// Partitions rules by port into the fewest parts: ports with the same sources go together.
    pub fn partition<'a>(rules: impl IntoIterator<Item = &'a IngressRule>) -> Vec<Self> {
        let mut sources: BTreeMap<(Protocol, PortRange), BTreeSet<IpNet>> = BTreeMap::new();
        for rule in rules {
            sources.entry((rule.protocol, rule.ports)).or_default().insert(rule.source);
        }
        let mut ports: BTreeMap<BTreeSet<IpNet>, BTreeSet<(Protocol, PortRange)>> = BTreeMap::new();
        for (port, sources) in sources {
            ports.entry(sources).or_default().insert(port);
        }
        ports.into_iter().map(|(sources, ports)| Self { ports, sources }).collect()
    }
}
