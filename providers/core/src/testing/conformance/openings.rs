//! Openings wait for no closing.

use super::{CLUSTER, Harness, clean_up, converge, desired, expect_open, group, observe_and_plan_with, rule};
use crate::{Desired, FirewallProvider, Policy, RuleSet};

/// Opens all that is asked for, and closes nothing.
async fn open<P: FirewallProvider>(provider: &P, desired: &Desired) {
    let plan = || observe_and_plan_with(provider, desired, Policy::OpenOnly);
    for step in &plan().await.expect("observing works").0.steps {
        provider.apply(&step.action).await.unwrap_or_else(|error| panic!("{:?}: {error}", step.action));
    }
    let (again, _) = plan().await.expect("observing works");
    assert_eq!(again.steps, [], "planning again after opening yields steps");
}

/// While nothing may close, an edit of the sources opens, and a new member opens without getting the old ones.
/// Once closing is allowed, only what is asked for is open, and no resource is left over.
pub(super) async fn wait_for_no_closing<H: Harness>(harness: &H) {
    let [a, b, c, ..] = &harness.instances()[..] else { panic!("three instances") };
    let provider = harness.provider(CLUSTER);
    let (old, new) = ("tcp/80 10.0.0.0/8", "tcp/80 192.0.2.0/24");
    let rules = |texts: &[&str]| texts.iter().map(|text| rule(text)).collect::<RuleSet>();
    converge(&provider, &desired([group("web", &[new], &[a, b, c])])).await;
    let resources = provider.observe(&[].into()).await.expect("observing works").resources.len();
    converge(&provider, &desired([group("web", &[old], &[a])])).await;
    let before = harness.open_rules(CLUSTER, b).await;

    open(&provider, &desired([group("web", &[new], &[a, b])])).await;
    expect_open(harness, a, &[old, new], "that was a member while nothing may close").await;
    let expected = before.union(&rules(&[new]));
    assert_eq!(harness.open_rules(CLUSTER, b).await, expected, "{b} joined while nothing may close");
    open(&provider, &desired([group("web", &[new], &[a, b, c])])).await;
    assert_eq!(harness.open_rules(CLUSTER, c).await, expected, "{c} joined while nothing may close");

    converge(&provider, &desired([group("web", &[new], &[a, b, c])])).await;
    for instance in [a, b, c] {
        expect_open(harness, instance, &[new], "once closing is allowed").await;
    }
    let left = provider.observe(&[].into()).await.expect("observing works").resources;
    assert_eq!(left.len(), resources, "a substitute is left over: {left:?}");
    clean_up(harness).await;
}
