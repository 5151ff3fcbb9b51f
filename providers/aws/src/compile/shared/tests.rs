use std::collections::BTreeSet;

use firewall_model::conformance::{desired, group, rule};
use firewall_model::{Compiled, FirewallGroup, GroupKey, InstanceId};

use crate::config::{AwsConfig, Mode, SharedTargets};
use crate::inventory::{InstanceFacts, Inventory, SharedGroup};
use crate::resource::{AwsResource, SharedRules};

fn id(text: &str) -> InstanceId {
    InstanceId::new(text)
}

/// Instances with the groups on their interfaces; `sg-1` and `sg-2` are the targets.
fn inventory(instances: &[(&str, &[&str])]) -> Inventory {
    let facts = |groups: &[&str]| InstanceFacts {
        vpc: "vpc-1".into(),
        interface: "eni-1".into(),
        groups: groups.iter().map(ToString::to_string).collect(),
        interfaces: 1,
        ipv6: false,
        managed_by: None,
    };
    Inventory {
        instances: instances.iter().map(|(name, groups)| (id(name), facts(groups))).collect(),
        shared_groups: ["sg-1", "sg-2"].map(|group| (group.to_owned(), SharedGroup::default())).into(),
        ..Inventory::default()
    }
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
    compiled.rejections.iter().map(|rejection| rejection.reason).collect()
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
    assert_eq!(compiled.rejections[0].group, web);
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
