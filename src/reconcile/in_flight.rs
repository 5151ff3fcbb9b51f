//! Steps that have begun and not ended, of this pass or of passes before: a slow call holds up no other.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::Arc;

use firewall_core::{
    Action, Applied, FirewallProvider, InFlight, ProviderError, Resource, ResourceSet, Step,
};
use tokio::task::{JoinError, JoinSet};

/// Holds the steps under way. They go on while nobody looks; dropping it drops them.
pub struct StepsInFlight<P: FirewallProvider> {
    calls: JoinSet<(StepNumber, Result<Applied, ProviderError>)>,
    steps: BTreeMap<StepNumber, Step<P::Resource>>,
    begun: StepNumber,
}

/// Resources that are being changed, as they were observed: a plan takes them for what they are in any case.
pub(super) type Changing<R> = BTreeMap<<R as Resource>::Key, Option<R>>;

/// The number of a step among all that have begun.
pub type StepNumber = usize;

/// A step that has ended.
pub struct EndedStep<P: FirewallProvider> {
    /// Its number
    pub number: StepNumber,
    /// The step
    pub step: Step<P::Resource>,
    /// What the cloud said
    pub result: Result<Applied, ProviderError>,
}

type EndedCall = Result<(StepNumber, Result<Applied, ProviderError>), JoinError>;

impl<P: FirewallProvider + 'static> StepsInFlight<P> {
    /// Returns that nothing is under way.
    #[must_use]
    pub fn none() -> Self {
        Self { calls: JoinSet::new(), steps: BTreeMap::new(), begun: 0 }
    }

    /// Returns true if nothing is under way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Begins a step. Returns its number.
    pub fn begin(&mut self, provider: &Arc<P>, step: &Step<P::Resource>) -> StepNumber {
        let (number, action, provider) = (self.begun, step.action.clone(), Arc::clone(provider));
        self.begun += 1;
        self.steps.insert(number, step.clone());
        self.calls.spawn(async move { (number, provider.apply(&action).await) });
        number
    }

    /// Waits for the next step that ends; returns `None` if nothing is under way. Cancel-safe.
    pub async fn next(&mut self) -> Option<EndedStep<P>> {
        let ended = self.calls.join_next().await?;
        self.end(ended)
    }

    /// Returns a step that has ended, if there is one.
    pub fn next_ended(&mut self) -> Option<EndedStep<P>> {
        let ended = self.calls.try_join_next()?;
        self.end(ended)
    }

    fn end(&mut self, ended: EndedCall) -> Option<EndedStep<P>> {
        // Nobody aborts a call but by dropping all of them.
        let (number, result) = ended.unwrap_or_else(|panicked| resume_unwind(panicked.into_panic()));
        Some(EndedStep { number, step: self.steps.remove(&number)?, result })
    }

    /// Returns the changes under way.
    #[must_use]
    pub fn actions(&self) -> Vec<Action<P::Resource>> {
        self.steps.values().map(|step| step.action.clone()).collect()
    }
}

/// Takes these changes for under way. Returns them, and the resources that they change as they were observed.
pub(super) fn settle<R: Resource>(
    changing: &[Action<R>],
    observed: &mut ResourceSet<R>,
) -> (InFlight<R::Key>, Changing<R>) {
    let keys = changing.iter().map(Action::key);
    let as_observed = keys.map(|key| (key.clone(), observed.get(&key).cloned())).collect();
    let changes = changing.iter().map(|change| (change.before(), change.after()));
    (InFlight::settle(changes, observed), as_observed)
}
