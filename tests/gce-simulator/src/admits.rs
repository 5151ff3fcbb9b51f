//! What the rules let in to an instance, as the network would decide it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;
use serde_json::Value;

use crate::firewall::{API, range};
use crate::machine::{Interface, Machine};

/// One thing that is let in: who may reach which ports, and by which rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Admitted {
    /// `tcp`, `udp`, …, or `all`
    pub protocol: String,
    /// A port or a range of ports; all of them if `None`
    pub ports: Option<String>,
    /// Who may connect
    pub source: IpNet,
    /// The name of the rule that lets it in
    pub firewall: String,
    /// Deny rules that take a part of it away
    pub denied_in_part_by: BTreeSet<String>,
}

/// Everything that `firewalls` let in to the instance, whatever its interface.
pub(crate) fn admitted(machine: &Machine, firewalls: &[&Value]) -> Vec<Admitted> {
    let mut all = BTreeSet::new();
    for interface in &machine.interfaces {
        let applying: Vec<&Value> =
            firewalls.iter().copied().filter(|rule| applies(rule, machine, interface)).collect();
        let denying: Vec<&Value> =
            applying.iter().copied().filter(|rule| rule.get("denied").is_some()).collect();
        for rule in applying.iter().filter(|rule| rule.get("allowed").is_some()) {
            all.extend(openings(rule, "allowed").filter_map(|opening| undenied(opening, rule, &denying)));
        }
    }
    all.into_iter().collect()
}

fn texts<'a>(rule: &'a Value, field: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    rule[field].as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn applies(rule: &Value, machine: &Machine, interface: &Interface) -> bool {
    let network = rule["network"].as_str().and_then(|network| network.strip_prefix(API)?.strip_prefix('/'));
    let here = network == Some(interface.network.as_str())
        && rule["direction"] == "INGRESS"
        && rule["disabled"] != Value::Bool(true);
    let tagged =
        rule.get("targetTags").is_none() || texts(rule, "targetTags").any(|tag| machine.tags.contains(tag));
    let account = rule.get("targetServiceAccounts").is_none()
        || texts(rule, "targetServiceAccounts").any(|account| machine.service_accounts.contains(account));
    here && tagged && account && addressed(rule, interface)
}

/// Traffic to an external IPv4 address arrives at the internal one; IPv6 is not translated.
fn addressed(rule: &Value, interface: &Interface) -> bool {
    let own = [
        interface.ipv4.map(IpAddr::from),
        interface.ipv6.map(IpAddr::from),
        interface.external_ipv6.map(IpAddr::from),
    ];
    let mut ranges = texts(rule, "destinationRanges").filter_map(range);
    rule.get("destinationRanges").is_none()
        || ranges.any(|range| own.iter().flatten().any(|address| range.contains(address)))
}

fn openings<'a>(rule: &'a Value, field: &'a str) -> impl Iterator<Item = Admitted> + use<'a> {
    let entries = rule[field].as_array().into_iter().flatten();
    let traffic = entries.flat_map(|entry| {
        let protocol = protocol(entry["IPProtocol"].as_str().unwrap_or_default());
        let ports: Vec<Option<String>> = match entry["ports"].as_array() {
            Some(ports) => ports.iter().map(|ports| ports.as_str().map(ToOwned::to_owned)).collect(),
            None => vec![None],
        };
        ports.into_iter().map(move |ports| (protocol.clone(), ports))
    });
    traffic.flat_map(move |(protocol, ports)| {
        texts(rule, "sourceRanges").filter_map(range).map(move |source| Admitted {
            protocol: protocol.clone(),
            ports: ports.clone(),
            source,
            firewall: rule["name"].as_str().unwrap_or_default().to_owned(),
            denied_in_part_by: BTreeSet::new(),
        })
    })
}

fn protocol(text: &str) -> String {
    match text.to_ascii_lowercase().as_str() {
        "6" => "tcp".to_owned(),
        "17" => "udp".to_owned(),
        "132" => "sctp".to_owned(),
        other => other.to_owned(),
    }
}

/// What a deny rule of the same or a lower number leaves of it.
fn undenied(mut opening: Admitted, rule: &Value, denying: &[&Value]) -> Option<Admitted> {
    let before = |other: &&&Value| other["priority"].as_i64() <= rule["priority"].as_i64();
    for denial in denying.iter().filter(before).flat_map(|rule| openings(rule, "denied")) {
        if covers(&denial, &opening) {
            return None;
        }
        if overlaps(&denial, &opening) {
            opening.denied_in_part_by.insert(denial.firewall);
        }
    }
    Some(opening)
}

fn bounds(ports: Option<&String>) -> (u16, u16) {
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
    let ((first, last), (from, to)) = (bounds(denial.ports.as_ref()), bounds(opening.ports.as_ref()));
    same_protocol(denial, opening) && first <= from && to <= last && denial.source.contains(&opening.source)
}

fn overlaps(denial: &Admitted, opening: &Admitted) -> bool {
    let ((first, last), (from, to)) = (bounds(denial.ports.as_ref()), bounds(opening.ports.as_ref()));
    let sources = denial.source.contains(&opening.source) || opening.source.contains(&denial.source);
    (same_protocol(denial, opening) || opening.protocol == "all") && first <= to && from <= last && sources
}
