use firewall_core::testing::conformance::rule;
use firewall_core::{Completeness, Dependency, Effect, Limits, PlanInput, Policy, check, plan};

use super::*;
use crate::network::Network;

fn firewall_rule(rules: &[&str], destinations: &[&str]) -> FirewallRule {
    FirewallRule {
        name: "hpf-x-0".into(),
        network: Network { project: "p".into(), name: "n".into() },
        rules: rules.iter().map(|text| rule(text)).collect(),
        destinations: destinations.iter().map(|text| text.parse().unwrap()).collect(),
        tags: BTreeSet::new(),
        foreign_parts: BTreeSet::new(),
        priority: 1000,
        enabled: true,
        serves: BTreeSet::new(),
        owner: Owner::Ours,
        capacity: Capacity { ranges: 3, ports: 2 },
    }
}

fn web(destinations: &[&str]) -> FirewallRule {
    firewall_rule(&["tcp/80 10.0.0.0/8"], destinations)
}

#[test]
fn two_rules_have_a_union_only_if_it_lets_nothing_else_in() {
    let (a, b) = (web(&["10.0.0.1/32"]), web(&["10.0.0.2/32"]));
    assert_eq!(a.union(&b), Some(web(&["10.0.0.1/32", "10.0.0.2/32"])));
    let moved = firewall_rule(&["tcp/80 192.0.2.0/24"], &["10.0.0.2/32"]);
    assert_eq!(a.union(&moved), None, "the new source could reach the old address");
    let wider = firewall_rule(&["tcp/80 10.0.0.0/8", "tcp/80 192.0.2.0/24"], &["10.0.0.1/32", "10.0.0.2/32"]);
    assert_eq!(a.union(&wider), Some(wider.clone()), "it has all of it already");
    assert_eq!(wider.union(&a), Some(wider));
    let port = firewall_rule(&["tcp/443 192.0.2.0/24"], &["10.0.0.1/32"]);
    assert_eq!(a.union(&port), None, "two ports with different sources");
    let full = web(&["10.0.0.2/32", "10.0.0.3/32", "10.0.0.4/32"]);
    assert_eq!(a.union(&full), None, "it does not fit");
}

#[test]
fn a_rule_that_is_not_in_force_lets_nothing_in() {
    let off = FirewallRule { enabled: false, ..web(&["10.0.0.1/32"]) };
    let on = web(&["10.0.0.2/32"]);
    assert_eq!(off.union(&on), Some(on.clone()));
    assert_eq!(off.intersection(&on), Some(off.clone()));
    let world: ResourceSet<GceResource> = [GceResource::Rule(off)].into();
    let place = InstanceId::new("10.0.0.1/32@projects/p/global/networks/n");
    assert_eq!(GceResource::reach(&world, &place), Reach::default());
}

#[test]
fn an_intersection_is_what_both_let_in() {
    let a = firewall_rule(&["tcp/80 10.0.0.0/8", "tcp/80 192.0.2.0/24"], &["10.0.0.1/32", "10.0.0.2/32"]);
    assert_eq!(a.intersection(&web(&["10.0.0.2/32", "10.0.0.3/32"])), Some(web(&["10.0.0.2/32"])));
    assert_eq!(a.intersection(&web(&["10.0.0.3/32"])), None);
    assert_eq!(a.intersection(&web(&[])), Some(web(&["10.0.0.1/32", "10.0.0.2/32"])), "no limit on one side");
}

#[test]
fn a_rule_without_targets_is_open_everywhere_in_its_network() {
    let everywhere = GceResource::Rule(web(&[]));
    let world: ResourceSet<GceResource> = [everywhere.clone()].into();
    assert_eq!(
        everywhere.instances(&world),
        BTreeSet::from([InstanceId::new("everywhere@projects/p/global/networks/n")])
    );
    let open = |place: &str| !GceResource::reach(&world, &InstanceId::new(place)).rules.is_empty();
    assert!(open("10.9.9.9/32@projects/p/global/networks/n"));
    assert!(!open("10.9.9.9/32@projects/p/global/networks/other"));
}

#[test]
fn a_tagged_rule_is_open_where_the_tag_is() {
    let tagged = FirewallRule { tags: BTreeSet::from(["hpf-x-0".into()]), ..web(&[]) };
    let id = InstanceId::new("p/z/a");
    let tags = InstanceTags { instance: id.clone(), tags: tagged.tags.clone(), capacity: 64 };
    let rule = GceResource::Rule(tagged);
    let mut world: ResourceSet<GceResource> = [rule.clone()].into();
    assert_eq!(
        rule.instances(&world),
        BTreeSet::from([InstanceId::new("tag hpf-x-0@projects/p/global/networks/n")])
    );
    let tags = GceResource::Tags(tags);
    world.insert(tags.key(), tags);
    assert_eq!(rule.instances(&world), BTreeSet::from([id.clone()]));
    assert!(!GceResource::reach(&world, &id).rules.is_empty());
    assert!(GceResource::reach(&world, &InstanceId::new("p/z/b")).rules.is_empty());
}

