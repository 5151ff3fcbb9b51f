//! Openings wait for no closing that is forbidden, held, or has failed.

use std::collections::BTreeSet;

use firewall_core::testing::conformance::{self, desired, group, reach_by_instance};
use firewall_core::testing::memory::MemoryProvider;
use firewall_core::{Desired, Effect, FirewallProvider, InstanceId, Policy};
use futures::executor::block_on;
use proptest::prelude::*;

use crate::histories::{at_moment, moment};
use crate::{Case, converged, group_key, instances, state_after, verbs, web};

const OLD: &[&str] = &["tcp/80 10.0.0.0/8"];
const NEW: &[&str] = &["tcp/80 192.0.2.0/24"];

/// Applies the plan to the cloud, and returns its steps.
fn apply(provider: &MemoryProvider, case: &Case) -> Vec<String> {
    let plan = case.plan();
    for step in &plan.steps {
        block_on(provider.apply(&step.action)).unwrap();
    }
    verbs(&plan)
}

/// Returns what the cloud lets in to an instance.
fn open(provider: &MemoryProvider, instance: &InstanceId) -> String {
    let observed = block_on(provider.observe(&BTreeSet::new())).unwrap();
    observed.resources.reach(instance).rules.to_string()
}

/// Returns a case in which nothing may close.
fn open_only(provider: &MemoryProvider, desired: &Desired) -> Case {
    Case { policy: Policy::OpenOnly, ..Case::new(provider, desired) }
}

#[test]
fn new_node_opens_while_nothing_may_close() {
    let ids = instances(3);
    let (_cloud, provider) = converged(3, &web(OLD, &[&ids[0]]));
    let edited = web(NEW, &[&ids[0], &ids[1]]);
    apply(&provider, &open_only(&provider, &edited));
    assert_eq!(open(&provider, &ids[0]), "tcp/80 from 10.0.0.0/8, tcp/80 from 192.0.2.0/24");
    assert_eq!(open(&provider, &ids[1]), "tcp/80 from 192.0.2.0/24", "not the old sources");
    assert_eq!(apply(&provider, &open_only(&provider, &edited)), [""; 0], "planning again changes nothing");

    let all = web(NEW, &[&ids[0], &ids[1], &ids[2]]);
    let steps = apply(&provider, &open_only(&provider, &all));
    assert_eq!(steps.len(), 1, "the third joins the substitute of the second: {steps:?}");
    assert_eq!(open(&provider, &ids[2]), "tcp/80 from 192.0.2.0/24");

    block_on(conformance::converge(&provider, &all));
    let left = block_on(provider.observe(&BTreeSet::new())).unwrap().resources;
    assert_eq!(left.len(), 4, "one group and three attachments: {left:?}");
}

#[test]
fn group_of_a_member_that_must_stay_is_not_widened() {
    let ids = instances(2);
    let (_cloud, provider) = converged(2, &web(OLD, &[&ids[0]]));
    let moved = web(NEW, &[&ids[1]]);
    apply(&provider, &open_only(&provider, &moved));
    assert_eq!(open(&provider, &ids[0]), "tcp/80 from 10.0.0.0/8", "it is asked for nothing");
    assert_eq!(open(&provider, &ids[1]), "tcp/80 from 192.0.2.0/24");
}

#[test]
fn new_node_opens_while_a_closing_fails() {
    let ids = instances(2);
    let (_cloud, provider) = converged(2, &web(OLD, &[&ids[0]]));
    let mut case = Case::new(&provider, &web(NEW, &[&ids[0], &ids[1]]));
    case.backoff.insert((group_key("web", OLD), Effect::Close));
    apply(&provider, &case);
    assert_eq!(open(&provider, &ids[1]), "tcp/80 from 192.0.2.0/24");
}

