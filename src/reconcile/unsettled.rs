//! What a pass leaves that is not as it should be: the next one looks at it again, beside what has changed.

use std::collections::{BTreeMap, BTreeSet};

use firewall_core::{GroupKey, InstanceId, Owner, Plan, Requirements, Resource, ResourceSet, WithheldReason};

use super::executor::StepOutcome;
use crate::desired::few::Few;
use crate::desired::placement::Touched;

/// The requirements of the memberships at each instance.
pub(super) type RequirementsAt<R> = BTreeMap<InstanceId, Few<GroupKey, Requirements<<R as Resource>::Key>>>;

/// Holds the resources that are not as they should be, and where that matters.
pub(super) struct Unsettled<R: Resource> {
    /// The resources: under way, failed, withheld, or not begun
    pub(super) resources: BTreeSet<R::Key>,
    /// Those of them that memberships need
    pub(super) needed: BTreeSet<R::Key>,
    /// These memberships
    pub(super) memberships: Touched,
    /// The instances where one of them lets something in
    pub(super) instances: BTreeSet<InstanceId>,
}

impl<R: Resource> Unsettled<R> {
    /// Returns these resources with all that they concern.
    pub(super) fn of(
        resources: BTreeSet<R::Key>,
        requirements: &RequirementsAt<R>,
        known: &ResourceSet<R>,
    ) -> Self {
        let (mut needed, mut memberships, mut instances) = (BTreeSet::new(), Touched::new(), BTreeSet::new());
        // Nothing is left of almost every pass, and there are thousands of memberships.
        if resources.is_empty() {
            return Self { resources, needed, memberships, instances };
        }
        for (instance, groups) in requirements {
            for (group, one) in groups.iter().filter(|(_, one)| !one.resources.is_disjoint(&resources)) {
                needed.extend(one.resources.intersection(&resources).cloned());
                memberships.entry(group.clone()).or_default().insert(instance.clone());
            }
        }
        for resource in resources.iter().filter_map(|key| known.get(key)) {
            instances.extend(resource.instances(known));
        }
        Self { resources, needed, memberships, instances }
    }

    /// Returns true if everything is as it should be.
    pub(super) fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }
}

/// Returns the resources that a plan leaves other than `desired`, among `state`; `None` if what keeps them so can be
/// seen only where the whole is planned: the share of the ports that would close, what is unknown, a limit that is
/// reached.
pub(super) fn find_unsettled<'a, R: Resource + 'a>(
    plan: &Plan<R>,
    outcomes: &[StepOutcome],
    in_flight: impl Iterator<Item = &'a R::Key>,
    (state, desired): (&ResourceSet<R>, &ResourceSet<R>),
) -> Option<BTreeSet<R::Key>> {
    let steps = plan.steps.iter().zip(outcomes);
    let left = steps.filter(|(_, outcome)| !matches!(outcome, StepOutcome::Applied(_)));
    let mut resources: BTreeSet<R::Key> = left.map(|(step, _)| step.action.key()).collect();
    resources.extend(in_flight.cloned());
    // Also what stands in for something for now, though nothing more is planned.
    let is_undesired = |(key, now): &(&R::Key, &R)| match desired.get(*key) {
        Some(desired) => !now.has_same_spec(desired),
        None => now.owner() == Owner::Ours,
    };
    resources.extend(state.iter().filter(is_undesired).map(|(key, _)| key.clone()));
    resources.extend(desired.keys().filter(|key| !state.contains_key(key)).cloned());
    for withheld in &plan.withheld {
        match withheld.reason {
            WithheldReason::IncompleteState(_)
            | WithheldReason::MassClose { .. }
            | WithheldReason::CapacityExceeded => return None,
            WithheldReason::Policy
            | WithheldReason::Backoff
            | WithheldReason::InFlight
            | WithheldReason::Foreign
            | WithheldReason::BlockedByOrder => resources.insert(withheld.key.clone()),
        };
    }
    Some(resources)
}
