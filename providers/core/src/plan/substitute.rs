//! Substitutes: where a resource must stay open as it is and cannot take what is asked for, the same under
//! another name takes it. Openings do not wait for closings that are forbidden, held, or have failed.
//!
//! A substitute is desired by nobody: once the resource itself can take what is asked for, its members move to
//! it, and the substitute goes.

use std::collections::BTreeSet;

use super::attainable::must_wait;
use crate::{Effect, InstanceId, Owner, PlanInput, Resource, ResourceSet, RuleSet, Withheld, WithheldReason};

/// Adds to the goal a substitute for each resource that cannot take all that is asked for: the cloud's limits
/// are reached, no single resource can express both, or its members would let in what is not asked for there.
pub(super) fn add_substitutes<R: Resource>(
    input: &PlanInput<'_, R>,
    goal: ResourceSet<R>,
    targets: Targets,
    withheld: &mut Vec<Withheld<R>>,
) -> ResourceSet<R> {
    let mut substitution = Substitution { input, goal, targets, withheld };
    let targets = input.desired.values().filter(|target| {
        !substitution.is_as_desired(target) && may_open(input, target) && target.substitute(1).is_some()
    });
    let (attached, standalone): (Vec<&R>, Vec<&R>) =
        targets.partition(|target| input.desired.referrers(&target.key()).next().is_some());
    for target in &attached {
        substitution.keep_from_widening(&target.key());
    }
    // All that takes something from the goal comes first: what is found open after that stays so.
    let mut in_part = Vec::new();
    for target in &attached {
        in_part.extend(substitution.detach_unfit(target).into_iter().map(|user| (*target, user)));
    }
    for target in &attached {
        for user in substitution.users(target) {
            substitution.attach_substitute(target, user);
        }
    }
    for (target, user) in in_part {
        substitution.attach_in_part(target, user);
    }
    for target in attached {
        substitution.remove_unused(&target.key());
    }
    for target in standalone {
        substitution.open_beside(target);
    }
    substitution.goal
}

/// The resources for which a substitute is looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Targets {
    /// Those that the goal does not have as they are desired
    Unlike,
    /// Also those that it has, but not attached wherever that is desired
    Unjoined,
}

/// Returns true if the resource is not another owner's, did not fail to open a moment ago, and no change of it is
/// under way.
fn may_open<R: Resource>(input: &PlanInput<'_, R>, target: &R) -> bool {
    let key = target.key();
    let is_foreign = input.observed.get(&key).is_some_and(|observed| observed.owner() == Owner::Foreign);
    !is_foreign && !must_wait(input, &key, Effect::Open)
}

/// Returns what a resource lets in to an instance by way of a user.
fn lets_in<R: Resource>(resource: &R, user: &R, instance: &InstanceId) -> RuleSet {
    ResourceSet::from([resource.clone(), user.clone()]).reach(instance).rules
}

/// Returns the user with its reference to one resource and no others.
fn sole_reference<R: Resource>(user: &R, key: &R::Key) -> Option<R> {
    let mut others = user.refers_to();
    others.remove(key);
    user.without_references(&others)
}

/// The extent to which a resource lets in what is asked for, and nothing else.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    /// Nothing of it, or also what is not asked for
    None,
    /// A part of it
    Part,
    /// All of it
    Whole,
}

struct Substitution<'a, 'w, R: Resource> {
    input: &'a PlanInput<'a, R>,
    goal: ResourceSet<R>,
    targets: Targets,
    withheld: &'w mut Vec<Withheld<R>>,
}

