//! The order of steps, and what each waits for.

use std::collections::BTreeSet;

use firewall_core::testing::conformance::{desired, group, rule};
use firewall_core::{Desired, Effect, Resource};

use crate::{
    Case, HTTP, assert_relies_on, attachment_key, converged, effects, group_key, instances, verbs, web,
};

#[test]
fn group_exists_as_long_as_it_is_attached() {
    let ids = instances(1);
    let (web_key, attachment) = (group_key("web", HTTP), attachment_key(&ids[0]));
    let opening = Case::between(1, &Desired::nothing(), &web(HTTP, &[&ids[0]])).plan();
    assert_eq!(verbs(&opening), [format!("create {web_key}"), format!("create {attachment}")]);
    assert_relies_on(&opening, 1, 0);

    let closing = Case::between(1, &web(HTTP, &[&ids[0]]), &Desired::nothing()).plan();
    assert_eq!(verbs(&closing), [format!("delete {attachment}"), format!("delete {web_key}")]);
    assert_relies_on(&closing, 1, 0);
}

#[test]
fn moved_group_opens_before_it_closes() {
    let ids = instances(2);
    let plan = Case::between(2, &web(HTTP, &[&ids[0]]), &web(HTTP, &[&ids[1]])).plan();
    assert_eq!(effects(&plan), [Effect::Open, Effect::Close]);
    let waits: Vec<_> =
        plan.steps[1].depends_on.iter().map(|other| (other.step, other.must_succeed)).collect();
    assert_eq!(waits, [(0, false)], "the closing lets the opening go first and does not rely on it");
}

#[test]
fn changed_sources_take_one_opening_and_one_closing() {
    let ids = instances(2);
    let from = web(&["tcp/80 10.0.0.0/8"], &[&ids[0], &ids[1]]);
    let plan = Case::between(2, &from, &web(&["tcp/80 192.0.2.0/24"], &[&ids[0], &ids[1]])).plan();
    let steps: Vec<_> = plan.steps.iter().map(|step| (step.action.verb(), step.effect)).collect();
    assert_eq!(steps, [("update", Effect::Open), ("update", Effect::Close)]);
}

#[test]
fn redundant_rule_is_revoked_after_its_replacement_opens() {
    let ids = instances(1);
    let from = web(&["tcp/80 10.0.0.0/9", "tcp/80 192.168.0.0/16"], &[&ids[0]]);
    let plan = Case::between(1, &from, &web(&["tcp/80 10.0.0.0/8"], &[&ids[0]])).plan();
    let steps: Vec<(Effect, usize, Vec<bool>)> = plan
        .steps
        .iter()
        .map(|step| {
            let rules = step.action.after().map_or(0, |group| group.rules.len());
            (step.effect, rules, step.depends_on.iter().map(|other| other.must_succeed).collect())
        })
        .collect();
    let opening = (Effect::Open, 3, vec![]);
    let closing = (Effect::Close, 2, vec![false]);
    let redundant = (Effect::Close, 1, vec![true, true]);
    assert_eq!(steps, [opening, closing, redundant]);
}

#[test]
fn member_joins_after_an_unwanted_rule_is_revoked() {
    let ids = instances(2);
    let (cloud, provider) = converged(2, &web(HTTP, &[&ids[0]]));
    let key = group_key("web", HTTP);
    cloud.tamper_with(&key, |group| _ = group.rules.insert(rule("tcp/22 0.0.0.0/0")));
    let plan = Case::new(&provider, &web(HTTP, &[&ids[0], &ids[1]])).plan();
    assert_eq!(plan.steps[0].action.key(), key, "{:?}", verbs(&plan));
    assert_relies_on(&plan, 1, 0);
}

#[test]
fn leaving_member_is_detached_before_its_group_widens() {
    let ids = instances(2);
    let from = web(&["tcp/80 10.0.0.0/8"], &[&ids[0]]);
    let plan = Case::between(2, &from, &web(&["tcp/80 192.0.2.0/24"], &[&ids[1]])).plan();
    let [leaves, joins] = [0, 1].map(|n: usize| attachment_key(&ids[n]));
    let key = group_key("web", &["tcp/80 10.0.0.0/8"]);
    assert_eq!(
        verbs(&plan),
        [
            format!("delete {leaves}"),
            format!("update {key}"),
            format!("update {key}"),
            format!("create {joins}")
        ]
    );
    assert_eq!(plan.steps[1].effect, Effect::Open);
    assert_relies_on(&plan, 1, 0);
    assert_eq!(plan.withheld, []);
}

#[test]
fn change_in_two_stages_is_withheld_once() {
    let ids = instances(2);
    let on = |source: &str, instance| {
        let [tcp, udp] = ["tcp/80", "udp/53"].map(|traffic| format!("{traffic} {source}"));
        desired([group("web", &[&tcp], &[instance]), group("dns", &[&udp], &[instance])])
    };
    let mut case = Case::between(2, &on("10.0.0.0/8", &ids[0]), &on("192.0.2.0/24", &ids[1]));
    // The instance keeps both groups, so that neither may open to others; their substitutes cannot be had.
    case.backoff.insert((attachment_key(&ids[0]), Effect::Close));
    let substitutes = case.desired.values().filter_map(|group| group.substitute(1));
    case.backoff.extend(substitutes.map(|substitute| (substitute.key(), Effect::Open)).collect::<Vec<_>>());
    let plan = case.plan();
    assert_eq!(effects(&plan), [Effect::Close, Effect::Close], "{:?}", verbs(&plan));
    let keys: BTreeSet<_> = plan.withheld.iter().map(|one| (one.key.clone(), one.reason.clone())).collect();
    assert_eq!(keys.len(), plan.withheld.len(), "{:?}", plan.withheld);
}
