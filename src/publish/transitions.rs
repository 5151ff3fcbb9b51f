//! Transitions: the openings and closings of a pass, reported on the ports' owners and on their intents.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use firewall_core::{GroupKey, InstanceId, PortRange, Protocol, Workload};

use crate::k8s::objects::ObjectRef;
use crate::parse::ports::format_ports;
use crate::reconcile::outcome::{Membership, with_ids};
use crate::reconcile::pass::Pass;

/// An opening or closing of ports, for one object that it affects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Transition {
    /// A port owner or an intent
    pub(super) object: ObjectRef,
    /// The change of the ports
    pub(super) change: PortChange,
    /// The ports, the node, the cloud's resources and the intents
    pub(super) message: String,
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
pub(crate) struct OpenMemberships(BTreeMap<(GroupKey, InstanceId), Membership>);

impl OpenMemberships {
    /// Returns the transitions since the pass before, and records the memberships that are open after this
    /// one.
    pub(crate) fn diff_and_record(&mut self, pass: &Pass) -> Vec<Transition> {
        let opened = pass.memberships.iter().filter(|membership| membership.opened);
        let opened = opened.flat_map(|membership| transitions_of(PortChange::Opened, membership, None));
        // A closing that failed or was withheld has not closed anything, although nothing exposes the ports
        // any more.
        let is_settled =
            |membership: &Membership| !membership.resources.keys().any(|key| pass.differing.contains(key));
        let closed = self
            .0
            .iter()
            .filter(|(key, membership)| !pass.still_open.contains(key) && is_settled(membership));
        let closed: Vec<(GroupKey, InstanceId)> = closed.map(|(key, _)| key.clone()).collect();
        let closed = closed.iter().filter_map(|key| Some((self.0.remove(key)?, pass.endings.get(key))));
        let open = OpenPorts::of(&pass.memberships);
        let closed: Vec<(Membership, Option<&String>)> =
            closed.filter(|(closed, _)| !open.supersede(closed)).collect();
        let closed = closed.iter().flat_map(|(membership, ending)| {
            transitions_of(PortChange::Closed, membership, ending.map(String::as_str))
        });
        let transitions = opened.chain(closed).collect();
        for membership in pass.memberships.iter().filter(|membership| membership.open.is_ok()) {
            self.0.insert((membership.group.clone(), membership.instance.clone()), membership.clone());
        }
        transitions
    }
}

/// The open ports of each workload on each instance.
struct OpenPorts<'a>(BTreeMap<(&'a InstanceId, &'a Workload), Vec<&'a (Protocol, PortRange)>>);

impl<'a> OpenPorts<'a> {
    fn of(memberships: &'a [Membership]) -> Self {
        let mut open = Self(BTreeMap::new());
        for Membership { group, instance, .. } in memberships.iter().filter(|one| one.open.is_ok()) {
            open.0.entry((instance, &group.workload)).or_default().extend(&group.ports);
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
fn transitions_of(change: PortChange, membership: &Membership, because: Option<&str>) -> Vec<Transition> {
    let Membership { group, node, port_owners, intents, resources, .. } = membership;
    let state = match change {
        PortChange::Opened => "open",
        PortChange::Closed => "closed",
    };
    let resources = with_ids(resources).collect::<Vec<_>>().join(", ");
    let intent_names: Vec<String> = intents.iter().map(ToString::to_string).collect();
    let because = because.map(|fact| format!(" because {fact}")).unwrap_or_default();
    let message = format!(
        "{} {state} on node {} ({resources}), for {}{because}",
        format_ports(&group.ports),
        node.name,
        intent_names.join(" and ")
    );
    let objects: BTreeSet<&ObjectRef> = port_owners.union(intents).collect();
    let transition =
        |object: &ObjectRef| Transition { object: object.clone(), change, message: message.clone() };
    objects.into_iter().map(transition).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use crate::desired::snapshot::Snapshot;
    use crate::intents::settings::Settings;
    use crate::k8s::index::Index;
    use crate::k8s::objects::builders::object_ref;

    use super::*;

    fn ports(port: u16) -> BTreeSet<(Protocol, PortRange)> {
        BTreeSet::from([(Protocol::Tcp, PortRange::single(port).expect("a port"))])
    }

    fn membership(opened: bool) -> Membership {
        Membership {
            group: GroupKey {
                workload: Workload { kind: "DaemonSet".into(), namespace: "shop".into(), name: "web".into() },
                ports: ports(80),
                variant: String::new(),
            },
            instance: InstanceId::new("i-a"),
            intents: BTreeSet::from([object_ref("HostPortExposure", "shop", "web")]),
            node: object_ref("Node", "", "a"),
            port_owners: BTreeSet::from([object_ref("Pod", "shop", "web-1")]),
            resources: BTreeMap::from([("rule".to_owned(), None)]),
            open: Ok(()),
            partly_open: true,
            opened,
        }
    }

    /// Returns the transitions of a pass with these memberships. `stays` keeps the membership open on the
    /// cloud without one (it lingers), `fails` makes the change of its rule fail.
    fn transitions(
        open: &mut OpenMemberships,
        memberships: Vec<Membership>,
        stays: bool,
        fails: bool,
    ) -> Vec<String> {
        let key = (membership(false).group, membership(false).instance);
        let pass = Pass {
            problems: BTreeSet::new(),
            next: None,
            applied: 0,
            not_applied: 0,
            memberships,
            differing: fails.then(|| "rule".to_owned()).into_iter().collect(),
            withheld: BTreeMap::new(),
            still_open: stays.then_some(key).into_iter().collect(),
            endings: BTreeMap::new(),
            snapshot: Arc::new(Snapshot::take(&Index::default(), &Settings::default(), Duration::ZERO)),
        };
        let text = |transition: Transition| format!("{} {}", transition.change, transition.object.kind);
        open.diff_and_record(&pass).into_iter().map(text).collect()
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

    #[test]
    fn superseded_membership_is_not_reported_as_closed() {
        let other = |ports| {
            let mut other = membership(false);
            other.group.variant = "other sources".to_owned();
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
