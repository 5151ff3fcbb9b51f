//! Tracks failed resources: backoff, and the objects that must be notified.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use firewall_core::{
    Effect, ErrorKind, FirewallProvider, Infeasible, InstanceId, Plan, ProviderError, Resource, ResourceSet,
    Step, WithheldReason,
};
use tokio::time::Instant;

use super::backoff::Backoff;
use super::executor::StepOutcome;
use super::outcome::Membership;
use super::pass::PlannedPass;
use crate::desired::grouping::Grouped;
use crate::k8s::objects::ObjectRef;
use crate::k8s::problem::{Problem, Verdict};
use crate::k8s::reasons;

/// Time for which "still in use" is no problem: amazon-vpc-cni-k8s removes a group from a node's other
/// interfaces every 30 s.
const RELEASE_DELAY: Duration = Duration::from_mins(2);

/// Holds the resources that failed to open or to close, and their backoff.
pub(super) struct Failures<K> {
    pub(super) backoff: Backoff<(K, Effect)>,
    errors: BTreeMap<(K, Effect), Failure>,
}

/// The failure of one change.
struct Failure {
    /// The last error
    error: ProviderError,
    /// The time of the first
    since: Instant,
    /// The firewall groups that the resource serves, as text
    groups: BTreeSet<String>,
}

impl<K: Ord + Clone> Failures<K> {
    pub(super) fn none() -> Self {
        Self { backoff: Backoff::default(), errors: BTreeMap::new() }
    }

    /// Returns true if nothing but these resources has failed.
    pub(super) fn is_of(&self, keys: &BTreeSet<K>) -> bool {
        self.errors.keys().all(|(key, _)| keys.contains(key))
    }

    /// Records a step's failure, and removes it once the step has succeeded. A success in closing does not
    /// clear a failure in opening, or the reverse.
    pub(super) fn record<R: Resource<Key = K>>(&mut self, step: &Step<R>, outcome: &StepOutcome) {
        let failing = (step.action.key(), step.effect);
        match outcome {
            StepOutcome::Applied(_) => {
                self.backoff.worked(&failing);
                self.errors.remove(&failing);
            }
            StepOutcome::Failed(error) => {
                let now = Instant::now();
                self.backoff.failed(failing.clone(), error, now);
                let since = self.errors.get(&failing).map_or(now, |failure| failure.since);
                let resources = step.action.before().into_iter().chain(step.action.after());
                let groups = resources.flat_map(Resource::serves).collect();
                self.errors.insert(failing, Failure { error: error.clone(), since, groups });
            }
            StepOutcome::InFlight | StepOutcome::LeftOut | StepOutcome::Stopped => {}
        }
    }

    /// Returns the last error of a resource. One that kept it from opening comes before one that kept it from
    /// closing.
    pub(super) fn last_error(&self, key: &K) -> Option<&ProviderError> {
        let of = |effect| self.errors.get(&(key.clone(), effect)).map(|failure| &failure.error);
        of(Effect::Open).or_else(|| of(Effect::Close))
    }

    /// Removes failures whose opening or closing is no longer needed. A substitute is needed as long as it is
    /// planned, though nobody desires it.
    pub(super) fn retain<R: Resource<Key = K>>(
        &mut self,
        state: &ResourceSet<R>,
        desired: &ResourceSet<R>,
        plan: &Plan<R>,
    ) {
        let withheld = plan.withheld.iter().filter(|withheld| withheld.reason == WithheldReason::Backoff);
        let steps = plan.steps.iter().map(|step| step.action.key());
        let planned: BTreeSet<K> = withheld.map(|withheld| withheld.key.clone()).chain(steps).collect();
        let differs = |(key, effect): &(K, Effect)| match (state.get(key), desired.get(key)) {
            (None, _) => *effect == Effect::Open && (desired.contains_key(key) || planned.contains(key)),
            (Some(_), None) => *effect == Effect::Close || planned.contains(key),
            (Some(now), Some(desired)) if now.has_same_spec(desired) => false,
            (Some(now), Some(desired)) => now.union(desired).is_none_or(|both| match effect {
                Effect::Open => !both.has_same_spec(now),
                Effect::Close => !both.has_same_spec(desired),
            }),
        };
        self.backoff.retain(differs);
        self.errors.retain(|failing, _| differs(failing));
    }

