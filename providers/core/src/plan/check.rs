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
    Action, GroupLabel, InstanceId, Owner, Plan, PlanInput, Policy, PortRange, Protocol, Reach, Resource,
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
    if plan.steps.is_empty() {
        return Vec::new();
    }
    let mut end = input.observed.clone();
    for step in &plan.steps {
        step.action.apply_to(&mut end);
    }
    let held = find_held_ports(input, plan, &end);
    let mut replay = Replay { input, state: input.observed.clone(), allowed: BTreeMap::new(), held };
    let mut violations = Vec::new();
    for (position, step) in plan.steps.iter().enumerate() {
        let broken = replay.take_step(position, step);
        violations.extend(broken.map(|(promise, message)| Violation { step: position, promise, message }));
    }
    violations
}

/// Returns true if nothing at all may close.
fn is_closing_forbidden<R: Resource>(input: &PlanInput<'_, R>) -> bool {
    input.unknown.why_everything().is_some() || input.policy != Policy::Sync
}

/// Returns true if the instances that the steps touch lose as many ports as a mass close has at least.
fn can_close_a_mass<R: Resource>(input: &PlanInput<'_, R>, plan: &Plan<R>, end: &ResourceSet<R>) -> bool {
    let closing = plan.steps.iter().filter_map(|step| step.action.before());
    let touched: BTreeSet<InstanceId> =
        closing.flat_map(|resource| resource.instances(input.observed)).collect();
    let lost = touched.iter().flat_map(|instance| {
        let then = ports_at(end, instance);
        ports_at(input.observed, instance).into_iter().flat_map(move |share| remaining(share, &then))
    });
    lost.map(|(_, range)| range.count()).sum::<usize>() >= input.limits.mass_close_least
}

/// Returns the number that so many ports of a group on one instance count for. One group never makes a mass there, or
/// at two addresses of one machine, however many ports it has; what no group has may be of many.
fn weigh<R: Resource>(input: &PlanInput<'_, R>, group: &GroupLabel, ports: &BTreeSet<Share>) -> usize {
    let count = ports.iter().map(|(_, range)| range.count()).sum();
    let least = input.limits.mass_close_least;
    let most = if least > 4 { (least - 1) / 2 } else { 1 };
    if group.ports.is_empty() || count < most { count } else { most }
}

/// A port range of an instance.
type Share = (Protocol, PortRange);

/// What a namespace has open, and what of it closes.
#[derive(Default)]
struct Tally {
    open: usize,
    closing: usize,
    closed: BTreeSet<(InstanceId, Share)>,
}

/// Returns the port ranges, by instance, of the namespaces of which more would close at once than the limits allow.
///
/// A port of an instance belongs to the groups that have a resource there which names it. It stays open if anything
/// is let in to it at the end, from whichever sources.
fn find_held_ports<R: Resource>(
    input: &PlanInput<'_, R>,
    plan: &Plan<R>,
    end: &ResourceSet<R>,
) -> BTreeMap<InstanceId, BTreeSet<Share>> {
    if input.limits.mass_close_released || is_closing_forbidden(input) || !can_close_a_mass(input, plan, end)
    {
        return BTreeMap::new();
    }
    let mut by_owner: BTreeMap<String, Tally> = BTreeMap::new();
    for (instance, resources) in input.observed.by_instance() {
        let then = ports_at(end, &instance);
        for (group, open) in shares_at(input.observed, &instance, resources) {
            let closed: BTreeSet<Share> = open.iter().flat_map(|share| remaining(*share, &then)).collect();
            let tally = by_owner.entry(group.namespace.clone()).or_default();
            tally.open += weigh(input, &group, &open);
            tally.closing += weigh(input, &group, &closed);
            tally.closed.extend(closed.into_iter().map(|share| (instance.clone(), share)));
        }
    }
    let exceeds = |open: usize, closing: usize, percent: usize| {
        closing >= input.limits.mass_close_least && closing * 100 > open * percent
    };
    let percent = input.limits.mass_close_percent;
    let sum = |number: fn(&Tally) -> usize| by_owner.values().map(number).sum::<usize>();
    let is_cluster_held = exceeds(sum(|tally| tally.open), sum(|tally| tally.closing), percent.max(90));
    let mut held: BTreeMap<InstanceId, BTreeSet<Share>> = BTreeMap::new();
    for (owner, tally) in by_owner {
        let is_held = is_cluster_held || exceeds(tally.open, tally.closing, percent);
        if is_held && !input.released.contains(&owner) {
            for (instance, share) in tally.closed {
                held.entry(instance).or_default().insert(share);
            }
        }
    }
    held
}

