//! The mark by which a firewall rule is known to be this cluster's: its name's prefix, and its description.
//!
//! Firewall rules have no labels. A name can be taken by anybody, and a description copied; only a rule with both
//! is ever changed.

use firewall_core::{GroupKey, digest};
use serde::{Deserialize, Serialize};

use crate::network::Network;
use crate::resource::{FirewallRule, PortsBySources};

/// What names of ours begin with, before the cluster's digest.
const PREFIX: &str = "hpf";

/// The longest description that Compute Engine takes is 2,048 characters; a group with a hundred ports has a long
/// name, and the rest of the description must fit beside it.
const LONGEST_GROUP: usize = 1500;

/// The form of the description.
const VERSION: u32 = 1;

/// The description of a rule of ours, as JSON.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OwnershipMark {
    managed_by: String,
    version: u32,
    cluster: String,
    /// The firewall group, for people
    pub(crate) group: String,
}

impl OwnershipMark {
    /// The mark that a rule gets.
    pub(crate) fn of(rule: &FirewallRule, cluster: &str) -> Self {
        Self::new(cluster, rule.serves.first().map_or("", String::as_str))
    }

    fn new(cluster: &str, group: &str) -> Self {
        let group = group[..group.floor_char_boundary(LONGEST_GROUP)].to_owned();
        Self {
            managed_by: "hostport-firewall".to_owned(),
            version: VERSION,
            cluster: cluster.to_owned(),
            group,
        }
    }

    /// The description that carries the mark.
    pub(crate) fn description(&self) -> String {
        serde_json::to_string(self).expect("four plain fields can always be written as JSON")
    }

    /// The mark of a rule, if it is this cluster's. Later versions may add fields; they stay ours.
    pub(crate) fn read(name: &str, description: &str, cluster: &str) -> Option<Self> {
        let mark: Self = serde_json::from_str(description).ok()?;
        let ours = mark.managed_by == "hostport-firewall" && mark.cluster == cluster;
        (ours && name.starts_with(&prefix(cluster))).then_some(mark)
    }
}

/// What the names of all rules and tags of a cluster begin with, and of no other's.
pub(crate) fn prefix(cluster: &str) -> String {
    format!("{PREFIX}-{}-", digest([cluster]))
}

/// The name of a rule, without the number of its shard. Sources may change under the same name, ports do not.
pub(crate) fn base_name(
    cluster: &str,
    group: &GroupKey,
    network: &Network,
    part: &PortsBySources,
    chunk: usize,
) -> String {
    let family = if part.sources.iter().any(|source| source.addr().is_ipv6()) { "6" } else { "4" };
    let ports: Vec<String> =
        part.ports.iter().map(|(protocol, ports)| format!("{protocol}/{ports}")).collect();
    let (group, network, chunk) = (group.digest(), network.to_string(), chunk.to_string());
    let part = digest([group.as_str(), &network, family, &ports.join(","), &chunk]);
    format!("{}{part}", prefix(cluster))
}

/// The name of a shard.
pub(crate) fn shard_name(base: &str, shard: usize) -> String {
    format!("{base}-{shard}")
}

/// The parts of a shard's name.
pub(crate) fn shard_of(name: &str) -> Option<(&str, usize)> {
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
    fn a_mark_is_read_back_and_only_by_its_own_cluster() {
        let mark = OwnershipMark::new("prod", "Deployment default/web tcp/80");
        let name = format!("{}x", prefix("prod"));
        assert_eq!(OwnershipMark::read(&name, &mark.description(), "prod"), Some(mark));
        let description = OwnershipMark::new("prod", "").description();
        assert_eq!(OwnershipMark::read(&name, &description, "prod-2"), None, "another cluster");
        assert_eq!(OwnershipMark::read("web", &description, "prod"), None, "another name");
        for other in ["", "web", "{}", r#"{"managedBy":"someone","version":1,"cluster":"prod","group":""}"#] {
            assert_eq!(OwnershipMark::read(&name, other, "prod"), None, "{other}");
        }
    }

    #[test]
    fn a_description_fits_however_many_ports_a_group_has() {
        let mark = OwnershipMark::new(&"c".repeat(100), &"ö/\"".repeat(1000));
        assert!(mark.description().chars().count() <= 2048);
    }

    #[test]
    fn a_name_fits_and_says_which_shard_it_is() {
        let (key, firewall_group) = group("web", &["tcp/80 10.0.0.0/8"], &[]);
        let part = PortsBySources::of(&firewall_group.rules).expect("one product");
        let network = |name: &str| Network { project: "p".into(), name: name.into() };
        let base = base_name("prod", &key, &network("a"), &part, 0);
        let name = shard_name(&base, 999);
        assert!(is_name(&name), "{name}");
        assert_eq!(shard_of(&name), Some((base.as_str(), 999)));
        let others: BTreeSet<String> = [
            base_name("prod-2", &key, &network("a"), &part, 0),
            base_name("prod", &key, &network("b"), &part, 0),
            base_name("prod", &key, &network("a"), &part, 1),
        ]
        .into();
        assert!(others.len() == 3 && !others.contains(&base));
    }
}
