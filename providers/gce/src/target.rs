//! The targets that a firewall rule names; planning treats each as an instance.
//!
//! A rule names addresses and tags, and keeps naming them after the instance has been deleted. Planning by
//! targets instead of by instances therefore covers every address that has an open port, also one whose
//! instance is unknown.

use std::fmt;

use firewall_core::InstanceId;
use ipnet::IpNet;

use crate::network::Network;

/// One target of a rule: a part of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RuleTarget {
    /// Every instance of the network
    WholeNetwork(Network),
    /// One address
    Address(IpNet, Network),
    /// The instances that carry a network tag, by the tag without its shard number
    Tag(String, Network),
}

impl RuleTarget {
    /// Returns the id under which planning treats the target as an instance. It is distinct from every
    /// instance's id, because those have no `@`.
    pub(crate) fn id(&self) -> InstanceId {
        InstanceId::new(self.to_string())
    }

    /// Returns the target that the id names; `None` if the id is an instance's.
    pub(crate) fn from_id(id: &InstanceId) -> Option<Self> {
        let (part, network) = id.as_str().split_once('@')?;
        let network = Network::parse(network, "").ok()?;
        Some(match (part, part.strip_prefix("tag ")) {
            ("everywhere", _) => Self::WholeNetwork(network),
            (_, Some(tag)) => Self::Tag(tag.to_owned(), network),
            (address, None) => Self::Address(address.parse().ok()?, network),
        })
    }
}

impl fmt::Display for RuleTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WholeNetwork(network) => write!(f, "everywhere@{network}"),
            Self::Address(address, network) => write!(f, "{address}@{network}"),
            Self::Tag(tag, network) => write!(f, "tag {tag}@{network}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_is_parsed_from_its_own_id() {
        let network = || Network { project: "example.com:p".into(), name: "n".into() };
        for target in [
            RuleTarget::WholeNetwork(network()),
            RuleTarget::Address("10.0.0.1/32".parse().unwrap(), network()),
            RuleTarget::Address("fd00::1/128".parse().unwrap(), network()),
            RuleTarget::Tag("web".into(), network()),
        ] {
            assert_eq!(RuleTarget::from_id(&target.id()), Some(target));
        }
        assert_eq!(RuleTarget::from_id(&InstanceId::new("p/z/n")), None);
    }
}