#[test]
fn substitute_that_failed_is_not_tried_before_its_time() {
    let ids = instances(2);
    let (_cloud, provider) = converged(2, &web(OLD, &[&ids[0]]));
    let mut case = open_only(&provider, &web(NEW, &[&ids[0], &ids[1]]));
    let created = case.plan().steps.into_iter().map(|step| step.action.key());
    let substitute = created.into_iter().find(|key| !case.desired.contains_key(key)).expect("a substitute");
    case.backoff.insert((substitute.clone(), Effect::Open));
    let plan = case.plan();
    assert!(plan.withheld.iter().any(|withheld| withheld.key == substitute), "{plan:?}");
    assert_eq!(state_after(&case, &plan).reach(&ids[1]).rules.to_string(), "");
}

#[test]
fn new_node_opens_while_a_mass_close_is_held() {
    let ids = instances(4);
    let old: Vec<&InstanceId> = ids[..3].iter().collect();
    let (_cloud, provider) = converged(4, &web(OLD, &old));
    let mut case = Case::new(&provider, &web(NEW, &[&ids[3]]));
    (case.limits.mass_close_least, case.limits.mass_close_percent) = (2, 10);
    apply(&provider, &case);
    for instance in old {
        assert_eq!(open(&provider, instance), "tcp/80 from 10.0.0.0/8");
    }
    assert_eq!(open(&provider, &ids[3]), "tcp/80 from 192.0.2.0/24");
}

#[test]
fn new_node_opens_while_groups_wait_for_each_other_in_a_circle() {
    // The two groups have exchanged members and sources, and no order of the changes is safe.
    let ids = instances(4);
    let (a, b) = (&[&ids[0], &ids[2]], &[&ids[1], &ids[2]]);
    let (_cloud, provider) = converged(4, &desired([group("one", OLD, a), group("two", NEW, b)]));
    let exchanged = desired([group("one", NEW, &[&ids[1], &ids[2], &ids[3]]), group("two", OLD, a)]);
    let mut case = Case::new(&provider, &exchanged);
    case.limits.mass_close_released = true;
    apply(&provider, &case);
    assert_eq!(open(&provider, &ids[3]), "tcp/80 from 192.0.2.0/24");
    case.observed = Case::new(&provider, &exchanged).observed;
    assert_eq!(verbs(&case.plan()), [""; 0], "planning again changes nothing");
}

