//! What the cloud refused, or will: remembered, left alone for a while, and told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use firewall_core::{
    Effect, ErrorKind, FirewallProvider, Infeasible, ProviderError, Resource, ResourceSet, Step,
};
use tokio::time::Instant;

use super::backoff::Backoff;
use super::executor::StepOutcome;
use super::outcome::Membership;
use super::pass::PlannedPass;
use crate::desired::grouping::Grouped;
use crate::k8s::objects::ObjectRef;
use crate::k8s::problem::{Problem, Verdict};

/// How long something may stay in use after its last use has ended before that is a problem: amazon-vpc-cni-k8s takes a
/// group off a node's other interfaces every 30 s.
const RELEASE_DELAY: Duration = Duration::from_mins(2);

/// What has failed to open or to close, and how long it is left alone.
pub(super) struct Failures<K> {
    pub(super) backoff: Backoff<(K, Effect)>,
    /// What failed last with each, and since when it fails
    errors: BTreeMap<(K, Effect), (ProviderError, Instant)>,
}

impl<K: Ord + Clone> Failures<K> {
    pub(super) fn none() -> Self {
        Self { backoff: Backoff::default(), errors: BTreeMap::new() }
    }

    /// Remembers what failed, and forgets it once it has worked. That a resource could be narrowed mends nothing where it
    /// could not be widened, nor the other way round.
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
                let since = self.errors.get(&failing).map_or(now, |(_, since)| *since);
                self.errors.insert(failing, (error.clone(), since));
            }
            StepOutcome::LeftOut | StepOutcome::Stopped => {}
        }
    }

    /// Why the resource is not as it should be, if it failed. What could not be opened says more than what could not be
    /// closed.
    pub(super) fn of(&self, key: &K) -> Option<&ProviderError> {
        let of = |effect| self.errors.get(&(key.clone(), effect)).map(|(error, _)| error);
        of(Effect::Open).or_else(|| of(Effect::Close))
    }

    /// Forgets what failed to open where nothing is to be opened any more, and the same of closing, whoever has mended it.
    pub(super) fn retain<R: Resource<Key = K>>(&mut self, world: &ResourceSet<R>, wanted: &ResourceSet<R>) {
        let differs = |(key, effect): &(K, Effect)| match (world.get(key), wanted.get(key)) {
            (None, None) => false,
            (None, Some(_)) => *effect == Effect::Open,
            (Some(_), None) => *effect == Effect::Close,
            (Some(now), Some(wanted)) if now.same_spec(wanted) => false,
            (Some(now), Some(wanted)) => now.union(wanted).is_none_or(|both| match effect {
                Effect::Open => !both.same_spec(now),
                Effect::Close => !both.same_spec(wanted),
            }),
        };
        self.backoff.retain(differs);
        self.errors.retain(|failing, _| differs(failing));
    }

    /// Tells what has failed those who wait for it: `memberships` say who does.
    pub(super) fn problems<P>(
        &self,
        planned: &PlannedPass<P>,
        memberships: &[Membership],
    ) -> BTreeSet<Problem>
    where
        P: FirewallProvider,
        P::Resource: Resource<Key = K>,
    {
        let PlannedPass { compiled, observed, grouped, .. } = planned;
        let mut taking: BTreeMap<&K, Vec<&Membership>> = BTreeMap::new();
        // Nothing has failed in almost every pass.
        for membership in memberships.iter().filter(|_| !self.errors.is_empty()) {
            let id = (membership.group.clone(), membership.instance.clone());
            for key in compiled.requirements.get(&id).into_iter().flat_map(|takes| &takes.resources) {
                taking.entry(key).or_default().push(membership);
            }
        }
        let mut notices = BTreeSet::new();
        for ((key, _), (error, since)) in &self.errors {
            if error.kind == ErrorKind::InUse && since.elapsed() < RELEASE_DELAY {
                continue;
            }
            let concerned = match taking.get(key) {
                Some(taking) => waiting(taking),
                None => observed.get(key).map(|left| leaving(left, observed, grouped)).unwrap_or_default(),
            };
            notices.extend(concerned.into_iter().flat_map(|object| failed(object, error)));
        }
        notices
    }
}

/// Who waits for a resource: what binds the ports that it keeps closed, and what asks for them. If it keeps none closed,
/// something that should be closed is open: that is for what asks.
fn waiting<'a>(taking: &[&'a Membership]) -> BTreeSet<&'a ObjectRef> {
    let closed: Vec<&Membership> =
        taking.iter().copied().filter(|membership| membership.open.is_err()).collect();
    let waiting = if closed.is_empty() { taking } else { &closed };
    let mut concerned: BTreeSet<&ObjectRef> =
        waiting.iter().flat_map(|membership| &membership.intents).collect();
    concerned.extend(closed.iter().flat_map(|membership| &membership.port_owners));
    let nodes: BTreeSet<&ObjectRef> = waiting.iter().map(|membership| &membership.node).collect();
    // What serves many nodes is no fault of each.
    if nodes.len() == 1 {
        concerned.extend(nodes);
    }
    concerned
}

/// Who has to know of a resource that nobody takes any more: the node, if it is of one, or else what asks for another part
/// of the same group.
fn leaving<'a, R: Resource>(
    left: &R,
    observed: &ResourceSet<R>,
    grouped: &'a Grouped,
) -> BTreeSet<&'a ObjectRef> {
    let mut concerned: BTreeSet<&ObjectRef> =
        match left.instances(observed).into_iter().collect::<Vec<_>>().as_slice() {
            [only] => grouped.nodes.get(only).into_iter().collect(),
            _ => BTreeSet::new(),
        };
    let serves = left.serves();
    let groups = grouped.objects.iter().filter(|(group, _)| serves.contains(&group.to_string()));
    concerned.extend(groups.flat_map(|(_, objects)| objects));
    concerned
}

/// What failed, and the command that somebody else can run instead, if there is one: apart, so that it can be copied.
fn failed(object: &ObjectRef, error: &ProviderError) -> Vec<Problem> {
    let notice = |reason: &str, message| Problem {
        object: object.clone(),
        verdict: Verdict::Failed,
        reason: reason.to_owned(),
        message,
    };
    let mut notices = vec![notice(error.reason(), error.to_string())];
    if let Some(command) = &error.manual_command {
        notices
            .push(notice("ManualChangeRequired", format!("somebody with the permission can run: {command}")));
    }
    notices
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
