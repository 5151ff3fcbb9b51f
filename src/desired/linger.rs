//! Linger: a membership outlives its pod for a while, so that a restart in place does not flap.
//!
//! It outlives the pod, not the intent: where a pod is still there and asks for less, or the intent is gone
//! or has changed, the membership ends at once. So does one that is not open as it was asked for last: nothing
//! opens for a pod that is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use firewall_core::{Desired, FirewallGroup, GroupKey, InstanceId, RuleSet};

use super::endings::{Behind, Endings, find_ending};
use super::grouping::Grouped;
use super::snapshot::Snapshot;

/// Holds the memberships of the last call. Losing them (a restart) closes a little earlier, never later.
#[derive(Debug)]
pub struct Linger {
    duration: Duration,
    /// Groups of the last call, with what lingered in them, and what is in doubt
    last: BTreeMap<GroupKey, FirewallGroup>,
    /// The objects behind each membership, as they were last
    behind: BTreeMap<(GroupKey, InstanceId), Behind>,
    /// What each membership had open when all that it asked for was
    open: BTreeMap<(GroupKey, InstanceId), RuleSet>,
    /// The time at which each membership that is gone has to go
    leaving: BTreeMap<(GroupKey, InstanceId), Duration>,
    /// The fact that ended each membership that is not asked for again
    endings: Endings,
    /// True if the next call lets nothing linger
    ends_at_once: bool,
}

impl Linger {
    /// Lets memberships linger for `duration`; zero lets none.
    #[must_use]
    pub const fn new(duration: Duration) -> Self {
        Self {
            duration,
            last: BTreeMap::new(),
            behind: BTreeMap::new(),
            open: BTreeMap::new(),
            leaving: BTreeMap::new(),
            endings: Endings::new(),
            ends_at_once: false,
        }
    }

    /// Ends every membership that lingers: none outlives the next call.
    pub const fn end_all(&mut self) {
        self.ends_at_once = true;
    }

    /// Records what is open of a membership: all that these rules say, or, without rules, nothing.
    pub fn record_open(&mut self, membership: (GroupKey, InstanceId), rules: Option<&RuleSet>) {
        match rules {
            Some(rules) => drop(self.open.insert(membership, rules.clone())),
            None => drop(self.open.remove(&membership)),
        }
    }

    /// Returns the fact that ended each membership of which a resource is left.
    #[must_use]
    pub const fn endings(&self) -> &Endings {
        &self.endings
    }

    /// Forgets the endings of groups of which no resource is left.
    pub fn retain_endings(&mut self, is_left: impl Fn(&GroupKey) -> bool) {
        self.endings.retain(|(group, _), _| is_left(group));
    }

