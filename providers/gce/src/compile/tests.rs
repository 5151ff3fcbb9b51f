use std::net::{Ipv4Addr, Ipv6Addr};

use firewall_core::testing::conformance::{assert_incumbents_keep_capacity, desired, group};
use firewall_core::{RuleSet, Workload};
use proptest::prelude::*;

use super::*;
use crate::inventory::InstanceFacts;

const NETWORK: &str = "projects/p/global/networks/n";

fn instance(number: u8) -> InstanceId {
    InstanceId::new(format!("p/z/node-{number}"))
}

fn interface(network: &str, number: u8) -> Interface {
    Interface {
        network: Network::parse(network, "").expect("a network"),
        ipv4: Some(Ipv4Addr::new(10, 0, 0, number)),
        ipv6: BTreeSet::from([Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number.into())]),
    }
}

fn inventory(count: u8) -> Inventory {
    let facts = |number| InstanceFacts {
        interfaces: vec![interface(NETWORK, number)],
        other_tags: 2,
        tags: BTreeSet::new(),
    };
    Inventory {
        instances: (0..count).map(|number| (instance(number), facts(number))).collect(),
        ..Inventory::default()
    }
}

fn config() -> GceConfig {
    GceConfig::new("prod", "p")
}

fn tags() -> GceConfig {
    GceConfig { mode: Mode::Tags, ..config() }
}

fn rules(compiled: &Compiled<GceResource>) -> Vec<&FirewallRule> {
    fn rule(resource: &GceResource) -> Option<&FirewallRule> {
        match resource {
            GceResource::Rule(rule) => Some(rule),
            GceResource::Tags(_) => None,
        }
    }
    compiled.resources.values().filter_map(rule).collect()
}

fn reasons(compiled: &Compiled<GceResource>) -> Vec<&'static str> {
    compiled.infeasible.iter().map(|one| one.reason).collect()
}

