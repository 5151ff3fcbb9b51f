//! The scope of a pass: the part of a cluster that a change can reach. Pure.
//!
//! Outside of it everything is as it should be, and stays so. A group's resources are looked at where one of its
//! memberships in scope needs them, or needed them; those of other groups at the same instances are there
//! because what they let in counts, and stay as they are.

use std::collections::BTreeSet;

use firewall_core::{Compiled, GroupKey, InstanceId, Resource, ResourceSet};

use super::unsettled::RequirementsAt;
use crate::desired::few::Few;

/// The resources in scope.
pub(super) struct Scoped<R: Resource> {
    /// As they should be
    pub(super) desired: ResourceSet<R>,
    /// As they are
    pub(super) observed: ResourceSet<R>,
}

/// Selects the resources that a change of the `touched` groups can reach: of all that are known, and of those that
/// the groups at the instances in scope compile to. `last` has the requirements of the last pass, and the resources
/// that it left unsettled.
pub(super) fn select<R: Resource>(
    known: &ResourceSet<R>,
    (before, unsettled): (&RequirementsAt<R>, &BTreeSet<R::Key>),
    compiled: &Compiled<R>,
    instances: &BTreeSet<InstanceId>,
    touched: &BTreeSet<&GroupKey>,
) -> Scoped<R> {
    let (mut keys, mut own): (BTreeSet<&R::Key>, BTreeSet<&R::Key>) =
        (unsettled.iter().collect(), unsettled.iter().collect());
    let last = instances.iter().filter_map(|instance| before.get(instance)).flat_map(Few::iter);
    let now = compiled.requirements.iter().map(|((group, _), required)| (group, required));
    for (group, required) in last.chain(now) {
        keys.extend(&required.resources);
        if touched.contains(group) {
            own.extend(&required.resources);
        }
    }
    // Also what nobody needs there any more: it counts as long as it lets something in.
    let referred: Vec<R::Key> =
        keys.iter().filter_map(|key| known.get(key)).flat_map(Resource::refers_to).collect();
    keys.extend(&referred);
    let is_in_use_elsewhere =
        |key: &R::Key| known.referrers(key).any(|referrer| !keys.contains(&referrer.key()));
    let mut scoped = Scoped { desired: ResourceSet::new(), observed: ResourceSet::new() };
    for key in &keys {
        let (now, compiled) = (known.get(key), compiled.resources.get(key));
        let goal = match (now, compiled) {
            (Some(now), Some(_)) if !own.contains(key) => Some(now),
            // Of its users only those in scope have been compiled.
            (Some(now), None) if is_in_use_elsewhere(key) => Some(now),
            // Another group's, which need not have been compiled.
            (Some(now), None) if !own.contains(key) && known.referrers(key).next().is_none() => Some(now),
            (_, compiled) => compiled,
        };
        scoped.desired.extend(goal.cloned());
        scoped.observed.extend(now.cloned());
    }
    scoped
}
