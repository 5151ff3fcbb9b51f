//! Plans and applies until nothing is left to do.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    ChangesSince, Desired, FirewallProvider, InFlight, Limits, Observed, Plan, PlanInput, Policy,
    ProviderError, Resource, check, plan,
};

/// Observes, compiles, plans and checks, without applying. Returns the plan and the number of infeasible
/// parts.
///
/// # Errors
/// If observing fails.
///
/// # Panics
/// If the check finds a violation.
pub async fn observe_and_plan<P: FirewallProvider>(
    provider: &P,
    desired: &Desired,
) -> Result<(Plan<P::Resource>, usize), ProviderError> {
    observe_and_plan_with(provider, desired, Policy::Sync).await
}

/// Does the same with a policy.
///
/// # Errors
/// If observing fails.
///
/// # Panics
/// If the check finds a violation.
pub async fn observe_and_plan_with<P: FirewallProvider>(
    provider: &P,
    desired: &Desired,
    policy: Policy,
) -> Result<(Plan<P::Resource>, usize), ProviderError> {
    let observed = provider.observe(&desired.members()).await?;
    Ok(compile_and_plan(provider, desired, &observed, policy))
}

fn compile_and_plan<P: FirewallProvider>(
    provider: &P,
    desired: &Desired,
    observed: &Observed<P::Resource, P::Inventory>,
    policy: Policy,
) -> (Plan<P::Resource>, usize) {
    let compiled = provider.compile(desired, &observed.inventory);
    let input = PlanInput {
        desired: &compiled.resources,
        observed: &observed.resources,
        unknown: &compiled.unknown,
        policy,
        limits: Limits { mass_close_released: true, ..Limits::default() },
        released: &BTreeSet::new(),
        endings: &BTreeMap::new(),
        backoff: &BTreeSet::new(),
        in_flight: &InFlight::none(),
    };
    let plan = plan(&input);
    assert_eq!(check(&input, &plan), [], "the plan has violations");
    (plan, compiled.infeasible.len())
}

/// Applies a plan, and asserts that planning again yields no steps, from what is known then and from what is
/// read, and that both are the same. Returns the number of steps.
///
/// # Panics
/// If a step fails or steps are left.
pub async fn converge<P: FirewallProvider>(provider: &P, desired: &Desired) -> usize {
    let members = desired.members();
    let mut known = provider.observe(&members).await.expect("observing works");
    let (plan, _) = compile_and_plan(provider, desired, &known, Policy::Sync);
    let (mut remarks, mut resources) = (Vec::new(), BTreeSet::new());
    for step in &plan.steps {
        let applied = provider.apply(&step.action).await;
        let applied = applied.unwrap_or_else(|error| panic!("{:?}: {error}", step.action));
        remarks.extend(applied.notes);
        step.action.apply_to(&mut known.resources);
        resources.insert(step.action.key());
    }
    // A remark is about something that is not as it was to be: then the cloud is read.
    if !remarks.is_empty() {
        known = provider.observe(&members).await.expect("observing works");
        resources.clear();
    }
    let changes =
        ChangesSince { resources, members: members.clone(), left: BTreeSet::new(), relied_on: None };
    let is_surprised = provider.observe_added(&mut known, &changes).await.expect("observing works");
    assert!(!is_surprised, "what the changes have left is not what they were to leave");
    let read = provider.observe(&members).await.expect("observing works");
    for (how, observed) in [("known", &known), ("read", &read)] {
        let (again, _) = compile_and_plan(provider, desired, observed, Policy::Sync);
        assert_eq!(again.steps, [], "planning again after convergence yields steps from what is {how}");
    }
    for key in known.resources.keys().chain(read.resources.keys()) {
        let is_same = match (known.resources.get(key), read.resources.get(key)) {
            (Some(known), Some(read)) => known.has_same_spec(read),
            _ => false,
        };
        assert!(is_same, "{key} is not as it is known");
    }
    plan.steps.len()
}
