//! Ownership: the mark that identifies a firewall rule as this cluster's, and the names of rules and tags.
//!
//! Firewall rules have no labels, so the mark is the prefix of the name together with the description. Anyone
//! can choose the same name or copy a description; only a rule that has both is ever changed.

use firewall_core::{GroupKey, digest};
use serde::{Deserialize, Serialize};

use crate::config::{GceConfig, Mode};
use crate::network::Network;
use crate::resource::{FirewallRule, PortsBySources};

/// Prefix of all names of rules and tags, before the cluster's digest.
const NAME_PREFIX: &str = "hpf";

/// Most bytes of the group's name in the description. Compute Engine accepts descriptions of at most 2,048
/// characters; the name of a group with a hundred ports is long, and the other fields must fit too.
const MAX_GROUP_BYTES: usize = 1500;

/// Version of the description's format.
const VERSION: u32 = 1;

/// The ownership mark in a rule's description, written as JSON.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OwnershipMark {
    managed_by: String,
    version: u32,
    cluster: String,
    /// The firewall group, for human readers
    pub(crate) group: String,
}

impl OwnershipMark {
    /// Returns the mark for a rule of the cluster.
    pub(crate) fn for_rule(rule: &FirewallRule, cluster: &str) -> Self {
        Self::new(cluster, rule.serves.first().map_or("", String::as_str))
    }

    fn new(cluster: &str, group: &str) -> Self {
        let group = group[..group.floor_char_boundary(MAX_GROUP_BYTES)].to_owned();
        Self {
            managed_by: "hostport-firewall".to_owned(),
            version: VERSION,
            cluster: cluster.to_owned(),
            group,
        }
    }

    /// Returns the description that carries the mark.
    pub(crate) fn to_description(&self) -> String {
        serde_json::to_string(self).expect("a number and three texts can be serialized as JSON")
    }

    /// Returns the mark of a rule, if it is this cluster's. Later versions may add fields; their rules stay
    /// this cluster's.
    pub(crate) fn parse(name: &str, description: &str, cluster: &str) -> Option<Self> {
        let mark: Self = serde_json::from_str(description).ok()?;
        let is_ours = mark.managed_by == "hostport-firewall" && mark.cluster == cluster;
        (is_ours && name.starts_with(&prefix(cluster))).then_some(mark)
    }
}

/// Returns the prefix of the names of all rules and tags of a cluster, which differs from every other
/// cluster's.
pub(crate) fn prefix(cluster: &str) -> String {
    format!("{NAME_PREFIX}-{}-", digest([cluster]))
}

/// Returns the name of a rule, without its shard number. A change of the sources keeps the name, a change of
/// the ports or of the mode does not.
pub(crate) fn base_name(
    config: &GceConfig,
    group: &GroupKey,
    network: &Network,
    ports_by_sources: &PortsBySources,
    chunk: usize,
) -> String {
    let family =
        if ports_by_sources.sources.iter().any(|source| source.addr().is_ipv6()) { "6" } else { "4" };
    let ports: Vec<String> =
        ports_by_sources.ports.iter().map(|(protocol, ports)| format!("{protocol}/{ports}")).collect();
    let identity =
        [group.digest(), network.to_string(), family.to_owned(), ports.join(","), chunk.to_string()];
    let mode = match config.mode {
        Mode::Destination => None,
        Mode::Tags => Some("tags"),
    };
    format!("{}{}", prefix(&config.cluster), digest(identity.iter().map(String::as_str).chain(mode)))
}

/// Returns the name of a rule that is the shard of this number.
pub(crate) fn shard_name(base: &str, shard: usize) -> String {
    format!("{base}-{shard}")
}

/// Splits a rule's name into the name without shard number, and the shard number.
pub(crate) fn split_shard_name(name: &str) -> Option<(&str, usize)> {
    let (base, shard) = name.rsplit_once('-')?;
    Some((base, shard.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use firewall_core::testing::conformance::group;

    use super::*;
    use crate::network::is_name;

    #[test]
    fn mark_is_parsed_only_by_its_own_cluster() {
        let mark = OwnershipMark::new("prod", "Deployment default/web tcp/80");
        let name = format!("{}x", prefix("prod"));
        assert_eq!(OwnershipMark::parse(&name, &mark.to_description(), "prod"), Some(mark));
        let description = OwnershipMark::new("prod", "").to_description();
        assert_eq!(OwnershipMark::parse(&name, &description, "prod-2"), None, "another cluster");
        assert_eq!(OwnershipMark::parse("web", &description, "prod"), None, "another name");
        for other in ["", "web", "{}", r#"{"managedBy":"someone","version":1,"cluster":"prod","group":""}"#] {
            assert_eq!(OwnershipMark::parse(&name, other, "prod"), None, "{other}");
        }
    }

    #[test]
    fn description_of_a_long_group_name_is_within_the_limit() {
        let mark = OwnershipMark::new(&"c".repeat(100), &"ö/\"".repeat(1000));
        assert!(mark.to_description().chars().count() <= 2048);
    }

    #[test]
    fn rule_name_is_valid_and_unique_and_holds_the_shard() {
        let (key, firewall_group) = group("web", &["tcp/80 10.0.0.0/8"], &[]);
        let ports = PortsBySources::from_rules(&firewall_group.rules).expect("ports with the same sources");
        let network = |name: &str| Network { project: "p".into(), name: name.into() };
        let config = |cluster: &str| GceConfig::new(cluster, "p");
        let base = base_name(&config("prod"), &key, &network("a"), &ports, 0);
        let name = shard_name(&base, 999);
        assert!(is_name(&name), "{name}");
        assert_eq!(split_shard_name(&name), Some((base.as_str(), 999)));
        let others: BTreeSet<String> = [
            base_name(&config("prod-2"), &key, &network("a"), &ports, 0),
            base_name(&config("prod"), &key, &network("b"), &ports, 0),
            base_name(&config("prod"), &key, &network("a"), &ports, 1),
            base_name(&GceConfig { mode: Mode::Tags, ..config("prod") }, &key, &network("a"), &ports, 0),
        ]
        .into();
        assert!(others.len() == 4 && !others.contains(&base));
    }
}