    /// Adds to what is desired the memberships that ended less than `duration` ago. Also returns the time
    /// until the next of them has to go. `now` is a time on any clock that only moves forward.
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
    ) -> (Desired, Option<Duration>) {
        let mut desired = grouped.desired.clone();
        let everything_is_unknown = desired.unknown.why_everything().is_some();
        let mut leaving = BTreeMap::new();
        let mut in_doubt: BTreeMap<GroupKey, FirewallGroup> = BTreeMap::new();
        for (key, group) in &self.last {
            let staying = desired.groups.get(key).map(|group| &group.members);
            let rules = desired.groups.get(key).map_or(&group.rules, |group| &group.rules);
            for member in
                group.members.iter().filter(|member| !staying.is_some_and(|all| all.contains(*member)))
            {
                let id = (key.clone(), member.clone());
                let Some(behind) = self.behind.get(&id) else { continue };
                let until = self.leaving.get(&id).copied().unwrap_or(now + self.duration);
                let is_open = || self.open.get(&id).is_some_and(|open| open.covers(rules));
                let may_linger = !self.ends_at_once && !self.duration.is_zero();
                let lingers = may_linger && is_open() && behind.lingers(snapshot);
                if lingers && (everything_is_unknown || until > now) {
                    leaving.insert(id, until);
                } else if everything_is_unknown
                    || !desired.unknown.at(member).rules.intersection(&group.rules).is_empty()
                {
                    let none = || FirewallGroup { members: BTreeSet::new(), ..group.clone() };
                    in_doubt.entry(key.clone()).or_insert_with(none).members.insert(member.clone());
                } else {
                    self.endings.entry(id).or_insert_with(|| find_ending(snapshot, behind));
                }
            }
        }
        self.ends_at_once = false;
        for (key, member) in leaving.keys() {
            let rules = || self.last.get(key).map(|group| group.rules.clone()).unwrap_or_default();
            let group = desired.groups.entry(key.clone());
            let group = group.or_insert_with(|| FirewallGroup { rules: rules(), members: BTreeSet::new() });
            group.members.insert(member.clone());
        }
        let next =
            leaving.values().filter(|until| **until > now).min().map(|until| until.saturating_sub(now));
        self.record(grouped, snapshot, &desired, in_doubt);
        self.leaving = leaving;
        (desired, next)
    }

    /// Records what is desired, and what is in doubt, with the objects behind it.
    fn record(
        &mut self,
        grouped: &Grouped,
        snapshot: &Snapshot,
        desired: &Desired,
        in_doubt: BTreeMap<GroupKey, FirewallGroup>,
    ) {
        self.last.clone_from(&desired.groups);
        for (key, group) in in_doubt {
            self.last
                .entry(key)
                .or_insert_with(|| FirewallGroup { members: BTreeSet::new(), ..group.clone() })
                .members
                .extend(group.members);
        }
        let is_last = |(key, member): &(GroupKey, InstanceId)| {
            self.last.get(key).is_some_and(|group| group.members.contains(member))
        };
        self.behind.retain(|id, _| is_last(id));
        self.open.retain(|id, _| is_last(id));
        self.endings.retain(|id, _| !is_last(id));
        self.behind.extend(grouped.port_owners.iter().filter_map(|(id, port_owners)| {
            let fingerprint = |intent| snapshot.fingerprints.fingerprint(intent).map(str::to_owned);
            let asking = grouped.intents.get(id)?.iter();
            let intents = asking.map(|intent| (intent.clone(), fingerprint(intent))).collect();
            let node = grouped.nodes.get(&id.1)?.name.clone();
            let machine = snapshot.machines.get(&node).cloned();
            Some((id.clone(), Behind { port_owners: port_owners.clone(), intents, node, machine }))
        }));
    }
}

#[cfg(test)]
mod tests {
    use firewall_core::testing::conformance::{desired, group};

    use firewall_core::Unknown;
    use serde_json::json;

    use super::*;
    use crate::intents::settings::Settings;
    use crate::k8s::index::{Index, Object, Watch};
    use crate::k8s::objects::ObjectRef;

    const LINGER: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn object(kind: &'static str, name: &str) -> ObjectRef {
        let (namespace, name, uid) = ("default".to_owned(), name.to_owned(), String::new());
        ObjectRef { api_version: "v1".into(), kind: kind.into(), namespace, name, uid }
    }

    /// Groups of a pod `web` on the node, which asks itself or by another object.
    fn because_of(desired: Desired, intent: &ObjectRef) -> Grouped {
        let ids: Vec<_> = desired
            .groups
            .iter()
            .flat_map(|(key, group)| group.members.iter().map(|member| (key.clone(), member.clone())))
            .collect();
        let each = |object: &ObjectRef| {
            ids.iter().map(|id| (id.clone(), BTreeSet::from([object.clone()]))).collect::<BTreeMap<_, _>>()
        };
        Grouped {
            objects: BTreeMap::new(),
            port_owners: each(&object("Pod", "web")),
            intents: each(intent),
            nodes: ids.iter().map(|(_, member)| (member.clone(), object("Node", "a"))).collect(),
            problems: BTreeSet::new(),
            desired,
        }
    }

    fn snapshot(index: &Index) -> Snapshot {
        Snapshot::take(index, &Settings::default(), Duration::ZERO)
    }

    /// Calls `extend`, after which all that is asked for is open.
    fn extend_and_open(
        linger: &mut Linger,
        grouped: &Grouped,
        cluster: &Snapshot,
        now: Duration,
    ) -> (Desired, Option<Duration>) {
        let extended = linger.extend(grouped, cluster, now);
        for id in grouped.port_owners.keys() {
            linger.record_open(id.clone(), Some(&grouped.desired.groups[&id.0].rules));
        }
        extended
    }

