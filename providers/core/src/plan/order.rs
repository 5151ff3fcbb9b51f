//! The order: takes actions one by one so that every promise holds after each.

use std::collections::{BTreeMap, BTreeSet};

use super::dependencies::{DependencyTracker, NewStep};
use super::split::{Rank, rank, split_move_closing_first};
use crate::{Action, Effect, InstanceId, PlanInput, Reach, Resource, ResourceSet, Step};

/// The result of scheduling.
pub(super) struct Schedule<R> {
    /// The actions that can be taken, in this order
    pub(super) steps: Vec<Step<R>>,
    /// The actions that would let in too much, or break a reference, whenever they were taken
    pub(super) blocked: Vec<Action<R>>,
}

/// Puts actions into an order in which no instance ever admits more than it admits now or is asked to admit.
///
/// After each rank, blocked actions are tried again, so that a closing makes way for the openings that need
/// it and for no others.
///
/// Post-condition: each step starts from the state that the steps before it leave, and waits only for those.
pub(super) fn schedule<R: Resource>(
    input: &PlanInput<'_, R>,
    actions: BTreeMap<Rank, Vec<Action<R>>>,
) -> Schedule<R> {
    let mut scheduler = Scheduler::new(input.observed, input.desired);
    let mut blocked: Vec<Action<R>> = Vec::new();
    for actions in actions.into_values() {
        blocked.extend(actions);
        scheduler.schedule_all(&mut blocked);
    }
    // Moves can wait for each other in a circle, as when two groups swap members and change their sources.
    while let Some((position, halves)) = find_splittable_move(&blocked) {
        blocked.remove(position);
        blocked.extend(halves);
        scheduler.schedule_all(&mut blocked);
    }
    Schedule { steps: scheduler.steps, blocked }
}

fn find_splittable_move<R: Resource>(actions: &[Action<R>]) -> Option<(usize, [Action<R>; 2])> {
    let halves = |(position, action)| Some((position, split_move_closing_first(action)?));
    actions.iter().enumerate().find_map(halves)
}

/// The state of the cloud as steps are added, and what decides if another one may be added.
struct Scheduler<'a, R: Resource> {
    observed: &'a ResourceSet<R>,
    desired: &'a ResourceSet<R>,
    /// The resources after the steps so far
    state: ResourceSet<R>,
    /// Number of resources of `state` that refer to a resource
    reference_counts: BTreeMap<R::Key, usize>,
    /// The reach that each instance may have at any time: its own now, with the desired one
    allowed: BTreeMap<InstanceId, Reach>,
    steps: Vec<Step<R>>,
    dependencies: DependencyTracker<R::Key>,
}

/// The effect of an action on instances.
struct Impact {
    /// The instances whose reach depends on the resource, and whether it lets in more there
    opens_at: BTreeMap<InstanceId, bool>,
    /// True if there are any, each admits afterwards all that it did before, and what the resource let in is
    /// desired
    is_redundant: bool,
}

impl<'a, R: Resource> Scheduler<'a, R> {
    fn new(observed: &'a ResourceSet<R>, desired: &'a ResourceSet<R>) -> Self {
        let mut reference_counts = BTreeMap::new();
        for key in observed.values().flat_map(Resource::refers_to) {
            *reference_counts.entry(key).or_default() += 1;
        }
        Self {
            observed,
            desired,
            state: observed.clone(),
            reference_counts,
            allowed: BTreeMap::new(),
            steps: Vec::new(),
            dependencies: DependencyTracker::new(),
        }
    }

    /// Schedules actions until none of those left is safe; these stay in `blocked`.
    fn schedule_all(&mut self, blocked: &mut Vec<Action<R>>) {
        loop {
            let before = blocked.len();
            blocked.retain(|action| !self.schedule_if_safe(action));
            if blocked.len() == before {
                break;
            }
        }
    }

    /// Adds the action to the steps if it is possible and safe now. Returns true if it was added.
    fn schedule_if_safe(&mut self, action: &Action<R>) -> bool {
        if !self.is_possible(action) {
            return false;
        }
        let Some(impact) = self.apply_if_safe(action) else { return false };
        self.push_step(action.clone(), &impact);
        true
    }

    /// Returns true if the resource is as the action expects it, everything that it will refer to exists, and
    /// nothing refers to a resource that is deleted.
    fn is_possible(&self, action: &Action<R>) -> bool {
        let key = action.key();
        self.state.get(&key) == action.before()
            && action
                .after()
                .is_none_or(|to| to.refers_to().iter().all(|other| self.state.contains_key(other)))
            && (action.after().is_some() || !self.is_referred_to(&key))
    }

    /// Applies the action to the state, or leaves that as it is and returns `None` if an instance would then
    /// admit what it may not.
    fn apply_if_safe(&mut self, action: &Action<R>) -> Option<Impact> {
        let resources = || action.before().into_iter().chain(action.after());
        let instances: BTreeSet<InstanceId> =
            resources().flat_map(|resource| resource.instances(&self.state)).collect();
        let opens = effect(action) == Effect::Open;
        let before = if opens { None } else { self.reach_if_desired(action.before(), &instances) };
        action.apply_to(&mut self.state);
        let after: Vec<Reach> = instances.iter().map(|instance| self.state.reach(instance)).collect();
        if !self.is_allowed(&instances, &after) {
            match action.before() {
                Some(resource) => self.state.insert(resource.key(), resource.clone()),
                None => self.state.remove(&action.key()),
            };
            return None;
        }
        let is_redundant = before
            .is_some_and(|before| after.iter().zip(&before).all(|(after, before)| after.covers(before)));
        let opens_at = self.opens_at(action, instances);
        Some(Impact { opens_at, is_redundant })
    }

