//! What instances were when Compute Engine last described them, for as long as it does not.
//!
//! It is empty at every start: all of it can be read again. Time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use firewall_core::{Absences, InstanceId};

use crate::inventory::InstanceFacts;
use crate::provider_id::Location;

/// An answer about instances, with the parts that are missing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    /// The instances that exist
    pub(crate) instances: BTreeMap<InstanceId, InstanceFacts>,
    /// The zones that were not read, with what became of that
    pub(crate) unread: BTreeMap<String, UnreadZone>,
}

/// The reason why a zone's instances were not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UnreadZone {
    /// Compute Engine says that there is no such zone. That has been said of real ones.
    NotFound(String),
    /// It did not answer, or not for this zone.
    NoAnswer(String),
}

/// What is known about instances.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// The facts about those that exist, or that may exist and did
    pub(crate) instances: BTreeMap<InstanceId, InstanceFacts>,
    /// The members that may exist, with the reason why that is not known
    pub(crate) unknown: BTreeMap<InstanceId, String>,
}

/// The facts about instances when they were last read.
#[derive(Clone, Debug, Default)]
pub(crate) struct InstanceCache {
    facts: BTreeMap<InstanceId, InstanceFacts>,
    absences: Absences,
}

impl InstanceCache {
    /// Returns the members that an answer leaves out and the one before did not: to be asked for once more.
    pub(crate) fn newly_absent(
        &self,
        members: &BTreeSet<InstanceId>,
        answer: &Answer,
    ) -> BTreeSet<InstanceId> {
        let is_absent = |id: &InstanceId| {
            !answer.instances.contains_key(id)
                && !answer.unread.contains_key(zone(id))
                && self.absences.is_new(id)
        };
        members.iter().filter(|id| is_absent(id)).cloned().collect()
    }

    /// Records an answer at `now`, and returns what is known with it and the answers before.
    ///
    /// A member of a zone that was not read is as it was. One that the answer leaves out is so until an answer
    /// at least a minute later leaves it out too.
    pub(crate) fn record(&mut self, members: &BTreeSet<InstanceId>, answer: Answer, now: Instant) -> Known {
        let Answer { instances, unread } = answer;
        self.facts.extend(instances.iter().map(|(id, facts)| (id.clone(), facts.clone())));
        let unknown = self.find_unknown(members, &instances, &unread, now);
        self.absences.retain(|id| members.contains(id) && !instances.contains_key(id));
        let is_unread = |id: &InstanceId| unread.contains_key(zone(id));
        self.facts.retain(|id, facts| {
            members.contains(id)
                || !facts.own_tags.is_empty() && (instances.contains_key(id) || is_unread(id))
        });
        let last_known = self.facts.iter().filter(|(id, facts)| {
            unknown.contains_key(*id) || !members.contains(*id) && is_unread(id) && !facts.own_tags.is_empty()
        });
        let last_known = last_known.map(|(id, facts)| (id.clone(), facts.clone()));
        Known { instances: instances.into_iter().chain(last_known).collect(), unknown }
    }

    /// Records an answer at `now` about members that were not known, and returns what is known of these.
    pub(crate) fn record_added(
        &mut self,
        added: &BTreeSet<InstanceId>,
        answer: Answer,
        now: Instant,
    ) -> Known {
        let Answer { mut instances, unread } = answer;
        let unknown = self.find_unknown(added, &instances, &unread, now);
        self.absences.retain(|id| !instances.contains_key(id));
        self.facts.extend(instances.iter().map(|(id, facts)| (id.clone(), facts.clone())));
        let as_last_known = unknown.keys().filter_map(|id| Some((id.clone(), self.facts.get(id)?.clone())));
        instances.extend(as_last_known.collect::<Vec<_>>());
        Known { instances, unknown }
    }

    /// Returns the members that an answer does not have and that may exist, each with the reason.
    fn find_unknown(
        &mut self,
        members: &BTreeSet<InstanceId>,
        instances: &BTreeMap<InstanceId, InstanceFacts>,
        unread: &BTreeMap<String, UnreadZone>,
        now: Instant,
    ) -> BTreeMap<InstanceId, String> {
        let absent = members.iter().filter(|id| !instances.contains_key(id));
        absent.filter_map(|id| Some((id.clone(), self.why_unknown(id, unread, now)?))).collect()
    }

    /// Returns the reason why it is unknown whether a member exists that an answer does not have; `None` if it
    /// is gone.
    fn why_unknown(
        &mut self,
        id: &InstanceId,
        unread: &BTreeMap<String, UnreadZone>,
        now: Instant,
    ) -> Option<String> {
        match unread.get(zone(id)) {
            Some(UnreadZone::NoAnswer(reason)) => Some(reason.clone()),
            Some(UnreadZone::NotFound(reason)) => {
                let was_there = self.facts.keys().any(|other| zone(other) == zone(id));
                (was_there || !self.absences.record(id, now)).then(|| reason.clone())
            }
            None => {
                let reason = "Compute Engine's last answer leaves it out, and one answer can be incomplete";
                (!self.absences.record(id, now)).then(|| reason.to_owned())
            }
        }
    }
}

fn zone(id: &InstanceId) -> &str {
    Location::parse(id.as_str()).map_or("", |location| location.zone)
}

#[cfg(test)]
mod tests;
