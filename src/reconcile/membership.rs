//! The ports of a workload on one node: which resources open them, and whether they do.

use std::collections::BTreeSet;

use firewall_core::{
    FirewallProvider, GroupKey, Infeasible, IngressRule, InstanceId, Plan, Requirements, Resource,
    ResourceSet, RuleSet,
};
use ipnet::{IpNet, Ipv4Net};

use super::executor::StepOutcome;
use super::failures::Failures;
use super::outcome::Membership;
use super::pass::{Key, PlannedPass};
use crate::k8s::objects::ObjectRef;

/// What the cloud has confirmed, membership by membership. What lingers is bound by nothing and is left out.
pub(super) fn memberships<P: FirewallProvider>(
    provider: &P,
    failures: &Failures<Key<P>>,
    planned: &PlannedPass<P>,
    world: &ResourceSet<P::Resource>,
) -> Vec<Membership> {
    let PlannedPass { compiled, grouped, .. } = planned;
    let none = Requirements { resources: BTreeSet::new(), reachable_at: BTreeSet::new() };
    let membership = |(id, port_owners): (&(GroupKey, InstanceId), &BTreeSet<ObjectRef>)| {
        let (group, instance) = id;
        let takes = compiled.requirements.get(id).unwrap_or(&none);
        let rules = &grouped.desired.groups.get(group)?.rules;
        let reach = |world| reach(takes, rules, world, &compiled.resources);
        let now = reach(world);
        let open = match now {
            _ if !compiled.requirements.contains_key(id) => Err(infeasible_reason(&compiled.infeasible, id)),
            Reached::Whole => Ok(()),
            Reached::Partly | Reached::Not => Err(missing(failures, takes, world, &compiled.resources)),
        };
        Some(Membership {
            group: group.clone(),
            instance: instance.clone(),
            intents: grouped.intents.get(id).cloned().unwrap_or_default(),
            node: grouped.nodes.get(instance)?.clone(),
            port_owners: port_owners.clone(),
            resources: takes.resources.iter().map(|key| (key.to_string(), provider.id(key))).collect(),
            partly_open: open.is_ok() || compiled.requirements.contains_key(id) && now == Reached::Partly,
            opened: open.is_ok() && reach(&planned.observed) != Reached::Whole,
            open,
        })
    };
    grouped.port_owners.iter().filter_map(membership).collect()
}

/// What keeps a membership closed, as reason and message.
fn missing<R: Resource>(
    failures: &Failures<R::Key>,
    takes: &Requirements<R::Key>,
    world: &ResourceSet<R>,
    wanted: &ResourceSet<R>,
) -> (String, String) {
    let differing = || takes.resources.iter().filter(|key| !is_as_wanted::<R>(key, world, wanted));
    if let Some(error) = differing().find_map(|key| failures.of(key)) {
        return (error.reason().to_owned(), error.to_string());
    }
    let differing: Vec<String> = differing().map(ToString::to_string).collect();
    ("Pending".to_owned(), format!("not yet as it should be: {}", differing.join(", ")))
}

/// How much of a membership is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reached {
    Whole,
    /// Each port for somebody, not for all who should
    Partly,
    Not,
}

/// How much of `rules` is open where the membership is reached. What its resources do elsewhere does not matter: they can
/// serve thousands of instances, of which one is not as it should be.
fn reach<R: Resource>(
    takes: &Requirements<R::Key>,
    rules: &RuleSet,
    world: &ResourceSet<R>,
    wanted: &ResourceSet<R>,
) -> Reached {
    if takes.resources.iter().all(|key| is_as_wanted(key, world, wanted)) {
        return Reached::Whole;
    }
    let own: ResourceSet<R> = takes.resources.iter().filter_map(|key| wanted.get(key).cloned()).collect();
    let (mut whole, mut open_ports, mut wanted_ports) = (true, Vec::new(), Vec::new());
    for place in &takes.reachable_at {
        let mut wanted = own.reach(place).rules;
        // Resources that serve other workloads too let in more.
        if !rules.covers(&wanted) {
            wanted = wanted.intersection(rules);
        }
        let open = world.reach(place).rules;
        whole &= open.covers(&wanted);
        open_ports.extend(open.iter().map(anywhere));
        wanted_ports.extend(wanted.iter().map(anywhere));
    }
    let (open, wanted): (RuleSet, RuleSet) =
        (open_ports.into_iter().collect(), wanted_ports.into_iter().collect());
    match (whole, open.covers(&wanted)) {
        (true, _) => Reached::Whole,
        (false, true) => Reached::Partly,
        (false, false) => Reached::Not,
    }
}

/// What the cloud has come to, as far as it has confirmed it.
pub(super) fn state_after<R: Resource>(
    observed: &ResourceSet<R>,
    plan: &Plan<R>,
    outcomes: &[StepOutcome],
) -> ResourceSet<R> {
    let mut world = observed.clone();
    let steps = plan.steps.iter().zip(outcomes);
    for (step, _) in steps.filter(|(_, outcome)| matches!(outcome, StepOutcome::Applied(_))) {
        let key = step.action.key();
        let now = world.get(&key);
        if now == step.action.before() {
            step.action.apply_to(&mut world);
            continue;
        }
        // A step before it has failed: it has taken away what it was to take, from less than it was planned with.
        match now.zip(step.action.after()).and_then(|(now, after)| now.intersection(after)) {
            Some(left) => world.insert(key, left),
            None => world.remove(&key),
        };
    }
    world
}

fn is_as_wanted<R: Resource>(key: &R::Key, world: &ResourceSet<R>, wanted: &ResourceSet<R>) -> bool {
    matches!((world.get(key), wanted.get(key)), (Some(now), Some(wanted)) if now.same_spec(wanted))
}

/// The same ports for one and the same source: what is left of a rule if it does not matter who is let in.
fn anywhere(rule: &IngressRule) -> IngressRule {
    IngressRule { source: IpNet::V4(Ipv4Net::default()), ..*rule }
}

/// Returns the reason and message of an infeasible membership: its own, or its whole group's.
fn infeasible_reason(
    infeasible: &[Infeasible],
    (group, instance): &(GroupKey, InstanceId),
) -> (String, String) {
    let concerns = |infeasible: &&Infeasible| {
        infeasible.group == *group && infeasible.instance.as_ref().is_none_or(|other| other == instance)
    };
    // What is said of the instance is more than what is said of the whole group.
    infeasible.iter().filter(concerns).max_by_key(|one| one.instance.is_some()).map_or_else(
        || ("Pending".to_owned(), "the cloud has nothing for it yet".to_owned()),
        |one| (one.reason.to_owned(), one.message.clone()),
    )
}
