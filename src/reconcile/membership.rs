//! Computes the memberships after a pass: which resources open the ports of a workload on one node, and
//! whether they do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::Arc;

use firewall_core::{
    Compiled, Desired, FirewallProvider, GroupKey, Infeasible, IngressRule, InstanceId, MAX_SUBSTITUTES,
    Plan, Requirements, Resource, ResourceSet, RuleSet,
};
use ipnet::{IpNet, Ipv4Net};

use super::executor::StepOutcome;
use super::failures::Failures;
use super::known_cloud::Key;
use super::outcome::{CloudObjects, Membership};
use super::pass::PlannedPass;
use crate::k8s::reasons;

/// Returns the memberships as the cloud has confirmed them. One that lingers has no port owner and is left
/// out.
pub(super) fn memberships<P: FirewallProvider>(
    provider: &P,
    failures: &Failures<Key<P>>,
    planned: &PlannedPass<P>,
    state: &ResourceSet<P::Resource>,
) -> Vec<Arc<Membership>> {
    let PlannedPass { compiled, grouped, .. } = planned;
    let nothing = Requirements { resources: BTreeSet::new(), reachable_at: BTreeSet::new() };
    let infeasible = infeasible_by_member(&compiled.infeasible);
    let (mut own, mut now, mut before) =
        (OwnResources::of(&compiled.resources), Reaches::of(state), Reaches::of(&planned.observed));
    let (mut memberships, mut named) = (Vec::new(), NamedResources(None));
    for (id, port_owners) in &grouped.port_owners {
        let (group, instance) = id;
        let (Some(asked), Some(node)) = (grouped.desired.groups.get(group), grouped.nodes.get(instance))
        else {
            continue;
        };
        let requirements = compiled.requirements.get(id).unwrap_or(&nothing);
        own.begin_group(group);
        let mut reach = |state| reach(requirements, &asked.rules, state, &mut own);
        let reached = reach(&mut now);
        let open = match reached {
            _ if !compiled.requirements.contains_key(id) => Err(infeasible_reason(&infeasible, id)),
            Reached::All => Ok(()),
            Reached::Partly | Reached::Not => {
                Err(missing(failures, requirements, state, &compiled.resources))
            }
        };
        let resources = match replaced_by_substitutes(requirements, state, &compiled.resources) {
            Some(keys) => name_objects(provider, &keys),
            None => named.get_or_name(provider, &requirements.resources),
        };
        memberships.push(Arc::new(Membership {
            group: group.clone(),
            instance: instance.clone(),
            intents: grouped.intents.get(id).cloned().unwrap_or_default(),
            node: node.clone(),
            port_owners: port_owners.clone(),
            resources,
            partly_open: open.is_ok() || compiled.requirements.contains_key(id) && reached == Reached::Partly,
            opened: open.is_ok()
                && (reach(&mut before) != Reached::All
                    || !requirements.resources.is_disjoint(&planned.changed_late)),
            open,
        }));
    }
    memberships
}

/// The resources of the membership before, with their names: those of one group seldom require others.
struct NamedResources<'a, K>(Option<(&'a BTreeSet<K>, CloudObjects)>);

