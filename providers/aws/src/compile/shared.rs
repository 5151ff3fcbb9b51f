//! Mode `shared`: rules in the security groups that the user names and that the members have.

use std::collections::{BTreeMap, BTreeSet};

use firewall_core::{
    Compiled, Desired, GroupKey, Incumbency, Infeasible, IngressRule, InstanceId, Requirements, Resource,
    ResourceSet, RuleSet, select_within_capacity,
};

use super::{not_found, too_many_rules};
use crate::config::AwsConfig;
use crate::inventory::{InstanceFacts, Inventory, SharedGroup};
use crate::resource::{AwsKey, AwsResource, Room, SharedRules};

pub(super) fn compile(desired: &Desired, inventory: &Inventory, config: &AwsConfig) -> Compiled<AwsResource> {
    let mut infeasible = Vec::new();
    let targets = targets(desired, inventory, &mut infeasible);
    let mut resources = ResourceSet::<AwsResource>::new();
    let mut requirements = BTreeMap::new();
    for (id, groups) in targets {
        let Some(now) = inventory.shared_groups.get(id) else { continue };
        let mut target = Target {
            id,
            now,
            room: now.room(config.rules_per_group),
            limit: config.rules_per_group,
            infeasible: &mut infeasible,
        };
        let (rules, serves) = target.fitting(desired, &groups);
        let rules = target.not_yet_open(desired, &serves, &rules);
        // What somebody else has opened already takes no rule of ours.
        let resource = (!rules.is_empty()).then(|| AwsKey::SharedRules(id.to_owned()));
        let takes = Requirements {
            resources: resource.into_iter().collect(),
            reachable_at: BTreeSet::from([InstanceId::new(id)]),
        };
        for &key in &serves {
            let members = desired.groups[key].members.iter();
            let here = members.filter(|instance| target_of(instance, inventory) == Some(id));
            requirements.extend(here.map(|instance| ((key.clone(), instance.clone()), takes.clone())));
        }
        if rules.is_empty() {
            continue;
        }
        let serves = serves.iter().map(ToString::to_string).collect();
        let shared = SharedRules { serves, rules, ..SharedRules::none(id.to_owned(), target.room) };
        let resource = AwsResource::SharedRules(shared);
        resources.insert(resource.key(), resource);
    }
    Compiled { resources, requirements, infeasible }
}

/// The user's groups that get rules, each with the firewall groups whose members have it.
fn targets<'a>(
    desired: &'a Desired,
    inventory: &'a Inventory,
    infeasible: &mut Vec<Infeasible>,
) -> BTreeMap<&'a str, BTreeSet<&'a GroupKey>> {
    let mut targets: BTreeMap<&str, BTreeSet<&GroupKey>> = BTreeMap::new();
    for (key, group) in &desired.groups {
        for instance in &group.members {
            let Some(facts) = inventory.instances.get(instance) else {
                infeasible.push(not_found(key, instance));
                continue;
            };
            if let Some(target) = target(facts, inventory) {
                targets.entry(target).or_default().insert(key);
                continue;
            }
            let message = format!(
                "instance {instance} has none of the security groups that the configuration names for mode shared; \
                 add one of them to interface {}, or name one that it has",
                facts.interface
            );
            infeasible.push(Infeasible::of_member(key, instance, "NoSharedGroup", message));
        }
    }
    targets
}

/// The smallest id, so that every instance with the same groups gets the same one.
fn target<'a>(facts: &'a InstanceFacts, inventory: &Inventory) -> Option<&'a str> {
    facts.groups.iter().find(|id| inventory.shared_groups.contains_key(*id)).map(String::as_str)
}

fn target_of<'a>(instance: &InstanceId, inventory: &'a Inventory) -> Option<&'a str> {
    target(inventory.instances.get(instance)?, inventory)
}

/// One of the user's groups.
struct Target<'a> {
    id: &'a str,
    /// What is in it now
    now: &'a SharedGroup,
    /// How many rules of ours fit
    room: Room,
    limit: usize,
    infeasible: &'a mut Vec<Infeasible>,
}

impl Target<'_> {
    /// The rules of as many groups as fit; those go first whose rules are there now.
    fn fitting<'d>(
        &mut self,
        desired: &Desired,
        groups: &BTreeSet<&'d GroupKey>,
    ) -> (RuleSet, BTreeSet<&'d GroupKey>) {
        let rules = |keys: &BTreeSet<&GroupKey>| -> RuleSet {
            keys.iter().flat_map(|key| desired.groups[*key].rules.iter().copied()).collect()
        };
        let ours = |rules: &RuleSet| -> BTreeSet<IngressRule> { rules.rules() - &self.now.foreign };
        let standing = |key: &&GroupKey| {
            let asked = &desired.groups[*key].rules;
            let theirs = asked.rules() & &self.now.foreign;
            Incumbency::classify(asked, &theirs.union(&self.now.ours).copied().collect())
        };
        let serves = select_within_capacity(groups, standing, |keys| self.room.fits(&ours(&rules(keys)), 0));
        for key in groups - &serves {
            let what = format!("security group {} with it", self.id);
            self.infeasible.push(too_many_rules(key, None, &what, self.limit));
        }
        (rules(&serves), serves)
    }

    /// The rules less those that somebody else has there already: neither adopted, nor ever revoked.
    fn not_yet_open(
        &mut self,
        desired: &Desired,
        serves: &BTreeSet<&GroupKey>,
        rules: &RuleSet,
    ) -> BTreeSet<IngressRule> {
        let taken = |rule: &IngressRule| self.now.foreign.contains(rule);
        let (already, ours): (BTreeSet<IngressRule>, BTreeSet<IngressRule>) =
            rules.iter().copied().partition(taken);
        for rule in already {
            let asks = |key: &&GroupKey| {
                desired.groups[*key].rules.iter().any(|own| rule.covers(own) || own.covers(&rule))
            };
            for key in serves.iter().copied().filter(asks) {
                let message = format!(
                    "{rule} is open already by a rule in {} that is not ours, and stays open when the pod is gone; \
                     delete that rule if it should be opened and closed with the pod",
                    self.id
                );
                self.infeasible.push(Infeasible::of_group(key, "AlreadyOpen", message));
            }
        }
        ours
    }
}

#[cfg(test)]
mod tests;
