//! Announcements: what has been opened and closed, on the pods and on what asked for it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use firewall_core::{GroupKey, InstanceId, PortRange, Protocol};

use crate::k8s::objects::ObjectRef;
use crate::k8s::problem::{Problem, Verdict};
use crate::parse::ports::format_ports;
use crate::reconcile::outcome::{Membership, with_ids};
use crate::reconcile::pass::Pass;

/// What one cloud had open when it was last looked at. Losing it (a restart) loses announcements of closings only.
#[derive(Debug, Default)]
pub struct OpenMemberships(BTreeMap<(GroupKey, InstanceId), Membership>);

impl OpenMemberships {
    /// What a pass has opened and closed.
    pub fn diff_and_record(&mut self, pass: &Pass) -> Vec<Problem> {
        let opened = pass.memberships.iter().filter(|membership| membership.opened);
        let opened = opened.flat_map(|membership| events_for(Verdict::Opened, "open", membership));
        // What has failed, or was withheld, has not been closed although nobody asks for it any more.
        let settled =
            |membership: &Membership| !membership.resources.keys().any(|key| pass.differing.contains(key));
        let gone =
            self.0.iter().filter(|(key, membership)| !pass.still_open.contains(key) && settled(membership));
        let gone: Vec<(GroupKey, InstanceId)> = gone.map(|(key, _)| key.clone()).collect();
        let closed = gone.iter().filter_map(|key| self.0.remove(key));
        // Other rules may have taken over: an edit of sources can do that.
        let closed: Vec<Membership> =
            closed.filter(|closed| !is_superseded(closed, &pass.memberships)).collect();
        let closed = closed.iter().flat_map(|membership| events_for(Verdict::Closed, "closed", membership));
        let announcements = opened.chain(closed).collect();
        for membership in pass.memberships.iter().filter(|membership| membership.open.is_ok()) {
            self.0.insert((membership.group.clone(), membership.instance.clone()), membership.clone());
        }
        announcements
    }
}

/// Whether all ports of a membership are open for the same workload on the same node.
fn is_superseded(closed: &Membership, memberships: &[Membership]) -> bool {
    let same = memberships.iter().filter(|other| {
        other.open.is_ok()
            && other.instance == closed.instance
            && other.group.workload == closed.group.workload
    });
    let open: Vec<&(Protocol, PortRange)> = same.flat_map(|other| &other.group.ports).collect();
    let is_open = |(protocol, ports): &(Protocol, PortRange)| {
        open.iter().any(|(other, around)| other == protocol && around.covers(*ports))
    };
    closed.group.ports.iter().all(is_open)
}

fn events_for(verdict: Verdict, now: &str, membership: &Membership) -> Vec<Problem> {
    let Membership { group, node, port_owners, intents, resources, .. } = membership;
    let by = with_ids(resources).collect::<Vec<_>>().join(", ");
    let asking: Vec<String> = intents.iter().map(ToString::to_string).collect();
    let message = format!(
        "{} {now} on node {} ({by}), for {}",
        format_ports(&group.ports),
        node.name,
        asking.join(" and ")
    );
    let objects: BTreeSet<&ObjectRef> = port_owners.union(intents).collect();
    let told = |object: &ObjectRef| Problem {
        object: object.clone(),
        verdict,
        reason: verdict.to_string(),
        message: message.clone(),
    };
    objects.into_iter().map(told).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use firewall_core::Workload;

    use crate::desired::snapshot::Snapshot;
    use crate::intents::settings::Settings;
    use crate::k8s::index::Index;

    use super::*;

    fn object(kind: &'static str, name: &str) -> ObjectRef {
        let (namespace, name, uid) = ("shop".to_owned(), name.to_owned(), String::new());
        ObjectRef { api_version: "v1".into(), kind: kind.into(), namespace, name, uid }
    }

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
            intents: BTreeSet::from([object("HostPortExposure", "web")]),
            node: object("Node", "a"),
            port_owners: BTreeSet::from([object("Pod", "web-1")]),
            resources: BTreeMap::from([("rule".to_owned(), None)]),
            open: Ok(()),
            partly_open: true,
            opened,
        }
    }

    /// What a pass says; `standing` is whether the membership stays, `unsettled` whether its rule could not be changed.
    fn said(
        known: &mut OpenMemberships,
        memberships: Vec<Membership>,
        standing: bool,
        unsettled: bool,
    ) -> Vec<String> {
        let key = (membership(false).group, membership(false).instance);
        let pass = Pass {
            problems: BTreeSet::new(),
            next: None,
            applied: 0,
            not_applied: 0,
            memberships,
            differing: unsettled.then(|| "rule".to_owned()).into_iter().collect(),
            withheld: BTreeMap::new(),
            still_open: standing.then_some(key).into_iter().collect(),
            snapshot: Arc::new(Snapshot::take(&Index::default(), &Settings::default(), Duration::ZERO)),
        };
        let text = |notice: Problem| format!("{} {}", notice.verdict, notice.object.kind);
        known.diff_and_record(&pass).into_iter().map(text).collect()
    }

    #[test]
    fn an_opening_and_a_closing_are_told_once_on_the_pod_and_on_what_asked() {
        let mut known = OpenMemberships::default();
        let both = |reason: &str| vec![format!("{reason} HostPortExposure"), format!("{reason} Pod")];
        assert_eq!(said(&mut known, vec![membership(true)], true, false), both("Opened"));
        assert_eq!(said(&mut known, vec![membership(false)], true, false), [""; 0]);
        assert_eq!(said(&mut known, vec![], true, false), [""; 0], "it lingers");
        assert_eq!(said(&mut known, vec![], false, true), [""; 0], "it could not be closed");
        assert_eq!(said(&mut known, vec![], false, false), both("Closed"));
        assert_eq!(said(&mut known, vec![], false, false), [""; 0]);
    }

    #[test]
    fn what_other_rules_of_the_workload_have_taken_over_has_not_closed() {
        let other = |ports| {
            let mut other = membership(false);
            other.group.variant = "other sources".to_owned();
            other.group.ports = ports;
            other
        };
        for (ports, told) in [(ports(80), 0), (ports(81), 2)] {
            let mut known = OpenMemberships::default();
            said(&mut known, vec![membership(true)], true, false);
            assert_eq!(said(&mut known, vec![other(ports)], false, false).len(), told);
        }
    }

    #[test]
    fn what_was_open_before_a_restart_is_not_told_again() {
        assert_eq!(said(&mut OpenMemberships::default(), vec![membership(false)], true, false), [""; 0]);
    }
}
