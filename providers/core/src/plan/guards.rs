//! The closing guards: nothing closes where everything is unknown, against the policy, or in a mass that is
//! held.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::{
    GroupLabel, InstanceId, Limits, OpenPort, PlanInput, Policy, PortRange, Protocol, Resource, ResourceSet,
    RuleSet, WithheldReason, diff,
};

/// Returns the reason why no plan may close anything; `None` if some of it may close.
pub(super) fn why_nothing_closes<R: Resource>(input: &PlanInput<'_, R>) -> Option<WithheldReason> {
    if let Some(missing) = input.unknown.why_everything() {
        return Some(WithheldReason::IncompleteState(missing.iter().cloned().collect()));
    }
    (input.policy != Policy::Sync).then_some(WithheldReason::Policy)
}

/// The ports of one namespace that would close, and those that are open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closings {
    /// What the open ports [count](Limits::count) for
    pub open: usize,
    /// The port ranges that would close
    pub closing: BTreeSet<OpenPort>,
}

/// Returns, by namespace, what the open ports in `observed` count for, and those of them that are not open in
/// `goal`.
///
/// A port counts for each group that has it on an instance, from whichever sources it is open: narrowing its
/// sources closes nothing here. One that no group has counts for the namespace with no name.
#[must_use]
pub fn find_closings<R: Resource>(
    limits: Limits,
    observed: &ResourceSet<R>,
    goal: &ResourceSet<R>,
) -> BTreeMap<String, Closings> {
    let mut by_namespace: BTreeMap<String, Closings> = BTreeMap::new();
    for (instance, resources) in observed.by_instance() {
        let after = ports_of(&goal.reach(&instance).rules);
        for (group, open) in ports_by_group(observed, &instance, resources) {
            let closings = by_namespace.entry(group.namespace.clone()).or_default();
            closings.open += limits.weigh(&group, open.iter().map(|(_, range)| range.count()).sum());
            let closed = open.into_iter().flat_map(|(protocol, range)| {
                find_closed(protocol, range, &after).into_iter().map(move |range| (protocol, range))
            });
            let closed =
                closed.map(|(protocol, range)| (instance.clone(), Arc::clone(&group), protocol, range));
            closings.closing.extend(closed);
        }
    }
    by_namespace
}

/// Returns true if the goal closes so many ports that they have to be counted by namespace. That looks at every
/// instance, and this only at those where a resource differs.
#[must_use]
pub fn may_be_mass_close<R: Resource>(
    limits: Limits,
    observed: &ResourceSet<R>,
    goal: &ResourceSet<R>,
) -> bool {
    if limits.mass_close_released {
        return false;
    }
    let diff = diff(goal, observed);
    let closing = diff.update.iter().map(|change| &change.from).chain(&diff.delete);
    let instances: BTreeSet<InstanceId> = closing.flat_map(|resource| resource.instances(observed)).collect();
    let mut count = 0;
    instances.iter().any(|instance| {
        let after = ports_of(&goal.reach(instance).rules);
        let open = ports_of(&observed.reach(instance).rules);
        let closed = open.into_iter().flat_map(|(protocol, range)| find_closed(protocol, range, &after));
        count += closed.map(PortRange::count).sum::<usize>();
        count >= limits.mass_close_least
    })
}

/// The open ports of an instance, by the groups that have them.
type PortsByGroup = BTreeMap<Arc<GroupLabel>, BTreeSet<(Protocol, PortRange)>>;

/// Returns the open ports of an instance, as the groups of the resources there have them.
fn ports_by_group<R: Resource>(
    observed: &ResourceSet<R>,
    instance: &InstanceId,
    resources: Vec<&R>,
) -> PortsByGroup {
    let labels = resources.into_iter().flat_map(Resource::serves);
    let labels: BTreeSet<GroupLabel> = labels.flat_map(|label| GroupLabel::read(&label)).collect();
    let open = ports_of(&observed.reach(instance).rules);
    let common = |(protocol, ports): &(Protocol, PortRange)| {
        let (protocol, ports) = (*protocol, *ports);
        let open = open.iter().filter(move |(other, _)| *other == protocol);
        open.filter_map(move |(_, range)| Some((protocol, range.intersection(ports)?)))
    };
    let mut by_group: PortsByGroup = BTreeMap::new();
    let mut others = open.clone();
    for label in labels {
        let own: BTreeSet<_> = label.ports.iter().flat_map(common).collect();
        others = others
            .into_iter()
            .flat_map(|(protocol, range)| {
                find_closed(protocol, range, &own).into_iter().map(move |range| (protocol, range))
            })
            .collect();
        if !own.is_empty() {
            by_group.insert(label.into(), own);
        }
    }
    if !others.is_empty() {
        by_group.insert(GroupLabel::default().into(), others);
    }
    by_group
}

/// Returns the ports that rules open, from whichever sources.
fn ports_of(rules: &RuleSet) -> BTreeSet<(Protocol, PortRange)> {
    let anywhere = RuleSet::from_anywhere(rules.iter().map(|rule| (rule.protocol, rule.ports)));
    anywhere.iter().map(|rule| (rule.protocol, rule.ports)).collect()
}

/// Returns the parts of an open port range that are not open afterwards.
fn find_closed(
    protocol: Protocol,
    range: PortRange,
    after: &BTreeSet<(Protocol, PortRange)>,
) -> Vec<PortRange> {
    without(range, after.iter().filter(|(other, _)| *other == protocol).map(|(_, ports)| *ports))
}

/// Returns the parts of the range that lie in none of `others`.
fn without(range: PortRange, others: impl IntoIterator<Item = PortRange>) -> Vec<PortRange> {
    others
        .into_iter()
        .fold(vec![range], |parts, other| parts.into_iter().flat_map(|part| part.difference(other)).collect())
}

/// Returns the namespaces of which so much would close at once that it is held, each with the reason.
///
/// A namespace is held for its own closings. All are held where nearly everything of the cluster would close:
/// that is a fault of the cluster or of its administrator more often than everybody's wish.
pub(super) fn find_held<R: Resource>(
    input: &PlanInput<'_, R>,
    closings: &BTreeMap<String, Closings>,
) -> BTreeMap<String, WithheldReason> {
    let limits = input.limits;
    let counts: BTreeMap<&String, usize> =
        closings.iter().map(|(namespace, one)| (namespace, limits.count(&one.closing))).collect();
    let open = closings.values().map(|one| one.open).sum();
    let closing = counts.values().sum();
    let of_cluster = limits.is_mass_close_of_cluster(open, closing).then_some(WithheldReason::MassClose {
        namespace: None,
        closing,
        open,
    });
    let held = closings
        .iter()
        .filter(|(namespace, one)| !one.closing.is_empty() && !input.released.contains(*namespace));
    let held = held.filter_map(|(namespace, one)| {
        let closing = counts[namespace];
        let of_namespace = limits.is_mass_close(one.open, closing).then(|| WithheldReason::MassClose {
            namespace: Some(namespace.clone()),
            closing,
            open: one.open,
        });
        Some((namespace.clone(), of_namespace.or_else(|| of_cluster.clone())?))
    });
    held.collect()
}
