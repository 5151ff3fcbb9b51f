//! A firewall rule as the Compute Engine API writes it.

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

/// Reads a rule whose name is ours.
pub(crate) fn read(firewall: &Firewall, config: &GceConfig) -> FirewallRule {
    let name = firewall.name.clone().unwrap_or_default();
    let network = Network::parse(firewall.network.as_deref().unwrap_or_default(), config.rule_project());
    let mark =
        OwnershipMark::read(&name, firewall.description.as_deref().unwrap_or_default(), &config.cluster);
    let direction = firewall.direction.as_ref().unwrap_or(&Direction::Ingress);
    let plain = *direction == Direction::Ingress && firewall.denied.is_empty();
    // A rule of ours never is one of these, and a PATCH could not make it what it should be.
    let ours = mark.is_some() && plain && network.is_ok();
    let mut foreign_parts = BTreeSet::new();
    let (destinations, wide) = addresses(&firewall.destination_ranges);
    foreign_parts.extend(wide.into_iter().map(|range| format!("to {range}")));
    let rules = rules(firewall, &mut foreign_parts);
    stray_parties(firewall, &mut foreign_parts);
    FirewallRule {
        name,
        network: network.unwrap_or_else(|_| Network { project: String::new(), name: String::new() }),
        rules,
        destinations,
        tags: firewall.target_tags.iter().cloned().collect(),
        foreign_parts,
        priority: firewall.priority.and_then(|priority| u16::try_from(priority).ok()).unwrap_or(1000),
        enabled: firewall.disabled != Some(true),
        serves: mark.into_iter().map(|mark| mark.group).collect(),
        owner: if ours { Owner::Ours } else { Owner::Foreign },
        capacity: config.capacity(),
    }
}

/// Single addresses, and everything else as it is written.
fn addresses(ranges: &[String]) -> (BTreeSet<IpNet>, Vec<&String>) {
    let single = |text: &String| range(text).filter(|range| range.prefix_len() == range.max_prefix_len());
    let wide = ranges.iter().filter(|text| single(text).is_none()).collect();
    (ranges.iter().filter_map(single).collect(), wide)
}

/// A CIDR, or a single address, which Google takes for one.
fn range(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().map(IpNet::from).ok())
}

fn rules(firewall: &Firewall, foreign_parts: &mut BTreeSet<String>) -> RuleSet {
    let mut product = PortsBySources { ports: BTreeSet::new(), sources: BTreeSet::new() };
    for text in &firewall.source_ranges {
        match range(text) {
            Some(range) => _ = product.sources.insert(range),
            None => _ = foreign_parts.insert(format!("from {text}")),
        }
    }
    for allowed in &firewall.allowed {
        let name = allowed.ip_protocol.as_deref().unwrap_or_default();
        let Some(protocol) = protocol(name).filter(|_| !allowed.ports.is_empty()) else {
            foreign_parts.insert(format!("all of protocol {name}"));
            continue;
        };
        for text in &allowed.ports {
            match text.parse::<PortRange>() {
                Ok(ports) => _ = product.ports.insert((protocol, ports)),
                Err(_) => _ = foreign_parts.insert(format!("{protocol}/{text}")),
            }
        }
    }
    product.rules()
}

/// A protocol by name or number, as Google accepts both.
fn protocol(text: &str) -> Option<Protocol> {
    let known = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    known.into_iter().find(|protocol| text == protocol.to_string() || text == protocol.number().to_string())
}

fn stray_parties(firewall: &Firewall, foreign_parts: &mut BTreeSet<String>) {
    let parties = [
        ("from instances tagged", &firewall.source_tags),
        ("from instances of service account", &firewall.source_service_accounts),
        ("to instances of service account", &firewall.target_service_accounts),
    ];
    for (what, names) in parties {
        foreign_parts.extend(names.iter().map(|name| format!("{what} {name}")));
    }
}

/// The whole rule, for insert and update.
pub(crate) fn write(rule: &FirewallRule, cluster: &str) -> Firewall {
    let rest = Firewall::new()
        .set_name(&rule.name)
        .set_description(OwnershipMark::of(rule, cluster).description())
        .set_network(rule.network.to_string())
        .set_direction(Direction::Ingress)
        .set_priority(rule.priority)
        .set_disabled(!rule.enabled);
    tags(destinations(traffic(rest, &rule.rules), rule), rule)
}

fn traffic(firewall: Firewall, rules: &RuleSet) -> Firewall {
    let ports: BTreeSet<_> = rules.iter().map(|rule| (rule.protocol, rule.ports)).collect();
    let sources: BTreeSet<IpNet> = rules.iter().map(|rule| rule.source).collect();
    let protocols: BTreeSet<Protocol> = ports.iter().map(|(protocol, _)| *protocol).collect();
    let allowed = protocols.into_iter().map(|protocol| {
        let own = ports.iter().filter(|(other, _)| *other == protocol).map(|(_, ports)| ports.to_string());
        Allowed::new().set_ip_protocol(protocol.to_string()).set_ports(own)
    });
    firewall.set_allowed(allowed).set_source_ranges(sources.iter().map(ToString::to_string))
}

fn destinations(firewall: Firewall, rule: &FirewallRule) -> Firewall {
    firewall.set_destination_ranges(rule.destinations.iter().map(ToString::to_string))
}

fn tags(firewall: Firewall, rule: &FirewallRule) -> Firewall {
    firewall.set_target_tags(rule.tags.iter().cloned())
}

/// What turns one rule into another by a JSON merge patch: only the fields that differ. `None` if a list would
/// have to be emptied, which the client library cannot write: then the whole rule is updated.
pub(crate) fn patch(from: &FirewallRule, to: &FirewallRule) -> Option<Firewall> {
    let emptied = !from.foreign_parts.is_empty()
        || to.destinations.is_empty() && !from.destinations.is_empty()
        || to.tags.is_empty() && !from.tags.is_empty();
    if emptied {
        return None;
    }
    let mut patch = Firewall::new().set_name(&to.name);
    if from.rules != to.rules {
        patch = traffic(patch, &to.rules);
    }
    if from.destinations != to.destinations {
        patch = destinations(patch, to);
    }
    if from.tags != to.tags {
        patch = tags(patch, to);
    }
    if from.priority != to.priority {
        patch = patch.set_priority(to.priority);
    }
    if from.enabled != to.enabled {
        patch = patch.set_disabled(!to.enabled);
    }
    Some(patch)
}

#[cfg(test)]
mod tests;