/// Returns the port ranges that are open on an instance, by the groups that have them; those that none has are of
/// the label of nothing.
fn shares_at<R: Resource>(
    set: &ResourceSet<R>,
    instance: &InstanceId,
    resources: Vec<&R>,
) -> BTreeMap<GroupLabel, BTreeSet<Share>> {
    let open = ports_at(set, instance);
    let texts = resources.into_iter().flat_map(Resource::serves);
    let labels: Vec<GroupLabel> = texts.flat_map(|text| GroupLabel::read(&text)).collect();
    let named: BTreeSet<Share> = labels.iter().flat_map(|label| label.ports.iter().copied()).collect();
    let mut shares: BTreeMap<GroupLabel, BTreeSet<Share>> = BTreeMap::new();
    for label in labels {
        let common = |(protocol, ports): &Share| {
            let open = open.iter().filter(|(other, _)| other == protocol);
            let common = open.filter_map(|(_, range)| Some((*protocol, range.intersection(*ports)?)));
            common.collect::<Vec<_>>()
        };
        let own = label.ports.iter().flat_map(common).collect();
        shares.insert(label, own);
    }
    let others = open.iter().flat_map(|share| remaining(*share, &named));
    shares.entry(GroupLabel::default()).or_default().extend(others);
    shares
}

/// Returns what of a share is not among the others.
fn remaining((protocol, range): Share, others: &BTreeSet<Share>) -> Vec<Share> {
    let mut left = vec![range];
    for (_, other) in others.iter().filter(|(other, _)| *other == protocol) {
        left = left.into_iter().flat_map(|part| part.difference(*other)).collect();
    }
    left.into_iter().map(|range| (protocol, range)).collect()
}

/// Returns the port ranges that are open on an instance, from whichever sources, adjacent ones as one.
fn ports_at<R: Resource>(set: &ResourceSet<R>, instance: &InstanceId) -> BTreeSet<Share> {
    let ports: BTreeSet<Share> =
        set.reach(instance).rules.iter().map(|rule| (rule.protocol, rule.ports)).collect();
    let mut merged: Vec<Share> = Vec::new();
    for (protocol, range) in ports {
        match merged.last_mut() {
            Some((same, before)) if *same == protocol && range.first() <= before.last().saturating_add(1) => {
                *before = PortRange::new(before.first(), range.last().max(before.last())).unwrap_or(*before);
            }
            _ => merged.push((protocol, range)),
        }
    }
    merged.into_iter().collect()
}

/// The state of the cloud as the steps are replayed.
struct Replay<'a, R: Resource> {
    input: &'a PlanInput<'a, R>,
    state: ResourceSet<R>,
    /// The reach that each instance may have at any time: its own before the plan, with the desired one
    allowed: BTreeMap<InstanceId, Reach>,
    /// The ports that a mass close is held for
    held: BTreeMap<InstanceId, BTreeSet<Share>>,
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
        if is_closing_forbidden(self.input) && matches!(action, Action::Delete(_)) {
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
        let lost = (!after.covers(before)).then(|| self.find_forbidden_loss(instance, before, &after))??;
        let message = format!("{instance} would admit {} instead of {}: {lost}", after.rules, before.rules);
        Some((Promise::KnowledgeFirst, message))
    }

    /// Returns the reason for which an instance may not come to admit less; `None` if it may.
    fn find_forbidden_loss(&self, instance: &InstanceId, before: &Reach, after: &Reach) -> Option<String> {
        if is_closing_forbidden(self.input) {
            return Some("nothing may close".to_owned());
        }
        let doubt = self.input.unknown.at(instance);
        if !after.rules.covers(&before.rules.intersection(&doubt.rules)) {
            let missing = doubt.missing.into_iter().collect::<Vec<_>>().join("; ");
            return Some(format!("it may still be asked for: {missing}"));
        }
        let then: BTreeSet<Share> = after.rules.iter().map(|rule| (rule.protocol, rule.ports)).collect();
        let held = self.held.get(instance)?.iter();
        let (protocol, port) = held.flat_map(|share| remaining(*share, &then)).next()?;
        Some(format!("closing {protocol}/{port} is part of a mass close"))
    }
}
