//! Removes every resource that carries this cluster's mark, and only those.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use firewall_core::{
    Desired, FirewallProvider, InFlight, Limits, Plan, PlanInput, Policy, ProviderError, Resource, Step,
    Unknown, check, plan,
};
use thiserror::Error;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::executor::{Allowance, StepOutcome, execute};
use super::in_flight::StepsInFlight;
use super::reported_plan::ReportedPlan;

/// Attempts before giving up, and the pause between: a group can be deleted only some
/// seconds after its last interface let go of it.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(3);

/// A cleanup that is not complete.
#[derive(Debug, Error)]
pub enum CleanupError {
    /// The cloud cannot be read.
    #[error("cannot find what is to be removed: {0}")]
    Observe(#[from] ProviderError),
    /// Something could not be removed.
    #[error("not everything could be removed: {0}; fix that and run `cleanup --yes` again")]
    Left(String),
}

/// Returns the plan that would remove everything of this cluster.
///
/// # Errors
/// If the cloud cannot be read.
pub(super) async fn plan_cleanup<P: FirewallProvider>(provider: &P) -> Result<ReportedPlan, CleanupError> {
    let (plan, _) = removal(provider).await?;
    Ok(ReportedPlan::new(provider.name(), &plan))
}

/// Removes everything, and looks again until nothing is left.
///
/// # Errors
/// If something is left after a few tries; the text says what and why.
pub(super) async fn clean_up<P: FirewallProvider + 'static>(provider: &Arc<P>) -> Result<(), CleanupError> {
    let mut error = None;
    for _ in 0..TRIES {
        let (plan, violations) = removal(&**provider).await?;
        if is_done(&plan) {
            return Ok(());
        }
        error = None;
        let log = |step: &Step<P::Resource>, outcome: &StepOutcome, _| {
            if let StepOutcome::Failed(failure) = outcome {
                tracing::warn!("{failure}");
                error = Some(failure.to_string());
            } else {
                tracing::info!("{} {}", step.action.verb(), step.action.key());
            }
        };
        // Here everything waits: what is left when this returns stays.
        let allowance = Allowance { leave: &CancellationToken::new(), patience: Duration::MAX };
        let mut in_flight = StepsInFlight::none();
        execute(provider, (&plan, &violations), &mut in_flight, &allowance, log).await;
        sleep(PAUSE).await;
    }
    let (plan, _) = removal(&**provider).await?;
    if is_done(&plan) { Ok(()) } else { Err(CleanupError::Left(error.unwrap_or_else(|| left(&plan)))) }
}

fn is_done<R: Resource>(plan: &Plan<R>) -> bool {
    plan.steps.is_empty() && plan.withheld.is_empty()
}

/// Returns the resources of a plan, for a message.
fn left<R: Resource>(plan: &Plan<R>) -> String {
    let steps = plan.steps.iter().map(|step| step.action.key());
    let keys = steps.chain(plan.withheld.iter().map(|withheld| withheld.key.clone()));
    keys.map(|key| key.to_string()).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
}

async fn removal<P: FirewallProvider>(
    provider: &P,
) -> Result<(Plan<P::Resource>, BTreeSet<usize>), CleanupError> {
    let desired = Desired::nothing();
    let observed = provider.observe(&BTreeSet::new()).await?;
    let compiled = provider.compile(&desired, &observed.inventory);
    let input = PlanInput {
        desired: &compiled.resources,
        observed: &observed.resources,
        unknown: &Unknown::default(),
        released: &BTreeSet::new(),
        endings: &BTreeMap::new(),
        policy: Policy::Sync,
        limits: Limits { mass_close_released: true, ..Limits::default() },
        backoff: &BTreeSet::new(),
        in_flight: &InFlight::none(),
    };
    let plan = plan(&input);
    let violations = check(&input, &plan).into_iter().map(|violation| violation.step).collect();
    Ok((plan, violations))
}

#[cfg(test)]
mod tests {
    use firewall_core::InstanceId;
    use firewall_core::testing::conformance::{self, converge, group};
    use firewall_core::testing::memory::{Fault, MemoryCloud};

    use firewall_core::ErrorKind;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn cleanup_removes_all_of_its_cluster_and_nothing_else() {
        let id = InstanceId::new("i-0");
        let cloud = MemoryCloud::new([id.clone()]);
        let desired = conformance::desired([group("web", &["tcp/80 0.0.0.0/0"], &[&id])]);
        converge(&cloud.provider("other"), &desired).await;
        let others = cloud.resources();
        converge(&cloud.provider("ours"), &desired).await;
        let error = ProviderError::new(ErrorKind::InUse, "x", "x", "x");
        cloud.inject([Fault::None, Fault::CallFails(error)]);
        clean_up(&Arc::new(cloud.provider("ours"))).await.unwrap();
        assert_eq!(cloud.resources(), others);
    }

    #[tokio::test(start_paused = true)]
    async fn last_attempt_counts_and_names_the_rest() {
        let id = InstanceId::new("i-0");
        let desired = conformance::desired([group("web", &["tcp/80 0.0.0.0/0"], &[&id])]);
        let error = || ProviderError::new(ErrorKind::InUse, "x", "x", "still");
        // Nothing else can be done in a try whose first step fails.
        for (failing, succeeds) in [(TRIES as usize - 1, true), (TRIES as usize, false)] {
            let cloud = MemoryCloud::new([id.clone()]);
            converge(&cloud.provider("ours"), &desired).await;
            cloud.inject((0..failing).map(|_| Fault::CallFails(error())));
            let removed = clean_up(&Arc::new(cloud.provider("ours"))).await;
            assert_eq!(removed.is_ok(), succeeds, "{removed:?}");
            assert_eq!(cloud.resources().is_empty(), succeeds);
            if let Err(error) = removed {
                assert!(error.to_string().contains("still"), "{error}");
            }
        }
    }
}
