//! The closing guards: nothing closes where everything is unknown, against the policy, or in a mass that is
//! held.

use std::collections::{BTreeMap, BTreeSet};

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
    /// Number of open ports, counted per instance, each range as much as it [weighs](Limits::weigh)
    pub open: usize,
    /// The port ranges that would close
    pub closing: BTreeSet<OpenPort>,
}

/// Returns, by namespace, the number of open ports in `observed`, and those of them that are not open in
/// `goal`.
///
/// A port counts once per instance and namespace, from whichever sources it is open: narrowing its sources
/// closes nothing here. A resource of which no namespace is known counts for the namespace with no name.
#[must_use]
pub fn find_closings<R: Resource>(
    limits: Limits,
    observed: &ResourceSet<R>,
    goal: &ResourceSet<R>,
) -> BTreeMap<String, Closings> {
    let mut by_namespace: BTreeMap<String, Closings> = BTreeMap::new();
    let mut open_after: BTreeMap<&InstanceId, BTreeSet<(Protocol, PortRange)>> = BTreeMap::new();
    let contributions = contributions(observed);
    for (instance, ports) in &contributions {
        for (namespace, protocol, range) in ports {
            let closings = by_namespace.entry(namespace.clone()).or_default();
            closings.open += limits.weigh(*range);
            let after = open_after.entry(instance).or_insert_with(|| ports_of(&goal.reach(instance).rules));
            let left = find_closed(*protocol, *range, after);
            closings.closing.extend(left.into_iter().map(|range| (instance.clone(), *protocol, range)));
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
    let closed_at = |instance: &InstanceId, open: Vec<(Protocol, PortRange)>| {
        let after = ports_of(&goal.reach(instance).rules);
        let closed = open.into_iter().flat_map(|(protocol, range)| find_closed(protocol, range, &after));
        closed.collect::<Vec<_>>()
    };
    let mut count = 0;
    let is_many = instances.iter().any(|instance| {
        let open = ports_of(&observed.reach(instance).rules).into_iter().collect();
        count += closed_at(instance, open).into_iter().map(PortRange::count).sum::<usize>();
        count >= limits.mass_close_least
    });
    // Many can be those of one long range, which weighs less: that only the groups there can tell.
    let by_instance = if is_many { observed.by_instance() } else { BTreeMap::new() };
    let closed = by_instance.into_iter().filter(|(instance, _)| instances.contains(instance));
    let closed = closed.flat_map(|(instance, resources)| {
        let open = contributions_at(observed, &instance, resources.into_iter());
        let open = open.into_iter().map(|(_, protocol, range)| (protocol, range));
        closed_at(&instance, open.collect())
    });
    closed.map(|range| limits.weigh(range)).sum::<usize>() >= limits.mass_close_least.max(1)
}

/// Open port ranges, each with the namespace that it is open for.
type Contributions = BTreeSet<(String, Protocol, PortRange)>;

/// Returns the open ports of each instance, as the groups there have them.
fn contributions<R: Resource>(observed: &ResourceSet<R>) -> BTreeMap<InstanceId, Contributions> {
    let open = |(instance, resources): (InstanceId, Vec<&R>)| {
        let open = contributions_at(observed, &instance, resources.into_iter());
        (instance, open)
    };
    observed.by_instance().into_iter().map(open).collect()
}

/// Returns the open ports of an instance, as the groups of its resources have them.
fn contributions_at<'a, R: Resource + 'a>(
    observed: &ResourceSet<R>,
    instance: &InstanceId,
    resources: impl Iterator<Item = &'a R>,
) -> Contributions {
    let labels = resources.flat_map(Resource::serves);
    let labels: Vec<GroupLabel> = labels.flat_map(|label| GroupLabel::read(&label)).collect();
    let open = ports_of(&observed.reach(instance).rules);
    open.into_iter().flat_map(|(protocol, range)| attribute(protocol, range, &labels)).collect()
}

/// Splits an open port range among the namespaces of the groups that have ports in it.
fn attribute(protocol: Protocol, range: PortRange, labels: &[GroupLabel]) -> Contributions {
    let own = |label: &GroupLabel| {
        let ports = label.ports.iter().filter(|(other, _)| *other == protocol);
        let common = ports.filter_map(|(_, ports)| range.intersection(*ports));
        common.map(|ports| (label.namespace.clone(), protocol, ports)).collect::<Vec<_>>()
    };
    let mut parts: Contributions = labels.iter().flat_map(own).collect();
    let rest = without(range, parts.iter().map(|(_, _, ports)| *ports).collect::<Vec<_>>());
    parts.extend(rest.into_iter().map(|ports| (String::new(), protocol, ports)));
    parts
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
/// that is a fault of the cluster or of its administrator more often than everybody's wish. There a port that
/// several namespaces share counts once.
pub(super) fn find_held<R: Resource>(
    input: &PlanInput<'_, R>,
    closings: &BTreeMap<String, Closings>,
) -> BTreeMap<String, WithheldReason> {
    let limits = input.limits;
    let open = contributions(input.observed).into_values().map(|open| {
        let once: BTreeSet<_> = open.into_iter().map(|(_, protocol, range)| (protocol, range)).collect();
        once.into_iter().map(|(_, range)| limits.weigh(range)).sum::<usize>()
    });
    let open = open.sum();
    let count = |ports: &BTreeSet<&OpenPort>| ports.iter().map(|(_, _, range)| limits.weigh(*range)).sum();
    let closing = count(&closings.values().flat_map(|one| &one.closing).collect());
    let of_cluster = limits.is_mass_close_of_cluster(open, closing).then_some(WithheldReason::MassClose {
        namespace: None,
        closing,
        open,
    });
    let held = closings
        .iter()
        .filter(|(namespace, one)| !one.closing.is_empty() && !input.released.contains(*namespace));
    let held = held.filter_map(|(namespace, one)| {
        let closing = count(&one.closing.iter().collect());
        let of_namespace = limits.is_mass_close(one.open, closing).then(|| WithheldReason::MassClose {
            namespace: Some(namespace.clone()),
            closing,
            open: one.open,
        });
        Some((namespace.clone(), of_namespace.or_else(|| of_cluster.clone())?))
    });
    held.collect()
}
