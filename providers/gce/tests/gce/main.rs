//! Behaviour of the provider that only Compute Engine requires.

mod instances;
mod knowledge;
mod permissions;
mod rules;
#[path = "../simulated/mod.rs"]
mod simulated;

use std::time::Duration;

use firewall_core::testing::conformance::{desired, group, observe_and_plan};
use firewall_core::{Desired, FirewallProvider, InstanceId, ProviderError, Step};
use firewall_gce::{Gce, GceResource};

use simulated::{Simulated, id};

const CLUSTER: &str = "prod";
const WEB: &[&str] = &["tcp/80 0.0.0.0/0"];

/// Returns the steps that lead to the desired groups.
async fn plan_steps(gce: &Gce, wanted: &Desired) -> Vec<Step<GceResource>> {
    observe_and_plan(gce, wanted).await.expect("it can be observed").0.steps
}

/// Applies the plan once, and returns the errors.
async fn apply_once(gce: &Gce, wanted: &Desired) -> Vec<ProviderError> {
    let mut errors = Vec::new();
    for step in plan_steps(gce, wanted).await {
        errors.extend(gce.apply(&step.action).await.err());
    }
    errors
}

/// Returns the methods of the mutating calls so far.
fn mutating_calls(simulated: &Simulated) -> Vec<String> {
    let requests = simulated.cloud().requests().into_iter();
    requests.filter(|request| request.mutating).map(|request| request.method).collect()
}

/// Returns a group that opens `WEB` on the instances of these numbers.
fn web(members: &[u32]) -> Desired {
    let members: Vec<InstanceId> = members.iter().copied().map(id).collect();
    desired([group("web", WEB, &members.iter().collect::<Vec<_>>())])
}

/// Lets so much time pass at once.
async fn pass(duration: Duration) {
    tokio::time::pause();
    tokio::time::advance(duration).await;
    tokio::time::resume();
}
