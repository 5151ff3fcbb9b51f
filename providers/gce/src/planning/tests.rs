//! Tests of the answers that planning needs of a rule.

use std::collections::BTreeMap;

use firewall_core::{Dependency, Effect, InFlight, Limits, PlanInput, Policy, Unknown, check, plan};

use super::*;
use crate::network::Network;
use crate::testing::firewall_rule;

/// Returns a rule of little capacity, for ingress rules like `tcp/80 10.0.0.0/8`.
fn small_rule(rules: &[&str], destinations: &[&str]) -> FirewallRule {
    FirewallRule { capacity: RuleCapacity { ranges: 3, ports: 2 }, ..firewall_rule(rules, destinations) }
}

fn web(destinations: &[&str]) -> FirewallRule {
    small_rule(&["tcp/80 10.0.0.0/8"], destinations)
}

#[test]
fn union_of_rules_exists_only_if_it_opens_nothing_else() {
    let (a, b) = (web(&["10.0.0.1/32"]), web(&["10.0.0.2/32"]));
    assert_eq!(a.union(&b), Some(web(&["10.0.0.1/32", "10.0.0.2/32"])));
    let moved = small_rule(&["tcp/80 192.0.2.0/24"], &["10.0.0.2/32"]);
    assert_eq!(a.union(&moved), None, "the new source could reach the old address");
    let wider = small_rule(&["tcp/80 10.0.0.0/8", "tcp/80 192.0.2.0/24"], &["10.0.0.1/32", "10.0.0.2/32"]);
    assert_eq!(a.union(&wider), Some(wider.clone()), "it covers the first");
    assert_eq!(wider.union(&a), Some(wider));
    let port = small_rule(&["tcp/443 192.0.2.0/24"], &["10.0.0.1/32"]);
    assert_eq!(a.union(&port), None, "two ports with different sources");
    let full = web(&["10.0.0.2/32", "10.0.0.3/32", "10.0.0.4/32"]);
    assert_eq!(a.union(&full), None, "it exceeds the capacity");
}

#[test]
fn disabled_rule_opens_nothing() {
    let disabled = FirewallRule { is_enabled: false, ..web(&["10.0.0.1/32"]) };
    let enabled = web(&["10.0.0.2/32"]);
    assert_eq!(disabled.union(&enabled), Some(enabled.clone()));
    assert_eq!(disabled.intersection(&enabled), Some(disabled.clone()));
    let resources: ResourceSet<GceResource> = [GceResource::Rule(disabled)].into();
    let target = InstanceId::new("10.0.0.1/32@projects/p/global/networks/n");
    assert_eq!(resources.reach(&target), Reach::default());
}

#[test]
fn intersection_of_rules_opens_only_what_both_open() {
    let a = small_rule(&["tcp/80 10.0.0.0/8", "tcp/80 192.0.2.0/24"], &["10.0.0.1/32", "10.0.0.2/32"]);
    assert_eq!(a.intersection(&web(&["10.0.0.2/32", "10.0.0.3/32"])), Some(web(&["10.0.0.2/32"])));
    assert_eq!(a.intersection(&web(&["10.0.0.3/32"])), None);
    assert_eq!(a.intersection(&web(&[])), Some(web(&["10.0.0.1/32", "10.0.0.2/32"])), "no limit on one side");
}

#[test]
fn rule_without_targets_applies_to_its_whole_network() {
    let untargeted = GceResource::Rule(web(&[]));
    let resources: ResourceSet<GceResource> = [untargeted.clone()].into();
    assert_eq!(
        untargeted.instances(&resources),
        BTreeSet::from([InstanceId::new("everywhere@projects/p/global/networks/n")])
    );
    let is_open = |target: &str| !resources.reach(&InstanceId::new(target)).rules.is_empty();
    assert!(is_open("10.9.9.9/32@projects/p/global/networks/n"));
    assert!(!is_open("10.9.9.9/32@projects/p/global/networks/other"));
}

