//! Reads and writes firewall rules as the types of Google's client library.

use std::collections::BTreeSet;
use std::net::IpAddr;

use firewall_core::{Owner, PortRange, Protocol, RuleSet};
use google_cloud_compute_v1::model::Firewall;
use google_cloud_compute_v1::model::firewall::{Allowed, Direction};
use ipnet::IpNet;

use crate::config::GceConfig;
use crate::network::Network;
use crate::ownership::OwnershipMark;
use crate::resource::{FirewallRule, PortsBySources};

/// Returns the rule; its name has this cluster's prefix.
pub(crate) fn read(firewall: &Firewall, config: &GceConfig) -> FirewallRule {
    let name = firewall.name.clone().unwrap_or_default();
    let network = Network::parse(firewall.network.as_deref().unwrap_or_default(), config.rule_project());
    let mark =
        OwnershipMark::parse(&name, firewall.description.as_deref().unwrap_or_default(), &config.cluster);
    let direction = firewall.direction.as_ref().unwrap_or(&Direction::Ingress);
    let is_ingress_allow = *direction == Direction::Ingress && firewall.denied.is_empty();
    // This cluster's rules are all ingress allow rules, and a PATCH could not turn another rule into one.
    let is_ours = mark.is_some() && is_ingress_allow && network.is_ok();
    let mut foreign_parts = BTreeSet::new();
    let (destinations, wider) = split_destinations(&firewall.destination_ranges);
    foreign_parts.extend(wider.into_iter().map(|range| format!("to {range}")));
    let rules = read_rules(firewall, &mut foreign_parts);
    add_foreign_parties(firewall, &mut foreign_parts);
    FirewallRule {
        name,
        network: network.unwrap_or_else(|_| Network { project: String::new(), name: String::new() }),
        rules,
        destinations,
        tags: firewall.target_tags.iter().cloned().collect(),
        foreign_parts,
        priority: firewall.priority.and_then(|priority| u16::try_from(priority).ok()).unwrap_or(1000),
        is_enabled: firewall.disabled != Some(true),
        serves: mark.into_iter().map(|mark| mark.group).collect(),
        owner: if is_ours { Owner::Ours } else { Owner::Foreign },
        capacity: config.rule_capacity(),
    }
}

/// Returns the destination ranges that are single addresses, and all others as they are written.
fn split_destinations(ranges: &[String]) -> (BTreeSet<IpNet>, Vec<&String>) {
    let single =
        |text: &String| parse_range(text).filter(|range| range.prefix_len() == range.max_prefix_len());
    let wider = ranges.iter().filter(|text| single(text).is_none()).collect();
    (ranges.iter().filter_map(single).collect(), wider)
}

/// Parses a CIDR range, or a single address, which Google accepts as a range.
fn parse_range(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().map(IpNet::from).ok())
}

/// Returns the ingress rules, and adds what they cannot express to `foreign_parts`.
fn read_rules(firewall: &Firewall, foreign_parts: &mut BTreeSet<String>) -> RuleSet {
    let mut allowed_traffic = PortsBySources { ports: BTreeSet::new(), sources: BTreeSet::new() };
    for text in &firewall.source_ranges {
        match parse_range(text) {
            Some(range) => _ = allowed_traffic.sources.insert(range),
            None => _ = foreign_parts.insert(format!("from {text}")),
        }
    }
    for allowed in &firewall.allowed {
        let name = allowed.ip_protocol.as_deref().unwrap_or_default();
        let Some(protocol) = parse_protocol(name).filter(|_| !allowed.ports.is_empty()) else {
            foreign_parts.insert(format!("all of protocol {name}"));
            continue;
        };
        for text in &allowed.ports {
            match text.parse::<PortRange>() {
                Ok(ports) => _ = allowed_traffic.ports.insert((protocol, ports)),
                Err(_) => _ = foreign_parts.insert(format!("{protocol}/{text}")),
            }
        }
    }
    allowed_traffic.to_rules()
}

/// Parses a protocol's name or number; Google accepts both.
fn parse_protocol(text: &str) -> Option<Protocol> {
    let known = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    known.into_iter().find(|protocol| text == protocol.to_string() || text == protocol.number().to_string())
}

/// Adds the sources and targets that are not ranges or network tags of targets to `foreign_parts`.
fn add_foreign_parties(firewall: &Firewall, foreign_parts: &mut BTreeSet<String>) {
    let parties = [
        ("from instances tagged", &firewall.source_tags),
        ("from instances of service account", &firewall.source_service_accounts),
        ("to instances of service account", &firewall.target_service_accounts),
    ];
    for (party, names) in parties {
        foreign_parts.extend(names.iter().map(|name| format!("{party} {name}")));
    }
}

/// Returns the whole rule, for insert and update.
pub(crate) fn write(rule: &FirewallRule, cluster: &str) -> Firewall {
    let rest = Firewall::new()
        .set_name(&rule.name)
        .set_description(OwnershipMark::for_rule(rule, cluster).to_description())
        .set_network(rule.network.to_string())
        .set_direction(Direction::Ingress)
        .set_priority(rule.priority)
        .set_disabled(!rule.is_enabled);
    set_tags(set_destinations(set_traffic(rest, &rule.rules), rule), rule)
}

fn set_traffic(firewall: Firewall, rules: &RuleSet) -> Firewall {
    let ports: BTreeSet<_> = rules.iter().map(|rule| (rule.protocol, rule.ports)).collect();
    let sources: BTreeSet<IpNet> = rules.iter().map(|rule| rule.source).collect();
    let protocols: BTreeSet<Protocol> = ports.iter().map(|(protocol, _)| *protocol).collect();
    let allowed = protocols.into_iter().map(|protocol| {
        let own = ports.iter().filter(|(other, _)| *other == protocol).map(|(_, ports)| ports.to_string());
        Allowed::new().set_ip_protocol(protocol.to_string()).set_ports(own)
    });
    firewall.set_allowed(allowed).set_source_ranges(sources.iter().map(ToString::to_string))
}

fn set_destinations(firewall: Firewall, rule: &FirewallRule) -> Firewall {
    firewall.set_destination_ranges(rule.destinations.iter().map(ToString::to_string))
}

fn set_tags(firewall: Firewall, rule: &FirewallRule) -> Firewall {
    firewall.set_target_tags(rule.tags.iter().cloned())
}

/// Returns the JSON merge patch that changes one rule into another: only the fields that differ. `None` if a
/// list would have to be emptied, which the client library cannot write: then the whole rule is updated.
pub(crate) fn patch(from: &FirewallRule, to: &FirewallRule) -> Option<Firewall> {
    let empties_a_list = !from.foreign_parts.is_empty()
        || to.destinations.is_empty() && !from.destinations.is_empty()
        || to.tags.is_empty() && !from.tags.is_empty();
    if empties_a_list {
        return None;
    }
    let mut patch = Firewall::new().set_name(&to.name);
    if from.rules != to.rules {
        patch = set_traffic(patch, &to.rules);
    }
    if from.destinations != to.destinations {
        patch = set_destinations(patch, to);
    }
    if from.tags != to.tags {
        patch = set_tags(patch, to);
    }
    if from.priority != to.priority {
        patch = patch.set_priority(to.priority);
    }
    if from.is_enabled != to.is_enabled {
        patch = patch.set_disabled(!to.is_enabled);
    }
    Some(patch)
}

#[cfg(test)]
mod tests;
