//! Linger: a membership outlives its pod for a while, so that a restart in place does not flap.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use firewall_model::{Desired, FirewallGroup, GroupKey, InstanceId};

/// What was wanted a moment ago. Losing it (a restart) closes a little earlier, never later.
#[derive(Debug)]
pub struct Linger {
    duration: Duration,
    /// Groups of the last call, with what lingered in them
    last: BTreeMap<GroupKey, FirewallGroup>,
    /// When each membership that is gone has to go
    leaving: BTreeMap<(GroupKey, InstanceId), Duration>,
}

impl Linger {
    /// Lets memberships linger for `duration`; zero lets none.
    #[must_use]
    pub const fn new(duration: Duration) -> Self {
        Self { duration, last: BTreeMap::new(), leaving: BTreeMap::new() }
    }

    /// Adds to `desired` the memberships that have gone less than the duration ago. Also returns how long it is
    /// until the first of them has to go. `now` is a time on any clock that only moves forward.
    ///
    /// A group that still has members keeps its new rules; one that has none keeps its last.
    pub fn extend(&mut self, mut desired: Desired, now: Duration) -> (Desired, Option<Duration>) {
        let mut leaving = BTreeMap::new();
        for (key, group) in &self.last {
            let staying = desired.groups.get(key).map(|group| &group.members);
            for member in &group.members {
                if staying.is_some_and(|members| members.contains(member)) {
                    continue;
                }
                let id = (key.clone(), member.clone());
                let until = self.leaving.get(&id).copied().unwrap_or(now + self.duration);
                if until > now {
                    leaving.insert(id, until);
                }
            }
        }
        for (key, member) in leaving.keys() {
            let rules = || self.last.get(key).map(|group| group.rules.clone()).unwrap_or_default();
            let group = desired.groups.entry(key.clone());
            let group = group.or_insert_with(|| FirewallGroup { rules: rules(), members: BTreeSet::new() });
            group.members.insert(member.clone());
        }
        let next = leaving.values().min().map(|until| *until - now);
        self.last.clone_from(&desired.groups);
        self.leaving = leaving;
        (desired, next)
    }
}

#[cfg(test)]
mod tests {
    use firewall_model::conformance::{desired, group};

    use super::*;

    const LINGER: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_membership_stays_for_the_duration_and_then_goes() {
        let id = InstanceId::new("i-0");
        let web = || desired([group("web", &["tcp/80 0.0.0.0/0"], &[&id])]);
        let mut linger = Linger::new(LINGER);
        assert_eq!(linger.extend(web(), at(0)), (web(), None));
        assert_eq!(linger.extend(Desired::nothing(), at(10)), (web(), Some(at(30))));
        assert_eq!(linger.extend(Desired::nothing(), at(39)), (web(), Some(at(1))));
        assert_eq!(linger.extend(Desired::nothing(), at(40)), (Desired::nothing(), None));
    }

    #[test]
    fn a_membership_that_comes_back_starts_anew() {
        let id = InstanceId::new("i-0");
        let web = || desired([group("web", &["tcp/80 0.0.0.0/0"], &[&id])]);
        let mut linger = Linger::new(LINGER);
        linger.extend(web(), at(0));
        linger.extend(Desired::nothing(), at(10));
        assert_eq!(linger.extend(web(), at(20)), (web(), None));
        assert_eq!(linger.extend(Desired::nothing(), at(50)), (web(), Some(LINGER)));
    }

    #[test]
    fn what_lingers_in_a_group_follows_its_new_rules() {
        let ids = [InstanceId::new("i-0"), InstanceId::new("i-1")];
        let (key, before) = group("web", &["tcp/80 0.0.0.0/0"], &[&ids[0], &ids[1]]);
        let (_, after) = group("web", &["tcp/80 10.0.0.0/8"], &[&ids[0]]);
        let mut linger = Linger::new(LINGER);
        linger.extend(desired([(key.clone(), before)]), at(0));
        let (extended, _) = linger.extend(desired([(key.clone(), after.clone())]), at(1));
        assert_eq!(extended.groups[&key].rules, after.rules);
        assert_eq!(extended.groups[&key].members.len(), 2);
    }

    #[test]
    fn zero_lets_nothing_linger() {
        let id = InstanceId::new("i-0");
        let mut linger = Linger::new(Duration::ZERO);
        linger.extend(desired([group("web", &["tcp/80 0.0.0.0/0"], &[&id])]), at(0));
        assert_eq!(linger.extend(Desired::nothing(), at(1)), (Desired::nothing(), None));
    }
}