#[test]
fn rule_with_a_tag_is_open_on_instances_with_the_tag() {
    let tagged = FirewallRule { tags: BTreeSet::from(["hpf-x-0".into()]), ..web(&[]) };
    let id = InstanceId::new("p/z/a");
    let tags = InstanceTags { instance: id.clone(), tags: tagged.tags.clone(), capacity: 64 };
    let rule = GceResource::Rule(tagged);
    let mut resources: ResourceSet<GceResource> = [rule.clone()].into();
    assert_eq!(
        rule.instances(&resources),
        BTreeSet::from([InstanceId::new("tag hpf-x@projects/p/global/networks/n")])
    );
    let tags = GceResource::Tags(tags);
    resources.insert(tags.key(), tags);
    assert_eq!(rule.instances(&resources), BTreeSet::from([id.clone()]));
    assert!(!resources.reach(&id).rules.is_empty());
    assert!(resources.reach(&InstanceId::new("p/z/b")).rules.is_empty());
}

/// Returns the reach of an instance or a target by looking at every rule.
fn reach_by_scan(resources: &ResourceSet<GceResource>, id: &InstanceId) -> Reach {
    let target = RuleTarget::from_id(id);
    let tags = resources.get(&GceKey::Tags(id.clone())).and_then(GceResource::as_tags);
    let applies = |rule: &&FirewallRule| match &target {
        Some(target) => rule.applies_to(target),
        None => tags.is_some_and(|own| rule.destinations.is_empty() && !rule.tags.is_disjoint(&own.tags)),
    };
    combined_reach(resources.values().filter_map(GceResource::as_rule).filter(applies))
}

#[test]
fn reach_is_that_of_every_rule_that_applies() {
    let tag = |tags: &[&str]| tags.iter().map(ToString::to_string).collect::<BTreeSet<String>>();
    let tagged = |port: &str, tags: &[&str], destinations: &[&str]| FirewallRule {
        tags: tag(tags),
        ..small_rule(&[&format!("tcp/{port} 10.0.0.0/8")], destinations)
    };
    let tags = |instance: &str, tags: &[&str]| {
        let instance = InstanceId::new(instance);
        GceResource::Tags(InstanceTags { instance, tags: tag(tags), capacity: 64 })
    };
    let network = Network { project: "p".into(), name: "other".into() };
    let elsewhere = FirewallRule { network, ..tagged("7", &["a"], &[]) };
    let resources = ResourceSet::from([
        named("a", tagged("1", &["a", "b"], &[])),
        named("b", tagged("2", &["b"], &[])),
        named("c", tagged("3", &["a"], &["10.0.0.1/32"])),
        named("d", tagged("4", &[], &["10.0.0.1/32", "10.0.0.2/32"])),
        named("e", tagged("5", &[], &[])),
        named("f", FirewallRule { is_enabled: false, ..tagged("6", &["c"], &[]) }),
        named("g", elsewhere),
        tags("p/z/1", &["a", "c"]),
        tags("p/z/2", &["a", "b"]),
        tags("p/z/3", &["missing"]),
    ]);
    let mut ids: BTreeSet<InstanceId> = ["p/z/1", "p/z/2", "p/z/3", "p/z/4"].map(InstanceId::new).into();
    for part in ["everywhere", "tag a", "tag b", "tag c", "10.0.0.1/32", "10.0.0.2/32", "10.0.0.3/32"] {
        for name in ["n", "other"] {
            ids.insert(InstanceId::new(format!("{part}@projects/p/global/networks/{name}")));
        }
    }
    for id in ids {
        assert_eq!(resources.reach(&id), reach_by_scan(&resources, &id), "{id}");
    }
    assert_eq!(resources.reach(&InstanceId::new("p/z/1")).rules.len(), 2, "of its network and of the other");
}

fn named(name: &str, rule: FirewallRule) -> GceResource {
    GceResource::Rule(FirewallRule {
        name: name.into(),
        serves: BTreeSet::from([format!("workload of {name}")]),
        ..rule
    })
}

/// The key, effect and dependencies of each step, and the keys of what is withheld.
type Steps = (Vec<(GceKey, Effect, Vec<Dependency>)>, Vec<GceKey>);

