//! The readiness gate: a pod that has_readiness_gate it is ready only once the cloud has confirmed its ports open. Pure.

use std::collections::BTreeMap;

use super::outcomes::Outcomes;
use crate::k8s::index::Index;
use crate::k8s::objects::reference::pod_reference;
use crate::k8s::objects::{GATE, ObjectRef, Pod, has_readiness_gate};
use crate::reconcile::outcome::Membership;

/// What the gate of a pod should say, and does not yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateUpdate {
    /// The namespace of the pod
    pub namespace: String,
    /// The name of the pod
    pub name: String,
    /// The UID of the pod: another of the same name may be elsewhere
    pub uid: String,
    /// Whether everything that is asked for is open
    pub open: bool,
    /// Whether that is new, and not only the reason
    pub status_changed: bool,
    /// One word in `CamelCase`
    pub reason: String,
    /// What keeps it closed
    pub message: String,
}

/// The gates that have to change. Pods that declare none are never touched.
#[must_use]
pub fn gates(index: &Index, outcomes: &Outcomes) -> Vec<GateUpdate> {
    let mut by_pod: BTreeMap<&ObjectRef, Vec<&Membership>> = BTreeMap::new();
    for membership in &outcomes.memberships {
        for port_owner in &membership.port_owners {
            by_pod.entry(port_owner).or_default().push(membership);
        }
    }
    let declaring = index.pods().filter(|pod| has_readiness_gate(pod));
    let gate = |pod| {
        let reference = pod_reference(pod);
        let own = by_pod.get(&reference).map_or(&[][..], Vec::as_slice);
        // Whether anything is asked for is not known of a pod that was not there when it was looked, nor while there is a
        // cloud that cannot be read.
        let known = !outcomes.unknown && outcomes.pods_with_gate.contains(&reference);
        if own.is_empty() && !known { None } else { changed(pod, reference, own) }
    };
    declaring.filter_map(gate).collect()
}

fn changed(pod: &Pod, reference: ObjectRef, own: &[&Membership]) -> Option<GateUpdate> {
    let closed = own.iter().find_map(|membership| membership.open.as_ref().err());
    let (open, reason, message) = match closed {
        Some((reason, message)) => (false, reason.clone(), message.clone()),
        None if own.is_empty() => {
            let message =
                "nothing that an active cloud knows asks for any of its ports; its Events may say why";
            (false, "NotExposed".to_owned(), message.to_owned())
        }
        None => (true, "Open".to_owned(), String::new()),
    };
    let wanted = if open { "True" } else { "False" };
    let now = pod.status.conditions.iter().find(|condition| condition.kind == GATE);
    let same = now.is_some_and(|condition| condition.status == wanted && condition.reason == reason);
    // A change of sources that has failed halfway is no reason to take the pod away from all who reach it.
    let stays = now.is_some_and(|condition| condition.status == "True")
        && !own.is_empty()
        && own.iter().all(|membership| membership.partly_open || membership.open.is_ok());
    let ObjectRef { namespace, name, uid, .. } = reference;
    let status_changed = now.is_none_or(|condition| condition.status != wanted);
    (!same && !stays).then_some(GateUpdate { namespace, name, uid, open, status_changed, reason, message })
}

#[cfg(test)]
mod tests {
    use firewall_core::{GroupKey, InstanceId, Workload};
    use serde_json::{Value, json};

    use super::*;
    use crate::desired::snapshot::pods_with_gate;
    use crate::k8s::index::{Object, Watch};
    use std::collections::BTreeSet;

    fn index(gates: &Value, conditions: &Value) -> Index {
        let pod = json!({
            "metadata": { "name": "web", "namespace": "shop", "uid": "1" },
            "spec": { "containers": [{ "name": "main" }], "readinessGates": gates },
            "status": { "conditions": conditions },
        });
        let mut index = Index::default();
        index.reset(Watch::Pods, vec![Object::Pod(serde_json::from_value(pod).expect("a pod"))]);
        index
    }

