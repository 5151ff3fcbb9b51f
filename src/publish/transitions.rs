//! Transitions: the openings and closings of a pass, reported on the ports' owners and on their intents.
//! Pure.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::fmt;
use std::sync::Arc;

use firewall_core::{GroupKey, InstanceId, PortRange, Protocol, Workload};

use crate::desired::few::Few;
use crate::k8s::objects::ObjectRef;
use crate::parse::ports::format_ports;
use crate::reconcile::outcome::{Membership, with_ids};
use crate::reconcile::pass::Pass;

/// Most names that a text lists; of more it has the number.
pub(super) const MAX_NAMED: usize = 3;

/// A set of one transition: most have one member, and thousands wait at once after the start in a large cluster.
pub(super) type Set<T> = Few<T, ()>;

/// The ports that a pass opened, or closed, for one object that it affects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Transition {
    /// A port owner or an intent
    pub(super) object: ObjectRef,
    /// The change of the ports
    pub(super) change: PortChange,
    /// The ports
    pub(super) ports: Set<(Protocol, PortRange)>,
    /// The nodes
    pub(super) nodes: Set<String>,
    /// The cloud's resources, where it is one node
    pub(super) resources: Set<String>,
    /// The intents
    pub(super) intents: Set<String>,
    /// The facts that ended the demand, where ports closed
    pub(super) facts: Set<String>,
}

impl Transition {
    /// Adds the same change of other ports, or on other nodes.
    pub(super) fn merge(&mut self, other: Self) {
        self.ports.extend(other.ports);
        self.nodes.extend(other.nodes);
        self.intents.extend(other.intents);
        self.facts.extend(other.facts);
        self.resources.extend(other.resources);
        if self.nodes.len() > 1 {
            self.resources.clear();
        }
    }

    /// Returns the ports, the nodes, the cloud's resources and the intents.
    pub(super) fn text(&self) -> String {
        let state = match self.change {
            PortChange::Opened => "open",
            PortChange::Closed => "closed",
        };
        let nodes = match self.nodes.len() {
            1 => format!("node {} ({})", join(&self.nodes), join_all(&self.resources, ", ")),
            count => format!("{count} nodes ({})", join(&self.nodes)),
        };
        let intents = match self.intents.len() {
            ..=MAX_NAMED => join_all(&self.intents, " and "),
            count => format!("{count} intents ({})", join(&self.intents)),
        };
        let because = match self.facts.len() {
            0 => String::new(),
            1..=MAX_NAMED => format!(" because {}", join_all(&self.facts, "; ")),
            count => format!(" because {} and {} more", join(&self.facts), count - MAX_NAMED),
        };
        format!(
            "{} {state} on {nodes}, for {intents}{because}",
            format_ports(&self.ports.keys().copied().collect())
        )
    }
}

/// Joins the first few names.
fn join(names: &Set<String>) -> String {
    let first: Vec<&str> = names.keys().take(MAX_NAMED).map(String::as_str).collect();
    first.join(", ") + if names.len() > first.len() { ", …" } else { "" }
}

fn join_all(names: &Set<String>, separator: &str) -> String {
    names.keys().map(String::as_str).collect::<Vec<_>>().join(separator)
}

/// The change of ports; also the reason of the Event that reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PortChange {
    /// The cloud admits traffic to the ports now
    Opened,
    /// The cloud no longer admits it
    Closed,
}

impl fmt::Display for PortChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Opened => "Opened",
            Self::Closed => "Closed",
        })
    }
}

/// Holds the memberships that were open on one cloud after its last pass. They are lost with a restart, and
/// with them only reports of closings.
#[derive(Debug, Default)]
pub(crate) struct OpenMemberships {
    by_instance: BTreeMap<InstanceId, Few<GroupKey, Arc<Membership>>>,
    /// Those whose demand has ended and whose resources have not been changed yet. The pass that sees the change need
    /// not be about their instances.
    closing: BTreeSet<(GroupKey, InstanceId)>,
}

impl OpenMemberships {
    /// Returns the transitions since the pass before, at most one of each kind for an object, and records the
    /// memberships that are open after this one.
    pub(crate) fn diff_and_record(&mut self, pass: &Pass) -> Vec<Transition> {
        let opened = pass.memberships.iter().filter(|membership| membership.opened);
        let opened = opened.flat_map(|membership| transitions_of(PortChange::Opened, membership, None));
        let closed = self.remove_closed(pass);
        let others = closed.iter().filter_map(|((_, instance), _)| self.by_instance.get(instance));
        let others = others.flat_map(Few::iter).map(|(_, other)| other);
        let open = OpenPorts::of(pass.memberships.iter().chain(others));
        let closed = closed.iter().filter(|(_, closed)| !open.supersede(closed));
        let closed = closed.flat_map(|(key, membership)| {
            transitions_of(PortChange::Closed, membership, pass.endings.get(key))
        });
        let mut transitions: BTreeMap<(ObjectRef, PortChange), Transition> = BTreeMap::new();
        for transition in opened.chain(closed) {
            match transitions.entry((transition.object.clone(), transition.change)) {
                Entry::Vacant(first) => drop(first.insert(transition)),
                Entry::Occupied(mut same) => same.get_mut().merge(transition),
            }
        }
        for membership in pass.memberships.iter().filter(|membership| membership.open.is_ok()) {
            let there = self.by_instance.entry(membership.instance.clone()).or_default();
            there.insert(membership.group.clone(), Arc::clone(membership));
        }
        transitions.into_values().collect()
    }

