//! The closing guards: partial knowledge, the policy, and the mass-close limit.

use firewall_core::testing::conformance::{desired, group};
use firewall_core::{Desired, Effect, InstanceId, Policy, Protocol, WithheldReason, Workload};

use crate::{Case, HTTP, effects, instances, state_after, verbs, web};

#[test]
fn partial_knowledge_opens_and_never_closes() {
    let ids = instances(2);
    let mut to = desired([group("dns", &["udp/53 ::/0"], &[&ids[1]])]);
    to.unknown.add_everything("pods: not listed yet".into());
    let plan = Case::between(2, &web(HTTP, &[&ids[0]]), &to).plan();
    assert_eq!(effects(&plan), [Effect::Open, Effect::Open], "{:?}", verbs(&plan));
    assert!(
        matches!(&plan.withheld[0].reason, WithheldReason::IncompleteState(gaps) if gaps[0].contains("pods"))
    );
}

#[test]
fn policy_limits_the_actions_of_a_plan() {
    let ids = instances(2);
    let mut case = Case::between(2, &web(HTTP, &[&ids[0]]), &web(HTTP, &[&ids[1]]));
    for (policy, verbs) in [
        (Policy::Sync, vec!["create", "delete"]),
        (Policy::OpenOnly, vec!["create"]),
        (Policy::Observe, vec![]),
    ] {
        case.policy = policy;
        let plan = case.plan();
        assert_eq!(plan.steps.iter().map(|step| step.action.verb()).collect::<Vec<_>>(), verbs, "{policy:?}");
        assert_eq!(plan.withheld.is_empty(), policy == Policy::Sync, "{policy:?}");
    }
}

#[test]
fn mass_close_is_held_until_released() {
    let ids = instances(20);
    let all: Vec<&InstanceId> = ids.iter().collect();
    for (left, is_held) in [(9, true), (10, false), (15, false)] {
        let mut case = Case::between(20, &web(HTTP, &all), &web(HTTP, &all[..left]));
        let plan = case.plan();
        assert_eq!(plan.steps.is_empty(), is_held, "{left} of 20 left");
        case.limits.mass_close_released = true;
        assert_eq!(case.plan().steps.len(), 20 - left);
    }
}

#[test]
fn narrowed_sources_are_no_mass_close() {
    let ids = instances(20);
    let all: Vec<&InstanceId> = ids.iter().collect();
    let mut case = Case::between(20, &web(HTTP, &all), &web(&["tcp/80 10.0.0.0/8"], &all));
    case.limits.mass_close_least = 1;
    assert_eq!(effects(&case.plan()), [Effect::Open, Effect::Close]);
    case = Case::between(20, &web(HTTP, &all), &Desired::nothing());
    case.limits.mass_close_percent = 100;
    assert!(!case.plan().steps.is_empty(), "all is no more than 100 percent");
}

/// A media server has thousands of ports, and is one workload on one node.
#[test]
fn end_of_one_workload_on_a_node_is_no_mass_close() {
    let ids = instances(4);
    let ports = &["tcp/7881 0.0.0.0/0", "udp/50000-50004 0.0.0.0/0", "udp/50006-60000 0.0.0.0/0"];
    let relay = |ids: &[&InstanceId]| desired([group("relay", ports, ids)]);
    let case = |from: usize, left: usize| {
        let ids: Vec<&InstanceId> = ids.iter().collect();
        Case::between(4, &relay(&ids[..from]), &relay(&ids[..left]))
    };
    assert!(!case(1, 0).plan().steps.is_empty(), "one");
    assert!(!case(2, 0).plan().steps.is_empty(), "two addresses of one machine");
    assert!(case(3, 0).plan().steps.is_empty(), "three of three");
    assert!(!case(4, 3).plan().steps.is_empty(), "one of four");
}

#[test]
fn adjacent_ports_of_many_workloads_are_a_mass() {
    let ids = instances(1);
    let servers = |count: u16| {
        let server =
            |port: u16| group(&format!("game-{port}"), &[&format!("udp/{port} 0.0.0.0/0")], &[&ids[0]]);
        desired((7000..7000 + count).map(server))
    };
    assert!(Case::between(1, &servers(12), &servers(0)).plan().steps.is_empty());
    assert!(!Case::between(1, &servers(12), &servers(4)).plan().steps.is_empty(), "fewer than ten");
}

/// A held port within a long range must not make of what closes around it more than what was open.
#[test]
fn port_held_within_a_long_range_holds_up_nothing_else() {
    let ids = instances(12);
    let in_namespace = |namespace: &str, port: &str, members: &[&InstanceId]| {
        let (mut key, group) = group(&format!("on-{port}"), &[&format!("udp/{port} 0.0.0.0/0")], members);
        key.workload = Workload { namespace: namespace.into(), ..(*key.workload).clone() }.into();
        (key, group)
    };
    let games = (0..12).map(|number| in_namespace("games", &(50_100 + 2 * number).to_string(), &[&ids[0]]));
    let others: Vec<_> = (0..10)
        .map(|number| in_namespace("shop", &(80 + 2 * number).to_string(), &ids.iter().collect::<Vec<_>>()))
        .collect();
    let media = in_namespace("media", "50000-60000", &[&ids[0]]);
    let from = desired(games.chain(others.iter().cloned()).chain([media]));
    let case = Case::between(12, &from, &desired(others));
    let state = state_after(&case, &case.plan());
    let open = state.reach(&ids[0]).rules;
    let is_open =
        |port: u16| open.iter().any(|rule| rule.protocol == Protocol::Udp && rule.ports.contains(port));
    assert!(is_open(50_100) && is_open(50_122), "games are held: {open}");
    assert!(!is_open(50_101) && !is_open(59_999), "media is not: {open}");
}
