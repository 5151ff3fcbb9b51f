//! Rules: the ingress rules of a request on a node, and the text that keeps its group apart from similar
//! ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use firewall_core::{IngressRule, RuleSet};
use ipnet::IpNet;

use super::host_port::HostPort;
use crate::parse::family::Family;
use crate::parse::ports::{PortRanges, merge, subtract};

/// Maximum rules of one request: no interface on EC2 can have more than 1,000, and everybody's plan takes the
/// time for all of them.
const MAX_RULES: usize = 1000;

/// The sources that an intent names for a port; `None` stands for the default.
pub(super) type Sources = Option<Arc<[IpNet]>>;

/// Builds the ingress rules of these ports. A port that is bound to one address is reached over that
/// address's family only.
///
/// # Errors
/// If there are more rules than any cloud allows.
pub(super) fn build_rules(ports: &[(HostPort, Sources)], defaults: &[IpNet]) -> Result<RuleSet, String> {
    type PortsBySources<'a> = BTreeMap<(&'a [IpNet], Option<Family>), PortRanges>;
    let mut by_sources = PortsBySources::new();
    for (port, sources) in ports {
        let sources = sources.as_deref().unwrap_or(defaults);
        by_sources.entry((sources, port.family)).or_default().insert((port.protocol, port.ports));
    }
    let mut rules: Vec<IngressRule> = Vec::new();
    for ((sources, family), ports) in by_sources {
        let reaching = sources.iter().filter(|source| family.is_none_or(|family| family.includes(source)));
        let reaching = IpNet::aggregate(&reaching.map(IpNet::trunc).collect());
        let ranges = merge(ports);
        if rules.len() + ranges.len() * reaching.len() > MAX_RULES {
            return Err(format!(
                "the ports and source ranges make more than {MAX_RULES} rules, which no cloud allows for one \
                 instance; name fewer, wider ranges"
            ));
        }
        for (protocol, ports) in ranges {
            rules.extend(reaching.iter().map(|source| IngressRule::new(protocol, ports, *source)));
        }
    }
    Ok(rules.into_iter().collect())
}

/// Returns the rules whose sources are of these families.
pub(super) fn filter_by_family(rules: &RuleSet, families: &BTreeSet<Family>) -> RuleSet {
    let is_included = |rule: &&IngressRule| families.iter().any(|family| family.includes(&rule.source));
    rules.iter().filter(is_included).copied().collect()
}

/// Returns the ports that no source can reach: those named are of another family than the address that the
/// port is bound to, or than the node's.
pub(super) fn find_unreachable_ports(ports: &PortRanges, rules: &RuleSet) -> PortRanges {
    subtract(ports, &merge(rules.iter().map(|rule| (rule.protocol, rule.ports))))
}

/// Formats the differences between the rules of pods that share an intent and its sources: the families of
/// their nodes, on which the default depends, and the addresses that ports are bound to.
///
/// The node's families count whether or not the default applies: an Ingress that begins to name its sources
/// keeps its groups, and no node has to be attached anew.
pub(super) fn format_family_variant(families: &BTreeSet<Family>, ports: &[(HostPort, Sources)]) -> String {
    let families: Vec<String> = families.iter().map(ToString::to_string).collect();
    let bound: BTreeSet<String> = ports
        .iter()
        .filter_map(|(port, _)| Some(format!(" {}/{} {}", port.protocol, port.ports, port.family?)))
        .collect();
    bound.into_iter().fold(families.join("+"), |text, port| text + &port)
}

/// Returns true if a number is among the ports more than once with different sources or addresses. Then the
/// request alone does not determine the number's rules, because another pod may bind only one of the two.
pub(super) fn has_ambiguous_ports(ports: &[(HostPort, Sources)]) -> bool {
    let mut first = BTreeMap::new();
    ports.iter().any(|(port, sources)| {
        let this = (sources, port.family);
        *first.entry((port.protocol, port.ports)).or_insert(this) != this
    })
}

#[cfg(test)]
mod tests {
    use firewall_core::{PortRange, Protocol};

    use super::*;

    #[test]
    fn rules_beyond_the_limit_of_any_cloud_are_rejected() {
        let port = |number: u16| HostPort {
            protocol: Protocol::Tcp,
            ports: PortRange::single(number).expect("not 0"),
            name: None,
            container: String::new(),
            family: None,
        };
        // Neither the ports nor the sources are adjacent: nothing coalesces.
        let ports: Vec<HostPort> = (1..=500).map(|number| port(2 * number)).collect();
        let source = |number: u8| IpNet::from(std::net::IpAddr::from([192, 0, 2, 2 * number]));
        let sources: Vec<IpNet> = (0..2).map(source).collect();
        let count = |sources: &[IpNet]| -> Result<usize, String> {
            let sources: Sources = Some(sources.into());
            let ports: Vec<_> = ports.iter().map(|port| (port.clone(), sources.clone())).collect();
            Ok(build_rules(&ports, &[])?.len())
        };
        assert_eq!(count(&sources), Ok(1000));
        assert!(count(&[sources, vec![source(9)]].concat()).is_err());
    }
}