    /// Calls `extend` for a cluster without the pod.
    fn extend(linger: &mut Linger, desired: Desired, now: Duration) -> (Desired, Option<Duration>) {
        let grouped = because_of(desired, &object("Pod", "web"));
        extend_and_open(linger, &grouped, &snapshot(&Index::default()), now)
    }

    #[test]
    fn edited_intent_ends_linger_at_once() {
        let id = InstanceId::new("i-0");
        let web = || desired([group("web", &["tcp/80 0.0.0.0/0"], &[&id])]);
        let cluster = |pod: bool, ingress: Option<&str>| {
            let mut index = Index::default();
            let pod_on_a = json!({
                "metadata": { "name": "web" },
                "spec": { "nodeName": "a", "containers": [{ "name": "x", "ports": [{ "hostPort": 80 }] }] },
            });
            let named = json!({ "apiVersion": "v1", "metadata": { "name": "web" }, "spec": {
                "loadBalancerSourceRanges": [ingress.unwrap_or_default()],
            } });
            let pod_on_a = Object::Pod(serde_json::from_value(pod_on_a).expect("a pod"));
            let named = Object::Ingress(serde_json::from_value(named).expect("an Ingress"));
            index.reset(Watch::Pods, pod.then_some(pod_on_a).into_iter().collect());
            index.reset(Watch::Ingresses("x".into()), ingress.map(|_| named).into_iter().collect());
            snapshot(&index)
        };
        let table = [
            ("Pod", (true, None), Some("Pod default/web asks for it no longer")),
            ("Pod", (false, None), None),
            ("Ingress", (true, Some("10.0.0.0/8")), Some("Pod default/web asks for it no longer")),
            ("Ingress", (false, Some("10.0.0.0/8")), None),
            ("Ingress", (false, Some("192.0.2.0/24")), Some("Ingress default/web was edited")),
            ("Ingress", (false, None), Some("Ingress default/web was deleted")),
        ];
        for (intent, (pod, ingress), ending) in table {
            let mut linger = Linger::new(LINGER);
            let intent = object(intent, "web");
            extend_and_open(
                &mut linger,
                &because_of(web(), &intent),
                &cluster(true, Some("10.0.0.0/8")),
                at(0),
            );
            let gone = because_of(Desired::nothing(), &intent);
            let (extended, _) = linger.extend(&gone, &cluster(pod, ingress), at(1));
            assert_eq!(!extended.groups.is_empty(), ending.is_none(), "{intent} {pod} {ingress:?}");
            let ending_now = linger.endings().values().next().map(String::as_str);
            assert_eq!(ending_now, ending, "{intent} {pod} {ingress:?}");
        }
    }

    #[test]
    fn nothing_lingers_on_a_machine_with_another_address() {
        let id = InstanceId::new("i-0");
        let cluster = |address: &str| {
            let node = json!({
                "metadata": { "name": "a" },
                "spec": { "providerID": "memory://i-0" },
                "status": { "addresses": [{ "type": "InternalIP", "address": address }] },
            });
            let mut index = Index::default();
            index.reset(Watch::Nodes, vec![Object::Node(serde_json::from_value(node).expect("a node"))]);
            snapshot(&index)
        };
        for (address, lingers) in [("10.0.0.1", true), ("10.0.0.2", false)] {
            let mut linger = Linger::new(LINGER);
            let web = desired([group("web", &["tcp/80 0.0.0.0/0"], &[&id])]);
            let asked = because_of(web, &object("Pod", "web"));
            extend_and_open(&mut linger, &asked, &cluster("10.0.0.1"), at(0));
            let gone = because_of(Desired::nothing(), &object("Pod", "web"));
            let (extended, _) = linger.extend(&gone, &cluster(address), at(1));
            assert_eq!(!extended.groups.is_empty(), lingers, "{address}");
        }
    }

