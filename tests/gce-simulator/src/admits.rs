//! The traffic that the rules let in to an instance, as the network would decide it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;
use serde_json::Value;

use crate::firewall::{API, parse_range};
use crate::instance::{Instance, Interface};

/// Traffic that a rule lets in: a source, and the ports that it may reach.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Admitted {
    /// `tcp`, `udp`, …, or `all`
    pub protocol: String,
    /// A port or a range of ports; all ports if `None`
    pub ports: Option<String>,
    /// The addresses that may connect
    pub source: IpNet,
    /// The name of the allow rule
    pub firewall: String,
    /// Names of the deny rules that exclude a part of it
    pub denied_in_part_by: BTreeSet<String>,
}

/// Returns the traffic that `firewalls` let in to any interface of the instance.
pub(crate) fn list_admitted(instance: &Instance, firewalls: &[&Value]) -> Vec<Admitted> {
    let mut all = BTreeSet::new();
    for interface in &instance.interfaces {
        let applying: Vec<&Value> =
            firewalls.iter().copied().filter(|rule| applies(rule, instance, interface)).collect();
        let denying: Vec<&Value> =
            applying.iter().copied().filter(|rule| rule.get("denied").is_some()).collect();
        for rule in applying.iter().filter(|rule| rule.get("allowed").is_some()) {
            all.extend(
                list_openings(rule, "allowed").filter_map(|opening| apply_denials(opening, rule, &denying)),
            );
        }
    }
    all.into_iter().collect()
}

fn texts<'a>(rule: &'a Value, field: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    rule[field].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Returns true if the rule applies to traffic that arrives at the interface.
fn applies(rule: &Value, instance: &Instance, interface: &Interface) -> bool {
    let network = rule["network"].as_str().and_then(|network| network.strip_prefix(API)?.strip_prefix('/'));
    let here = network == Some(interface.network.as_str())
        && rule["direction"] == "INGRESS"
        && rule["disabled"] != Value::Bool(true);
    let tagged =
        rule.get("targetTags").is_none() || texts(rule, "targetTags").any(|tag| instance.tags.contains(tag));
    let account = rule.get("targetServiceAccounts").is_none()
        || texts(rule, "targetServiceAccounts").any(|account| instance.service_accounts.contains(account));
    here && tagged && account && has_destination(rule, interface)
}

/// Returns true if the rule has no destination ranges, or one that contains an address of the interface.
///
/// Traffic to an external IPv4 address arrives at the internal one; IPv6 is not translated.
fn has_destination(rule: &Value, interface: &Interface) -> bool {
    let own = [
        interface.ipv4.map(IpAddr::from),
        interface.ipv6.map(IpAddr::from),
        interface.external_ipv6.map(IpAddr::from),
    ];
    let mut ranges = texts(rule, "destinationRanges").filter_map(parse_range);
    rule.get("destinationRanges").is_none()
        || ranges.any(|range| own.iter().flatten().any(|address| range.contains(address)))
}

fn list_openings<'a>(rule: &'a Value, field: &'a str) -> impl Iterator<Item = Admitted> + use<'a> {
    let entries = rule[field].as_array().into_iter().flatten();
    let traffic = entries.flat_map(|entry| {
        let protocol = protocol_name(entry["IPProtocol"].as_str().unwrap_or_default());
        let ports: Vec<Option<String>> = match entry["ports"].as_array() {
            Some(ports) => ports.iter().map(|ports| ports.as_str().map(ToOwned::to_owned)).collect(),
            None => vec![None],
        };
        ports.into_iter().map(move |ports| (protocol.clone(), ports))
    });
    traffic.flat_map(move |(protocol, ports)| {
        texts(rule, "sourceRanges").filter_map(parse_range).map(move |source| Admitted {
            protocol: protocol.clone(),
            ports: ports.clone(),
            source,
            firewall: rule["name"].as_str().unwrap_or_default().to_owned(),
            denied_in_part_by: BTreeSet::new(),
        })
    })
}

fn protocol_name(text: &str) -> String {
    match text.to_ascii_lowercase().as_str() {
        "6" => "tcp".to_owned(),
        "17" => "udp".to_owned(),
        "132" => "sctp".to_owned(),
        other => other.to_owned(),
    }
}

/// Returns the opening, with the deny rules that cover a part of it, or `None` if one covers all of it. Only
/// those of the same or a lower priority number count.
fn apply_denials(mut opening: Admitted, rule: &Value, denying: &[&Value]) -> Option<Admitted> {
    let before = |other: &&&Value| other["priority"].as_i64() <= rule["priority"].as_i64();
    for denial in denying.iter().filter(before).flat_map(|rule| list_openings(rule, "denied")) {
        if covers(&denial, &opening) {
            return None;
        }
        if overlaps(&denial, &opening) {
            opening.denied_in_part_by.insert(denial.firewall);
        }
    }
    Some(opening)
}

fn port_bounds(ports: Option<&String>) -> (u16, u16) {
    let port = |text: &str| text.parse().unwrap_or_default();
    let Some(ports) = ports else { return (0, u16::MAX) };
    ports
        .split_once('-')
        .map_or_else(|| (port(ports), port(ports)), |(first, last)| (port(first), port(last)))
}

fn same_protocol(denial: &Admitted, opening: &Admitted) -> bool {
    denial.protocol == "all" || denial.protocol == opening.protocol
}

fn covers(denial: &Admitted, opening: &Admitted) -> bool {
    let ((first, last), (from, to)) =
        (port_bounds(denial.ports.as_ref()), port_bounds(opening.ports.as_ref()));
    same_protocol(denial, opening) && first <= from && to <= last && denial.source.contains(&opening.source)
}

fn overlaps(denial: &Admitted, opening: &Admitted) -> bool {
    let ((first, last), (from, to)) =
        (port_bounds(denial.ports.as_ref()), port_bounds(opening.ports.as_ref()));
    let sources = denial.source.contains(&opening.source) || opening.source.contains(&denial.source);
    (same_protocol(denial, opening) || opening.protocol == "all") && first <= to && from <= last && sources
}
