//! Linger: a membership outlives its pod for a while, so that a restart in place does not flap.
//!
//! It outlives the pod, not the intent: where a pod is still there and asks for less, or the intent is gone
//! or has changed, the membership ends at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use firewall_core::{Desired, FirewallGroup, GroupKey, InstanceId};

use super::grouping::Grouped;
use crate::intents::fingerprint::Fingerprints;
use crate::intents::port_owner::PortOwners;
use crate::k8s::objects::ObjectRef;

/// Holds the memberships of the last call. Losing them (a restart) closes a little earlier, never later.
#[derive(Debug)]
pub struct Linger {
    duration: Duration,
    /// Groups of the last call, with what lingered in them
    last: BTreeMap<GroupKey, FirewallGroup>,
    /// The objects behind each membership, as they were last
    behind: BTreeMap<(GroupKey, InstanceId), Behind>,
    /// The time at which each membership that is gone has to go
    leaving: BTreeMap<(GroupKey, InstanceId), Duration>,
}

/// The objects behind a membership.
#[derive(Debug)]
struct Behind {
    port_owners: BTreeSet<ObjectRef>,
    /// Each intent with its fingerprint
    intents: BTreeMap<ObjectRef, Option<String>>,
    node: String,
}

impl Behind {
    /// Returns true if the port owners have gone, and an intent goes on asking for the same. A pod that is
    /// its own intent counts as unchanged.
    fn lingers(&self, owners: &PortOwners, fingerprints: &Fingerprints) -> bool {
        let goes_on = |(intent, before): (&ObjectRef, &Option<String>)| {
            intent.kind == "Pod" || before.is_some() && fingerprints.fingerprint(intent) == before.as_deref()
        };
        !self.port_owners.iter().any(|port_owner| owners.owns(port_owner, &self.node))
            && self.intents.iter().any(goes_on)
    }
}

impl Linger {
    /// Lets memberships linger for `duration`; zero lets none.
    #[must_use]
    pub const fn new(duration: Duration) -> Self {
        Self { duration, last: BTreeMap::new(), behind: BTreeMap::new(), leaving: BTreeMap::new() }
    }

    /// Drops every membership that lingers.
    pub fn forget(&mut self) {
        *self = Self::new(self.duration);
    }

    /// Adds to what is desired the memberships that ended less than `duration` ago. Also returns the time
    /// until the next of them has to go. `now` is a time on any clock that only moves forward.
    ///
    /// A group that still has members keeps its new rules; one that has none keeps its last. While knowledge
    /// is partial nothing goes, however long ago it was last seen: nothing could be closed on it anyway, and
    /// what stays open must stay in what is planned with.
    pub fn extend(
        &mut self,
        grouped: &Grouped,
        owners: &PortOwners,
        fingerprints: &Fingerprints,
        now: Duration,
    ) -> (Desired, Option<Duration>) {
        let mut desired = grouped.desired.clone();
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
                if !self.behind.get(&id).is_some_and(|behind| behind.lingers(owners, fingerprints)) {
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
        self.behind.retain(|id, _| leaving.contains_key(id));
        self.behind.extend(grouped.port_owners.iter().filter_map(|(id, port_owners)| {
            let asking = grouped.intents.get(id)?.iter();
            let asking =
                asking.map(|intent| (intent.clone(), fingerprints.fingerprint(intent).map(str::to_owned)));
            let node = grouped.nodes.get(&id.1)?.name.clone();
            Some((id.clone(), Behind { port_owners: port_owners.clone(), intents: asking.collect(), node }))
        }));
        self.leaving = leaving;
        (desired, next)
    }
}

#[cfg(test)]
mod tests {
    use firewall_core::Completeness;
    use firewall_core::testing::conformance::{desired, group};

    use serde_json::json;

    use super::*;
    use crate::intents::fingerprint::compute_fingerprints;
    use crate::intents::port_owner::collect_port_owners;
    use crate::k8s::index::{Index, Object, Watch};

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

    /// Calls `extend` for a cluster without the pod.
    fn extend(linger: &mut Linger, desired: Desired, now: Duration) -> (Desired, Option<Duration>) {
        let grouped = because_of(desired, &object("Pod", "web"));
        linger.extend(&grouped, &PortOwners::default(), &Fingerprints::default(), now)
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
            (collect_port_owners(&index), compute_fingerprints(&index))
        };
        let table = [
            ("Pod", (true, None), false),
            ("Pod", (false, None), true),
            ("Ingress", (true, Some("10.0.0.0/8")), false),
            ("Ingress", (false, Some("10.0.0.0/8")), true),
            ("Ingress", (false, Some("192.0.2.0/24")), false),
            ("Ingress", (false, None), false),
        ];
        for (intent, (pod, ingress), lingers) in table {
            let mut linger = Linger::new(LINGER);
            let intent = object(intent, "web");
            let (binding, intents) = cluster(true, Some("10.0.0.0/8"));
            linger.extend(&because_of(web(), &intent), &binding, &intents, at(0));
            let gone = because_of(Desired::nothing(), &intent);
            let (binding, intents) = cluster(pod, ingress);
            let (extended, _) = linger.extend(&gone, &binding, &intents, at(1));
            assert_eq!(!extended.groups.is_empty(), lingers, "{intent} {pod} {ingress:?}");
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
    fn membership_stays_while_knowledge_is_partial() {
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