    #[test]
    fn membership_lingers_for_the_duration() {
        let id = InstanceId::new("i-0");
        let web = || desired([group("web", &["tcp/80 0.0.0.0/0"], &[&id])]);
        let mut linger = Linger::new(LINGER);
        assert_eq!(extend(&mut linger, web(), at(0)), (web(), None));
        assert_eq!(extend(&mut linger, Desired::nothing(), at(10)), (web(), Some(at(30))));
        assert_eq!(extend(&mut linger, Desired::nothing(), at(39)), (web(), Some(at(1))));
        assert_eq!(extend(&mut linger, Desired::nothing(), at(40)), (Desired::nothing(), None));
    }

    #[test]
    fn membership_that_is_not_open_as_asked_for_does_not_linger() {
        let id = InstanceId::new("i-0");
        let rules = |texts: &[&str]| group("web", texts, &[&id]).1.rules;
        let (narrow, wide) = (["tcp/80 10.0.0.0/8"], ["tcp/80 10.0.0.0/8", "tcp/80 192.0.2.0/24"]);
        for (open, lingers) in [(None, false), (Some(rules(&narrow)), false), (Some(rules(&wide)), true)] {
            let mut linger = Linger::new(LINGER);
            let web = group("web", &wide, &[&id]);
            let grouped = because_of(desired([web.clone()]), &object("Pod", "web"));
            linger.extend(&grouped, &snapshot(&Index::default()), at(0));
            linger.record_open((web.0, id.clone()), open.as_ref());
            let (extended, _) = extend(&mut linger, Desired::nothing(), at(1));
            assert_eq!(!extended.groups.is_empty(), lingers, "{open:?}");
        }
    }

    #[test]
    fn returning_membership_restarts_its_linger() {
        let id = InstanceId::new("i-0");
        let web = || desired([group("web", &["tcp/80 0.0.0.0/0"], &[&id])]);
        let mut linger = Linger::new(LINGER);
        extend(&mut linger, web(), at(0));
        extend(&mut linger, Desired::nothing(), at(10));
        assert_eq!(extend(&mut linger, web(), at(20)), (web(), None));
        assert_eq!(extend(&mut linger, Desired::nothing(), at(50)), (web(), Some(LINGER)));
    }

    #[test]
    fn lingering_member_follows_the_new_rules() {
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
    fn zero_duration_disables_linger() {
        let id = InstanceId::new("i-0");
        let mut linger = Linger::new(Duration::ZERO);
        extend(&mut linger, desired([group("web", &["tcp/80 0.0.0.0/0"], &[&id])]), at(0));
        assert_eq!(extend(&mut linger, Desired::nothing(), at(1)), (Desired::nothing(), None));
    }

    #[test]
    fn membership_stays_while_everything_is_unknown() {
        let id = InstanceId::new("i-0");
        let web = || desired([group("web", &["tcp/80 0.0.0.0/0"], &[&id])]);
        let partial =
            |desired: Desired| Desired { unknown: Unknown::everything(["pods: 403".into()]), ..desired };
        let mut linger = Linger::new(LINGER);
        extend(&mut linger, web(), at(0));
        assert_eq!(extend(&mut linger, partial(Desired::nothing()), at(10)), (partial(web()), Some(LINGER)));
        assert_eq!(extend(&mut linger, partial(Desired::nothing()), at(99)), (partial(web()), None));
        assert_eq!(extend(&mut linger, Desired::nothing(), at(100)), (Desired::nothing(), None));
    }

    #[test]
    fn membership_in_doubt_neither_lingers_nor_ends() {
        let id = InstanceId::new("i-0");
        let web = || desired([group("web", &["tcp/80 0.0.0.0/0"], &[&id])]);
        let mut linger = Linger::new(Duration::ZERO);
        extend(&mut linger, web(), at(0));
        let mut in_doubt = Desired::nothing();
        in_doubt.unknown.add_at(
            &id,
            &web().groups.values().next().expect("a group").rules,
            "node a is not known",
        );
        for seconds in [1, 99] {
            assert_eq!(extend(&mut linger, in_doubt.clone(), at(seconds)), (in_doubt.clone(), None));
            assert!(linger.endings().is_empty());
        }
        assert_eq!(extend(&mut linger, Desired::nothing(), at(100)), (Desired::nothing(), None));
        let ending = linger.endings().values().next().map(String::as_str);
        assert_eq!(ending, Some("Pod default/web was deleted or has finished"));
    }

    #[test]
    fn memberships_expire_one_by_one() {
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
