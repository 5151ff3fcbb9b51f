//! What EC2 does and the emulators do not: against the strict EC2 in memory, through the real SDK.

mod attachments;
mod calls;
#[path = "../fake/mod.rs"]
mod fake;
mod groups;
mod permissions;
mod shared;

use std::collections::BTreeSet;

use firewall_aws::{Aws, AwsConfig, CLUSTER_TAG, Mode, SharedTargets};
use firewall_core::testing::conformance::{desired, group, observe_and_plan};
use firewall_core::{Applied, Desired, FirewallProvider, InstanceId, ProviderError};

use fake::{FakeEc2, Group, NODES, State};

fn attach(cloud: &FakeEc2) -> Aws {
    Aws::from_client(&cloud.client(), AwsConfig::new("test")).unwrap()
}

fn shared(cloud: &FakeEc2) -> Aws {
    let targets = SharedTargets { ids: BTreeSet::from([NODES.to_owned()]), tag: None };
    let config = AwsConfig { mode: Mode::Shared(targets), ..AwsConfig::new("test") };
    Aws::from_client(&cloud.client(), config).unwrap()
}

fn id(text: &str) -> InstanceId {
    InstanceId::new(text)
}

/// A group `web` with these rules on `i-01`.
fn web(rules: &[&str]) -> Desired {
    desired([group("web", rules, &[&id("i-01")])])
}

const HTTP: &[&str] = &["tcp/80 0.0.0.0/0"];

/// The one group that is the cluster's, if there is one.
fn ours(state: &State) -> Option<(String, Group)> {
    let tagged = |group: &&Group| group.tags.get(CLUSTER_TAG).is_some_and(|cluster| cluster == "test");
    state.groups.iter().find(|(_, group)| tagged(group)).map(|(id, group)| (id.clone(), group.clone()))
}

/// Plans and applies without stopping at errors; returns what came of each step.
async fn attempt(provider: &Aws, desired: &Desired) -> Vec<Result<Applied, ProviderError>> {
    let (plan, _) = observe_and_plan(provider, desired).await.unwrap();
    let mut results = Vec::new();
    for step in &plan.steps {
        results.push(provider.apply(&step.action).await);
    }
    results
}

async fn first_error(provider: &Aws, desired: &Desired) -> ProviderError {
    attempt(provider, desired).await.into_iter().find_map(Result::err).expect("an error")
}

async fn reasons(provider: &Aws, desired: &Desired) -> Vec<&'static str> {
    let observed = provider.observe(&desired.members()).await.unwrap();
    provider.compile(desired, &observed.inventory).infeasible.iter().map(|one| one.reason).collect()
}