impl<'a, K: Ord + Display> NamedResources<'a, K> {
    fn get_or_name<P>(&mut self, provider: &P, keys: &'a BTreeSet<K>) -> CloudObjects
    where
        P: FirewallProvider,
        P::Resource: Resource<Key = K>,
    {
        if let Some((_, named)) = self.0.as_ref().filter(|(last, _)| *last == keys) {
            return Arc::clone(named);
        }
        let named = name_objects(provider, keys);
        self.0 = Some((keys, Arc::clone(&named)));
        named
    }
}

fn name_objects<P: FirewallProvider>(provider: &P, keys: &BTreeSet<Key<P>>) -> CloudObjects {
    let mut named: Vec<_> = keys.iter().map(|key| (key.to_string(), provider.cloud_id(key))).collect();
    named.sort_unstable();
    named.into()
}

/// Returns the resources that a membership requires with those that substitutes stand in for there replaced by these;
/// `None` if there are none.
fn replaced_by_substitutes<R: Resource>(
    requirements: &Requirements<R::Key>,
    state: &ResourceSet<R>,
    desired: &ResourceSet<R>,
) -> Option<BTreeSet<R::Key>> {
    let is_there = |resource: &R| !resource.instances(state).is_disjoint(&requirements.reachable_at);
    let find_substitute = |key: &R::Key| {
        let wanted = desired.get(key).filter(|_| !is_as_desired(key, state, desired))?;
        let mut substitutes =
            (1..=MAX_SUBSTITUTES).map_while(|number| Some(wanted.substitute(number)?.key()));
        let substitute = substitutes.find(|key| state.get(key).is_some_and(is_there))?;
        (!state.get(key).is_some_and(is_there)).then_some(substitute)
    };
    let keys = requirements.resources.iter();
    let replaced: Vec<(&R::Key, R::Key)> =
        keys.filter_map(|key| Some((key, find_substitute(key)?))).collect();
    (!replaced.is_empty()).then(|| {
        let mut keys = requirements.resources.clone();
        for (key, substitute) in replaced {
            keys.remove(key);
            keys.insert(substitute);
        }
        keys
    })
}

/// Returns those memberships of which something is not open.
pub(super) fn find_closed<'a, R: Resource>(
    memberships: impl Iterator<Item = &'a (GroupKey, InstanceId)>,
    desired: &Desired,
    compiled: &Compiled<R>,
    observed: &ResourceSet<R>,
) -> Vec<(GroupKey, InstanceId)> {
    let is_closed = |id: &&(GroupKey, InstanceId)| {
        let (required, group) = (compiled.requirements.get(*id), desired.groups.get(&id.0));
        let Some((required, group)) = required.zip(group) else { return false };
        required.reachable_at.iter().any(|at| {
            let own = compiled.resources.reach(at).rules.intersection(&group.rules);
            !observed.reach(at).rules.covers(&own)
        })
    };
    memberships.filter(is_closed).cloned().collect()
}

/// Returns the reason and message of a membership that is not open.
fn missing<R: Resource>(
    failures: &Failures<R::Key>,
    requirements: &Requirements<R::Key>,
    state: &ResourceSet<R>,
    desired: &ResourceSet<R>,
) -> (String, String) {
    let differing = || requirements.resources.iter().filter(|key| !is_as_desired::<R>(key, state, desired));
    if let Some(error) = differing().find_map(|key| failures.last_error(key)) {
        return (error.reason().to_owned(), error.to_string());
    }
    let differing: Vec<String> = differing().map(ToString::to_string).collect();
    (reasons::PENDING.to_owned(), format!("not yet as it should be: {}", differing.join(", ")))
}

/// The part of a membership that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reached {
    All,
    /// Each port for somebody, not for all who should
    Partly,
    Not,
}

/// The reach of the instances that have been asked for: that of one instance is asked for by each of its
/// groups.
struct Reaches<'a, R: Resource> {
    set: &'a ResourceSet<R>,
    by_instance: BTreeMap<InstanceId, RuleSet>,
}

impl<'a, R: Resource> Reaches<'a, R> {
    const fn of(set: &'a ResourceSet<R>) -> Self {
        Self { set, by_instance: BTreeMap::new() }
    }

    fn at(&mut self, instance: &InstanceId) -> &RuleSet {
        let reach = || self.set.reach(instance).rules;
        self.by_instance.entry(instance.clone()).or_insert_with(reach)
    }
}

/// The desired resources that memberships of one group require, as sets of their own: many require the same,
/// which can serve hundreds of instances.
struct OwnResources<'a, R: Resource> {
    desired: &'a ResourceSet<R>,
    group: Option<&'a GroupKey>,
    sets: BTreeMap<&'a BTreeSet<R::Key>, ResourceSet<R>>,
}

impl<'a, R: Resource> OwnResources<'a, R> {
    const fn of(desired: &'a ResourceSet<R>) -> Self {
        Self { desired, group: None, sets: BTreeMap::new() }
    }

    /// Begins with the memberships of a group: others seldom require the same.
    fn begin_group(&mut self, group: &'a GroupKey) {
        if self.group.replace(group) != Some(group) {
            self.sets.clear();
        }
    }

