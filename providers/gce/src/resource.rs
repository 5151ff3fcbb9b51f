//! What a firewall group compiles to on Compute Engine: firewall rules and, in mode `tags`, the instances' tags.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use firewall_core::{IngressRule, InstanceId, Owner, PortRange, Protocol, RuleSet};
use ipnet::IpNet;

use crate::network::Network;

/// Names one resource within the projects of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GceKey {
    /// A firewall rule, by name
    Rule(String),
    /// Our tags on an instance
    Tags(InstanceId),
}

impl fmt::Display for GceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(name) => write!(f, "firewall rule {name}"),
            Self::Tags(instance) => write!(f, "tags of {instance}"),
        }
    }
}

/// One resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GceResource {
    /// A firewall rule
    Rule(FirewallRule),
    /// Our tags on an instance
    Tags(InstanceTags),
}

impl GceResource {
    pub(crate) const fn as_tags(&self) -> Option<&InstanceTags> {
        match self {
            Self::Tags(tags) => Some(tags),
            Self::Rule(_) => None,
        }
    }
}

/// An ingress allow rule: every source may reach every port at every target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirewallRule {
    /// Its name, unique in the project
    pub name: String,
    /// The network whose instances it applies to
    pub network: Network,
    /// What it lets in: a product of ports and sources, of one address family
    pub rules: RuleSet,
    /// The addresses that it lets traffic in to; all if empty. Mode `destination`.
    pub destinations: BTreeSet<IpNet>,
    /// The tags of the instances that it applies to; all if empty
    pub tags: BTreeSet<String>,
    /// What else it says and we never do, as text: a source tag, a protocol without ports, a wide destination
    pub foreign_parts: BTreeSet<String>,
    /// Its priority
    pub priority: u16,
    /// Whether it is in force
    pub enabled: bool,
    /// The firewall groups it serves
    pub serves: BTreeSet<String>,
    /// Whose it is
    pub owner: Owner,
    /// How much fits into it
    pub capacity: Capacity,
}

/// How much fits into one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Source ranges, and destination ranges
    pub ranges: usize,
    /// Ports and port ranges
    pub ports: usize,
}

/// Our network tags on one instance, of which each is the name of the rule that it makes apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceTags {
    /// The instance
    pub instance: InstanceId,
    /// The tags
    pub tags: BTreeSet<String>,
    /// How many tags of ours it has room for
    pub capacity: usize,
}

/// A set of rules as ports × sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortsBySources {
    /// The ports
    pub ports: BTreeSet<(Protocol, PortRange)>,
    /// Who may reach every one of them
    pub sources: BTreeSet<IpNet>,
}

impl PortsBySources {
    /// What it lets in.
    #[must_use]
    pub fn rules(&self) -> RuleSet {
        let rule = |(protocol, ports): &(Protocol, PortRange), source: &IpNet| {
            IngressRule::new(*protocol, *ports, *source)
        };
        self.ports
            .iter()
            .flat_map(|ports| self.sources.iter().map(move |source| rule(ports, source)))
            .collect()
    }

    /// The set as one product; `None` if it takes several.
    #[must_use]
    pub fn of(rules: &RuleSet) -> Option<Self> {
        let mut products = Self::all_of(rules.iter());
        let first = products.pop()?;
        products.is_empty().then_some(first)
    }

    /// The fewest products in which no port occurs twice: ports with the same sources go together.
    pub fn all_of<'a>(rules: impl IntoIterator<Item = &'a IngressRule>) -> Vec<Self> {
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