#[test]
fn what_nobody_asks_for_closes_beside_a_circle() {
    const ANY_V6: &[&str] = &["tcp/80 10.0.0.0/8", "tcp/80 ::/0"];
    let ids = instances(3);
    let (a, b) = (&[&ids[0], &ids[2]], &[&ids[1], &ids[2]]);
    let exchanged = desired([group("one", NEW, b), group("two", OLD, a)]);
    let cases = [
        ("sources", desired([group("one", ANY_V6, a), group("two", NEW, b)])),
        (
            "another group",
            desired([
                group("one", OLD, a),
                group("two", NEW, b),
                group("gone", &["tcp/81 ::/0"], &[&ids[0]]),
            ]),
        ),
    ];
    for (what, from) in cases {
        let (_cloud, provider) = converged(3, &from);
        let released = || {
            let mut case = Case::new(&provider, &exchanged);
            case.limits.mass_close_released = true;
            case
        };
        apply(&provider, &released());
        let now = released();
        assert_eq!(reach_by_instance(&now.observed), reach_by_instance(&now.desired), "{what}");
        assert_eq!(verbs(&now.plan()), [""; 0], "planning again changes nothing: {what}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn all_that_is_asked_for_opens_in_one_plan(from in moment(), via in moment(), to in moment()) {
        let ids = instances(4);
        let (_cloud, provider) = converged(4, &at_moment(&from, &ids));
        apply(&provider, &open_only(&provider, &at_moment(&via, &ids)));
        let wanted = at_moment(&to, &ids);
        let released = || {
            let mut case = Case::new(&provider, &wanted);
            case.limits.mass_close_released = true;
            case
        };
        apply(&provider, &released());
        let now = released();
        prop_assert_eq!(reach_by_instance(&now.observed), reach_by_instance(&now.desired));
        prop_assert_eq!(verbs(&now.plan()), [""; 0], "planning again changes nothing");
    }

    #[test]
    fn all_that_is_asked_for_opens_while_nothing_may_close(
        from in moment(),
        moments in prop::collection::vec(moment(), 1..4),
    ) {
        let ids = instances(4);
        let (_cloud, provider) = converged(4, &at_moment(&from, &ids));
        for moment in &moments {
            let wanted = at_moment(moment, &ids);
            let case = open_only(&provider, &wanted);
            apply(&provider, &case);
            let now = open_only(&provider, &wanted);
            for instance in &ids {
                let (asked, before) = (case.desired.reach(instance).rules, case.observed.reach(instance).rules);
                let open = now.observed.reach(instance).rules;
                prop_assert_eq!(&open, &asked.union(&before), "{} admits {}", instance, open);
            }
            prop_assert_eq!(verbs(&now.plan()), [""; 0], "planning again changes nothing");
        }
        let last = moments.last().map(|moment| at_moment(moment, &ids)).expect("a moment");
        block_on(conformance::converge(&provider, &last));
        let now = Case::new(&provider, &last);
        prop_assert_eq!(reach_by_instance(&now.observed), reach_by_instance(&now.desired));
    }

    #[test]
    fn all_that_is_asked_for_opens_while_no_closing_succeeds(from in moment(), to in moment()) {
        let ids = instances(4);
        let (_cloud, provider) = converged(4, &at_moment(&from, &ids));
        let wanted = at_moment(&to, &ids);
        let failing = || {
            let mut case = Case::new(&provider, &wanted);
            case.limits.mass_close_released = true;
            case.backoff = case.observed.keys().map(|key| (key.clone(), Effect::Close)).collect();
            case
        };
        apply(&provider, &failing());
        let now = failing();
        for instance in &ids {
            let (asked, open) = (now.desired.reach(instance).rules, now.observed.reach(instance).rules);
            prop_assert!(open.covers(&asked), "{instance} admits {open} where {asked} is asked for");
        }
        prop_assert_eq!(verbs(&now.plan()), [""; 0], "planning again changes nothing");
    }

    #[test]
    fn all_that_is_asked_for_opens_while_a_mass_close_is_held(from in moment(), to in moment()) {
        let ids = instances(4);
        let (_cloud, provider) = converged(4, &at_moment(&from, &ids));
        let wanted = at_moment(&to, &ids);
        let held = || {
            let mut case = Case::new(&provider, &wanted);
            (case.limits.mass_close_least, case.limits.mass_close_percent) = (1, 0);
            case
        };
        apply(&provider, &held());
        let now = held();
        for instance in &ids {
            let (asked, open) = (now.desired.reach(instance).rules, now.observed.reach(instance).rules);
            prop_assert!(open.covers(&asked), "{instance} admits {open} where {asked} is asked for");
        }
        prop_assert_eq!(verbs(&now.plan()), [""; 0], "planning again changes nothing");
    }
}

#[test]
fn two_groups_of_a_node_share_no_substitute() {
    let ids = instances(2);
    let both = |rules: [&[&str]; 2], members: &[&InstanceId]| {
        desired([group("web", rules[0], members), group("dns", rules[1], members)])
    };
    let (dns, dns_new): (&[&str], &[&str]) = (&["udp/53 10.0.0.0/8"], &["udp/53 192.0.2.0/24"]);
    let (_cloud, provider) = converged(2, &both([OLD, dns], &[&ids[0]]));
    apply(&provider, &open_only(&provider, &both([NEW, dns_new], &[&ids[0], &ids[1]])));
    assert_eq!(open(&provider, &ids[1]), "tcp/80 from 192.0.2.0/24, udp/53 from 192.0.2.0/24");
}
