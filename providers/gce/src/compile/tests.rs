//! Tests of compiling groups to firewall rules and tags.

mod chunks;

use std::net::{Ipv4Addr, Ipv6Addr};

use firewall_core::testing::conformance::{assert_incumbents_keep_capacity, desired, group};
use firewall_core::{RuleSet, Workload};
use proptest::prelude::*;

use super::*;
use crate::reasons;

const NETWORK: &str = "projects/p/global/networks/n";

fn instance(number: u8) -> InstanceId {
    InstanceId::new(format!("p/z/node-{number}"))
}

/// Returns the interface of the instance of this number.
fn interface(network: &str, number: u8) -> Interface {
    Interface {
        network: Network::parse(network, "").expect("a network"),
        ipv4: Some(Ipv4Addr::new(10, 0, 0, number)),
        ipv6: BTreeSet::from([Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number.into())]),
    }
}

/// Returns an instance with one interface, and without tags of this cluster.
fn instance_facts(interface: Interface) -> InstanceFacts {
    InstanceFacts { interfaces: vec![interface], foreign_tag_count: 2, own_tags: BTreeSet::new() }
}

/// Returns the facts about the instances of these numbers: 0 up to `count`.
fn inventory(count: u8) -> Inventory {
    let facts = |number| instance_facts(interface(NETWORK, number));
    Inventory {
        instances: (0..count).map(|number| (instance(number), facts(number))).collect(),
        ..Inventory::default()
    }
}

fn config() -> GceConfig {
    GceConfig::new("prod", "p")
}

fn tags_config() -> GceConfig {
    GceConfig { mode: Mode::Tags, ..config() }
}

fn rules(compiled: &Compiled<GceResource>) -> Vec<&FirewallRule> {
    compiled.resources.values().filter_map(GceResource::as_rule).collect()
}

fn reasons(compiled: &Compiled<GceResource>) -> Vec<&'static str> {
    compiled.infeasible.iter().map(|one| one.reason).collect()
}

/// Returns the ingress rules that apply to one member, evaluated as Google does for a packet.
fn open_on(compiled: &Compiled<GceResource>, number: u8) -> RuleSet {
    let own = interface(NETWORK, number);
    let tagged = compiled.resources.get(&GceKey::Tags(instance(number))).and_then(GceResource::as_tags);
    let applies = |rule: &&FirewallRule| {
        let mut addresses = own.addresses(false).into_iter().chain(own.addresses(true));
        let by_address = addresses.any(|address| rule.destinations.contains(&address));
        by_address || tagged.is_some_and(|tagged| !rule.tags.is_disjoint(&tagged.tags))
    };
    let rules = rules(compiled).into_iter().filter(applies);
    rules.fold(RuleSet::default(), |all, rule| all.union(&rule.rules))
}

#[test]
fn only_members_get_the_rules_of_a_group() {
    let both = ["tcp/80 0.0.0.0/0", "tcp/443 0.0.0.0/0", "tcp/80 ::/0", "tcp/443 ::/0", "udp/53 10.0.0.0/8"];
    let (key, wanted) = group("web", &both, &[&instance(0), &instance(1)]);
    for config in [config(), tags_config()] {
        let compiled = compile(&desired([(key.clone(), wanted.clone())]), &inventory(3), &config);
        assert_eq!(compiled.infeasible, []);
        assert_eq!(rules(&compiled).len(), 3, "one for each address family, and one for the other sources");
        assert_eq!(open_on(&compiled, 0), wanted.rules);
        assert_eq!(open_on(&compiled, 1), wanted.rules);
        assert!(open_on(&compiled, 2).is_empty());
        for rule in rules(&compiled) {
            let families: BTreeSet<bool> =
                rule.rules.iter().map(|rule| rule.source.addr().is_ipv6()).collect();
            assert_eq!(families.len(), 1, "Google rejects IPv4 and IPv6 in one rule");
        }
    }
}

#[test]
fn member_leaving_a_group_of_two_thousand_changes_one_rule() {
    let members: Vec<InstanceId> =
        (0..2000).map(|number| InstanceId::new(format!("p/z/node-{number}"))).collect();
    let facts = |number: u32| {
        let ipv4 = Some(Ipv4Addr::from(0x0a00_0000 + number));
        instance_facts(Interface { ipv4, ..interface(NETWORK, 0) })
    };
    let instances = (0_u32..).zip(&members).map(|(number, id)| (id.clone(), facts(number))).collect();
    let mut inventory = Inventory { instances, ..Inventory::default() };
    let all: Vec<&InstanceId> = members.iter().collect();
    let before = compile(&desired([group("web", &["tcp/80 0.0.0.0/0"], &all)]), &inventory, &config());
    assert_eq!(rules(&before).len(), 8);
    for rule in rules(&before) {
        let (base, shard) = ownership::split_shard_name(&rule.name).expect("a shard");
        inventory.shards.entry(base.to_owned()).or_default().insert(shard, rule.destinations.clone());
    }
    let after = compile(&desired([group("web", &["tcp/80 0.0.0.0/0"], &all[1..])]), &inventory, &config());
    let changed =
        before.resources.iter().filter(|(key, resource)| after.resources.get(key) != Some(resource));
    assert_eq!((changed.count(), after.resources.len()), (1, 8));
}

