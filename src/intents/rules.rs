//! Rules: what a pod's request lets in on its node, and what sets its group apart from those of its siblings.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use firewall_core::{IngressRule, PortRange, Protocol, RuleSet};
use ipnet::IpNet;

use super::host_port::HostPort;
use crate::parse::family::Family;
use crate::parse::ports::port_ranges;

/// More rules than this are refused for one pod: no interface on EC2 can have more than 1,000, and bringing them
/// into canonical form takes time that grows with their square.
const MOST: usize = 1000;

/// The sources that an intent names for a port; `None` stands for the default.
pub(super) type Sources = Option<Rc<[IpNet]>>;

/// What these ports let in. A port that is bound to one address is reached over that address's family only.
///
/// # Errors
/// If there are more rules than any cloud takes.
pub(super) fn rules(ports: &[(&HostPort, Sources)], defaults: &[IpNet]) -> Result<RuleSet, String> {
    type Alike<'a> = BTreeMap<(&'a [IpNet], Option<Family>), BTreeSet<(Protocol, u16)>>;
    let mut alike = Alike::new();
    for (port, sources) in ports {
        let sources = sources.as_deref().unwrap_or(defaults);
        alike.entry((sources, port.family)).or_default().insert((port.protocol, port.port));
    }
    let mut rules: Vec<IngressRule> = Vec::new();
    for ((sources, family), ports) in alike {
        let reaching = sources.iter().filter(|source| family.is_none_or(|family| family.holds(source)));
        let reaching = IpNet::aggregate(&reaching.map(IpNet::trunc).collect());
        let ranges = port_ranges(&ports);
        if rules.len() + ranges.len() * reaching.len() > MOST {
            return Err(format!(
                "the ports and source ranges make more than {MOST} rules, which no cloud takes for one instance; \
                 name fewer, wider ranges"
            ));
        }
        for (protocol, ports) in ranges {
            rules.extend(reaching.iter().map(|source| IngressRule::new(protocol, ports, *source)));
        }
    }
    Ok(rules.into_iter().collect())
}

/// The rules that let in sources of these families.
pub(super) fn of_families(rules: &RuleSet, families: &BTreeSet<Family>) -> RuleSet {
    let held = |rule: &&IngressRule| families.iter().any(|family| family.holds(&rule.source));
    rules.iter().filter(held).copied().collect()
}

/// The ports that no source can reach: those named are of another family than the address the port is bound to,
/// or than the node's.
pub(super) fn unreachable(
    ports: &BTreeSet<(Protocol, u16)>,
    rules: &RuleSet,
) -> BTreeSet<(Protocol, PortRange)> {
    let open = |protocol: Protocol, port: u16| {
        rules.iter().any(|rule| rule.protocol == protocol && rule.ports.contains(port))
    };
    port_ranges(&ports.iter().filter(|(protocol, port)| !open(*protocol, *port)).copied().collect())
}

/// What tells apart the rules of pods that share an intent and its sources: the families of their nodes, on which
/// the default depends, and the addresses that ports are bound to.
///
/// The node's families count whether or not the default applies: an Ingress that begins to name its sources keeps
/// its groups, and no node has to be attached anew.
pub(super) fn families_apart(families: &BTreeSet<Family>, ports: &[(&HostPort, Sources)]) -> String {
    let families: Vec<String> = families.iter().map(ToString::to_string).collect();
    let bound: BTreeSet<String> = ports
        .iter()
        .filter_map(|(port, _)| Some(format!(" {}/{} {}", port.protocol, port.port, port.family?)))
        .collect();
    bound.into_iter().fold(families.join("+"), |text, port| text + &port)
}

/// Whether a number is among them more than once with different sources or addresses: then what is asked for does not say
/// which rules that number has, because another pod may bind only one of the two.
pub(super) fn are_ambiguous(ports: &[(&HostPort, Sources)]) -> bool {
    let mut first = BTreeMap::new();
    ports.iter().any(|(port, sources)| {
        let this = (sources, port.family);
        *first.entry((port.protocol, port.port)).or_insert(this) != this
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_more_rules_than_a_cloud_takes_is_refused() {
        let port = |number: u16| HostPort {
            protocol: Protocol::Tcp,
            port: number,
            name: None,
            container: String::new(),
            family: None,
        };
        // Neither the ports nor the sources are adjacent: nothing coalesces.
        let ports: Vec<HostPort> = (1..=500).map(|number| port(2 * number)).collect();
        let source = |number: u8| IpNet::from(std::net::IpAddr::from([192, 0, 2, 2 * number]));
        let sources: Vec<IpNet> = (0..2).map(source).collect();
        let asked = |sources: &[IpNet]| -> Result<usize, String> {
            let sources: Sources = Some(sources.into());
            let ports: Vec<_> = ports.iter().map(|port| (port, sources.clone())).collect();
            Ok(rules(&ports, &[])?.len())
        };
        assert_eq!(asked(&sources), Ok(1000));
        assert!(asked(&[sources, vec![source(9)]].concat()).is_err());
    }
}