    /// Returns for each instance whether the resource lets in more there. A resource that others refer to
    /// does so wherever they apply.
    fn opens_at(&self, action: &Action<R>, instances: BTreeSet<InstanceId>) -> BTreeMap<InstanceId, bool> {
        let opens = effect(action) == Effect::Open;
        if !opens || self.is_referred_to(&action.key()) {
            return instances.into_iter().map(|instance| (instance, opens)).collect();
        }
        let (before, after) = (self.with_references(action.before()), self.with_references(action.after()));
        let opens = |instance: InstanceId| {
            let opens = !before.reach(&instance).covers(&after.reach(&instance));
            (instance, opens)
        };
        instances.into_iter().map(opens).collect()
    }

    fn is_referred_to(&self, key: &R::Key) -> bool {
        self.reference_counts.get(key).is_some_and(|count| *count > 0)
    }

    /// Returns true if each instance may admit this.
    fn is_allowed(&mut self, instances: &BTreeSet<InstanceId>, reaches: &[Reach]) -> bool {
        instances.iter().zip(reaches).all(|(instance, reach)| {
            let allowed = self.allowed.entry(instance.clone()).or_insert_with_key(|instance| {
                self.observed.reach(instance).union(&self.desired.reach(instance))
            });
            allowed.covers(reach)
        })
    }

    /// Returns what each instance admits now, if there are any instances and everything that the resource
    /// lets in there is desired. Most closings end something that is not, and the first instance shows it:
    /// computing the reach of all would be slow.
    fn reach_if_desired(&self, resource: Option<&R>, instances: &BTreeSet<InstanceId>) -> Option<Vec<Reach>> {
        let own = self.with_references(resource);
        let is_desired = !instances.is_empty() && self.desired.covers_at(instances, &own);
        is_desired.then(|| instances.iter().map(|instance| self.state.reach(instance)).collect())
    }

    /// Returns a resource with those that it needs to let anything in: those that it refers to, and those
    /// that refer to it.
    fn with_references(&self, resource: Option<&R>) -> ResourceSet<R> {
        let Some(resource) = resource else { return ResourceSet::<R>::new() };
        let key = resource.key();
        let mut set: ResourceSet<R> =
            resource.refers_to().into_iter().filter_map(|other| self.state.get(&other).cloned()).collect();
        if self.is_referred_to(&key) {
            let users = self.state.iter().filter(|(_, other)| other.refers_to().contains(&key));
            set.extend(users.map(|(_, resource)| resource.clone()));
        }
        set.insert(key, resource.clone());
        set
    }

    fn push_step(&mut self, action: Action<R>, impact: &Impact) {
        let references = |resource: Option<&R>| resource.map(Resource::refers_to).unwrap_or_default();
        let (before, after) = (references(action.before()), references(action.after()));
        let effect = effect(&action);
        let depends_on = self.dependencies.record(&NewStep {
            position: self.steps.len(),
            action: &action,
            effect,
            references_before: &before,
            references_after: &after,
            opens_at: &impact.opens_at,
            is_redundant: impact.is_redundant,
        });
        for other in &after {
            *self.reference_counts.entry(other.clone()).or_default() += 1;
        }
        for other in &before {
            self.reference_counts.entry(other.clone()).and_modify(|count| *count -= 1);
        }
        let changed = match effect {
            Effect::Open => &after - &before,
            Effect::Close => &before - &after,
        };
        let reason = self.reason(&action, effect, &changed);
        self.steps.push(Step { action, effect, reason, depends_on });
    }

    /// Returns the reason of a step: the firewall groups that its resource serves, or those that it starts or
    /// ceases to refer to.
    fn reason(&self, action: &Action<R>, effect: Effect, changed: &BTreeSet<R::Key>) -> String {
        let mut groups: BTreeSet<String> =
            action.before().into_iter().chain(action.after()).flat_map(Resource::serves).collect();
        for key in changed {
            let resource = self.state.get(key).or_else(|| self.observed.get(key));
            groups.extend(resource.map(Resource::serves).unwrap_or_default());
        }
        let groups = groups.into_iter().collect::<Vec<_>>().join("; ");
        match effect {
            // Left over from a resource that is gone itself.
            Effect::Close if groups.is_empty() => "no longer asked for".to_owned(),
            Effect::Open => format!("asked for by {groups}"),
            Effect::Close => format!("no longer asked for by {groups}"),
        }
    }
}

/// Returns the effect of an action on the resource itself. A group without members opens, too, when it
/// widens, because a member that joins it later relies on the steps before.
fn effect<R: Resource>(action: &Action<R>) -> Effect {
    match action {
        Action::Create(_) => Effect::Open,
        Action::Update { from, to } if rank(from, to) < Rank::Narrow => Effect::Open,
        Action::Update { .. } | Action::Delete(_) => Effect::Close,
    }
}
