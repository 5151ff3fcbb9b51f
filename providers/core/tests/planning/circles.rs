//! Groups that exchange members and sources, so that each waits for the other.

use firewall_core::Effect;
use firewall_core::testing::conformance::{desired, group};

use crate::availability::apply_without_loss;
use crate::{Case, HTTP, attachment_key, instances};

const A: &str = "tcp/80 10.0.0.0/8";
const B: &str = "tcp/80 192.0.2.0/24";
const C: &str = "tcp/80 198.51.100.0/24";

#[test]
fn three_groups_in_a_circle_close_nothing() {
    let ids = instances(3);
    let from = desired([
        group("p", &[A, B], &[&ids[0]]),
        group("q", &[B, C], &[&ids[1]]),
        group("r", &[C, A], &[&ids[2]]),
    ]);
    let to =
        desired([group("p", &[A], &[&ids[2]]), group("q", &[B], &[&ids[0]]), group("r", &[C], &[&ids[1]])]);
    let mut case = Case::between(3, &from, &to);
    for _ in 0..3 {
        case.observed = apply_without_loss(&case);
    }
    let open = |number: usize| case.observed.reach(&ids[number]).rules.to_string();
    assert_eq!([open(0), open(1), open(2)], [B, C, A].map(|rule| rule.replace(' ', " from ")));
    assert_eq!(case.plan().steps, [], "no substitute is left");
}

#[test]
fn instance_without_a_substitute_holds_up_no_circle() {
    const V6: &[&str] = &["tcp/80 ::/0"];
    let ids = instances(3);
    let from = desired([group("one", &[A], &[&ids[0]]), group("two", V6, &[&ids[1], &ids[0]])]);
    let to = desired([group("one", V6, &[&ids[1]]), group("two", HTTP, &[&ids[0], &ids[2]])]);
    let mut case = Case::between(3, &from, &to);
    case.backoff.insert((attachment_key(&ids[0]), Effect::Open));
    for _ in 0..3 {
        case.observed = apply_without_loss(&case);
    }
    assert_eq!(case.observed, case.desired);
}

/// A plan that opens beside a circle must not take back at once what a failed change has left.
#[test]
fn circle_changes_nothing_that_is_in_backoff() {
    let ids = instances(4);
    let from = desired([group("one", &[A], &[&ids[0], &ids[3]]), group("two", &[B], &[&ids[1], &ids[2]])]);
    let to = desired([group("one", &[B], &[&ids[0], &ids[1], &ids[3]]), group("two", &[A], &[&ids[3]])]);
    let mut case = Case::between(4, &from, &to);
    let waits = (attachment_key(&ids[3]), Effect::Close);
    case.backoff.insert(waits.clone());
    let plan = case.plan();
    let is_waiting =
        |position: usize| (plan.steps[position].action.key(), plan.steps[position].effect) == waits;
    assert!(!(0..plan.steps.len()).any(is_waiting), "{plan:?}");
}
