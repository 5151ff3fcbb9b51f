//! After a change of mode, keeps what the former mode has open until the configured one has it open too.

use std::collections::BTreeSet;

use firewall_core::{Compiled, FirewallGroup, GroupKey, InstanceId, RuleSet, Unknown};

use crate::inventory::Inventory;
use crate::resource::AwsResource;

/// Adds to what may be asked for what is asked for on an instance and not let in there by the configured mode,
/// which lets in `rules` now.
pub(super) fn keep(
    unknown: &mut Unknown,
    key: &GroupKey,
    group: &FirewallGroup,
    instance: &InstanceId,
    rules: &RuleSet,
) {
    if !rules.covers(&group.rules) {
        unknown.add_at(
            instance,
            &group.rules,
            &format!("{key} is asked for, and open by the former mode only"),
        );
    }
}

/// Adds to the ids of each instance the user's groups on it that have rules of mode `shared`. As long as there
/// are any, no id stands for one instance alone.
pub(super) fn in_shared_groups_too(
    compiled: Compiled<AwsResource>,
    inventory: &Inventory,
) -> Compiled<AwsResource> {
    if inventory.former_mode.is_empty() {
        return compiled;
    }
    let ids = |instance: &InstanceId| -> BTreeSet<InstanceId> {
        let facts = inventory.instances.get(instance);
        let groups = facts.into_iter().flat_map(|facts| &facts.foreign_groups).map(InstanceId::new);
        groups.filter(|group| inventory.former_mode.contains(group)).chain([instance.clone()]).collect()
    };
    let unknown = compiled.unknown.by_ids(ids).unlocated();
    Compiled { unknown, ..compiled }
}
