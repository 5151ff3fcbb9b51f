use std::collections::BTreeSet;

use firewall_core::testing::conformance::{assert_incumbents_keep_capacity, desired, group, rule};
use firewall_core::{Compiled, FirewallGroup, GroupKey, InstanceId, ResourceSet};
use proptest::prelude::*;

use crate::config::{AwsConfig, Mode, SharedTargets};
use crate::inventory::{Inventory, SharedGroup};
use crate::resource::{AwsKey, AwsResource, SharedRules};

fn id(text: &str) -> InstanceId {
    InstanceId::new(text)
}

/// Instances with the groups on their interfaces; `sg-1` and `sg-2` are the targets.
fn inventory(instances: &[(&str, &[&str])]) -> Inventory {
    let targets = ["sg-1", "sg-2"].map(|group| (group.to_owned(), SharedGroup::default()));
    Inventory { shared_groups: targets.into(), ..Inventory::of_instances(instances) }
}

fn compile(
    groups: impl IntoIterator<Item = (GroupKey, FirewallGroup)>,
    inventory: &Inventory,
) -> Compiled<AwsResource> {
    let config = AwsConfig { mode: Mode::Shared(SharedTargets::default()), ..AwsConfig::new("test") };
    super::compile(&desired(groups), inventory, &config)
}

fn shared(compiled: &Compiled<AwsResource>) -> Vec<&SharedRules> {
    compiled.resources.values().filter_map(AwsResource::as_shared_rules).collect()
}

fn reasons(compiled: &Compiled<AwsResource>) -> Vec<&'static str> {
    compiled.infeasible.iter().map(|one| one.reason).collect()
}

#[test]
fn rules_of_all_groups_meet_in_the_smallest_target_that_the_instance_has() {
    let (a, b) = (id("i-a"), id("i-b"));
    let inventory = inventory(&[("i-a", &["sg-0", "sg-1", "sg-2"]), ("i-b", &["sg-2"])]);
    let groups = [group("web", &["tcp/80 0.0.0.0/0"], &[&a]), group("dns", &["udp/53 ::/0"], &[&a, &b])];
    let compiled = compile(groups, &inventory);
    let [first, second] = shared(&compiled)[..] else { panic!("{compiled:?}") };
    assert_eq!((first.group.as_str(), second.group.as_str()), ("sg-1", "sg-2"));
    assert_eq!(first.rules, BTreeSet::from([rule("tcp/80 0.0.0.0/0"), rule("udp/53 ::/0")]));
    assert_eq!(second.rules, BTreeSet::from([rule("udp/53 ::/0")]));
    assert_eq!(reasons(&compiled), [""; 0]);
}

#[test]
fn an_instance_without_a_target_is_rejected() {
    let a = id("i-a");
    let compiled = compile([group("web", &["tcp/80 0.0.0.0/0"], &[&a])], &inventory(&[("i-a", &["sg-0"])]));
    assert_eq!((reasons(&compiled), compiled.resources.len()), (vec!["NoSharedGroup"], 0));
    let compiled = compile([group("web", &["tcp/80 0.0.0.0/0"], &[&a])], &inventory(&[]));
    assert_eq!(reasons(&compiled), ["InstanceNotFound"]);
}

#[test]
fn a_rule_that_somebody_else_has_is_reported_and_not_adopted() {
    let a = id("i-a");
    let mut inventory = inventory(&[("i-a", &["sg-1"])]);
    inventory.shared_groups.get_mut("sg-1").unwrap().foreign = BTreeSet::from([rule("tcp/80 0.0.0.0/0")]);
    let groups = [
        group("web", &["tcp/80 0.0.0.0/0", "tcp/443 0.0.0.0/0"], &[&a]),
        group("dns", &["udp/53 ::/0"], &[&a]),
    ];
    let (web, _) = groups[0].clone();
    let compiled = compile(groups, &inventory);
    assert_eq!(shared(&compiled)[0].rules, BTreeSet::from([rule("tcp/443 0.0.0.0/0"), rule("udp/53 ::/0")]));
    assert_eq!(reasons(&compiled), ["AlreadyOpen"]);
    assert_eq!(compiled.infeasible[0].group, web);
}

#[test]
fn what_does_not_fit_beside_the_rules_of_others_is_rejected() {
    let a = id("i-a");
    let mut inventory = inventory(&[("i-a", &["sg-1"])]);
    let foreign = (0..59).map(|n| rule(&format!("tcp/22 10.{}.0.0/16", 2 * n))).collect();
    inventory.shared_groups.get_mut("sg-1").unwrap().foreign = foreign;
    let groups = [
        group("dns", &["udp/53 10.0.0.0/8"], &[&a]),
        group("web", &["tcp/80 10.0.0.0/8"], &[&a]),
        group("web6", &["tcp/80 2001:db8::/32"], &[&a]),
    ];
    let compiled = compile(groups, &inventory);
    assert_eq!(reasons(&compiled), ["TooManyRules"]);
    assert_eq!(shared(&compiled)[0].rules.len(), 2, "one IPv4 rule fits, and IPv6 is counted apart");
}

