//! Compiling in mode `shared`.

use std::collections::BTreeSet;

use firewall_core::testing::conformance::{assert_incumbents_keep_capacity, desired, group, rule};
use firewall_core::{Compiled, FirewallGroup, GroupKey, IngressRule, ResourceSet};
use proptest::prelude::*;

use crate::config::{AwsConfig, Mode, SharedTargets};
use crate::inventory::{Inventory, SharedGroup};
use crate::resource::{AwsKey, AwsResource, SharedRules};
use crate::testing::{id, infeasible_groups, reasons};

/// Returns instances by id, each with the groups on its interface; `sg-1` and `sg-2` are the targets.
fn inventory(instances: &[(&str, &[&str])]) -> Inventory {
    let targets = ["sg-1", "sg-2"].map(|group| (group.to_owned(), SharedGroup::default()));
    Inventory { shared_groups: targets.into(), ..Inventory::of_instances(instances) }
}

/// Sets the rules in `sg-1` that are not ours.
fn set_foreign(inventory: &mut Inventory, rules: impl IntoIterator<Item = IngressRule>) {
    inventory.shared_groups.get_mut("sg-1").unwrap().foreign_rules = rules.into_iter().collect();
}

fn compile(
    groups: impl IntoIterator<Item = (GroupKey, FirewallGroup)>,
    inventory: &Inventory,
) -> Compiled<AwsResource> {
    let config = AwsConfig { mode: Mode::Shared(SharedTargets::default()), ..AwsConfig::new("test") };
    super::compile(&desired(groups), inventory, &config)
}

fn shared_rules(compiled: &Compiled<AwsResource>) -> Vec<&SharedRules> {
    compiled.resources.values().filter_map(AwsResource::as_shared_rules).collect()
}

#[test]
fn rules_of_all_groups_go_into_the_smallest_target_id() {
    let (a, b) = (id("i-a"), id("i-b"));
    let inventory = inventory(&[("i-a", &["sg-0", "sg-1", "sg-2"]), ("i-b", &["sg-2"])]);
    let groups = [group("web", &["tcp/80 0.0.0.0/0"], &[&a]), group("dns", &["udp/53 ::/0"], &[&a, &b])];
    let compiled = compile(groups, &inventory);
    let [first, second] = shared_rules(&compiled)[..] else { panic!("{compiled:?}") };
    assert_eq!((first.group.as_str(), second.group.as_str()), ("sg-1", "sg-2"));
    assert_eq!(first.rules, BTreeSet::from([rule("tcp/80 0.0.0.0/0"), rule("udp/53 ::/0")]));
    assert_eq!(second.rules, BTreeSet::from([rule("udp/53 ::/0")]));
    assert_eq!(reasons(&compiled), [""; 0]);
}

#[test]
fn instance_without_a_target_is_infeasible() {
    let a = id("i-a");
    let compiled = compile([group("web", &["tcp/80 0.0.0.0/0"], &[&a])], &inventory(&[("i-a", &["sg-0"])]));
    assert_eq!((reasons(&compiled), compiled.resources.len()), (vec!["NoSharedGroup"], 0));
    let compiled = compile([group("web", &["tcp/80 0.0.0.0/0"], &[&a])], &inventory(&[]));
    assert_eq!(reasons(&compiled), ["InstanceNotFound"]);
}

#[test]
fn foreign_rule_is_reported_and_not_adopted() {
    let a = id("i-a");
    let mut inventory = inventory(&[("i-a", &["sg-1"])]);
    set_foreign(&mut inventory, [rule("tcp/80 0.0.0.0/0")]);
    let groups = [
        group("web", &["tcp/80 0.0.0.0/0", "tcp/443 0.0.0.0/0"], &[&a]),
        group("dns", &["udp/53 ::/0"], &[&a]),
    ];
    let (web, _) = groups[0].clone();
    let compiled = compile(groups, &inventory);
    assert_eq!(
        shared_rules(&compiled)[0].rules,
        BTreeSet::from([rule("tcp/443 0.0.0.0/0"), rule("udp/53 ::/0")])
    );
    assert_eq!(reasons(&compiled), ["AlreadyOpen"]);
    assert_eq!(infeasible_groups(&compiled), [&web]);
}

