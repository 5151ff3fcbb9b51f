//! The planner: from desired and observed resources to ordered steps, in five phases.
//!
//! Order comes from one rule, not from knowledge of any cloud: a step is taken only if every instance then
//! admits no more than it admits now or is asked to admit. Among the steps that keep the rule, opening goes
//! before closing.

use std::collections::{BTreeMap, BTreeSet};

use super::attainable::{assert_attainable_post_condition, drop_unattainable, must_wait};
use super::guards::{find_closings, find_held, may_be_mass_close, why_nothing_closes};
use super::interleave::interleave;
use super::order::{Loss, Scheduler, effect};
use super::retain::{Kept, asked_or_unknown, join_references, part_of, retain_open};
use super::split::{Rank, assert_split_post_condition, split_into_actions};
use super::substitute::{Targets, add_substitutes};
use crate::{
    Action, Effect, InFlight, InstanceId, MAX_SUBSTITUTES, Owner, Plan, PlanInput, Policy, Resource,
    ResourceSet, RuleSet, Step, Withheld, WithheldReason, diff,
};

/// Plans all changes that may be made now, and gives for every other difference the reason why it stays.
///
/// Pure and deterministic. Planning again after every step succeeded yields no steps.
///
/// # Phases
///
/// 1. `drop_unattainable`: desired, without foreign keys and changes in backoff, is the goal.
///    *Post-condition:* no key of the goal is foreign, and every reference leads to a resource of the goal.
/// 2. `apply_guards`: the goal, with what is open and must stay open, is the new goal: where nothing may
///    close, everything; else what is asked for and cannot be had otherwise now, what may be asked for, and
///    what a mass close is held for. What that leaves no room for gets a substitute.
///    *Post-condition:* where everything is unknown or the policy forbids it, nothing of ours closes; with
///    the policy `Observe`, the goal is what is observed.
/// 3. `split_into_actions`: the difference becomes actions that only open or only close, by rank.
///    *Post-condition:* the actions on each key lead from observed to the goal; nothing else has any.
/// 4. `Scheduler`: actions become steps, in an order in which no instance ever admits too much. Where some can
///    never be taken, substitutes open beside them, and they are tried again; last, where there is no room for
///    substitutes, at the price of closing for a moment what is desired.
///    *Post-condition:* each step starts from the state that those before it leave, and waits only for them.
/// 5. `interleave`: openings and closings alternate.
///    *Post-condition:* that of `Scheduler` still holds.
///
/// Debug builds assert each post-condition.
///
/// # Examples
///
/// A test (`tests/planning/examples.rs`) plans every row of this table in the memory provider, whose
/// resources are a group (`web` opens tcp/80, `dns` udp/53) and its attachment to an instance (`a`, `b`).
/// Sources are all IPv4 addresses unless given; `foreign web` is a group of that name with another owner.
///
/// The input is complete knowledge and the policy `Sync`, except: `open-only` and `observe` are policies;
/// `unknown` is that everything is unknown; `least 2` holds a plan that closes two ports (of all);
/// `released` lets a held plan go ahead; `opening web failed` has that change in backoff; `web-1` is a
/// substitute of `web`.
///
/// | example | desired | observed | input | steps | withheld |
/// | --- | --- | --- | --- | --- | --- |
/// | create | web on a | nothing | - | create web, create a | - |
/// | widen | web from 10.0.0.0/8 + 192.0.2.0/24 on a | web from 10.0.0.0/8 on a | - | open web | - |
/// | narrow | web from 10.0.0.0/8 on a | web from 10.0.0.0/8 + 192.0.2.0/24 on a | - | close web | - |
/// | other sources | web from 192.0.2.0/24 on a | web from 10.0.0.0/8 on a | - | open web, close web | - |
/// | unchanged | web on a | web on a | - | - | - |
/// | move | web on b | web on a | - | create b, delete a | - |
/// | delete | nothing | web on a | - | delete a, delete web | - |
/// | foreign key | web on a; dns on a | foreign web | - | create dns, create a | foreign: web |
/// | open only | web on b | web on a | open-only | create b | policy: a |
/// | observe | web on b | web on a | observe | - | policy: b, a |
/// | everything unknown | dns on b | web on a | unknown | create dns, create b | incomplete-state: web, a |
/// | mass close | nothing | web on a b | least 2 | - | mass-close: web, a, b |
/// | mass close released | nothing | web on a b | least 2, released | delete a, delete b, delete web | - |
/// | opening failed | web on a | nothing | opening web failed | - | backoff: web |
/// | closing failed | web from ::/0 on a b | web on a | closing web failed | create web-1, create b, open web | backoff: web |
/// | no room | web from ::/0 on a b | web on a | open-only | create web-1, create b, open web | policy: web |
#[must_use]
pub fn plan<R: Resource>(input: &PlanInput<'_, R>) -> Plan<R> {
    let mut withheld = Vec::new();

    let goal = drop_unattainable(input, &mut withheld);
    debug_assert_post_condition(|| assert_attainable_post_condition(input, &goal));

    let goal = apply_guards(input, goal, &mut withheld);
    debug_assert_post_condition(|| assert_guards_post_condition(input, &goal));

    if diff(&goal, input.observed).is_empty() {
        return Plan { steps: Vec::new(), withheld: without_duplicates(withheld) };
    }
    let mut scheduler = Scheduler::new(input);
    let mut blocked = schedule_towards(input, &mut scheduler, &goal);
    // What is opened beside what is blocked can make room for it.
    for _ in 0..MAX_ROUNDS {
        if blocked.is_empty() {
            break;
        }
        let attempts = [Targets::Unlike, Targets::Unjoined].into_iter().map(|targets| {
            let mut attempt = scheduler.clone();
            schedule_beside(input, &goal, &mut attempt, &blocked, targets, &mut withheld);
            let left = schedule_towards(input, &mut attempt, &goal);
            (attempt, left)
        });
        // Else what has been narrowed has been widened again, to no end.
        let reached =
            |(attempt, _): &(Scheduler<'_, R>, _)| !diff(attempt.state(), scheduler.state()).is_empty();
        let Some(progress) = attempts.into_iter().find(reached) else { break };
        (scheduler, blocked) = progress;
    }
    if !blocked.is_empty() {
        blocked = schedule_with_loss(input, &mut scheduler, blocked);
    }
    let steps = scheduler.into_steps();
    debug_assert_post_condition(|| assert_schedule_post_condition(input.observed, &steps));

    let steps = interleave(steps);
    debug_assert_post_condition(|| assert_schedule_post_condition(input.observed, &steps));

    let blocked = blocked.iter().map(|action| (action.key(), WithheldReason::BlockedByOrder));
    withheld.extend(blocked.map(|(key, reason)| Withheld { key, reason }));
    Plan { steps, withheld: without_duplicates(withheld) }
}

/// Times that what is blocked is tried again after something has been opened beside it. More are never needed in the
/// random tests; a limit, because it can be blocked for ever.
const MAX_ROUNDS: usize = 3;

/// Adds the steps that lead from the scheduler's state to the goal. Returns the actions that are blocked.
fn schedule_towards<R: Resource>(
    input: &PlanInput<'_, R>,
    scheduler: &mut Scheduler<'_, R>,
    goal: &ResourceSet<R>,
) -> Vec<Action<R>> {
    let mut actions = split_into_actions(goal, scheduler.state());
    debug_assert_post_condition(|| assert_split_post_condition(&actions, goal, scheduler.state()));
    // The goal leaves alone what must wait, but what was opened beside it may have changed that.
    for actions in actions.values_mut() {
        actions.retain(|action| !must_wait(input, &action.key(), effect(action)));
    }
    scheduler.schedule(actions, Loss::Forbidden)
}

/// Adds the steps of blocked actions that close for a moment what is desired, where there is no other way. Returns those
/// that are still blocked.
///
/// What could not be had because a call has failed, or is under way, can be had later: what is tied to that waits.
fn schedule_with_loss<R: Resource>(
    input: &PlanInput<'_, R>,
    scheduler: &mut Scheduler<'_, R>,
    blocked: Vec<Action<R>>,
) -> Vec<Action<R>> {
    let tied = find_tied_to_waiting(input, &blocked);
    let (mut waiting, free): (Vec<_>, Vec<_>) =
        blocked.into_iter().partition(|action| tied.contains(&action.key()));
    waiting.extend(scheduler.schedule(BTreeMap::from([(Rank::Move, free)]), Loss::Allowed));
    waiting
}

/// Returns the resources that blocked actions tie, one by the other, to one whose change has to wait: they change, refer
/// to, or would be substituted by the same.
fn find_tied_to_waiting<R: Resource>(input: &PlanInput<'_, R>, blocked: &[Action<R>]) -> BTreeSet<R::Key> {
    let around = |resource: &R| {
        let mut keys = resource.refers_to();
        keys.extend((1..=MAX_SUBSTITUTES).map_while(|number| Some(resource.substitute(number)?.key())));
        keys.insert(resource.key());
        keys
    };
    let waiting: BTreeSet<&R::Key> =
        input.backoff.iter().map(|(key, _)| key).chain(input.in_flight.keys()).collect();
    let known = waiting.iter().flat_map(|key| [input.observed.get(key), input.desired.get(key)]).flatten();
    let mut tied: BTreeSet<R::Key> = known.flat_map(around).collect();
    tied.extend(waiting.into_iter().cloned());
    let blocked = blocked.iter().map(|action| {
        action.before().into_iter().chain(action.after()).flat_map(around).collect::<BTreeSet<_>>()
    });
    let mut untied: Vec<BTreeSet<R::Key>> = blocked.collect();
    loop {
        let before = untied.len();
        untied.retain(|keys| {
            let is_tied = !tied.is_disjoint(keys);
            if is_tied {
                tied.extend(keys.iter().cloned());
            }
            !is_tied
        });
        if untied.len() == before {
            return tied;
        }
    }
}

/// Adds steps for what is blocked: what it would let in opens in substitutes, and what is not asked for closes in part.
///
/// Groups that exchange both members and sources can wait for each other in a circle: each has to lose its sources
/// before a member of the other joins it, and its members have those sources nowhere else. So what is open is looked for
/// without all that the blocked changes take away.
fn schedule_beside<R: Resource>(
    input: &PlanInput<'_, R>,
    goal: &ResourceSet<R>,
    scheduler: &mut Scheduler<'_, R>,
    blocked: &[Action<R>],
    targets: Targets,
    withheld: &mut Vec<Withheld<R>>,
) {
    let reached = scheduler.state().clone();
    let mut certain = reached.clone();
    let changes = blocked.iter().map(|action| (reached.get(&action.key()), goal.get(&action.key())));
    InFlight::settle(changes, &mut certain);
    let added = diff(&add_substitutes(input, certain.clone(), targets, withheld), &certain);
    let mut beside = reached.clone();
    for added in added.update.iter().map(|change| &change.to).chain(&added.create) {
        let now = reached.get(&added.key());
        let both = now.map_or_else(|| Ok(added.clone()), |now| join_references(now, added));
        beside.extend([both.unwrap_or_else(|as_many_as_fit| as_many_as_fit)]);
    }
    for added in added.create {
        let key = added.key();
        let is_standalone = || !added.instances(&ResourceSet::from([added.clone()])).is_empty();
        let is_used = reached.contains_key(&key) || beside.referrers(&key).next().is_some();
        // What it is for had no room for a reference to it.
        if !is_used && !is_standalone() {
            beside.remove(&key);
        }
    }
    for key in blocked.iter().map(Action::key) {
        let narrow = beside.get(&key).and_then(|current| part_of_goal(input, goal, current, &beside));
        beside.extend(narrow);
    }
    let mut actions = split_into_actions(&beside, &reached);
    // A group that has been made for what is blocked has no members yet.
    actions.remove(&Rank::Delete);
    scheduler.schedule(actions, Loss::Forbidden);
}

/// Returns the part of a resource that lets in on its instances what the goal does, or may be asked for; `None` if the
/// resource makes others apply, or must not change now.
fn part_of_goal<R: Resource>(
    input: &PlanInput<'_, R>,
    goal: &ResourceSet<R>,
    current: &R,
    set: &ResourceSet<R>,
) -> Option<R> {
    let must_stay = current.owner() != Owner::Ours || must_wait(input, &current.key(), Effect::Close);
    if must_stay || !current.refers_to().is_empty() {
        return None;
    }
    let ids = current.instances(set);
    let kept = ids.iter().map(|id| goal.reach(id).rules.union(&input.unknown.rules_at(id)));
    part_of(input, current, &ids, &kept.fold(RuleSet::default(), |all, rules| all.union(&rules)))
}

/// Runs an assertion in debug builds only.
fn debug_assert_post_condition(assertion: impl FnOnce()) {
    if cfg!(debug_assertions) {
        assertion();
    }
}

/// Turns the goal into one that the policy and the closing guards allow: with what is open and must stay
/// open, and what is observed where nothing may change.
///
/// Post-condition: see [`assert_guards_post_condition`].
fn apply_guards<R: Resource>(
    input: &PlanInput<'_, R>,
    goal: ResourceSet<R>,
    withheld: &mut Vec<Withheld<R>>,
) -> ResourceSet<R> {
    if input.policy == Policy::Observe {
        withhold_every_change(input.observed, &goal, withheld);
        return input.observed.clone();
    }
    let goal = if let Some(reason) = why_nothing_closes(input) {
        without_closings(input.observed, goal, &reason, withheld)
    } else {
        let goal = retain_open(input, goal, |instance| asked_or_unknown(input, instance), withheld);
        hold_mass_closes(input, goal, withheld)
    };
    add_substitutes(input, goal, Targets::Unlike, withheld)
}

/// Adds to the goal what would close in a mass that is held.
fn hold_mass_closes<R: Resource>(
    input: &PlanInput<'_, R>,
    goal: ResourceSet<R>,
    withheld: &mut Vec<Withheld<R>>,
) -> ResourceSet<R> {
    if !may_be_mass_close(input.limits, input.observed, &goal) {
        return goal;
    }
    let closings = find_closings(input.limits, input.observed, &goal);
    let held = find_held(input, &closings);
    if held.is_empty() {
        return goal;
    }
    let mut kept: BTreeMap<&InstanceId, Vec<Kept>> = BTreeMap::new();
    for (namespace, reason) in held {
        for (instance, _, protocol, range) in &closings[&namespace].closing {
            let rules = RuleSet::from_anywhere([(*protocol, *range)]);
            kept.entry(instance).or_default().push((rules, reason.clone()));
        }
    }
    retain_open(input, goal, |instance| kept.get(instance).cloned().unwrap_or_default(), withheld)
}

fn withhold_every_change<R: Resource>(
    observed: &ResourceSet<R>,
    goal: &ResourceSet<R>,
    withheld: &mut Vec<Withheld<R>>,
) {
    let diff = diff(goal, observed);
    let changed = diff.update.iter().map(|change| &change.from).chain(&diff.create).chain(&diff.delete);
    withheld.extend(changed.map(|resource| Withheld { key: resource.key(), reason: WithheldReason::Policy }));
}

/// Adds to the goal everything of ours that it would close; where one resource cannot express both, it stays
/// as it is.
fn without_closings<R: Resource>(
    observed: &ResourceSet<R>,
    mut goal: ResourceSet<R>,
    reason: &WithheldReason,
    withheld: &mut Vec<Withheld<R>>,
) -> ResourceSet<R> {
    for (key, current) in observed.iter().filter(|(_, current)| current.owner() == Owner::Ours) {
        let Some(target) = goal.get(key) else {
            withheld.push(Withheld { key: key.clone(), reason: reason.clone() });
            goal.insert(key.clone(), current.clone());
            continue;
        };
        if current.has_same_spec(target) {
            continue;
        }
        let both = join_references(current, target).unwrap_or_else(|part| {
            withheld.push(Withheld { key: key.clone(), reason: WithheldReason::CapacityExceeded });
            part
        });
        if !both.has_same_spec(target) {
            withheld.push(Withheld { key: key.clone(), reason: reason.clone() });
        }
        goal.insert(key.clone(), both);
    }
    goal
}

/// Leaves out what is withheld twice for the same reason: a change in two stages can be blocked twice.
fn without_duplicates<R: Resource>(mut withheld: Vec<Withheld<R>>) -> Vec<Withheld<R>> {
    let mut seen = BTreeSet::new();
    withheld.retain(|one| seen.insert((one.key.clone(), one.reason.clone())));
    withheld
}

/// Panics if the goal closes something although everything is unknown or the policy forbids it, or changes
/// something although the policy is to observe.
///
/// What else must stay open is not looked for here: comparing reaches is slow, and the plan check does it.
fn assert_guards_post_condition<R: Resource>(input: &PlanInput<'_, R>, goal: &ResourceSet<R>) {
    if input.policy == Policy::Observe {
        assert!(diff(goal, input.observed).is_empty(), "the policy is to observe, and the goal has changes");
    }
    if why_nothing_closes(input).is_none() {
        return;
    }
    for (key, current) in input.observed.iter().filter(|(_, current)| current.owner() == Owner::Ours) {
        let closes_nothing = goal.get(key).is_some_and(|target| {
            target.has_same_spec(current)
                || current.union(target).is_some_and(|both| both.has_same_spec(target))
        });
        assert!(closes_nothing, "nothing may close, and {key} would");
    }
}

/// Panics unless each step starts from the state that the steps before it leave, and waits only for those.
fn assert_schedule_post_condition<R: Resource>(observed: &ResourceSet<R>, steps: &[Step<R>]) {
    let mut changed: BTreeMap<R::Key, Option<&R>> = BTreeMap::new();
    for (position, step) in steps.iter().enumerate() {
        let key = step.action.key();
        let current = changed.get(&key).copied().unwrap_or_else(|| observed.get(&key));
        assert!(current == step.action.before(), "step {position} expects {key} as it is not");
        let waits_for_earlier = step.depends_on.iter().all(|other| other.step < position);
        assert!(waits_for_earlier, "step {position} waits for a later one");
        changed.insert(key, step.action.after());
    }
}