/// What is there once this has been carried out.
fn carried_out(inventory: &Inventory, resources: &ResourceSet<AwsResource>) -> Inventory {
    let mut inventory = inventory.clone();
    for (id, group) in &mut inventory.shared_groups {
        let shared = resources.get(&AwsKey::SharedRules(id.clone())).and_then(AwsResource::as_shared_rules);
        group.ours = shared.map(|shared| shared.rules.clone()).unwrap_or_default();
    }
    inventory
}

#[test]
fn a_new_group_takes_no_room_from_one_that_is_open_or_that_changes_its_sources() {
    let a = id("i-a");
    let mut inventory = inventory(&[("i-a", &["sg-1"])]);
    let foreign = (0..58).map(|n| rule(&format!("tcp/22 10.{}.0.0/16", 2 * n))).collect();
    inventory.shared_groups.get_mut("sg-1").unwrap().foreign = foreign;
    let zeta = || group("zeta", &["tcp/443 10.0.0.0/8", "tcp/80 10.0.0.0/8"], &[&a]);
    let alpha = || group("alpha", &["udp/53 10.0.0.0/8"], &[&a]);
    let before = compile([zeta()], &inventory);
    assert_eq!(reasons(&before), [""; 0]);
    let inventory = carried_out(&inventory, &before.resources);
    let after = compile([alpha(), zeta()], &inventory);
    assert_eq!(after.infeasible.iter().map(|one| &one.group).collect::<Vec<_>>(), [&alpha().0]);
    assert_eq!(after.resources, before.resources);
    let (key, _) = zeta();
    let (_, edited) = group("zeta", &["tcp/443 192.0.2.0/24", "tcp/80 192.0.2.0/24"], &[&a]);
    let edited = compile([alpha(), (key, edited)], &inventory);
    assert_eq!(edited.infeasible.iter().map(|one| &one.group).collect::<Vec<_>>(), [&alpha().0]);
}

#[test]
fn what_somebody_else_has_opened_already_takes_no_room() {
    let a = id("i-a");
    let mut inventory = inventory(&[("i-a", &["sg-1"])]);
    let theirs = (0..59).map(|n| rule(&format!("tcp/80 10.{}.0.0/16", 2 * n))).collect();
    inventory.shared_groups.get_mut("sg-1").unwrap().foreign = theirs;
    let rules = ["tcp/80 10.0.0.0/16", "tcp/80 10.2.0.0/16", "udp/53 10.0.0.0/8"];
    let compiled = compile([group("web", &rules, &[&a])], &inventory);
    assert_eq!(reasons(&compiled), ["AlreadyOpen"; 2]);
    assert_eq!(shared(&compiled)[0].rules, BTreeSet::from([rule("udp/53 10.0.0.0/8")]));
}

proptest! {
    #[test]
    fn what_is_open_keeps_its_room_and_what_was_compiled_is_compiled_again(
        // For each moment, which of some groups are there.
        history in prop::collection::vec(prop::collection::vec(any::<bool>(), 6), 2..8),
        groups in prop::collection::vec(prop::collection::btree_set(0..12_u8, 1..6), 6),
        foreign in prop::collection::btree_set((0..8_u16, 0..12_u8), 0..4),
        limit in 5..14_usize,
    ) {
        let member = id("i-a");
        let moment = |there: &Vec<bool>| {
            let numbered = groups.iter().zip(0_u16..).zip(there).filter(|(_, there)| **there);
            desired(numbered.map(|((sources, number), _)| {
                let port = 1000 + 2 * number;
                let rules: Vec<String> =
                    sources.iter().map(|source| format!("tcp/{port} 10.{source}.0.0/16")).collect();
                group(&format!("g{number}"), &rules.iter().map(String::as_str).collect::<Vec<_>>(), &[&member])
            }))
        };
        let history: Vec<_> = history.iter().map(moment).collect();
        let mut inventory = inventory(&[("i-a", &["sg-1"])]);
        let foreign = foreign.into_iter().map(|(number, source)| {
            rule(&format!("tcp/{} 10.{source}.0.0/16", 1000 + 2 * number))
        });
        inventory.shared_groups.get_mut("sg-1").unwrap().foreign = foreign.collect();
        let mode = Mode::Shared(SharedTargets::default());
        let config = AwsConfig { mode, rules_per_group: limit, ..AwsConfig::new("test") };
        assert_incumbents_keep_capacity(&history, |desired, now| {
            super::compile(desired, &carried_out(&inventory, now), &config)
        });
    }
}
