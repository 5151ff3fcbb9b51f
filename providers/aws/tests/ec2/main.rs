//! Behaviour of EC2 that the emulators lack: against the strict EC2 in memory, through the real SDK.

mod attachments;
mod calls;
mod circles;
mod combined;
#[path = "../fake/mod.rs"]
mod fake;
mod groups;
mod knowledge;
mod mode_change;
mod permissions;
mod shared;

use std::collections::BTreeSet;

use firewall_aws::{Aws, AwsConfig, AwsResource, CLUSTER_TAG, Mode, SharedTargets};
use firewall_core::testing::conformance::{desired, group, observe_and_plan};
use firewall_core::{Applied, Desired, FirewallProvider, InstanceId, Plan, ProviderError};

use fake::{FakeEc2, Group, NODES};

/// Returns the provider for the cluster `test` in mode `attach`.
fn attach_provider(cloud: &FakeEc2) -> Aws {
    Aws::from_client(&cloud.client(), AwsConfig::new("test")).unwrap()
}

/// Returns the provider for the cluster `test` in mode `shared`, with the nodes' own group as the target.
fn shared_provider(cloud: &FakeEc2) -> Aws {
    Aws::from_client(&cloud.client(), shared_config()).unwrap()
}

fn shared_config() -> AwsConfig {
    let targets = SharedTargets { ids: BTreeSet::from([NODES.to_owned()]), tag: None };
    AwsConfig { mode: Mode::Shared(targets), ..AwsConfig::new("test") }
}

fn id(text: &str) -> InstanceId {
    InstanceId::new(text)
}

/// Returns a group `web` with these rules on `i-01`.
fn web(rules: &[&str]) -> Desired {
    desired([group("web", rules, &[&id("i-01")])])
}

const HTTP: &[&str] = &["tcp/80 0.0.0.0/0"];

/// Returns the cluster's only group, if it has one.
fn own_group(cloud: &FakeEc2) -> Option<(String, Group)> {
    let is_ours = |group: &&Group| group.tags.get(CLUSTER_TAG).is_some_and(|cluster| cluster == "test");
    let state = cloud.state();
    state.groups.iter().find(|(_, group)| is_ours(group)).map(|(id, group)| (id.clone(), group.clone()))
}

/// Plans and applies without stopping at errors; returns the result of each step.
async fn apply_all(provider: &Aws, desired: &Desired) -> Vec<Result<Applied, ProviderError>> {
    let (plan, _) = observe_and_plan(provider, desired).await.unwrap();
    apply_plan(provider, &plan).await
}

/// Applies a plan without stopping at errors; returns the result of each step.
async fn apply_plan(provider: &Aws, plan: &Plan<AwsResource>) -> Vec<Result<Applied, ProviderError>> {
    let mut results = Vec::new();
    for step in &plan.steps {
        results.push(provider.apply(&step.action).await);
    }
    results
}

async fn first_error(provider: &Aws, desired: &Desired) -> ProviderError {
    apply_all(provider, desired).await.into_iter().find_map(Result::err).expect("an error")
}

/// Returns the reasons of what is infeasible.
async fn reasons(provider: &Aws, desired: &Desired) -> Vec<&'static str> {
    let observed = provider.observe(&desired.members()).await.unwrap();
    provider.compile(desired, &observed.inventory).infeasible.iter().map(|one| one.reason).collect()
}