#[test]
fn rules_beyond_the_capacity_are_split_over_several() {
    let ports: Vec<String> = (0..150).map(|port| format!("tcp/{} 0.0.0.0/0", 1000 + 2 * port)).collect();
    let sources: Vec<String> = (0..=255).map(|net| format!("udp/53 10.{net}.0.0/17")).collect();
    for (texts, count) in [(ports, 2), (sources, 2)] {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let (key, wanted) = group("big", &texts, &[&instance(0)]);
        for config in [config(), tags_config()] {
            let compiled = compile(&desired([(key.clone(), wanted.clone())]), &inventory(1), &config);
            assert_eq!(rules(&compiled).len(), count);
            assert_eq!(open_on(&compiled, 0), wanted.rules);
        }
    }
}

#[test]
fn groups_with_similar_names_share_no_rule() {
    let key = |namespace: &str, name: &str| {
        let (mut key, wanted) = group("web", &["tcp/80 0.0.0.0/0"], &[&instance(0)]);
        let workload = Workload { kind: "Deployment".into(), namespace: namespace.into(), name: name.into() };
        key.workload = workload.into();
        (key, wanted)
    };
    for config in [config(), tags_config()] {
        let compiled = compile(&desired([key("a-b", "c"), key("a", "b-c")]), &inventory(1), &config);
        assert_eq!(rules(&compiled).len(), 2);
    }
}

