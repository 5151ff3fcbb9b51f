//! The order: takes actions one by one so that every promise holds after each.

use std::collections::{BTreeMap, BTreeSet};

use super::dependencies::{DependencyTracker, NewStep};
use super::endings::EndingsByLabel;
use super::split::{Rank, rank, split_move_closing_first, split_move_opening_first};
use crate::{Action, Effect, InstanceId, PlanInput, Reach, Resource, ResourceSet, Step, Unknown};

/// Puts actions into an order in which no instance ever admits more than it admits now or is asked to admit.
///
/// An action that closes what is or may be asked for waits until another has opened it elsewhere: one that closes
/// what is asked for is taken only when nothing else can be, which is where the cloud's limits leave no room for both.
/// After each rank, blocked actions are tried again, so that a closing makes way for the openings that need it and for
/// no others.
///
/// Post-condition: each step starts from the state that the steps before it leave, and waits only for them.
#[derive(Clone)]
pub(super) struct Scheduler<'a, R: Resource> {
    observed: &'a ResourceSet<R>,
    desired: &'a ResourceSet<R>,
    /// What may be desired, and must not close in the meantime either
    unknown: &'a Unknown,
    /// The resources after the steps so far
    state: ResourceSet<R>,
    /// The reach that each instance may have at any time: its own now, with the desired one
    allowed: BTreeMap<InstanceId, Reach>,
    steps: Vec<Step<R>>,
    dependencies: DependencyTracker<R::Key>,
    endings: EndingsByLabel<'a>,
}

/// The effect of an action on instances.
struct Impact {
    /// The instances whose reach depends on the resource, and whether it lets in more there
    opens_at: BTreeMap<InstanceId, bool>,
    /// The instances where the resource will no longer let in something that is or may be desired: the steps
    /// before let it in
    replaced_at: BTreeSet<InstanceId>,
}

/// What an action may close.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// Nothing that is or may be desired
    Forbidden,
    /// Also what is desired, for a moment; not what may be
    Allowed,
}

impl<'a, R: Resource> Scheduler<'a, R> {
    pub(super) fn new(input: &PlanInput<'a, R>) -> Self {
        let PlanInput { observed, desired, unknown, .. } = *input;
        Self {
            observed,
            desired,
            unknown,
            state: observed.clone(),
            allowed: BTreeMap::new(),
            steps: Vec::new(),
            dependencies: DependencyTracker::new(),
            endings: EndingsByLabel::new(input.endings),
        }
    }

    /// Returns the resources after the steps so far.
    pub(super) const fn state(&self) -> &ResourceSet<R> {
        &self.state
    }

    /// Returns the steps.
    pub(super) fn into_steps(self) -> Vec<Step<R>> {
        self.steps
    }

    /// Adds actions to the steps. Returns those that would let in too much, or break a reference, or close more than
    /// `loss` allows, whenever they were taken.
    pub(super) fn schedule(&mut self, actions: BTreeMap<Rank, Vec<Action<R>>>, loss: Loss) -> Vec<Action<R>> {
        let mut blocked: Vec<Action<R>> = Vec::new();
        for actions in actions.into_values() {
            blocked.extend(actions);
            self.schedule_all(&mut blocked);
        }
        while self.schedule_half_of_a_move(&mut blocked)
            || self.schedule_one_detachment(&mut blocked)
            || loss == Loss::Allowed && self.schedule_one_with_loss(&mut blocked)
        {
            self.schedule_all(&mut blocked);
        }
        blocked
    }

    /// Schedules actions until none of those left is safe; these stay in `blocked`.
    fn schedule_all(&mut self, blocked: &mut Vec<Action<R>>) {
        loop {
            let before = blocked.len();
            blocked.retain(|action| !self.schedule_if_safe(action, Loss::Forbidden));
            if blocked.len() == before {
                break;
            }
        }
    }

    /// Schedules one half of a move, if there is one that is safe; the other half stays in `blocked`. Moves
    /// can wait for each other in a circle, as when two groups swap members and change their sources.
    fn schedule_half_of_a_move(&mut self, blocked: &mut [Action<R>]) -> bool {
        for action in blocked {
            for split in [split_move_closing_first, split_move_opening_first] {
                let Some([first, rest]) = split(action) else { continue };
                if self.schedule_if_safe(&first, Loss::Forbidden) {
                    *action = rest;
                    return true;
                }
            }
        }
        false
    }

    /// Detaches one resource of a move that nothing needs, if there is one. What the move detaches beside it can
    /// have to stay until what it attaches is ready, and that can wait for this one to have no users.
    fn schedule_one_detachment(&mut self, blocked: &mut [Action<R>]) -> bool {
        for action in blocked {
            let Action::Update { from, to } = action else { continue };
            let (from, to) = (from.clone(), to.clone());
            // What it had from the start goes before what this plan has attached, which is there to let it go.
            let had = self.observed.get(&from.key()).map(Resource::refers_to).unwrap_or_default();
            let detached = &from.refers_to() - &to.refers_to();
            let (old, new): (Vec<_>, Vec<_>) =
                detached.into_iter().partition(|reference| had.contains(reference));
            for reference in old.into_iter().chain(new) {
                let Some(rest) = from.without_references(&BTreeSet::from([reference])) else { continue };
                let detachment = Action::Update { from: from.clone(), to: rest.clone() };
                if !rest.has_same_spec(&to) && self.schedule_if_safe(&detachment, Loss::Forbidden) {
                    *action = Action::Update { from: rest, to };
                    return true;
                }
            }
        }
        false
    }