impl<'a, R: Resource> Substitution<'a, '_, R> {
    /// Returns true if the goal has the resource as it is desired, and attached only where that is desired.
    fn is_as_desired(&self, target: &R) -> bool {
        let key = target.key();
        self.goal.get(&key).is_some_and(|goal| goal.has_same_spec(target))
            && self.goal.has_no_other_referrers(&key, self.input.desired)
            && (self.targets == Targets::Unlike
                || self.input.desired.has_no_other_referrers(&key, &self.goal))
    }

    /// Lets in at each target of a standalone resource what the goal does not.
    fn open_beside(&mut self, target: &R) {
        let alone = ResourceSet::from([target.clone()]);
        let mut rules = RuleSet::default();
        let mut ids = target.instances(&alone);
        ids.retain(|id| {
            let own = alone.reach(id).rules;
            let is_missing = !self.goal.reach(id).rules.covers(&own);
            if is_missing {
                rules = rules.union(&own);
            }
            is_missing
        });
        let missing = if ids.is_empty() { None } else { target.retain(&ids, &rules) };
        let substitute = missing.and_then(|missing| self.find_substitute(&missing, |_| true));
        let substitute = substitute.filter(|substitute| !self.is_in_backoff(substitute));
        self.goal.extend(substitute);
    }

    /// Returns those that are to be attached to a resource, and did not fail to open a moment ago.
    fn users(&self, target: &R) -> Vec<&'a R> {
        let input = self.input;
        input.desired.referrers(&target.key()).filter(|user| may_open(input, user)).collect()
    }

    /// Detaches a resource from those to which it is newly attached and would let in too much, or too little.
    /// Returns those to which it would let in a part of what is asked for.
    fn detach_unfit(&mut self, target: &R) -> Vec<&'a R> {
        let key = target.key();
        let mut in_part = Vec::new();
        for user in self.users(target) {
            let Some(current) = self.goal.get(&user.key()) else { continue };
            let fit = self.fit_of_new_reference(target, current);
            if fit == Some(Fit::Part) {
                in_part.push(user);
            }
            if matches!(fit, Some(Fit::None | Fit::Part)) {
                match current.without_references(&BTreeSet::from([key.clone()])) {
                    Some(rest) => self.goal.insert(user.key(), rest),
                    None => self.goal.remove(&user.key()),
                };
            }
        }
        in_part
    }

    /// Returns true if the goal lets in at the user what a resource is to let in there.
    fn is_open(&self, target: &R, user: &R) -> bool {
        let instances = user.instances(self.input.desired);
        instances
            .iter()
            .all(|instance| self.goal.reach(instance).rules.covers(&lets_in(target, user, instance)))
    }

    /// Attaches the resource itself where no substitute could be had.
    fn attach_in_part(&mut self, target: &R, user: &R) {
        let joined = sole_reference(user, &target.key()).and_then(|sole| self.join(&sole));
        if !self.is_open(target, user) {
            self.goal.extend(joined);
        }
    }

    /// Returns what the goal has of a user, with one more reference; `None` if there is no room for it.
    fn join(&self, sole: &R) -> Option<R> {
        self.goal.get(&sole.key()).map_or_else(|| Some(sole.clone()), |current| current.union(sole))
    }

    /// Removes a resource that nothing is attached to and that does not exist.
    fn remove_unused(&mut self, key: &R::Key) {
        if self.goal.referrers(key).next().is_none() && !self.input.observed.contains_key(key) {
            self.goal.remove(key);
        }
    }

    /// Returns how a resource, as the goal has it, fits a user to which it is to be attached; `None` if it is
    /// not, or is attached to it now.
    fn fit_of_new_reference(&self, target: &R, user: &R) -> Option<Fit> {
        let key = target.key();
        let joins = user.refers_to().contains(&key) && !self.is_attached(&key, user);
        let resource = self.goal.get(&key).filter(|_| joins)?;
        let instances = user.instances(&self.goal);
        let own = |instance: &InstanceId| lets_in(resource, user, instance);
        if !self.is_allowed(resource, user) || instances.iter().all(|instance| own(instance).is_empty()) {
            return Some(Fit::None);
        }
        let is_whole = |instance: &InstanceId| own(instance).covers(&lets_in(target, user, instance));
        Some(if instances.iter().all(is_whole) { Fit::Whole } else { Fit::Part })
    }

    /// Leaves a resource as narrow as it is if one that must stay attached to it may not get more.
    fn keep_from_widening(&mut self, key: &R::Key) {
        let (Some(now), Some(target)) = (self.input.observed.get(key), self.goal.get(key)) else { return };
        let attached = self.goal.referrers(key).filter(|user| self.is_attached(key, user));
        let widens_too_far = attached.into_iter().any(|user| !self.is_allowed(target, user));
        if let Some(narrow) = target.restrict_to(now).filter(|_| widens_too_far) {
            self.goal.insert(key.clone(), narrow);
        }
    }

    /// Lets a user that lacks it have the target by a substitute; where it has no room for another reference,
    /// by a resource that it has.
    fn attach_substitute(&mut self, target: &R, user: &R) {
        if self.is_open(target, user) {
            return;
        }
        let input = self.input;
        let key = target.key();
        let is_allowed_at_all = |this: &Self, resource: &R| {
            let own = resource.key();
            // Its users have been asked when it became what it is: else each would be, for each that joins.
            let is_unchanged = this.goal.get(&own).is_some_and(|now| now.has_same_spec(resource));
            let mut users = this.goal.referrers(&own);
            this.is_allowed_with(resource, &key, user)
                && (is_unchanged || users.all(|user| this.is_allowed(resource, user)))
        };
        let substitute = self.find_substitute(target, |resource| is_allowed_at_all(self, resource));
        let Some(substitute) = substitute.filter(|substitute| !self.is_in_backoff(substitute)) else {
            return;
        };
        let Some(sole) = sole_reference(user, &key) else { return };
        if let Some(joined) = self.join(&sole.redirect(&key, &substitute.key())) {
            self.goal.extend([substitute, joined]);
            return;
        }
        let own = self.goal.get(&user.key()).map(Resource::refers_to).unwrap_or_default();
        let widened = own.iter().filter(|own| !must_wait(input, own, Effect::Open)).find_map(|own| {
            let widened = target.union(self.goal.get(own)?)?;
            self.goal.referrers(own).all(|user| self.is_allowed(&widened, user)).then_some(widened)
        });
        if widened.is_none() {
            self.withheld.push(Withheld { key: user.key(), reason: WithheldReason::CapacityExceeded });
        }
        self.goal.extend(widened);
    }

    /// Returns the first substitute that takes a resource: one that is there already with it, or a new one.
    fn find_substitute(&self, resource: &R, may_be: impl Fn(&R) -> bool) -> Option<R> {
        for candidate in (1..).map_while(|number| resource.substitute(number)) {
            let key = candidate.key();
            if self.input.desired.contains_key(&key) {
                continue;
            }
            let Some(now) = self.goal.get(&key).or_else(|| self.input.observed.get(&key)) else {
                return Some(candidate);
            };
            let Some(both) = now.union(&candidate).filter(|_| now.owner() == Owner::Ours) else { continue };
            // One that is not needed otherwise keeps nothing else.
            let taken = if self.goal.contains_key(&key) { both } else { candidate };
            if may_be(&taken) {
                return Some(taken);
            }
        }
        None
    }

    /// Returns true, and withholds it, if a substitute failed to open a moment ago.
    fn is_in_backoff(&mut self, substitute: &R) -> bool {
        let key = substitute.key();
        let opens = |now: &R| now.union(substitute).is_none_or(|both| !both.has_same_spec(now));
        let waits =
            must_wait(self.input, &key, Effect::Open) && self.input.observed.get(&key).is_none_or(opens);
        if waits {
            self.withheld.push(Withheld { key, reason: WithheldReason::Backoff });
        }
        waits
    }

    /// Returns true if the user has the resource now.
    fn is_attached(&self, key: &R::Key, user: &R) -> bool {
        self.input.observed.get(&user.key()).is_some_and(|observed| observed.refers_to().contains(key))
    }

    /// Returns true if a resource lets in to the user's instances only what they admit now or are asked to.
    fn is_allowed(&self, resource: &R, user: &R) -> bool {
        self.is_allowed_with(resource, &resource.key(), user)
    }

    /// Returns the same for a user that refers to another key in place of the resource's.
    fn is_allowed_with(&self, resource: &R, key: &R::Key, user: &R) -> bool {
        let user = user.redirect(key, &resource.key());
        user.instances(&self.goal).iter().all(|instance| {
            let allowed = self.input.observed.reach(instance).union(&self.input.desired.reach(instance));
            allowed.rules.covers(&lets_in(resource, &user, instance))
        })
    }
}