#[test]
fn changed_sources_keep_the_rule_name() {
    let names = |source: &str| {
        let wanted = desired([group("web", &[&format!("tcp/80 {source}")], &[&instance(0)])]);
        compile(&wanted, &inventory(1), &config()).resources.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(names("10.0.0.0/8"), names("192.0.2.0/24"));
    assert_ne!(names("10.0.0.0/8"), names("2001:db8::/32"), "an IPv6 rule is another rule");
}

#[test]
fn infeasible_member_has_a_reason_and_delays_no_other() {
    let host = "projects/host/global/networks/n";
    let mut inventory = inventory(2);
    inventory.instances.insert(InstanceId::new("p/z/shared"), instance_facts(interface(host, 9)));
    let members = ["p/z/node-0", "p/z/missing", "q/z/node-0", "p/z/shared"].map(InstanceId::new);
    let wanted = desired([group("web", &["tcp/80 0.0.0.0/0"], &members.each_ref())]);
    let compiled = compile(&wanted, &inventory, &config());
    let mut found = reasons(&compiled);
    found.sort_unstable();
    let expected = [reasons::INSTANCE_NOT_FOUND, reasons::NETWORK_IN_OTHER_PROJECT, reasons::OTHER_PROJECT];
    assert_eq!(found, expected);
    assert_eq!(open_on(&compiled, 0).len(), 1, "the feasible member");

    let shared = GceConfig { network_project: Some("host".into()), ..config() };
    let compiled = compile(&wanted, &inventory, &shared);
    assert!(rules(&compiled).iter().all(|rule| rule.network.project == "host"), "{compiled:?}");
    let named = GceConfig { network: Some("other".into()), ..config() };
    assert!(reasons(&compile(&wanted, &inventory, &named)).contains(&reasons::NOT_IN_NETWORK));
    inventory.missing_network = Some(Network::parse("other", "p").expect("a network"));
    assert!(reasons(&compile(&wanted, &inventory, &named)).contains(&reasons::NETWORK_NOT_FOUND));
}

#[test]
fn interface_in_the_configured_network_is_selected() {
    let mut inventory = inventory(1);
    let facts = inventory.instances.get_mut(&instance(0)).expect("an instance");
    facts.interfaces.insert(0, interface("projects/p/global/networks/other", 77));
    let wanted = desired([group("web", &["tcp/80 0.0.0.0/0"], &[&instance(0)])]);
    let named = GceConfig { network: Some("n".into()), ..config() };
    for (config, address) in [(config(), "10.0.0.77/32"), (named, "10.0.0.0/32")] {
        let compiled = compile(&wanted, &inventory, &config);
        let [rule] = rules(&compiled)[..] else { panic!("one rule") };
        assert_eq!(rule.destinations, BTreeSet::from([address.parse().unwrap()]));
    }
}

#[test]
fn instance_that_cannot_have_all_tags_of_a_group_gets_none() {
    let mut inventory = inventory(2);
    inventory.instances.get_mut(&instance(0)).expect("an instance").foreign_tag_count = 63;
    let both = ["tcp/80 0.0.0.0/0", "tcp/80 ::/0"];
    let wanted = desired([group("web", &both, &[&instance(0), &instance(1)])]);
    let compiled = compile(&wanted, &inventory, &tags_config());
    assert_eq!(reasons(&compiled), [reasons::TOO_MANY_TAGS]);
    assert!(open_on(&compiled, 0).is_empty());
    assert_eq!(open_on(&compiled, 1).len(), 2);
}

#[test]
fn instance_never_gets_a_tag_that_its_name_begins_with() {
    let (key, wanted) = group("web", &["tcp/80 0.0.0.0/0"], &[&instance(0)]);
    let compiled = compile(&desired([(key.clone(), wanted.clone())]), &inventory(1), &tags_config());
    let conflicting = InstanceId::new(format!("p/z/{}0", rules(&compiled)[0].name));
    let mut inventory = inventory(1);
    let facts = inventory.instances.remove(&instance(0)).expect("an instance");
    inventory.instances.insert(conflicting.clone(), facts);
    let group = FirewallGroup { members: BTreeSet::from([conflicting]), ..wanted };
    let compiled = compile(&desired([(key, group)]), &inventory, &tags_config());
    assert_eq!((reasons(&compiled), rules(&compiled).len()), (vec![reasons::NAME_BEGINS_WITH_TAG], 0));
}

/// Returns two instances that can each have this many tags of the cluster.
fn with_tag_capacity(capacity: usize) -> Inventory {
    let mut inventory = inventory(2);
    for facts in inventory.instances.values_mut() {
        facts.foreign_tag_count = TAGS_PER_INSTANCE - capacity;
    }
    inventory
}

/// Returns the inventory after the resources have been created.
fn inventory_after(inventory: &Inventory, resources: &ResourceSet<GceResource>) -> Inventory {
    let mut inventory = inventory.clone();
    for (id, facts) in &mut inventory.instances {
        let own = resources.get(&GceKey::Tags(id.clone())).and_then(GceResource::as_tags);
        facts.own_tags = own.map(|own| own.tags.clone()).unwrap_or_default();
    }
    inventory
}

#[test]
fn new_group_takes_no_tag_capacity_from_an_established_one() {
    let zeta = || group("zeta", &["tcp/80 0.0.0.0/0", "tcp/80 ::/0"], &[&instance(0)]);
    let alpha = || group("alpha", &["udp/53 0.0.0.0/0"], &[&instance(0), &instance(1)]);
    let before = compile(&desired([zeta()]), &with_tag_capacity(2), &tags_config());
    let inventory = inventory_after(&with_tag_capacity(2), &before.resources);
    let after = compile(&desired([alpha(), zeta()]), &inventory, &tags_config());
    let infeasible: Vec<_> = after.infeasible.iter().map(|one| (&one.group, one.instance.as_ref())).collect();
    assert_eq!(infeasible, [(&alpha().0, Some(&instance(0)))]);
    assert_eq!((open_on(&after, 0), open_on(&after, 1)), (zeta().1.rules, alpha().1.rules));
}

proptest! {
    #[test]
    fn established_groups_keep_their_tags(
        // For each moment, true for each of six groups that exists then.
        history in prop::collection::vec(prop::collection::vec(any::<bool>(), 6), 2..8),
        // For each group, a bit for each of three rules that need a tag of their own.
        groups in prop::collection::vec(1..8_u8, 6),
        capacity in 1..8_usize,
    ) {
        let moment = |exists: &Vec<bool>| {
            let existing = groups.iter().zip(0_u16..).zip(exists).filter(|(_, exists)| **exists);
            desired(existing.map(|((kinds, number), _)| {
                let port = 1000 + 2 * number;
                let all = [format!("tcp/{port} 0.0.0.0/0"), format!("tcp/{port} ::/0"), format!("udp/{port} 10.0.0.0/8")];
                let chosen = all.iter().zip(0..).filter(|(_, kind)| kinds & (1 << kind) != 0);
                let rules: Vec<&str> = chosen.map(|(rule, _)| rule.as_str()).collect();
                group(&format!("g{number}"), &rules, &[&instance(0), &instance(1)])
            }))
        };
        let history: Vec<_> = history.iter().map(moment).collect();
        let empty = with_tag_capacity(capacity);
        assert_incumbents_keep_capacity(&history, |desired, now| compile(desired, &inventory_after(&empty, now), &tags_config()));
    }
}