    /// Schedules an action, or the closing half of a move, that is safe but for what it closes, and all that
    /// it makes way for, if these let in again what it closes.
    fn schedule_one_with_loss(&mut self, blocked: &mut Vec<Action<R>>) -> bool {
        let whole = |action: &Action<R>| Some((action.clone(), None));
        let half = |action: &Action<R>| {
            let [first, rest] = split_move_closing_first(action)?;
            Some((first, Some(rest)))
        };
        for (position, action) in blocked.iter().enumerate() {
            for (first, rest) in [whole(action), half(action)].into_iter().flatten() {
                if !self.is_possible(&first) {
                    continue;
                }
                let mut attempt = self.clone();
                if !attempt.schedule_if_safe(&first, Loss::Allowed) {
                    continue;
                }
                let instances =
                    first.before().map(|before| before.instances(&self.state)).unwrap_or_default();
                let mut left = blocked.clone();
                left.splice(position..=position, rest);
                attempt.schedule_all(&mut left);
                if !attempt.has_lost_since(self, &instances) {
                    (*self, *blocked) = (attempt, left);
                    return true;
                }
            }
        }
        false
    }

    /// Returns true if one of the instances no longer admits something that is or may be desired and that it did.
    fn has_lost_since(&self, before: &Self, instances: &BTreeSet<InstanceId>) -> bool {
        let reach = |scheduler: &Self| -> Vec<Reach> {
            instances.iter().map(|instance| scheduler.state.reach(instance)).collect()
        };
        self.loses(Loss::Forbidden, instances, &reach(before), &reach(self))
    }