    /// Returns a problem for each object that waits for a failed resource: `memberships` name them.
    pub(super) fn problems<P>(
        &self,
        planned: &PlannedPass<P>,
        memberships: &[Arc<Membership>],
    ) -> BTreeSet<Problem>
    where
        P: FirewallProvider,
        P::Resource: Resource<Key = K>,
    {
        let PlannedPass { compiled, grouped, .. } = planned;
        let observed = &planned.observed;
        let mut requiring: BTreeMap<&K, Vec<&Membership>> = BTreeMap::new();
        // Nothing has failed in almost every pass.
        for membership in memberships.iter().filter(|_| !self.errors.is_empty()) {
            let id = (membership.group.clone(), membership.instance.clone());
            for key in
                compiled.requirements.get(&id).into_iter().flat_map(|requirements| &requirements.resources)
            {
                requiring.entry(key).or_default().push(membership);
            }
        }
        let by_text = LazyCell::new(|| {
            let groups = grouped.objects.iter();
            groups.map(|(group, objects)| (group.to_string(), objects)).collect::<ObjectsByGroup<'_>>()
        });
        let mut problems = BTreeSet::new();
        for ((key, _), Failure { error, since, groups }) in &self.errors {
            if error.kind == ErrorKind::InUse && since.elapsed() < RELEASE_DELAY {
                continue;
            }
            let concerned = requiring.get(key).map(|requiring| waiting_objects(requiring));
            let concerned = concerned.unwrap_or_else(|| {
                let mut concerned = node_of_orphan(observed.get(key), observed, &grouped.nodes);
                concerned.extend(groups.iter().filter_map(|group| by_text.get(group)).copied().flatten());
                concerned
            });
            problems.extend(concerned.into_iter().flat_map(|object| failed(object, error)));
        }
        problems
    }
}

/// Returns the objects that wait for a resource: the owners of the ports that it keeps closed, and their
/// intents. If it keeps none closed, a port that should be closed is open: that concerns the intents.
fn waiting_objects<'a>(requiring: &[&'a Membership]) -> BTreeSet<&'a ObjectRef> {
    let closed: Vec<&Membership> =
        requiring.iter().copied().filter(|membership| membership.open.is_err()).collect();
    let waiting = if closed.is_empty() { requiring } else { &closed };
    let mut concerned: BTreeSet<&ObjectRef> =
        waiting.iter().flat_map(|membership| &membership.intents).collect();
    concerned.extend(closed.iter().flat_map(|membership| &membership.port_owners));
    let nodes: BTreeSet<&ObjectRef> = waiting.iter().map(|membership| &membership.node).collect();
    // A failure that affects many nodes is not reported on each node.
    if nodes.len() == 1 {
        concerned.extend(nodes);
    }
    concerned
}

/// The intents and port owners behind each group, by the text that resources name it with.
type ObjectsByGroup<'a> = BTreeMap<String, &'a BTreeSet<ObjectRef>>;

/// Returns the node to notify of a resource that no membership requires: the one that it serves, if it serves
/// no other. The objects that ask for a part of the same groups are notified too.
fn node_of_orphan<'a, R: Resource>(
    orphan: Option<&R>,
    observed: &ResourceSet<R>,
    nodes: &'a BTreeMap<InstanceId, ObjectRef>,
) -> BTreeSet<&'a ObjectRef> {
    let instances = orphan.map(|orphan| orphan.instances(observed)).unwrap_or_default();
    match instances.into_iter().collect::<Vec<_>>().as_slice() {
        [only] => nodes.get(only).into_iter().collect(),
        _ => BTreeSet::new(),
    }
}

/// Returns the problems of a failed call: the error, and apart from it, so that it can be copied, the command
/// that somebody else can run instead.
fn failed(object: &ObjectRef, error: &ProviderError) -> Vec<Problem> {
    let problem = |reason: &str, message| Problem {
        object: object.clone(),
        verdict: Verdict::Failed,
        reason: reason.to_owned(),
        message,
    };
    let mut problems = vec![problem(error.reason(), error.to_string())];
    if let Some(command) = &error.manual_command {
        problems.push(problem(
            reasons::MANUAL_CHANGE_REQUIRED,
            format!("somebody with the permission can run: {command}"),
        ));
    }
    problems
}

/// Returns the problems of something infeasible: on whatever asked for the group, or, if it is about one
/// instance, on its node and on what asked for it there.
pub(super) fn infeasible_problems(infeasible: &Infeasible, grouped: &Grouped) -> Vec<Problem> {
    let objects: BTreeSet<&ObjectRef> = match &infeasible.instance {
        None => grouped.objects.get(&infeasible.group).into_iter().flatten().collect(),
        Some(instance) => {
            let id = (infeasible.group.clone(), instance.clone());
            let concerned =
                [grouped.intents.get(&id), grouped.port_owners.get(&id)].into_iter().flatten().flatten();
            concerned.chain(grouped.nodes.get(instance)).collect()
        }
    };
    objects
        .into_iter()
        .map(|object| Problem {
            object: object.clone(),
            verdict: Verdict::Failed,
            reason: infeasible.reason.to_owned(),
            message: format!("{}: {}", infeasible.group, infeasible.message),
        })
        .collect()
}