    /// Removes and returns the memberships that have closed.
    fn remove_closed(&mut self, pass: &Pass) -> Vec<((GroupKey, InstanceId), Arc<Membership>)> {
        let mut ended = std::mem::take(&mut self.closing);
        if let Some(scope) = &pass.scope {
            ended.retain(|(_, instance)| !scope.contains(instance));
            ended.extend(scope.iter().flat_map(|instance| self.find_ended(instance, pass)));
        } else {
            ended = self.by_instance.keys().flat_map(|instance| self.find_ended(instance, pass)).collect();
        }
        let mut closed = Vec::new();
        for (group, instance) in ended {
            let Some(there) = self.by_instance.get_mut(&instance) else { continue };
            // A closing that failed or was withheld has not closed anything, although nothing exposes the ports
            // any more.
            let is_settled = |membership: &Arc<Membership>| {
                !membership.resources.iter().any(|(key, _)| pass.differing.contains(key))
            };
            let Some(membership) = there.get(&group) else { continue };
            if !is_settled(membership) {
                self.closing.insert((group, instance));
                continue;
            }
            let membership = there.remove(&group);
            if there.is_empty() {
                self.by_instance.remove(&instance);
            }
            closed.extend(membership.map(|membership| ((group, instance), membership)));
        }
        closed
    }

    /// Returns the memberships at an instance that the pass was about and found no longer asked for.
    fn find_ended(&self, instance: &InstanceId, pass: &Pass) -> Vec<(GroupKey, InstanceId)> {
        let there = self.by_instance.get(instance).into_iter().flat_map(Few::iter);
        let all = there.map(|(group, _)| (group.clone(), instance.clone()));
        all.filter(|membership| !pass.still_open.contains(membership)).collect()
    }
}

/// The open ports of each workload on each instance.
struct OpenPorts<'a>(BTreeMap<(&'a InstanceId, &'a Workload), Vec<&'a (Protocol, PortRange)>>);

impl<'a> OpenPorts<'a> {
    fn of(memberships: impl Iterator<Item = &'a Arc<Membership>>) -> Self {
        let mut open = Self(BTreeMap::new());
        for one in memberships.filter(|one| one.open.is_ok()) {
            open.0.entry((&one.instance, &one.group.workload)).or_default().extend(&*one.group.ports);
        }
        open
    }

    /// Returns true if all ports of a closed membership are open for the same workload on the same node, by
    /// other rules: an edit of sources can replace them.
    fn supersede(&self, closed: &Membership) -> bool {
        let open = self.0.get(&(&closed.instance, &closed.group.workload));
        closed.group.ports.iter().all(|(protocol, ports)| {
            open.into_iter().flatten().any(|(other, range)| other == protocol && range.covers(*ports))
        })
    }
}

