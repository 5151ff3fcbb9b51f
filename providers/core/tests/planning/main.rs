//! Planning, tested in the memory provider: single cases by name, the documented examples, and seeded
//! histories with faults.

mod availability;
mod backoff;
mod circles;
mod conforms;
mod examples;
mod guards;
mod histories;
mod in_flight;
mod order;
mod substitutes;
mod unknown;
mod violations;

use std::collections::{BTreeMap, BTreeSet};

use firewall_core::testing::conformance::{self, desired, group};
use firewall_core::testing::memory::{MemoryCloud, MemoryKey, MemoryProvider, MemoryResource};
use firewall_core::{
    Dependency, Desired, Effect, FirewallProvider, GroupKey, InFlight, InstanceId, Limits, Observed, Plan,
    PlanInput, Policy, ResourceSet, Unknown, check, plan,
};
use futures::executor::block_on;

const CLUSTER: &str = "c";
const HTTP: &[&str] = &["tcp/80 0.0.0.0/0"];

fn instances(count: usize) -> Vec<InstanceId> {
    (0..count).map(|n| InstanceId::new(format!("i-{n}"))).collect()
}

/// Returns the desired state of one workload, `web`, with these rules on these instances.
fn web(rules: &[&str], members: &[&InstanceId]) -> Desired {
    desired([group("web", rules, members)])
}

/// Returns the key of the group of this workload, with the ports of these rules.
fn group_key(name: &str, rules: &[&str]) -> MemoryKey {
    MemoryKey::Group(CLUSTER.into(), group(name, rules, &[]).0.digest())
}

fn attachment_key(instance: &InstanceId) -> MemoryKey {
    MemoryKey::Attachment(CLUSTER.into(), instance.clone())
}

/// Returns a cloud that has converged to `desired`, and its provider.
fn converged(count: usize, desired: &Desired) -> (MemoryCloud, MemoryProvider) {
    let cloud = MemoryCloud::new(instances(count));
    let provider = cloud.provider(CLUSTER);
    block_on(conformance::converge(&provider, desired));
    (cloud, provider)
}

/// The input of `plan` and `check`, with defaults for all that most cases leave alone.
#[derive(Clone)]
struct Case {
    desired: ResourceSet<MemoryResource>,
    observed: ResourceSet<MemoryResource>,
    unknown: Unknown,
    released: BTreeSet<String>,
    endings: BTreeMap<(GroupKey, InstanceId), String>,
    policy: Policy,
    limits: Limits,
    backoff: BTreeSet<(MemoryKey, Effect)>,
    in_flight: InFlight<MemoryKey>,
}

impl Case {
    /// Returns the case of a provider's cloud as it is, and this desired state.
    fn new(provider: &MemoryProvider, desired: &Desired) -> Self {
        let observed: Observed<_, _> = block_on(provider.observe(&desired.members())).unwrap();
        let compiled = provider.compile(desired, &observed.inventory);
        Self {
            desired: compiled.resources,
            observed: observed.resources,
            unknown: compiled.unknown,
            released: BTreeSet::new(),
            endings: BTreeMap::new(),
            policy: Policy::Sync,
            limits: Limits::default(),
            backoff: BTreeSet::new(),
            in_flight: InFlight::none(),
        }
    }

    /// Returns the case of a cloud of `count` instances that has converged to `from`, and is to become `to`.
    fn between(count: usize, from: &Desired, to: &Desired) -> Self {
        Self::new(&converged(count, from).1, to)
    }

    fn input(&self) -> PlanInput<'_, MemoryResource> {
        PlanInput {
            desired: &self.desired,
            observed: &self.observed,
            unknown: &self.unknown,
            released: &self.released,
            endings: &self.endings,
            policy: self.policy,
            limits: self.limits,
            backoff: &self.backoff,
            in_flight: &self.in_flight,
        }
    }

    /// Plans, and asserts that the check finds no violation.
    fn plan(&self) -> Plan<MemoryResource> {
        let plan = plan(&self.input());
        assert_eq!(check(&self.input(), &plan), []);
        plan
    }
}

/// Returns the observed state as it is after every step.
fn state_after(case: &Case, plan: &Plan<MemoryResource>) -> ResourceSet<MemoryResource> {
    let mut state = case.observed.clone();
    for step in &plan.steps {
        step.action.apply_to(&mut state);
    }
    state
}

fn verbs(plan: &Plan<MemoryResource>) -> Vec<String> {
    plan.steps.iter().map(|step| format!("{} {}", step.action.verb(), step.action.key())).collect()
}

fn effects(plan: &Plan<MemoryResource>) -> Vec<Effect> {
    plan.steps.iter().map(|step| step.effect).collect()
}

/// Asserts that a step waits for another and is left out if that one fails.
fn assert_relies_on(plan: &Plan<MemoryResource>, step: usize, other: usize) {
    let dependency = Dependency { step: other, must_succeed: true };
    assert!(plan.steps[step].depends_on.contains(&dependency), "{:?}", plan.steps[step]);
}