fn planned(
    observed: &ResourceSet<GceResource>,
    desired: &ResourceSet<GceResource>,
    backoff: &BTreeSet<(GceKey, Effect)>,
) -> Steps {
    let input = PlanInput {
        desired,
        observed,
        unknown: &Unknown::default(),
        released: &BTreeSet::new(),
        endings: &BTreeMap::new(),
        policy: Policy::Sync,
        limits: Limits::default(),
        backoff,
        in_flight: &InFlight::none(),
    };
    let plan = plan(&input);
    assert_eq!(check(&input, &plan), []);
    let steps = plan.steps.iter().map(|step| (step.action.key(), step.effect, step.depends_on.clone()));
    (steps.collect(), plan.withheld.into_iter().map(|withheld| withheld.key).collect())
}

fn key(name: &str) -> GceKey {
    GceKey::Rule(name.into())
}

#[test]
fn rule_is_deleted_only_after_its_replacement_is_open() {
    let both = small_rule(&["tcp/80 10.0.0.0/8", "tcp/443 10.0.0.0/8"], &["10.0.0.1/32"]);
    let desired = ResourceSet::from([named("b", both)]);
    // The second element is true if the observed rule opens nothing but what is desired.
    for (source, is_desired) in [("10.1.0.0/16", true), ("10.0.0.0/8", true), ("10.0.0.0/7", false)] {
        let rule = small_rule(&[&format!("tcp/80 {source}")], &["10.0.0.1/32"]);
        let observed = ResourceSet::from([named("a", rule)]);
        let (steps, _) = planned(&observed, &desired, &BTreeSet::new());
        let first = Dependency { step: 0, must_succeed: true };
        assert_eq!(
            steps,
            [(key("b"), Effect::Open, vec![]), (key("a"), Effect::Close, vec![first])],
            "{source}"
        );

        let (steps, withheld) = planned(&observed, &desired, &BTreeSet::from([(key("b"), Effect::Open)]));
        if is_desired {
            assert_eq!((steps, withheld), (vec![], vec![key("b"), key("a")]), "{source}");
        } else {
            assert_eq!(
                steps,
                [(key("a"), Effect::Close, vec![])],
                "{source}: it is narrowed to what is desired"
            );
        }
    }
}

#[test]
fn redundant_rules_are_deleted_even_if_a_replacement_fails() {
    let observed = ResourceSet::from([named("a", web(&["10.0.0.1/32"])), named("b", web(&["10.0.0.1/32"]))]);
    let desired = ResourceSet::from([named("c", small_rule(&["tcp/8080 10.0.0.0/8"], &["10.0.0.1/32"]))]);
    let (steps, _) = planned(&observed, &desired, &BTreeSet::new());
    let first = Dependency { step: 0, must_succeed: false };
    assert_eq!(
        steps,
        [
            (key("c"), Effect::Open, vec![]),
            (key("a"), Effect::Close, vec![first]),
            (key("b"), Effect::Close, vec![first]),
        ]
    );
}

#[test]
fn rule_that_cannot_be_widened_is_narrowed() {
    let observed = ResourceSet::from([named("a", web(&["10.0.0.1/32", "10.0.0.2/32"]))]);
    let desired = ResourceSet::from([named("a", web(&["10.0.0.2/32", "10.0.0.3/32"]))]);
    let (steps, _) = planned(&observed, &desired, &BTreeSet::new());
    assert_eq!(steps, [(key("a"), Effect::Open, vec![])], "one call does both");
    let (steps, withheld) = planned(&observed, &desired, &BTreeSet::from([(key("a"), Effect::Open)]));
    assert_eq!((steps, withheld), (vec![(key("a"), Effect::Close, vec![])], vec![key("a")]));
}

#[test]
fn address_moving_between_rules_opens_before_it_closes() {
    let rule = |name: &str, destinations: &[&str]| {
        let serves = BTreeSet::from(["web".to_owned()]);
        GceResource::Rule(FirewallRule { name: name.into(), serves, ..web(destinations) })
    };
    let observed =
        ResourceSet::from([rule("a", &["10.0.0.1/32", "10.0.0.2/32"]), rule("b", &["10.0.0.3/32"])]);
    let desired =
        ResourceSet::from([rule("a", &["10.0.0.1/32"]), rule("b", &["10.0.0.3/32", "10.0.0.4/32"])]);
    let (steps, _) = planned(&observed, &desired, &BTreeSet::new());
    let first = Dependency { step: 0, must_succeed: false };
    assert_eq!(steps, [(key("b"), Effect::Open, vec![]), (key("a"), Effect::Close, vec![first])]);
}
