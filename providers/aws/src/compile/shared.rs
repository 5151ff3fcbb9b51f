//! Mode `shared`: rules in the security groups that the user names and that the members have.

use std::collections::{BTreeMap, BTreeSet};

use firewall_core::{
    Compiled, Desired, GroupKey, Incumbency, Infeasible, IngressRule, InstanceId, Requirements, Resource,
    ResourceSet, RuleSet, select_within_capacity,
};

use super::{former_mode, too_many_rules, without_facts};
use crate::config::AwsConfig;
use crate::inventory::{InstanceFacts, Inventory, SharedGroup};
use crate::reasons;
use crate::resource::{AwsKey, AwsResource, RuleCapacity, SharedRules};

/// Compiles firewall groups to rules in the user's groups.
pub(super) fn compile(desired: &Desired, inventory: &Inventory, config: &AwsConfig) -> Compiled<AwsResource> {
    let mut infeasible = Vec::new();
    let targets = assign_targets(desired, inventory, &mut infeasible);
    let mut resources = ResourceSet::<AwsResource>::new();
    let mut requirements = BTreeMap::new();
    for (id, groups) in targets {
        let Some(current) = inventory.shared_groups.get(id) else { continue };
        let mut target = Target {
            id,
            current,
            rule_capacity: current.rule_capacity(config.rules_per_group),
            limit: config.rules_per_group,
            infeasible: &mut infeasible,
        };
        let (rules, serves) = target.admit_groups(desired, &groups);
        let rules = target.without_foreign_rules(desired, &serves, &rules);
        // Ports that foreign rules open already need no rule of ours.
        let resource = (!rules.is_empty()).then(|| AwsKey::SharedRules(id.to_owned()));
        let member_requirements = Requirements {
            resources: resource.into_iter().collect(),
            reachable_at: BTreeSet::from([InstanceId::new(id)]),
        };
        for &key in &serves {
            let members = desired.groups[key].members.iter();
            let here = members.filter(|instance| target_of_instance(instance, inventory) == Some(id));
            requirements
                .extend(here.map(|instance| ((key.clone(), instance.clone()), member_requirements.clone())));
        }
        if rules.is_empty() {
            continue;
        }
        let serves = serves.iter().map(ToString::to_string).collect();
        let shared = SharedRules { serves, rules, ..SharedRules::empty(id.to_owned(), target.rule_capacity) };
        let resource = AwsResource::SharedRules(shared);
        resources.insert(resource.key(), resource);
    }
    let mut unknown = desired.unknown.clone();
    for (key, instance) in requirements.keys().filter(|_| !inventory.former_mode.is_empty()) {
        let target = target_of_instance(instance, inventory).and_then(|id| inventory.shared_groups.get(id));
        if let (Some(group), Some(target)) = (desired.groups.get(key), target) {
            let rules: RuleSet = target.own_rules.union(&target.foreign_rules).copied().collect();
            former_mode::keep(&mut unknown, key, group, instance, &rules);
        }
    }
    let compiled = Compiled { resources, requirements, infeasible, unknown }.keeping_infeasible(desired);
    // What is in doubt may be open by any of the groups that the instance has, and not only where it would be opened.
    let ids = |instance: &InstanceId| {
        let facts = inventory.instances.get(instance);
        let groups = facts.into_iter().flat_map(|facts| &facts.foreign_groups);
        let shared = groups.filter(|id| inventory.shared_groups.contains_key(*id)).map(InstanceId::new);
        shared.chain(inventory.former_mode.get(instance).cloned()).collect()
    };
    let unknown = compiled.unknown.by_ids(ids).unlocated();
    Compiled { unknown, ..compiled }
}

/// Returns the user's groups that get rules, each with the firewall groups whose members have it.
fn assign_targets<'a>(
    desired: &'a Desired,
    inventory: &'a Inventory,
    infeasible: &mut Vec<Infeasible>,
) -> BTreeMap<&'a str, BTreeSet<&'a GroupKey>> {
    let mut targets: BTreeMap<&str, BTreeSet<&GroupKey>> = BTreeMap::new();
    for (key, group) in &desired.groups {
        for instance in &group.members {
            let Some(facts) = inventory.instances.get(instance) else {
                infeasible.push(without_facts(key, instance, inventory));
                continue;
            };
            if let Some(target) = target(facts, inventory) {
                targets.entry(target).or_default().insert(key);
                continue;
            }
            let message = format!(
                "instance {instance} has none of the security groups that the configuration names for mode \
                 shared; add one of them to interface {}, or name one that it has",
                facts.interface
            );
            infeasible.push(Infeasible::of_member(key, instance, reasons::NO_SHARED_GROUP, message));
        }
    }
    targets
}