/// What the rules let in to one member, as a packet would find it.
fn open(compiled: &Compiled<GceResource>, number: u8) -> RuleSet {
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
fn each_member_gets_the_groups_rules_in_both_modes_and_nobody_else_does() {
    let both = ["tcp/80 0.0.0.0/0", "tcp/443 0.0.0.0/0", "tcp/80 ::/0", "tcp/443 ::/0", "udp/53 10.0.0.0/8"];
    let (key, wanted) = group("web", &both, &[&instance(0), &instance(1)]);
    for config in [config(), tags()] {
        let compiled = compile(&desired([(key.clone(), wanted.clone())]), &inventory(3), &config);
        assert_eq!(compiled.infeasible, []);
        assert_eq!(rules(&compiled).len(), 3, "one for each address family, and one for the other sources");
        assert_eq!(open(&compiled, 0), wanted.rules);
        assert_eq!(open(&compiled, 1), wanted.rules);
        assert!(open(&compiled, 2).is_empty());
        for rule in rules(&compiled) {
            let families: BTreeSet<bool> =
                rule.rules.iter().map(|rule| rule.source.addr().is_ipv6()).collect();
            assert_eq!(families.len(), 1, "Google refuses IPv4 and IPv6 in one rule");
        }
    }
}

#[test]
fn a_group_of_two_thousand_takes_eight_rules_and_keeps_them_when_one_member_leaves() {
    let members: Vec<InstanceId> =
        (0..2000).map(|number| InstanceId::new(format!("p/z/node-{number}"))).collect();
    let facts = |number: u32| InstanceFacts {
        interfaces: vec![Interface {
            ipv4: Some(Ipv4Addr::from(0x0a00_0000 + number)),
            ..interface(NETWORK, 0)
        }],
        other_tags: 0,
        tags: BTreeSet::new(),
    };
    let instances = (0_u32..).zip(&members).map(|(number, id)| (id.clone(), facts(number))).collect();
    let mut inventory = Inventory { instances, ..Inventory::default() };
    let all: Vec<&InstanceId> = members.iter().collect();
    let before = compile(&desired([group("web", &["tcp/80 0.0.0.0/0"], &all)]), &inventory, &config());
    assert_eq!(rules(&before).len(), 8);
    for rule in rules(&before) {
        let (base, shard) = ownership::shard_of(&rule.name).expect("a shard");
        inventory.shards.entry(base.to_owned()).or_default().insert(shard, rule.destinations.clone());
    }
    let after = compile(&desired([group("web", &["tcp/80 0.0.0.0/0"], &all[1..])]), &inventory, &config());
    let changed =
        before.resources.iter().filter(|(key, resource)| after.resources.get(key) != Some(resource));
    assert_eq!((changed.count(), after.resources.len()), (1, 8));
}

#[test]
fn what_does_not_fit_into_one_rule_is_spread_over_several() {
    let ports: Vec<String> = (0..150).map(|port| format!("tcp/{} 0.0.0.0/0", 1000 + 2 * port)).collect();
    let sources: Vec<String> = (0..=255).map(|net| format!("udp/53 10.{net}.0.0/17")).collect();
    for (rules_asked, count) in [(ports, 2), (sources, 2)] {
        let asked: Vec<&str> = rules_asked.iter().map(String::as_str).collect();
        let (key, wanted) = group("big", &asked, &[&instance(0)]);
        for config in [config(), tags()] {
            let compiled = compile(&desired([(key.clone(), wanted.clone())]), &inventory(1), &config);
            assert_eq!(rules(&compiled).len(), count);
            assert_eq!(open(&compiled, 0), wanted.rules);
        }
    }
}

#[test]
fn groups_whose_names_look_the_same_share_nothing() {
    let key = |namespace: &str, name: &str| {
        let (mut key, wanted) = group("web", &["tcp/80 0.0.0.0/0"], &[&instance(0)]);
        key.workload = Workload { kind: "Deployment".into(), namespace: namespace.into(), name: name.into() };
        (key, wanted)
    };
    for config in [config(), tags()] {
        let compiled = compile(&desired([key("a-b", "c"), key("a", "b-c")]), &inventory(1), &config);
        assert_eq!(rules(&compiled).len(), 2);
    }
}

#[test]
fn sources_change_in_the_same_rule() {
    let name = |source: &str| {
        let wanted = desired([group("web", &[&format!("tcp/80 {source}")], &[&instance(0)])]);
        compile(&wanted, &inventory(1), &config()).resources.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(name("10.0.0.0/8"), name("192.0.2.0/24"));
    assert_ne!(name("10.0.0.0/8"), name("2001:db8::/32"), "an IPv6 rule is another rule");
}

#[test]
fn a_member_that_cannot_be_opened_says_why_and_holds_nothing_up() {
    let host = "projects/host/global/networks/n";
    let mut inventory = inventory(2);
    let elsewhere =
        InstanceFacts { interfaces: vec![interface(host, 9)], other_tags: 0, tags: BTreeSet::new() };
    inventory.instances.insert(InstanceId::new("p/z/shared"), elsewhere);
    let members = ["p/z/node-0", "p/z/gone", "q/z/node-0", "p/z/shared"].map(InstanceId::new);
    let wanted = desired([group("web", &["tcp/80 0.0.0.0/0"], &members.each_ref())]);
    let compiled = compile(&wanted, &inventory, &config());
    let mut found = reasons(&compiled);
    found.sort_unstable();
    assert_eq!(found, ["InstanceNotFound", "NetworkInOtherProject", "OtherProject"]);
    assert_eq!(open(&compiled, 0).len(), 1, "the good one");

    let shared = GceConfig { network_project: Some("host".into()), ..config() };
    let compiled = compile(&wanted, &inventory, &shared);
    assert!(rules(&compiled).iter().all(|rule| rule.network.project == "host"), "{compiled:?}");
    let named = GceConfig { network: Some("other".into()), ..config() };
    assert!(reasons(&compile(&wanted, &inventory, &named)).contains(&"NotInNetwork"));
    inventory.missing_network = Some(Network::parse("other", "p").expect("a network"));
    assert!(reasons(&compile(&wanted, &inventory, &named)).contains(&"NetworkNotFound"));
}

#[test]
fn of_several_interfaces_the_one_in_the_network_counts() {
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
fn an_instance_without_room_for_all_tags_of_a_group_gets_none_of_them() {
    let mut inventory = inventory(2);
    inventory.instances.get_mut(&instance(0)).expect("an instance").other_tags = 63;
    let both = ["tcp/80 0.0.0.0/0", "tcp/80 ::/0"];
    let wanted = desired([group("web", &both, &[&instance(0), &instance(1)])]);
    let compiled = compile(&wanted, &inventory, &tags());
    assert_eq!(reasons(&compiled), ["TooManyTags"]);
    assert!(open(&compiled, 0).is_empty());
    assert_eq!(open(&compiled, 1).len(), 2);
}

#[test]
fn a_tag_is_never_what_the_instances_name_begins_with() {
    let (key, wanted) = group("web", &["tcp/80 0.0.0.0/0"], &[&instance(0)]);
    let compiled = compile(&desired([(key.clone(), wanted.clone())]), &inventory(1), &tags());
    let trap = InstanceId::new(format!("p/z/{}0", rules(&compiled)[0].name));
    let mut inventory = inventory(1);
    let facts = inventory.instances.remove(&instance(0)).expect("an instance");
    inventory.instances.insert(trap.clone(), facts);
    let group = FirewallGroup { members: BTreeSet::from([trap]), ..wanted };
    let compiled = compile(&desired([(key, group)]), &inventory, &tags());
    assert_eq!((reasons(&compiled), rules(&compiled).len()), (vec!["NameBeginsWithTag"], 0));
}

/// Machines that have room for so many tags of ours.
fn with_room(room: usize) -> Inventory {
    let mut inventory = inventory(2);
    for facts in inventory.instances.values_mut() {
        facts.other_tags = TAGS_PER_INSTANCE - room;
    }
    inventory
}

/// What is there once this has been carried out.
fn carried_out(inventory: &Inventory, resources: &ResourceSet<GceResource>) -> Inventory {
    let mut inventory = inventory.clone();
    for (id, facts) in &mut inventory.instances {
        let own = resources.get(&GceKey::Tags(id.clone())).and_then(GceResource::as_tags);
        facts.tags = own.map(|own| own.tags.clone()).unwrap_or_default();
    }
    inventory
}

#[test]
fn a_new_group_takes_no_tag_from_one_that_has_it() {
    let zeta = || group("zeta", &["tcp/80 0.0.0.0/0", "tcp/80 ::/0"], &[&instance(0)]);
    let alpha = || group("alpha", &["udp/53 0.0.0.0/0"], &[&instance(0), &instance(1)]);
    let before = compile(&desired([zeta()]), &with_room(2), &tags());
    let inventory = carried_out(&with_room(2), &before.resources);
    let after = compile(&desired([alpha(), zeta()]), &inventory, &tags());
    let refused: Vec<_> = after.infeasible.iter().map(|one| (&one.group, one.instance.as_ref())).collect();
    assert_eq!(refused, [(&alpha().0, Some(&instance(0)))]);
    assert_eq!((open(&after, 0), open(&after, 1)), (zeta().1.rules, alpha().1.rules));
}

proptest! {
    #[test]
    fn what_has_its_tags_keeps_them_and_what_was_compiled_is_compiled_again(
        // For each moment, which of some groups are there.
        history in prop::collection::vec(prop::collection::vec(any::<bool>(), 6), 2..8),
        // What each of them has of three kinds of rules, of which each takes a tag of its own.
        groups in prop::collection::vec(1..8_u8, 6),
        room in 1..8_usize,
    ) {
        let moment = |there: &Vec<bool>| {
            let numbered = groups.iter().zip(0_u16..).zip(there).filter(|(_, there)| **there);
            desired(numbered.map(|((kinds, number), _)| {
                let port = 1000 + 2 * number;
                let all = [format!("tcp/{port} 0.0.0.0/0"), format!("tcp/{port} ::/0"), format!("udp/{port} 10.0.0.0/8")];
                let asked = all.iter().zip(0..).filter(|(_, kind)| kinds & (1 << kind) != 0);
                let rules: Vec<&str> = asked.map(|(rule, _)| rule.as_str()).collect();
                group(&format!("g{number}"), &rules, &[&instance(0), &instance(1)])
            }))
        };
        let history: Vec<_> = history.iter().map(moment).collect();
        let empty = with_room(room);
        assert_incumbents_keep_capacity(&history, |desired, now| compile(desired, &carried_out(&empty, now), &tags()));
    }
}
