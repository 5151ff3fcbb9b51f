//! The plan check: replays a plan and reports every step that would break a promise, before anything is
//! applied.
//!
//! *Architecture invariant:* it calls no function of the planner (`planner`, `attainable`, `guards`, `split`,
//! `order`, `interleave`, `diff`), so that a defect there is not repeated here. It counts by itself what
//! would close, compares that with the limits by itself, and looks at what each touched instance admits after
//! every step. It shares the types, and asks resources for their reach.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::{
    Action, Completeness, InstanceId, Owner, Plan, PlanInput, Policy, PortRange, Protocol, Reach, Resource,
    ResourceSet, Step,
};

/// A promise of the design that a step would break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// Nothing without this cluster's mark is changed or deleted.
    OnlyItsOwn,
    /// No instance ever admits traffic that is neither admitted now nor asked for.
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
    /// The promise that the step would break
    pub promise: Promise,
    /// The object concerned, and what would happen to it
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {} would break the promise {:?}: {}", self.step + 1, self.promise, self.message)
    }
}

/// Returns a violation for every step of `plan` that would break a promise; none for a plan that may be
/// applied.
#[must_use]
pub fn check<R: Resource>(input: &PlanInput<'_, R>, plan: &Plan<R>) -> Vec<Violation> {
    let mut end = input.observed.clone();
    for step in &plan.steps {
        step.action.apply_to(&mut end);
    }
    let may_close = may_close(input, &end);
    let mut replay = Replay { input, state: input.observed.clone(), allowed: BTreeMap::new(), may_close };
    let mut violations = Vec::new();
    for (position, step) in plan.steps.iter().enumerate() {
        let broken = replay.take_step(position, step);
        violations.extend(broken.map(|(promise, message)| Violation { step: position, promise, message }));
    }
    violations
}

/// Returns true if a plan that ends in `end` may close anything.
fn may_close<R: Resource>(input: &PlanInput<'_, R>, end: &ResourceSet<R>) -> bool {
    match (input.completeness, input.policy) {
        (Completeness::Partial(_), _) | (_, Policy::OpenOnly | Policy::Observe) => false,
        (Completeness::Complete, Policy::Sync) => {
            input.limits.mass_close_released || !closes_in_a_mass(input, end)
        }
    }
}

/// Returns true if so many of the open ports would close that the limits forbid it.
///
/// An open port is a port range of one protocol on one instance; it stays open if a single rule lets in the
/// whole range there at the end, from whichever sources.
fn closes_in_a_mass<R: Resource>(input: &PlanInput<'_, R>, end: &ResourceSet<R>) -> bool {
    let instances: BTreeSet<InstanceId> =
        input.observed.values().flat_map(|resource| resource.instances(input.observed)).collect();
    let (mut open, mut closing) = (0, 0);
    for instance in &instances {
        let admitted = input.observed.reach(instance).rules;
        let ports: BTreeSet<(Protocol, PortRange)> =
            admitted.iter().map(|rule| (rule.protocol, rule.ports)).collect();
        let left = end.reach(instance).rules;
        let closes = |&&(protocol, range): &&(Protocol, PortRange)| {
            !left.iter().any(|rule| {
                rule.protocol == protocol
                    && rule.ports.first() <= range.first()
                    && range.last() <= rule.ports.last()
            })
        };
        open += ports.len();
        closing += ports.iter().filter(closes).count();
    }
    let least = input.limits.mass_close_least;
    closing >= least && closing > open * input.limits.mass_close_percent / 100
}

/// The state of the cloud as the steps are replayed.
struct Replay<'a, R: Resource> {
    input: &'a PlanInput<'a, R>,
    state: ResourceSet<R>,
    /// The reach that each instance may have at any time: its own before the plan, with the desired one
    allowed: BTreeMap<InstanceId, Reach>,
    may_close: bool,
}

impl<R: Resource> Replay<'_, R> {
    /// Takes one step; returns the promise that it breaks, if any, and how.
    fn take_step(&mut self, position: usize, step: &Step<R>) -> Option<(Promise, String)> {
        let action = &step.action;
        let key = action.key();
        let resources = || action.before().into_iter().chain(action.after());
        if self.state.get(&key) != action.before()
            || step.depends_on.iter().any(|other| other.step >= position)
        {
            return Some((Promise::Consistent, format!("{key} is not as the step expects it")));
        }
        if resources().any(|resource| resource.owner() == Owner::Foreign) {
            return Some((Promise::OnlyItsOwn, format!("{key} does not carry this cluster's mark")));
        }
        if !self.may_close && matches!(action, Action::Delete(_)) {
            return Some((Promise::KnowledgeFirst, format!("{key} would be deleted")));
        }
        let touched = resources().flat_map(|resource| resource.instances(&self.state));
        let before: BTreeMap<InstanceId, Reach> =
            touched.map(|instance| (instance.clone(), self.state.reach(&instance))).collect();
        action.apply_to(&mut self.state);
        before.into_iter().find_map(|(instance, before)| self.compare_reach(&instance, &before))
    }

    /// Compares what an instance admits after the step with what it may admit, and with what it admitted.
    fn compare_reach(&mut self, instance: &InstanceId, before: &Reach) -> Option<(Promise, String)> {
        let after = self.state.reach(instance);
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