    /// Adds the action to the steps if it is possible and safe now. Returns true if it was added.
    fn schedule_if_safe(&mut self, action: &Action<R>, loss: Loss) -> bool {
        if !self.is_possible(action) {
            return false;
        }
        let Some(impact) = self.apply_if_safe(action, loss) else { return false };
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
    /// admit what it may not, or no longer admit what must stay open there.
    fn apply_if_safe(&mut self, action: &Action<R>, loss: Loss) -> Option<Impact> {
        let resources = || action.before().into_iter().chain(action.after());
        let instances: BTreeSet<InstanceId> =
            resources().flat_map(|resource| resource.instances(&self.state)).collect();
        let closes = action.may_close();
        let before: Option<Vec<Reach>> =
            closes.then(|| instances.iter().map(|instance| self.state.reach(instance)).collect());
        action.apply_to(&mut self.state);
        let after: Vec<Reach> = instances.iter().map(|instance| self.state.reach(instance)).collect();
        let is_allowed = self.is_allowed(&instances, &after);
        let is_lossy = before.is_some_and(|before| self.loses(loss, &instances, &before, &after));
        if !is_allowed || is_lossy {
            match action.before() {
                Some(resource) => self.state.insert(resource.key(), resource.clone()),
                None => self.state.remove(&action.key()),
            };
            return None;
        }
        let replaced_at =
            if closes { &self.replaced_at(action) | &self.dropped_at(action) } else { BTreeSet::new() };
        Some(Impact { opens_at: self.opens_at(action, instances), replaced_at })
    }

    /// Returns the instances where the resource, as it is observed, lets in something that is or may be desired
    /// and that it will not let in after the action: what is let in there then has been opened by the steps before, in
    /// this resource or in others. An instance that came to the resource by a step before relies on it as well.
    fn replaced_at(&self, action: &Action<R>) -> BTreeSet<InstanceId> {
        let Some(observed) = self.observed.get(&action.key()) else { return BTreeSet::new() };
        let left = action.after().and_then(|after| observed.intersection(after));
        let present = observed.instances(self.observed);
        let joined = &observed.instances(&self.state) - &present;
        let replaced = |(set, instances): (&ResourceSet<R>, BTreeSet<InstanceId>)| {
            let before = with_references(set, Some(observed));
            let mut after = before.clone();
            match &left {
                Some(left) => after.insert(left.key(), left.clone()),
                None => after.remove(&observed.key()),
            };
            instances.into_iter().filter(move |instance| {
                self.loses_at(Loss::Forbidden, instance, &before.reach(instance), &after.reach(instance))
            })
        };
        let sets = [(self.observed, present), (&self.state, joined)];
        sets.into_iter().filter(|(_, instances)| !instances.is_empty()).flat_map(replaced).collect()
    }

    /// Returns the instances where a resource ceases to refer to what lets in there something that is or may be desired,
    /// if the steps before have opened that in what it keeps. What is dropped can be a substitute that they have made.
    fn dropped_at(&self, action: &Action<R>) -> BTreeSet<InstanceId> {
        let Some(from) = action.before() else { return BTreeSet::new() };
        let references = |resource: Option<&R>| resource.map(Resource::refers_to).unwrap_or_default();
        let (before, after) = (from.refers_to(), references(action.after()));
        let dropped = &before - &after;
        if dropped.is_empty() {
            return BTreeSet::new();
        }
        let kept = &references(self.observed.get(&action.key())) & &after;
        // What it lets in whether the steps before have been made or not.
        let certain = |key: &R::Key| self.observed.get(key)?.intersection(self.state.get(key)?);
        let user = |kept: &BTreeSet<R::Key>| from.without_references(&(&before - kept));
        let certain: ResourceSet<R> = kept.iter().filter_map(certain).collect();
        let (mut with, mut without) = (certain.clone(), certain);
        with.extend(dropped.iter().filter_map(|key| self.state.get(key).cloned()));
        with.extend(user(&(&kept | &dropped)));
        without.extend(user(&kept));
        let mut instances = from.instances(&with);
        instances.retain(|id| self.loses_at(Loss::Forbidden, id, &with.reach(id), &without.reach(id)));
        instances
    }

    /// Returns true if an instance would no longer admit something that must stay open there.
    fn loses(&self, loss: Loss, instances: &BTreeSet<InstanceId>, before: &[Reach], after: &[Reach]) -> bool {
        instances
            .iter()
            .zip(before.iter().zip(after))
            .any(|(instance, (before, after))| self.loses_at(loss, instance, before, after))
    }

    fn loses_at(&self, loss: Loss, instance: &InstanceId, before: &Reach, after: &Reach) -> bool {
        !after.rules.covers(&before.rules) && {
            let mut kept = self.unknown.rules_at(instance);
            if loss == Loss::Forbidden {
                kept = kept.union(&self.desired.reach(instance).rules);
            }
            !after.rules.covers(&before.rules.intersection(&kept))
        }
    }

    /// Returns for each instance whether the resource lets in more there. A resource that others refer to
    /// does so wherever they apply.
    fn opens_at(&self, action: &Action<R>, instances: BTreeSet<InstanceId>) -> BTreeMap<InstanceId, bool> {
        let opens = effect(action) == Effect::Open;
        if !opens || self.is_referred_to(&action.key()) {
            return instances.into_iter().map(|instance| (instance, opens)).collect();
        }
        let (before, after) =
            (with_references(&self.state, action.before()), with_references(&self.state, action.after()));
        let opens = |instance: InstanceId| {
            let opens = !before.reach(&instance).covers(&after.reach(&instance));
            (instance, opens)
        };
        instances.into_iter().map(opens).collect()
    }

    fn is_referred_to(&self, key: &R::Key) -> bool {
        self.state.referrers(key).next().is_some()
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
            replaced_at: &impact.replaced_at,
        });
        let changed = match effect {
            Effect::Open => &after - &before,
            Effect::Close => &before - &after,
        };
        let reason = self.reason(&action, effect, &changed);
        self.steps.push(Step { action, effect, reason, depends_on });
    }

    /// Returns the reason of a step: the firewall groups that its resource serves, or those that it starts or
    /// ceases to refer to; of a closing, the facts that ended them.
    fn reason(&self, action: &Action<R>, effect: Effect, changed: &BTreeSet<R::Key>) -> String {
        let mut groups: BTreeSet<String> =
            action.before().into_iter().chain(action.after()).flat_map(Resource::serves).collect();
        for key in changed {
            let resource = self.state.get(key).or_else(|| self.observed.get(key));
            groups.extend(resource.map(Resource::serves).unwrap_or_default());
        }
        let names = groups.iter().map(String::as_str).collect::<Vec<_>>().join("; ");
        if effect == Effect::Open {
            return format!("asked for by {names}");
        }
        let closed_at = action.before().map(|before| before.instances(self.observed)).unwrap_or_default();
        let facts = self.endings.describe(&groups, &closed_at);
        // Left over from a resource that is gone itself.
        let of = if names.is_empty() { String::new() } else { format!(" ({names})") };
        format!("{facts}{of}")
    }
}

/// Returns a resource with those of the set that it needs to let anything in: those that it refers to, and
/// those that refer to it.
fn with_references<R: Resource>(set: &ResourceSet<R>, resource: Option<&R>) -> ResourceSet<R> {
    let Some(resource) = resource else { return ResourceSet::<R>::new() };
    let references = resource.refers_to().into_iter().filter_map(|other| set.get(&other).cloned());
    references.chain(set.referrers(&resource.key()).cloned()).chain([resource.clone()]).collect()
}

/// Returns the effect of an action on the resource itself. A group without members opens, too, when it
/// widens, because a member that joins it later relies on the steps before.
pub(super) fn effect<R: Resource>(action: &Action<R>) -> Effect {
    match action {
        Action::Create(_) => Effect::Open,
        Action::Update { from, to } if rank(from, to) < Rank::Narrow => Effect::Open,
        Action::Update { .. } | Action::Delete(_) => Effect::Close,
    }
}