#[test]
fn group_that_does_not_fit_beside_foreign_rules_is_infeasible() {
    let a = id("i-a");
    let mut inventory = inventory(&[("i-a", &["sg-1"])]);
    let foreign = (0..59).map(|n| rule(&format!("tcp/22 10.{}.0.0/16", 2 * n)));
    set_foreign(&mut inventory, foreign);
    let groups = [
        group("dns", &["udp/53 10.0.0.0/8"], &[&a]),
        group("web", &["tcp/80 10.0.0.0/8"], &[&a]),
        group("web6", &["tcp/80 2001:db8::/32"], &[&a]),
    ];
    let compiled = compile(groups, &inventory);
    assert_eq!(reasons(&compiled), ["TooManyRules"]);
    assert_eq!(shared_rules(&compiled)[0].rules.len(), 2, "one IPv4 rule fits, and IPv6 is counted apart");
}

/// Returns the inventory as it is when the resources exist and no others of ours do.
fn inventory_after(inventory: &Inventory, resources: &ResourceSet<AwsResource>) -> Inventory {
    let mut inventory = inventory.clone();
    for (id, group) in &mut inventory.shared_groups {
        let shared = resources.get(&AwsKey::SharedRules(id.clone())).and_then(AwsResource::as_shared_rules);
        group.own_rules = shared.map(|shared| shared.rules.clone()).unwrap_or_default();
    }
    inventory
}

#[test]
fn newcomer_takes_no_capacity_from_an_open_or_edited_group() {
    let a = id("i-a");
    let mut inventory = inventory(&[("i-a", &["sg-1"])]);
    let foreign = (0..58).map(|n| rule(&format!("tcp/22 10.{}.0.0/16", 2 * n)));
    set_foreign(&mut inventory, foreign);
    let zeta = || group("zeta", &["tcp/443 10.0.0.0/8", "tcp/80 10.0.0.0/8"], &[&a]);
    let alpha = || group("alpha", &["udp/53 10.0.0.0/8"], &[&a]);
    let before = compile([zeta()], &inventory);
    assert_eq!(reasons(&before), [""; 0]);
    let inventory = inventory_after(&inventory, &before.resources);
    let after = compile([alpha(), zeta()], &inventory);
    assert_eq!(infeasible_groups(&after), [&alpha().0]);
    assert_eq!(after.resources, before.resources);
    let (key, _) = zeta();
    let (_, edited) = group("zeta", &["tcp/443 192.0.2.0/24", "tcp/80 192.0.2.0/24"], &[&a]);
    let edited = compile([alpha(), (key, edited)], &inventory);
    assert_eq!(infeasible_groups(&edited), [&alpha().0]);
}

#[test]
fn port_opened_by_a_foreign_rule_takes_no_capacity() {
    let a = id("i-a");
    let mut inventory = inventory(&[("i-a", &["sg-1"])]);
    let foreign = (0..59).map(|n| rule(&format!("tcp/80 10.{}.0.0/16", 2 * n)));
    set_foreign(&mut inventory, foreign);
    let rules = ["tcp/80 10.0.0.0/16", "tcp/80 10.2.0.0/16", "udp/53 10.0.0.0/8"];
    let compiled = compile([group("web", &rules, &[&a])], &inventory);
    assert_eq!(reasons(&compiled), ["AlreadyOpen"; 2]);
    assert_eq!(shared_rules(&compiled)[0].rules, BTreeSet::from([rule("udp/53 10.0.0.0/8")]));
}

proptest! {
    #[test]
    fn established_groups_keep_capacity_and_compiling_is_stable(
        // For each moment, the groups that are present.
        history in prop::collection::vec(prop::collection::vec(any::<bool>(), 6), 2..8),
        groups in prop::collection::vec(prop::collection::btree_set(0..12_u8, 1..6), 6),
        foreign in prop::collection::btree_set((0..8_u16, 0..12_u8), 0..4),
        limit in 5..14_usize,
    ) {
        let member = id("i-a");
        let moment = |present: &Vec<bool>| {
            let numbered = groups.iter().zip(0_u16..).zip(present).filter(|(_, present)| **present);
            desired(numbered.map(|((sources, number), _)| {
                let port = 1000 + 2 * number;
                let rules: Vec<String> =
                    sources.iter().map(|source| format!("tcp/{port} 10.{source}.0.0/16")).collect();
                let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
                group(&format!("g{number}"), &rules, &[&member])
            }))
        };
        let history: Vec<_> = history.iter().map(moment).collect();
        let mut inventory = inventory(&[("i-a", &["sg-1"])]);
        let foreign = foreign.into_iter().map(|(number, source)| {
            rule(&format!("tcp/{} 10.{source}.0.0/16", 1000 + 2 * number))
        });
        set_foreign(&mut inventory, foreign);
        let mode = Mode::Shared(SharedTargets::default());
        let config = AwsConfig { mode, rules_per_group: limit, ..AwsConfig::new("test") };
        assert_incumbents_keep_capacity(&history, |desired, current| {
            super::compile(desired, &inventory_after(&inventory, current), &config)
        });
    }
}
