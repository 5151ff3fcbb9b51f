//! Placement: the exposures on the machines of one cloud, kept from snapshot to snapshot, so that a change
//! leads to the machines that it concerns without a look at the others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use firewall_core::{GroupKey, InstanceId};

use super::few::Few;
use crate::intents::exposure::Exposure;
use crate::intents::exposures::{Exposures, PartKey};

/// Holds the parts of the demand by the machines and groups that their exposures are about.
#[derive(Debug, Default)]
pub struct Placement {
    parts: BTreeMap<PartKey, Arc<[Exposure]>>,
    by_instance: BTreeMap<InstanceId, Parts>,
    members: BTreeMap<GroupKey, BTreeMap<InstanceId, Parts>>,
    /// The parts with exposures on nodes whose machine cannot be found
    elsewhere: BTreeSet<PartKey>,
}

/// The parts at one place.
type Parts = Few<PartKey, ()>;

/// The groups that a change concerns, each with the instances where it can matter.
pub type Touched = BTreeMap<GroupKey, BTreeSet<InstanceId>>;

impl Placement {
    /// Returns the placement of all exposures. `instance` reads a providerID: `None` is another cloud's.
    pub fn of(exposures: &Exposures, instance: impl Fn(&str) -> Option<Result<InstanceId, String>>) -> Self {
        let mut placement = Self::default();
        for (key, part) in exposures.parts() {
            placement.add(key, part, &instance);
        }
        placement
    }

    /// Takes over parts that have changed. Returns what that concerns: where the rules of a group differ, or
    /// may, all of its members, else those that came or went.
    pub fn update(
        &mut self,
        exposures: &Exposures,
        changed: &BTreeSet<PartKey>,
        instance: impl Fn(&str) -> Option<Result<InstanceId, String>>,
    ) -> Touched {
        let mut touched = Touched::new();
        let mut rules = BTreeMap::new();
        let before: Vec<Arc<[Exposure]>> =
            changed.iter().filter_map(|key| self.parts.get(key).cloned()).collect();
        let now: Vec<Arc<[Exposure]>> =
            changed.iter().filter_map(|key| exposures.of_part(key).cloned()).collect();
        for exposure in before.iter().chain(&now).flat_map(|part| part.iter()) {
            let group = exposure.group.clone();
            let id = instance(&exposure.provider_id).and_then(Result::ok);
            touched.entry(group.clone()).or_default().extend(id);
            let same = rules.entry(group).or_insert(Some(&exposure.rules));
            if same.is_some_and(|same| *same != exposure.rules) {
                *same = None;
            }
        }
        // Of others in the group the rules can be the same as of these before and as of these now, or neither.
        let others = |this: &Self, group: &GroupKey| {
            let members = this.members.get(group)?;
            let mut parts = members.values().flat_map(Parts::iter).map(|(part, ())| part);
            let other = this.parts.get(parts.find(|part| !changed.contains(part))?)?;
            other.iter().find(|exposure| exposure.group == *group).map(|exposure| exposure.rules.clone())
        };
        let is_uniform = |this: &Self, group: &GroupKey| {
            let same = rules.get(group).copied().flatten();
            same.is_some_and(|same| others(this, group).is_some_and(|others| others == *same))
        };
        let uniform: BTreeSet<GroupKey> =
            touched.keys().filter(|group| is_uniform(self, group)).cloned().collect();
        let all = |this: &Self, touched: &mut Touched| {
            for (group, instances) in touched.iter_mut().filter(|(group, _)| !uniform.contains(*group)) {
                instances.extend(this.members(group).cloned());
            }
        };
        all(self, &mut touched);
        for key in changed {
            self.remove(key, &instance);
            if let Some(part) = exposures.of_part(key) {
                self.add(key, part, &instance);
            }
        }
        all(self, &mut touched);
        touched
    }

    /// Returns the instances at which a group is asked for.
    pub fn members(&self, group: &GroupKey) -> impl Iterator<Item = &InstanceId> {
        self.members.get(group).into_iter().flat_map(BTreeMap::keys)
    }

    /// Returns the exposures on these machines, and, because their problems are told in each pass, those whose
    /// machine cannot be found.
    pub fn at<'a>(
        &'a self,
        instances: &'a BTreeSet<InstanceId>,
        instance: impl Fn(&str) -> Option<Result<InstanceId, String>>,
    ) -> Vec<&'a Exposure> {
        let placed = instances.iter().filter_map(|id| self.by_instance.get(id)).flat_map(Parts::iter);
        let parts: BTreeSet<&PartKey> = placed.map(|(part, ())| part).chain(&self.elsewhere).collect();
        let exposures = parts.into_iter().filter_map(|key| self.parts.get(key)).flat_map(|part| part.iter());
        let is_meant = |exposure: &&Exposure| match instance(&exposure.provider_id) {
            Some(Ok(id)) => instances.contains(&id),
            Some(Err(_)) => true,
            None => false,
        };
        exposures.filter(is_meant).collect()
    }

    fn add(
        &mut self,
        key: &PartKey,
        part: &Arc<[Exposure]>,
        instance: impl Fn(&str) -> Option<Result<InstanceId, String>>,
    ) {
        for exposure in part.iter() {
            let id = match instance(&exposure.provider_id) {
                Some(Ok(id)) => id,
                Some(Err(_)) => {
                    self.elsewhere.insert(key.clone());
                    continue;
                }
                None => continue,
            };
            self.by_instance.entry(id.clone()).or_default().insert(key.clone(), ());
            let members = self.members.entry(exposure.group.clone()).or_default();
            members.entry(id).or_default().insert(key.clone(), ());
        }
        self.parts.insert(key.clone(), Arc::clone(part));
    }

    fn remove(&mut self, key: &PartKey, instance: impl Fn(&str) -> Option<Result<InstanceId, String>>) {
        let Some(part) = self.parts.remove(key) else { return };
        self.elsewhere.remove(key);
        for exposure in part.iter() {
            let Some(Ok(id)) = instance(&exposure.provider_id) else { continue };
            remove_from(&mut self.by_instance, &id, key);
            let group = &exposure.group;
            if let Some(members) = self.members.get_mut(group) {
                remove_from(members, &id, key);
                if members.is_empty() {
                    self.members.remove(group);
                }
            }
        }
    }
}

/// Removes a part from an index, and its place there with the last.
fn remove_from(index: &mut BTreeMap<InstanceId, Parts>, id: &InstanceId, part: &PartKey) {
    if let Some(parts) = index.get_mut(id) {
        parts.remove(part);
        if parts.is_empty() {
            index.remove(id);
        }
    }
}