fn named(name: &str, rule: FirewallRule) -> GceResource {
    GceResource::Rule(FirewallRule {
        name: name.into(),
        serves: BTreeSet::from([format!("workload of {name}")]),
        ..rule
    })
}

fn world<const N: usize>(rules: [GceResource; N]) -> ResourceSet<GceResource> {
    rules.into()
}

/// The key, effect and dependencies of each step, and the keys that stay although they differ.
type Steps = (Vec<(GceKey, Effect, Vec<Dependency>)>, Vec<GceKey>);

fn planned(
    observed: &ResourceSet<GceResource>,
    desired: &ResourceSet<GceResource>,
    backoff: &BTreeSet<(GceKey, Effect)>,
) -> Steps {
    let input = PlanInput {
        desired,
        observed,
        completeness: &Completeness::Complete,
        policy: Policy::Sync,
        limits: Limits::default(),
        backoff,
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
fn a_rule_goes_only_once_another_lets_in_what_is_still_asked_for() {
    let both = firewall_rule(&["tcp/80 10.0.0.0/8", "tcp/443 10.0.0.0/8"], &["10.0.0.1/32"]);
    let desired = world([named("b", both)]);
    // Whether what is there lets in nothing but what is asked for.
    for (source, only) in [("10.1.0.0/16", true), ("10.0.0.0/8", true), ("10.0.0.0/7", false)] {
        let rule = firewall_rule(&[&format!("tcp/80 {source}")], &["10.0.0.1/32"]);
        let observed = world([named("a", rule)]);
        let (steps, _) = planned(&observed, &desired, &BTreeSet::new());
        let first = Dependency { step: 0, must_succeed: only };
        assert_eq!(
            steps,
            [(key("b"), Effect::Open, vec![]), (key("a"), Effect::Close, vec![first])],
            "{source}"
        );

        let (steps, stays) = planned(&observed, &desired, &BTreeSet::from([(key("b"), Effect::Open)]));
        if only {
            assert_eq!((steps, stays), (vec![], vec![key("b"), key("a")]), "{source}");
        } else {
            assert_eq!(
                steps,
                [(key("a"), Effect::Close, vec![])],
                "{source}: more is open than is asked for"
            );
        }
    }
}

#[test]
fn what_two_rules_let_in_and_nobody_asks_for_any_more_closes_whatever_becomes_of_what_is_asked_for() {
    let observed = world([named("a", web(&["10.0.0.1/32"])), named("b", web(&["10.0.0.1/32"]))]);
    let desired = world([named("c", firewall_rule(&["tcp/8080 10.0.0.0/8"], &["10.0.0.1/32"]))]);
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
fn a_rule_that_could_not_be_widened_is_narrowed() {
    let observed = world([named("a", web(&["10.0.0.1/32", "10.0.0.2/32"]))]);
    let desired = world([named("a", web(&["10.0.0.2/32", "10.0.0.3/32"]))]);
    let (steps, _) = planned(&observed, &desired, &BTreeSet::new());
    assert_eq!(steps, [(key("a"), Effect::Open, vec![])], "one call does both");
    let (steps, stays) = planned(&observed, &desired, &BTreeSet::from([(key("a"), Effect::Open)]));
    assert_eq!((steps, stays), (vec![(key("a"), Effect::Close, vec![])], vec![key("a")]));
}

#[test]
fn what_moves_from_one_rule_to_another_is_opened_before_it_is_closed() {
    let rule = |name: &str, destinations: &[&str]| {
        let serves = BTreeSet::from(["web".to_owned()]);
        GceResource::Rule(FirewallRule { name: name.into(), serves, ..web(destinations) })
    };
    let observed = world([rule("a", &["10.0.0.1/32", "10.0.0.2/32"]), rule("b", &["10.0.0.3/32"])]);
    let desired = world([rule("a", &["10.0.0.1/32"]), rule("b", &["10.0.0.3/32", "10.0.0.4/32"])]);
    let (steps, _) = planned(&observed, &desired, &BTreeSet::new());
    let first = Dependency { step: 0, must_succeed: false };
    assert_eq!(steps, [(key("b"), Effect::Open, vec![]), (key("a"), Effect::Close, vec![first])]);
}