    fn membership(uid: &str, open: Result<(), (String, String)>) -> Membership {
        let object = |kind: &'static str, name: &str, namespace: &str, uid: &str| ObjectRef {
            api_version: "v1".into(),
            kind: kind.into(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
        };
        Membership {
            group: GroupKey {
                workload: Workload { kind: "DaemonSet".into(), namespace: "shop".into(), name: "web".into() },
                ports: BTreeSet::new(),
                variant: String::new(),
            },
            instance: InstanceId::new("i-a"),
            intents: BTreeSet::new(),
            opened: false,
            partly_open: false,
            node: object("Node", "a", "", ""),
            port_owners: BTreeSet::from([object("Pod", "web", "shop", uid)]),
            resources: BTreeMap::new(),
            open,
        }
    }

    fn closed() -> Result<(), (String, String)> {
        Err(("QuotaReached".to_owned(), "it is full".to_owned()))
    }

    #[test]
    fn a_gate_opens_when_everything_that_is_asked_for_is_open() {
        let declared = json!([{ "conditionType": GATE }]);
        let cases = [
            (vec![membership("1", Ok(()))], Some((true, "Open"))),
            (vec![membership("1", Ok(())), membership("1", closed())], Some((false, "QuotaReached"))),
            (vec![], Some((false, "NotExposed"))),
            (vec![membership("another pod of that name", Ok(()))], Some((false, "NotExposed"))),
        ];
        for (memberships, expected) in cases {
            let index = index(&declared, &json!([]));
            let outcomes = Outcomes {
                memberships,
                pods_with_gate: pods_with_gate(&index).into(),
                ..Outcomes::default()
            };
            let found = gates(&index, &outcomes);
            let found = found.first().map(|gate| (gate.open, gate.reason.as_str()));
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_gate_that_is_open_stays_so_until_a_port_is_found_closed_to_all() {
        let declared = json!([{ "conditionType": GATE }]);
        let gate = |was: &str, memberships: Vec<Membership>, unknown: bool| {
            let conditions = json!([{ "type": GATE, "status": was }]);
            let index = index(&declared, &conditions);
            let pods_with_gate = pods_with_gate(&index).into();
            let outcomes = Outcomes { memberships, pods_with_gate, unknown, ..Outcomes::default() };
            gates(&index, &outcomes).first().map(|gate| gate.open)
        };
        let partly = || Membership { partly_open: true, ..membership("1", closed()) };
        assert_eq!(gate("True", vec![membership("1", Ok(())), partly()], false), None);
        assert_eq!(gate("True", vec![partly(), membership("1", closed())], false), Some(false));
        assert_eq!(gate("True", vec![], false), Some(false));
        assert_eq!(gate("True", vec![], true), None, "a cloud that cannot be read may have it");
        let unopened = gates(
            &index(&declared, &json!([])),
            &Outcomes { memberships: vec![partly()], ..Outcomes::default() },
        );
        assert!(!unopened[0].open, "part of what is asked for is not enough to begin with");
    }

    #[test]
    fn what_says_so_already_and_what_declares_none_is_left_alone() {
        let open = Outcomes { memberships: vec![membership("1", Ok(()))], ..Outcomes::default() };
        let declared = json!([{ "conditionType": GATE }]);
        let says = |status: &str, reason: &str| json!([{ "type": GATE, "status": status, "reason": reason }]);
        assert_eq!(gates(&index(&declared, &says("True", "Open")), &open), []);
        assert_eq!(gates(&index(&declared, &says("False", "Pending")), &open).len(), 1);
        let failed = Outcomes { memberships: vec![membership("1", closed())], ..Outcomes::default() };
        assert_eq!(gates(&index(&declared, &says("False", "QuotaReached")), &failed), []);
        assert_eq!(gates(&index(&declared, &says("False", "Pending")), &failed).len(), 1, "another reason");
        assert_eq!(gates(&index(&declared, &json!([])), &Outcomes::default()), [], "it was not there yet");
        assert_eq!(gates(&index(&json!([{ "conditionType": "example.com/other" }]), &json!([])), &open), []);
        assert_eq!(gates(&index(&json!(null), &json!([])), &open), []);
    }
}