/// Returns the smallest id, so that every instance with the same groups gets the same target.
fn target<'a>(facts: &'a InstanceFacts, inventory: &Inventory) -> Option<&'a str> {
    let mut groups = facts.foreign_groups.iter();
    groups.find(|id| inventory.shared_groups.contains_key(*id)).map(String::as_str)
}

/// Returns the instances whose rules are in the same groups as those of these, and these.
pub(crate) fn find_sharing(instances: &BTreeSet<InstanceId>, inventory: &Inventory) -> BTreeSet<InstanceId> {
    let targets: BTreeSet<&str> =
        instances.iter().filter_map(|instance| target_of_instance(instance, inventory)).collect();
    let shares = |facts: &InstanceFacts| target(facts, inventory).is_some_and(|id| targets.contains(id));
    let sharing = inventory.instances.iter().filter(|(_, facts)| shares(facts)).map(|(id, _)| id);
    sharing.chain(instances).cloned().collect()
}

fn target_of_instance<'a>(instance: &InstanceId, inventory: &'a Inventory) -> Option<&'a str> {
    target(inventory.instances.get(instance)?, inventory)
}

/// One of the user's groups.
struct Target<'a> {
    id: &'a str,
    /// The rules that it has now
    current: &'a SharedGroup,
    /// The number of our rules that fit
    rule_capacity: RuleCapacity,
    /// The number of rules that a group may have, for the message where more are needed
    limit: usize,
    infeasible: &'a mut Vec<Infeasible>,
}

impl Target<'_> {
    /// Returns the groups that fit, with their rules; the others are infeasible. Groups whose rules are there
    /// now are kept before others are admitted.
    fn admit_groups<'d>(
        &mut self,
        desired: &Desired,
        groups: &BTreeSet<&'d GroupKey>,
    ) -> (RuleSet, BTreeSet<&'d GroupKey>) {
        let rules_of = |keys: &BTreeSet<&GroupKey>| -> RuleSet {
            RuleSet::union_of(keys.iter().map(|key| &desired.groups[*key].rules))
        };
        let incumbency = |key: &&GroupKey| {
            let asked = &desired.groups[*key].rules;
            let foreign = asked.rules() & &self.current.foreign_rules;
            Incumbency::classify(asked, &foreign.union(&self.current.own_rules).copied().collect())
        };
        let admitted = select_within_capacity(groups, incumbency, |keys| {
            let own: BTreeSet<IngressRule> = rules_of(keys).rules() - &self.current.foreign_rules;
            self.rule_capacity.fits(&own, 0)
        });
        for key in groups - &admitted {
            let subject = format!("security group {} with these rules", self.id);
            self.infeasible.push(too_many_rules(key, None, &subject, self.limit));
        }
        (rules_of(&admitted), admitted)
    }

    /// Returns the rules without those that are there as foreign rules: such a rule is not adopted and never
    /// revoked.
    fn without_foreign_rules(
        &mut self,
        desired: &Desired,
        serves: &BTreeSet<&GroupKey>,
        rules: &RuleSet,
    ) -> BTreeSet<IngressRule> {
        let is_foreign = |rule: &IngressRule| self.current.foreign_rules.contains(rule);
        let (foreign, own): (BTreeSet<IngressRule>, BTreeSet<IngressRule>) =
            rules.iter().copied().partition(is_foreign);
        for rule in foreign {
            let asks = |key: &&GroupKey| {
                desired.groups[*key].rules.iter().any(|asked| rule.covers(asked) || asked.covers(&rule))
            };
            for key in serves.iter().copied().filter(asks) {
                let message = format!(
                    "{rule} is open already by a rule in {} that is not ours, and stays open when the pod is \
                     gone; delete that rule if it should be opened and closed with the pod",
                    self.id
                );
                self.infeasible.push(Infeasible::of_group(key, reasons::ALREADY_OPEN, message));
            }
        }
        own
    }
}

#[cfg(test)]
mod tests;
