//! Linger: a membership outlives its pod for a while, so that a restart in place does not flap.
//!
//! It outlives the pod, not the intent: where a pod is still there and asks for less, that is heeded at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use firewall_model::{Desired, FirewallGroup, GroupKey, InstanceId};

use crate::objects::ObjectRef;

/// What binds the ports behind each membership.
type Binders = BTreeMap<(GroupKey, InstanceId), BTreeSet<ObjectRef>>;

/// What was wanted a moment ago. Losing it (a restart) closes a little earlier, never later.
#[derive(Debug)]
pub struct Linger {
    duration: Duration,
    /// Groups of the last call, with what lingered in them
    last: BTreeMap<GroupKey, FirewallGroup>,
    /// What bound their ports, when it was last there
    binders: Binders,
    /// When each membership that is gone has to go
    leaving: BTreeMap<(GroupKey, InstanceId), Duration>,
}

impl Linger {
    /// Lets memberships linger for `duration`; zero lets none.
    #[must_use]
    pub const fn new(duration: Duration) -> Self {
        Self { duration, last: BTreeMap::new(), binders: Binders::new(), leaving: BTreeMap::new() }
    }

    /// Adds to `desired` the memberships that have gone less than the duration ago. Also returns how long it is
    /// until the next of them has to go. `now` is a time on any clock that only moves forward.
    ///
    /// A group that still has members keeps its new rules; one that has none keeps its last. While knowledge is
    /// partial nothing goes, however long ago it was last seen: nothing could be closed on it anyway, and what
    /// stays open must stay in what is planned with.
    ///
    /// `binders` are those behind the desired memberships; `binding` is all that binds ports of nodes now, whether or not
    /// anything exposes them.
    pub fn extend(
        &mut self,
        mut desired: Desired,
        binders: &Binders,
        binding: &BTreeSet<ObjectRef>,
        now: Duration,
    ) -> (Desired, Option<Duration>) {
        if self.duration.is_zero() {
            return (desired, None);
        }
        let complete = desired.completeness.is_complete();
        let mut leaving = BTreeMap::new();
        for (key, group) in &self.last {
            let staying = desired.groups.get(key).map(|group| &group.members);
            for member in &group.members {
                if staying.is_some_and(|members| members.contains(member)) {
                    continue;
                }
                let id = (key.clone(), member.clone());
                if self.binders.get(&id).is_some_and(|binders| !binders.is_disjoint(binding)) {
                    continue;
                }
                let until = self.leaving.get(&id).copied().unwrap_or(now + self.duration);
                if until > now || !complete {
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
        let next =
            leaving.values().filter(|until| **until > now).min().map(|until| until.saturating_sub(now));
        self.last.clone_from(&desired.groups);
        self.binders.retain(|id, _| leaving.contains_key(id));
        self.binders.extend(binders.iter().map(|(id, binders)| (id.clone(), binders.clone())));
        self.leaving = leaving;
        (desired, next)
    }
}

#[cfg(test)]
mod tests {
    use firewall_model::Completeness;
    use firewall_model::conformance::{desired, group};

    use super::*;

    const LINGER: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Extends where the pods behind what is gone are gone too.
    fn extend(linger: &mut Linger, desired: Desired, now: Duration) -> (Desired, Option<Duration>) {
        linger.extend(desired, &Binders::new(), &BTreeSet::new(), now)
    }

    #[test]
    fn a_pod_that_is_there_and_asks_no_more_is_heeded_at_once() {
        let id = InstanceId::new("i-0");
        let (key, web) = group("web", &["tcp/80 0.0.0.0/0"], &[&id]);
        let pod = ObjectRef {
            api_version: "v1".into(),
            kind: "Pod".into(),
            namespace: "default".into(),
            name: "web".into(),
            uid: "1".into(),
        };
        let pods = Binders::from([((key.clone(), id.clone()), BTreeSet::from([pod.clone()]))]);
        for (binding, lingers) in [(BTreeSet::from([pod]), false), (BTreeSet::new(), true)] {
            let mut linger = Linger::new(LINGER);
            linger.extend(desired([(key.clone(), web.clone())]), &pods, &binding, at(0));
            let (extended, _) = linger.extend(Desired::nothing(), &Binders::new(), &binding, at(1));
            assert_eq!(!extended.groups.is_empty(), lingers);
        }
    }

    #[test]
    fn a_membership_stays_for_the_duration_and_then_goes() {
        let id = InstanceId::new("i-0");
        let web = || desired([group("web", &["tcp/80 0.0.0.0/0"], &[&id])]);
        let mut linger = Linger::new(LINGER);
        assert_eq!(extend(&mut linger, web(), at(0)), (web(), None));
        assert_eq!(extend(&mut linger, Desired::nothing(), at(10)), (web(), Some(at(30))));
        assert_eq!(extend(&mut linger, Desired::nothing(), at(39)), (web(), Some(at(1))));
        assert_eq!(extend(&mut linger, Desired::nothing(), at(40)), (Desired::nothing(), None));
    }

    #[test]
    fn a_membership_that_comes_back_starts_anew() {
        let id = InstanceId::new("i-0");
        let web = || desired([group("web", &["tcp/80 0.0.0.0/0"], &[&id])]);
        let mut linger = Linger::new(LINGER);
        extend(&mut linger, web(), at(0));
        extend(&mut linger, Desired::nothing(), at(10));
        assert_eq!(extend(&mut linger, web(), at(20)), (web(), None));
        assert_eq!(extend(&mut linger, Desired::nothing(), at(50)), (web(), Some(LINGER)));
    }

    #[test]
    fn what_lingers_in_a_group_follows_its_new_rules() {
        let ids = [InstanceId::new("i-0"), InstanceId::new("i-1")];
        let (key, before) = group("web", &["tcp/80 0.0.0.0/0"], &[&ids[0], &ids[1]]);
        let (_, after) = group("web", &["tcp/80 10.0.0.0/8"], &[&ids[0]]);
        let mut linger = Linger::new(LINGER);
        extend(&mut linger, desired([(key.clone(), before)]), at(0));
        let (extended, _) = extend(&mut linger, desired([(key.clone(), after.clone())]), at(1));
        assert_eq!(extended.groups[&key].rules, after.rules);
        assert_eq!(extended.groups[&key].members.len(), 2);
    }

    #[test]
    fn zero_lets_nothing_linger() {
        let id = InstanceId::new("i-0");
        let mut linger = Linger::new(Duration::ZERO);
        extend(&mut linger, desired([group("web", &["tcp/80 0.0.0.0/0"], &[&id])]), at(0));
        assert_eq!(extend(&mut linger, Desired::nothing(), at(1)), (Desired::nothing(), None));
    }

    #[test]
    fn nothing_goes_while_knowledge_is_partial() {
        let id = InstanceId::new("i-0");
        let web = || desired([group("web", &["tcp/80 0.0.0.0/0"], &[&id])]);
        let partial = |desired: Desired| Desired {
            completeness: Completeness::Partial(vec!["pods: 403".into()]),
            ..desired
        };
        let mut linger = Linger::new(LINGER);
        extend(&mut linger, web(), at(0));
        assert_eq!(extend(&mut linger, partial(Desired::nothing()), at(10)), (partial(web()), Some(LINGER)));
        assert_eq!(extend(&mut linger, partial(Desired::nothing()), at(99)), (partial(web()), None));
        assert_eq!(extend(&mut linger, Desired::nothing(), at(100)), (Desired::nothing(), None));
    }

    #[test]
    fn memberships_go_one_by_one() {
        let ids = [InstanceId::new("i-0"), InstanceId::new("i-1")];
        let web = |members: &[&InstanceId]| desired([group("web", &["tcp/80 0.0.0.0/0"], members)]);
        let both = || web(&[&ids[0], &ids[1]]);
        let mut linger = Linger::new(LINGER);
        extend(&mut linger, both(), at(0));
        assert_eq!(extend(&mut linger, web(&[&ids[1]]), at(10)), (both(), Some(at(30))));
        assert_eq!(extend(&mut linger, Desired::nothing(), at(20)), (both(), Some(at(20))));
        assert_eq!(extend(&mut linger, Desired::nothing(), at(40)), (web(&[&ids[1]]), Some(at(10))));
        assert_eq!(extend(&mut linger, Desired::nothing(), at(50)), (Desired::nothing(), None));
    }
}
