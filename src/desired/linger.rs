//! Linger: a membership outlives its pod for a while, so that a restart in place does not flap.
//!
//! It outlives the pod, not the intent: where a pod is still there and asks for less, or the intent is gone
//! or has changed, the membership ends at once. So does one that is not open as it was asked for last: nothing
//! opens for a pod that is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use firewall_core::{Desired, FirewallGroup, GroupKey, InstanceId, RuleSet};

use super::endings::{Behind, Endings, find_ending};
use super::few::Few;
use super::grouping::Grouped;
use super::snapshot::Snapshot;
use crate::intents::fingerprint::Fingerprints;

/// Holds the memberships of the last call. Losing them (a restart) closes a little earlier, never later.
#[derive(Debug)]
pub struct Linger {
    duration: Duration,
    /// The memberships of the last call, with those that lingered, and those in doubt
    last: BTreeMap<InstanceId, Few<GroupKey, LastMembership>>,
    /// The time at which each membership that is gone has to go
    leaving: BTreeMap<(GroupKey, InstanceId), Duration>,
    /// The fact that ended each membership that is not asked for again
    endings: Endings,
    /// The digests of all intents at the last call
    fingerprints: Fingerprints,
    /// True if the next call lets nothing linger
    ends_at_once: bool,
}

/// A membership as it was last.
#[derive(Debug)]
struct LastMembership {
    /// The group's rules
    rules: Arc<RuleSet>,
    behind: Behind,
    /// True if it was asked for
    is_asked_for: bool,
    /// The rules that were open when all that was asked for was
    open: Option<Arc<RuleSet>>,
}

impl Linger {
    /// Lets memberships linger for `duration`; zero lets none.
    #[must_use]
    pub fn new(duration: Duration) -> Self {
        Self {
            duration,
            last: BTreeMap::new(),
            leaving: BTreeMap::new(),
            endings: Endings::new(),
            fingerprints: Fingerprints::default(),
            ends_at_once: false,
        }
    }

    /// Ends every membership that lingers: none outlives the next call.
    pub const fn end_all(&mut self) {
        self.ends_at_once = true;
    }

    /// Records whether all that was asked for is open of a membership, or nothing.
    pub fn record_open(&mut self, group: &GroupKey, instance: &InstanceId, is_open: bool) {
        if let Some(last) = self.last.get_mut(instance).and_then(|groups| groups.get_mut(group)) {
            last.open = is_open.then(|| Arc::clone(&last.rules));
        }
    }

    /// Returns the fact that ended each membership of which a resource is left.
    #[must_use]
    pub const fn endings(&self) -> &Endings {
        &self.endings
    }

    /// Returns the machines on which something has ended.
    pub(crate) fn ended_machines(&self) -> BTreeSet<&InstanceId> {
        self.endings.keys().map(|(_, instance)| instance).collect()
    }

    /// Forgets all endings: nothing of what they ended is left.
    pub fn forget_endings(&mut self) {
        self.endings.clear();
    }

    /// Forgets the endings of groups of which no resource is left.
    pub fn retain_endings(&mut self, is_left: impl Fn(&GroupKey) -> bool) {
        self.endings.retain(|(group, _), _| is_left(group));
    }

    /// Returns the memberships that linger.
    pub fn leaving(&self) -> impl Iterator<Item = &(GroupKey, InstanceId)> {
        self.leaving.keys()
    }

    /// Ends memberships that linger, and removes them from what is desired.
    pub fn end(
        &mut self,
        memberships: &[(GroupKey, InstanceId)],
        snapshot: &Snapshot,
        desired: &mut Desired,
    ) {
        for id in memberships {
            self.leaving.remove(id);
            if let Some(last) = self.last.get_mut(&id.1).and_then(|groups| groups.remove(&id.0)) {
                self.endings.insert(id.clone(), find_ending(snapshot, &last.behind));
            }
            let Some(group) = desired.groups.get_mut(&id.0) else { continue };
            group.members.remove(&id.1);
            if group.members.is_empty() {
                desired.groups.remove(&id.0);
            }
        }
    }

