//! A second pair of eyes: holds a plan against the promises before anything is applied.
//!
//! It shares no code with the planner's ordering. It replays the steps one by one and looks at what every
//! touched instance admits after each.

use std::collections::BTreeMap;
use std::fmt;

use super::guards::why_closing_is_blocked;
use crate::{Action, InstanceId, Owner, Plan, PlanInput, Reach, Resource, ResourceSet, Step};

/// A promise of the design that a step would break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// Nothing without this cluster's mark is changed or deleted.
    OnlyItsOwn,
    /// No instance ever admits what is neither open now nor asked for.
    NeverMoreThanAsked,
    /// Nothing is closed on partial knowledge, against the policy, or in a mass that was not released.
    KnowledgeFirst,
    /// The step starts from the state that the steps before it leave, and waits only for earlier ones.
    Consistent,
}

/// A step that must not be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Position in the plan
    pub step: usize,
    /// Which promise it would break
    pub promise: Promise,
    /// On what, and how
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {} would break the promise {:?}: {}", self.step + 1, self.promise, self.message)
    }
}

/// Every promise that a step of `plan` would break; empty for a plan that may be applied.
#[must_use]
pub fn check<R: Resource>(input: &PlanInput<'_, R>, plan: &Plan<R>) -> Vec<Violation> {
    let mut end = input.observed.clone();
    for step in &plan.steps {
        step.action.apply_to(&mut end);
    }
    let may_close = why_closing_is_blocked(input, &end).is_none();
    let mut replay = Replay { input, world: input.observed.clone(), allowed: BTreeMap::new(), may_close };
    let mut violations = Vec::new();
    for (position, step) in plan.steps.iter().enumerate() {
        let broken = replay.step(position, step);
        violations.extend(broken.map(|(promise, message)| Violation { step: position, promise, message }));
    }
    violations
}

struct Replay<'a, R: Resource> {
    input: &'a PlanInput<'a, R>,
    world: ResourceSet<R>,
    allowed: BTreeMap<InstanceId, Reach>,
    may_close: bool,
}

impl<R: Resource> Replay<'_, R> {
    fn step(&mut self, position: usize, step: &Step<R>) -> Option<(Promise, String)> {
        let action = &step.action;
        let key = action.key();
        if self.world.get(&key) != action.before()
            || step.depends_on.iter().any(|other| other.step >= position)
        {
            return Some((Promise::Consistent, format!("{key} is not as the step expects it")));
        }
        if action
            .before()
            .into_iter()
            .chain(action.after())
            .any(|resource| resource.owner() == Owner::Foreign)
        {
            return Some((Promise::OnlyItsOwn, format!("{key} does not carry this cluster's mark")));
        }
        if !self.may_close && matches!(action, Action::Delete(_)) {
            return Some((Promise::KnowledgeFirst, format!("{key} would be deleted")));
        }
        let touched =
            action.before().into_iter().chain(action.after()).flat_map(|r| r.instances(&self.world));
        let before: BTreeMap<InstanceId, Reach> =
            touched.map(|instance| (instance.clone(), self.world.reach(&instance))).collect();
        action.apply_to(&mut self.world);
        before.into_iter().find_map(|(instance, before)| self.instance(&instance, &before))
    }

    fn instance(&mut self, instance: &InstanceId, before: &Reach) -> Option<(Promise, String)> {
        let after = self.world.reach(instance);
        let input = self.input;
        let allowed = self
            .allowed
            .entry(instance.clone())
            .or_insert_with(|| input.observed.reach(instance).union(&input.desired.reach(instance)));
        if !allowed.covers(&after) {
            let message =
                format!("{instance} would admit {} where {} is asked for", after.rules, allowed.rules);
            return Some((Promise::NeverMoreThanAsked, message));
        }
        if !self.may_close && !after.covers(before) {
            let message = format!("{instance} would admit {} instead of {}", after.rules, before.rules);
            return Some((Promise::KnowledgeFirst, message));
        }
        None
    }
}
