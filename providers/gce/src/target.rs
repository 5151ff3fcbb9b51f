//! Where a rule applies, in the words of the rule: what planning takes for an instance.
//!
//! Rules name addresses and tags, and keep naming them when the instance has gone. Planning by these instead of
//! by instances tells for every address what is open there, also where nobody knows the machine any more.

use std::fmt;

use firewall_core::InstanceId;
use ipnet::IpNet;

use crate::network::Network;

/// A part of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RuleTarget {
    /// Every instance
    Everywhere(Network),
    /// One address
    Address(IpNet, Network),
    /// The instances that carry a tag
    Tag(String, Network),
}

impl RuleTarget {
    /// The place as planning names it. No instance is named so: their ids have no `@`.
    pub(crate) fn id(&self) -> InstanceId {
        InstanceId::new(self.to_string())
    }

    /// The place that the id names; `None` if it is an instance's.
    pub(crate) fn of(id: &InstanceId) -> Option<Self> {
        let (what, network) = id.as_str().split_once('@')?;
        let network = Network::parse(network, "").ok()?;
        Some(match (what, what.strip_prefix("tag ")) {
            ("everywhere", _) => Self::Everywhere(network),
            (_, Some(tag)) => Self::Tag(tag.to_owned(), network),
            (address, None) => Self::Address(address.parse().ok()?, network),
        })
    }
}

impl fmt::Display for RuleTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everywhere(network) => write!(f, "everywhere@{network}"),
            Self::Address(address, network) => write!(f, "{address}@{network}"),
            Self::Tag(tag, network) => write!(f, "tag {tag}@{network}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let network = || Network { project: "example.com:p".into(), name: "n".into() };
        for place in [
            RuleTarget::Everywhere(network()),
            RuleTarget::Address("10.0.0.1/32".parse().unwrap(), network()),
            RuleTarget::Address("fd00::1/128".parse().unwrap(), network()),
            RuleTarget::Tag("web".into(), network()),
        ] {
            assert_eq!(RuleTarget::of(&place.id()), Some(place));
        }
        assert_eq!(RuleTarget::of(&InstanceId::new("p/z/n")), None);
    }
}