    /// Adds to what is desired the memberships that ended less than `duration` ago. Also returns the time
    /// until the next of them has to go. `now` is a time on any clock that only moves forward. With `only`,
    /// what is desired is about these instances and no others, whose memberships stay as they are.
    ///
    /// A group that still has members keeps its new rules; one that has none keeps its last. While everything
    /// is unknown nothing goes, however long ago it was last seen: nothing could be closed on it anyway, and
    /// what stays open must stay in what is planned with. A membership that may still be asked for neither
    /// lingers nor ends.
    pub fn extend(
        &mut self,
        grouped: &Grouped,
        snapshot: &Snapshot,
        now: Duration,
        only: Option<&BTreeSet<InstanceId>>,
    ) -> (Desired, Option<Duration>) {
        let mut desired = grouped.desired.clone();
        let ends_at_once = std::mem::take(&mut self.ends_at_once);
        for (instance, groups) in self.take_last(only) {
            for (key, last) in groups {
                let id = (key, instance.clone());
                let group = grouped.desired.groups.get(&id.0);
                let is_asked_for = group.is_some_and(|group| group.members.contains(&instance));
                if is_asked_for {
                    self.leaving.remove(&id);
                    self.keep(id, last);
                } else {
                    self.leave(id, last, &mut desired, snapshot, (now, ends_at_once));
                }
            }
        }
        self.record(grouped, snapshot);
        self.fingerprints = snapshot.fingerprints.clone();
        let next = self.leaving.values().filter(|until| **until > now).min();
        (desired, next.map(|until| until.saturating_sub(now)))
    }

    /// Takes out the memberships of the last call, of some instances or all.
    fn take_last(
        &mut self,
        only: Option<&BTreeSet<InstanceId>>,
    ) -> BTreeMap<InstanceId, Few<GroupKey, LastMembership>> {
        let Some(only) = only else { return std::mem::take(&mut self.last) };
        only.iter().filter_map(|instance| self.last.remove_entry(instance)).collect()
    }

    fn keep(&mut self, (group, instance): (GroupKey, InstanceId), last: LastMembership) {
        self.last.entry(instance).or_default().insert(group, last);
    }

    /// Decides on a membership that is not asked for: it lingers, stays because it may be asked for, or ends.
    fn leave(
        &mut self,
        id: (GroupKey, InstanceId),
        mut last: LastMembership,
        desired: &mut Desired,
        snapshot: &Snapshot,
        (now, ends_at_once): (Duration, bool),
    ) {
        if std::mem::take(&mut last.is_asked_for) {
            last.behind.intents_were(&self.fingerprints);
        }
        let everything_is_unknown = desired.unknown.why_everything().is_some();
        let until = self.leaving.get(&id).copied().unwrap_or(now + self.duration);
        let rules = desired.groups.get(&id.0).map_or(&*last.rules, |group| &group.rules);
        let is_open = || last.open.as_ref().is_some_and(|open| open.covers(rules));
        let may_linger = !ends_at_once && !self.duration.is_zero() && is_open();
        let lingers = may_linger && last.behind.lingers(snapshot);
        if lingers && (everything_is_unknown || until > now) {
            let none = || FirewallGroup { rules: (*last.rules).clone(), members: BTreeSet::new() };
            let group = desired.groups.entry(id.0.clone()).or_insert_with(none);
            group.members.insert(id.1.clone());
            if group.rules != *last.rules {
                last.rules = Arc::new(group.rules.clone());
            }
            self.leaving.insert(id.clone(), until);
            return self.keep(id, last);
        }
        if self.leaving.remove(&id).is_some() {
            // It has lingered: while it is in doubt it must not begin again at each pass.
            last.open = None;
        }
        let is_in_doubt = || !desired.unknown.at(&id.1).rules.intersection(&last.rules).is_empty();
        if everything_is_unknown || is_in_doubt() {
            self.keep(id, last);
        } else {
            self.endings.entry(id).or_insert_with(|| find_ending(snapshot, &last.behind));
        }
    }

    /// Records what is asked for, with the objects behind it.
    fn record(&mut self, grouped: &Grouped, snapshot: &Snapshot) {
        let mut rules: BTreeMap<&GroupKey, Arc<RuleSet>> = BTreeMap::new();
        for (id, port_owners) in &grouped.port_owners {
            let (Some(group), Some(node)) = (grouped.desired.groups.get(&id.0), grouped.nodes.get(&id.1))
            else {
                continue;
            };
            let behind = Behind {
                port_owners: port_owners.clone(),
                intents: grouped.intents.get(id).cloned().unwrap_or_default(),
                fingerprints: Box::default(),
                node: node.name.clone(),
                machine: snapshot.machines.get(&node.name).cloned(),
            };
            let rules = rules.entry(&id.0).or_insert_with(|| Arc::new(group.rules.clone()));
            let last = self.last.entry(id.1.clone()).or_default();
            let open = last.remove(&id.0).and_then(|last| last.open);
            last.insert(
                id.0.clone(),
                LastMembership { rules: Arc::clone(rules), behind, is_asked_for: true, open },
            );
            self.endings.remove(id);
        }
    }
}

#[cfg(test)]
mod tests;