/// Returns the transition of a membership for each of its port owners and intents; `because` is the fact that
/// ended it.
fn transitions_of(change: PortChange, membership: &Membership, because: Option<&String>) -> Vec<Transition> {
    let Membership { group, node, port_owners, intents, resources, .. } = membership;
    let intent_names: Set<String> = intents.iter().map(|intent| (intent.to_string(), ())).collect();
    let resources: Set<String> = with_ids(resources).map(|resource| (resource, ())).collect();
    let transition = |object: &ObjectRef| Transition {
        object: object.clone(),
        change,
        ports: group.ports.iter().map(|ports| (*ports, ())).collect(),
        nodes: [(node.name.clone(), ())].into_iter().collect(),
        resources: resources.clone(),
        intents: intent_names.clone(),
        facts: because.into_iter().map(|fact| (fact.clone(), ())).collect(),
    };
    let objects: BTreeSet<&ObjectRef> = port_owners.iter().chain(intents).collect();
    objects.into_iter().map(transition).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::desired::snapshot::Snapshot;
    use crate::intents::settings::Settings;
    use crate::k8s::index::Index;
    use crate::k8s::objects::builders::object_ref;

    use super::*;

    fn ports(port: u16) -> Arc<BTreeSet<(Protocol, PortRange)>> {
        BTreeSet::from([(Protocol::Tcp, PortRange::single(port).expect("a port"))]).into()
    }

    fn membership(opened: bool) -> Membership {
        Membership {
            group: GroupKey {
                workload: Workload { kind: "DaemonSet".into(), namespace: "shop".into(), name: "web".into() }
                    .into(),
                ports: ports(80),
                variant: "".into(),
            },
            instance: InstanceId::new("i-a"),
            intents: [object_ref("HostPortExposure", "shop", "web")].into(),
            node: object_ref("Node", "", "a"),
            port_owners: [object_ref("Pod", "shop", "web-1")].into(),
            resources: [("rule".to_owned(), None)].into(),
            open: Ok(()),
            partly_open: true,
            opened,
        }
    }

    /// Returns a pass with these memberships. `stays` keeps the membership open on the
    /// cloud without one (it lingers), `fails` makes the change of its rule fail.
    fn pass(memberships: Vec<Membership>, stays: bool, fails: bool) -> Pass {
        let key = (membership(false).group, membership(false).instance);
        Pass {
            scope: None,
            own_problems: BTreeSet::new(),
            next: None,
            applied: 0,
            not_applied: 0,
            memberships: memberships.into_iter().map(Arc::new).collect(),
            differing: fails.then(|| "rule".to_owned()).into_iter().collect(),
            withheld: BTreeMap::new(),
            still_open: stays.then_some(key).into_iter().collect(),
            endings: BTreeMap::new(),
            snapshot: Arc::new(Snapshot::take(&Index::default(), &Settings::default(), Duration::ZERO)),
        }
    }

    /// Returns the transitions of a [`pass`].
    fn transitions(
        open: &mut OpenMemberships,
        memberships: Vec<Membership>,
        stays: bool,
        fails: bool,
    ) -> Vec<String> {
        let text = |transition: Transition| format!("{} {}", transition.change, transition.object.kind);
        open.diff_and_record(&pass(memberships, stays, fails)).into_iter().map(text).collect()
    }

    #[test]
    fn transition_is_reported_once_on_pod_and_intent() {
        let mut open = OpenMemberships::default();
        let both = |change: &str| vec![format!("{change} HostPortExposure"), format!("{change} Pod")];
        assert_eq!(transitions(&mut open, vec![membership(true)], true, false), both("Opened"));
        assert_eq!(transitions(&mut open, vec![membership(false)], true, false), [""; 0]);
        assert_eq!(transitions(&mut open, vec![], true, false), [""; 0], "it lingers");
        assert_eq!(transitions(&mut open, vec![], false, true), [""; 0], "it could not be closed");
        assert_eq!(transitions(&mut open, vec![], false, false), both("Closed"));
        assert_eq!(transitions(&mut open, vec![], false, false), [""; 0]);
    }

    /// As where a rule has addresses, and the machine behind one of them is not known any more.
    #[test]
    fn closing_is_told_in_a_pass_about_other_instances() {
        let mut open = OpenMemberships::default();
        transitions(&mut open, vec![membership(true)], true, false);
        assert_eq!(transitions(&mut open, vec![], false, true), [""; 0], "it is under way");
        let elsewhere = || Some(BTreeSet::from([InstanceId::new("i-b")]));
        let under_way = Pass { scope: elsewhere(), ..pass(vec![], false, true) };
        assert_eq!(open.diff_and_record(&under_way).len(), 0, "it is still");
        let ended = Pass { scope: elsewhere(), ..pass(vec![], false, false) };
        assert_eq!(open.diff_and_record(&ended).len(), 2, "the pod's and the intent's");
        assert_eq!(transitions(&mut open, vec![], false, false), [""; 0]);
    }

    #[test]
    fn rollout_is_one_transition_of_the_intent_and_one_of_each_pod() {
        let on_node = |number: usize| Membership {
            instance: InstanceId::new(format!("i-{number:05}")),
            node: object_ref("Node", "", &format!("n-{number:05}")),
            port_owners: [object_ref("Pod", "shop", &format!("web-{number:05}"))].into(),
            ..membership(true)
        };
        let mut open = OpenMemberships::default();
        let all = open.diff_and_record(&pass((0..10_000).map(on_node).collect(), false, false));
        assert_eq!(all.len(), 10_001);
        let texts = |kind: &str| {
            let of_kind = all.iter().filter(move |transition| transition.object.kind == kind);
            of_kind.map(Transition::text).collect::<Vec<_>>()
        };
        let nodes = "10000 nodes (n-00000, n-00001, n-00002, …)";
        assert_eq!(
            texts("HostPortExposure"),
            [format!("tcp/80 open on {nodes}, for HostPortExposure shop/web")]
        );
        assert_eq!(texts("Pod")[0], "tcp/80 open on node n-00000 (rule), for HostPortExposure shop/web");
    }

    #[test]
    fn superseded_membership_is_not_reported_as_closed() {
        let other = |ports| {
            let mut other = membership(false);
            other.group.variant = "other sources".into();
            other.group.ports = ports;
            other
        };
        for (ports, count) in [(ports(80), 0), (ports(81), 2)] {
            let mut open = OpenMemberships::default();
            transitions(&mut open, vec![membership(true)], true, false);
            assert_eq!(transitions(&mut open, vec![other(ports)], false, false).len(), count);
        }
    }

    #[test]
    fn membership_open_before_a_restart_is_not_reported() {
        assert_eq!(
            transitions(&mut OpenMemberships::default(), vec![membership(false)], true, false),
            [""; 0]
        );
    }
}
