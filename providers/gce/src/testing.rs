//! Builders for this crate's unit tests.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use firewall_core::Owner;
use firewall_core::testing::conformance::rule;

use crate::config::GceConfig;
use crate::inventory::{InstanceFacts, Interface};
use crate::network::Network;
use crate::resource::FirewallRule;

/// Returns the network `n` of project `p`.
pub(crate) fn network() -> Network {
    Network { project: "p".into(), name: "n".into() }
}

/// Returns a rule of this cluster for ingress rules like `tcp/80 10.0.0.0/8`, with these destination ranges.
pub(crate) fn firewall_rule(rules: &[&str], destinations: &[&str]) -> FirewallRule {
    FirewallRule {
        name: "hpf-x-0".into(),
        network: network(),
        rules: rules.iter().map(|text| rule(text)).collect(),
        destinations: destinations.iter().map(|text| text.parse().expect("a range")).collect(),
        tags: BTreeSet::new(),
        foreign_parts: BTreeSet::new(),
        priority: 1000,
        is_enabled: true,
        serves: BTreeSet::new(),
        owner: Owner::Ours,
        capacity: GceConfig::new("prod", "p").rule_capacity(),
    }
}

/// Returns an instance with this address in [`network`], and no tags.
pub(crate) fn instance_facts(number: u8) -> InstanceFacts {
    let ipv4 = Some(Ipv4Addr::new(10, 0, 0, number));
    let interface = Interface { network: network(), ipv4, ipv6: BTreeSet::new() };
    InstanceFacts { interfaces: vec![interface], foreign_tag_count: 0, own_tags: BTreeSet::new() }
}