    fn required(&mut self, keys: &'a BTreeSet<R::Key>) -> &ResourceSet<R> {
        let own = || keys.iter().filter_map(|key| self.desired.get(key).cloned()).collect();
        self.sets.entry(keys).or_insert_with(own)
    }
}

/// Returns the part of `rules` that is open where the membership is reached. Elsewhere its resources do not
/// matter: they can serve thousands of instances, of which one is not as it should be.
fn reach<'a, R: Resource>(
    requirements: &'a Requirements<R::Key>,
    rules: &RuleSet,
    state: &mut Reaches<'_, R>,
    own: &mut OwnResources<'a, R>,
) -> Reached {
    if requirements.resources.iter().all(|key| is_as_desired(key, state.set, own.desired)) {
        return Reached::All;
    }
    let own = own.required(&requirements.resources);
    let (mut all, mut open_ports, mut desired_ports) = (true, Vec::new(), Vec::new());
    for instance in &requirements.reachable_at {
        let mut desired = own.reach(instance).rules;
        // Resources that serve other workloads too let in more.
        if !rules.covers(&desired) {
            desired = desired.intersection(rules);
        }
        let open = state.at(instance);
        all &= open.covers(&desired);
        open_ports.extend(open.iter().map(anywhere));
        desired_ports.extend(desired.iter().map(anywhere));
    }
    let (open, desired): (RuleSet, RuleSet) =
        (open_ports.into_iter().collect(), desired_ports.into_iter().collect());
    match (all, open.covers(&desired)) {
        (true, _) => Reached::All,
        (false, true) => Reached::Partly,
        (false, false) => Reached::Not,
    }
}

/// Returns the resources after the plan, as far as the cloud has confirmed them.
pub(super) fn state_after<R: Resource>(
    observed: &ResourceSet<R>,
    plan: &Plan<R>,
    outcomes: &[StepOutcome],
) -> ResourceSet<R> {
    let mut state = observed.clone();
    let steps = plan.steps.iter().zip(outcomes);
    for (step, _) in steps.filter(|(_, outcome)| matches!(outcome, StepOutcome::Applied(_))) {
        let key = step.action.key();
        let now = state.get(&key);
        if now == step.action.before() {
            step.action.apply_to(&mut state);
            continue;
        }
        // A step before it has failed: this closing still applied, but to a resource that had less than
        // planned.
        match now.zip(step.action.after()).and_then(|(now, after)| now.intersection(after)) {
            Some(left) => state.insert(key, left),
            None => state.remove(&key),
        };
    }
    state
}

fn is_as_desired<R: Resource>(key: &R::Key, state: &ResourceSet<R>, desired: &ResourceSet<R>) -> bool {
    matches!((state.get(key), desired.get(key)), (Some(now), Some(desired)) if now.has_same_spec(desired))
}

/// The same ports for one and the same source: what is left of a rule if it does not matter who is let in.
fn anywhere(rule: &IngressRule) -> IngressRule {
    IngressRule { source: IpNet::V4(Ipv4Net::default()), ..*rule }
}

/// What is infeasible of each group, as a whole or on one instance.
type InfeasibleByMember<'a> = BTreeMap<(&'a GroupKey, Option<&'a InstanceId>), &'a Infeasible>;

fn infeasible_by_member(infeasible: &[Infeasible]) -> InfeasibleByMember<'_> {
    infeasible.iter().map(|one| ((&one.group, one.instance.as_ref()), one)).collect()
}

/// Returns the reason and message of an infeasible membership: its own, or that of its whole group.
fn infeasible_reason(
    infeasible: &InfeasibleByMember<'_>,
    (group, instance): &(GroupKey, InstanceId),
) -> (String, String) {
    // A message about the instance is more specific than one about the whole group.
    let own = infeasible.get(&(group, Some(instance))).or_else(|| infeasible.get(&(group, None)));
    own.map_or_else(
        || (reasons::PENDING.to_owned(), "the cloud has nothing for it yet".to_owned()),
        |one| (one.reason.to_owned(), one.message.clone()),
    )
}
