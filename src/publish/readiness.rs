//! The readiness gate: a pod with it is ready only once the cloud has confirmed its ports open. Pure.

use std::collections::BTreeMap;

use super::outcomes::Outcomes;
use super::touched::Concerned;
use crate::k8s::index::Index;
use crate::k8s::objects::reference::pod_reference;
use crate::k8s::objects::{GATE, ObjectRef, Pod, has_readiness_gate};
use crate::k8s::reasons::{NOT_EXPOSED, OPEN};
use crate::reconcile::outcome::Membership;

/// The new condition of a pod's readiness gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GateUpdate {
    /// The namespace of the pod
    pub(super) namespace: String,
    /// The name of the pod
    pub(super) name: String,
    /// The UID of the pod: another of the same name may run elsewhere
    pub(super) uid: String,
    /// True if everything that exposes the pod's ports is open
    pub(super) is_open: bool,
    /// True if the condition's status changes, and not only its reason
    pub(super) status_changed: bool,
    /// One word in `CamelCase`
    pub(super) reason: String,
    /// The cause if it is not open
    pub(super) message: String,
}

/// Plans the updates of the gates that are outdated, of all pods or of those that are concerned. Pods without the
/// gate are never touched.
pub(super) fn plan_gate_updates(
    index: &Index,
    outcomes: &Outcomes,
    only: Option<&Concerned>,
) -> Vec<GateUpdate> {
    let mut by_pod: BTreeMap<&ObjectRef, Vec<&Membership>> = BTreeMap::new();
    for membership in &outcomes.memberships {
        for port_owner in &membership.port_owners {
            by_pod.entry(port_owner).or_default().push(membership);
        }
    }
    let update = |pod: &Pod| {
        let reference = pod_reference(pod);
        let own = by_pod.get(&reference).map_or(&[][..], Vec::as_slice);
        // A pod created after the snapshot is left alone until the next one; so is one without memberships
        // while those of a cloud may be missing.
        let is_covered = !outcomes.is_incomplete
            && outcomes.pods_with_gate.contains(&reference)
            && !runs_elsewhere(index, outcomes, pod);
        if own.is_empty() && !is_covered { None } else { update_gate(pod, reference, own) }
    };
    let has_gate = |pod: &&Pod| has_readiness_gate(pod);
    match only {
        None => index.pods().filter(has_gate).filter_map(update).collect(),
        Some(only) => {
            let concerned = only.pods().filter_map(|(namespace, name)| index.pod(&namespace, &name));
            concerned.filter(has_gate).filter_map(update).collect()
        }
    }
}

/// Returns true if the pod runs on a machine that another controller can serve, which writes its gate then.
fn runs_elsewhere(index: &Index, outcomes: &Outcomes, pod: &Pod) -> bool {
    let node = index.node(pod.spec.node_name.as_deref().unwrap_or_default());
    node.and_then(|node| node.spec.provider_id.as_deref())
        .is_some_and(|id| outcomes.machines.are_anothers(id))
}

/// Returns the update of one pod's gate; none if it is up to date.
fn update_gate(pod: &Pod, reference: ObjectRef, own: &[&Membership]) -> Option<GateUpdate> {
    let closed = own.iter().find_map(|membership| membership.open.as_ref().err());
    let (is_open, reason, message) = match closed {
        Some((reason, message)) => (false, reason.clone(), message.clone()),
        None if own.is_empty() => {
            let message =
                "nothing exposes any of its ports on an active cloud; its Events may give the reason";
            (false, NOT_EXPOSED.to_owned(), message.to_owned())
        }
        None => (true, OPEN.to_owned(), String::new()),
    };
    let status = if is_open { "True" } else { "False" };
    let current = pod.status.conditions.iter().find(|condition| condition.kind == GATE);
    let is_same = current.is_some_and(|condition| condition.status == status && condition.reason == reason);
    // A change of sources that has failed halfway is no reason to take the pod away from all who reach it.
    let stays_open = current.is_some_and(|condition| condition.status == "True")
        && !own.is_empty()
        && own.iter().all(|membership| membership.partly_open || membership.open.is_ok());
    let ObjectRef { namespace, name, uid, .. } = reference;
    let status_changed = current.is_none_or(|condition| condition.status != status);
    (!is_same && !stays_open).then_some(GateUpdate {
        namespace,
        name,
        uid,
        is_open,
        status_changed,
        reason,
        message,
    })
}

#[cfg(test)]
mod tests {
    use firewall_core::{GroupKey, InstanceId, Workload};
    use serde_json::{Value, json};

    use super::super::served_machines::ServedMachines;
    use super::*;
    use crate::desired::snapshot::Snapshot;
    use crate::intents::settings::Settings;
    use crate::k8s::index::{Object, Watch};
    use crate::k8s::objects::builders::{from_json, object_ref};
    use crate::k8s::objects::object_set::ObjectSet;
    use rpds::RedBlackTreeSetSync;
    use std::sync::Arc;
    use std::time::Duration;

    fn pods_with_gate(index: &Index) -> RedBlackTreeSetSync<ObjectRef> {
        Snapshot::take(index, &Settings::default(), Duration::ZERO).demand.pods_with_gate
    }

    fn index(gates: &Value, conditions: &Value) -> Index {
        let pod = json!({
            "metadata": { "name": "web", "namespace": "shop", "uid": "1" },
            "spec": { "nodeName": "a", "containers": [{ "name": "main" }], "readinessGates": gates },
            "status": { "conditions": conditions },
        });
        let mut index = Index::default();
        index.reset(Watch::Pods, vec![Object::Pod(from_json(pod))]);
        index
    }

    fn membership(uid: &str, open: Result<(), (String, String)>) -> Membership {
        Membership {
            group: GroupKey {
                workload: Workload { kind: "DaemonSet".into(), namespace: "shop".into(), name: "web".into() }
                    .into(),
                ports: Arc::default(),
                variant: "".into(),
            },
            instance: InstanceId::new("i-a"),
            intents: ObjectSet::default(),
            opened: false,
            partly_open: false,
            node: object_ref("Node", "", "a"),
            port_owners: [ObjectRef { uid: uid.to_owned(), ..object_ref("Pod", "shop", "web") }].into(),
            resources: [].into(),
            open,
        }
    }

    fn closed() -> Result<(), (String, String)> {
        Err(("QuotaReached".to_owned(), "it is full".to_owned()))
    }

    #[test]
    fn gate_opens_once_all_memberships_are_open() {
        let declared = json!([{ "conditionType": GATE }]);
        let cases = [
            (vec![membership("1", Ok(()))], Some((true, "Open"))),
            (vec![membership("1", Ok(())), membership("1", closed())], Some((false, "QuotaReached"))),
            (vec![], Some((false, "NotExposed"))),
            (vec![membership("another pod of that name", Ok(()))], Some((false, "NotExposed"))),
        ];
        for (memberships, expected) in cases {
            let index = index(&declared, &json!([]));
            let memberships = memberships.into_iter().map(Arc::new).collect();
            let outcomes =
                Outcomes { memberships, pods_with_gate: pods_with_gate(&index), ..Outcomes::default() };
            let found = plan_gate_updates(&index, &outcomes, None);
            let found = found.first().map(|gate| (gate.is_open, gate.reason.as_str()));
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn open_gate_stays_open_until_a_port_is_closed_to_all() {
        let declared = json!([{ "conditionType": GATE }]);
        let gate = |was: &str, memberships: Vec<Membership>, is_incomplete: bool| {
            let conditions = json!([{ "type": GATE, "status": was }]);
            let index = index(&declared, &conditions);
            let pods_with_gate = pods_with_gate(&index);
            let memberships = memberships.into_iter().map(Arc::new).collect();
            let outcomes = Outcomes { memberships, pods_with_gate, is_incomplete, ..Outcomes::default() };
            plan_gate_updates(&index, &outcomes, None).first().map(|gate| gate.is_open)
        };
        let partly = || Membership { partly_open: true, ..membership("1", closed()) };
        assert_eq!(gate("True", vec![membership("1", Ok(())), partly()], false), None);
        assert_eq!(gate("True", vec![partly(), membership("1", closed())], false), Some(false));
        assert_eq!(gate("True", vec![], false), Some(false));
        assert_eq!(gate("True", vec![], true), None, "a cloud that cannot be observed may have it");
        let unopened = plan_gate_updates(
            &index(&declared, &json!([])),
            &Outcomes { memberships: vec![Arc::new(partly())], ..Outcomes::default() },
            None,
        );
        assert!(!unopened[0].is_open, "partly open is not enough to open the gate");
    }

    #[test]
    fn up_to_date_gates_and_other_pods_are_left_alone() {
        let open = Outcomes { memberships: vec![Arc::new(membership("1", Ok(())))], ..Outcomes::default() };
        let declared = json!([{ "conditionType": GATE }]);
        let condition =
            |status: &str, reason: &str| json!([{ "type": GATE, "status": status, "reason": reason }]);
        assert_eq!(plan_gate_updates(&index(&declared, &condition("True", "Open")), &open, None), []);
        assert_eq!(
            plan_gate_updates(&index(&declared, &condition("False", "Pending")), &open, None).len(),
            1
        );
        let failed =
            Outcomes { memberships: vec![Arc::new(membership("1", closed()))], ..Outcomes::default() };
        assert_eq!(
            plan_gate_updates(&index(&declared, &condition("False", "QuotaReached")), &failed, None),
            []
        );
        assert_eq!(
            plan_gate_updates(&index(&declared, &condition("False", "Pending")), &failed, None).len(),
            1,
            "another reason"
        );
        assert_eq!(
            plan_gate_updates(&index(&declared, &json!([])), &Outcomes::default(), None),
            [],
            "it was created after the snapshot"
        );
        assert_eq!(
            plan_gate_updates(
                &index(&json!([{ "conditionType": "example.com/other" }]), &json!([])),
                &open,
                None
            ),
            []
        );
        assert_eq!(plan_gate_updates(&index(&json!(null), &json!([])), &open, None), []);
    }

    #[test]
    fn gate_on_another_controllers_machine_is_left_alone() {
        let declared = json!([{ "conditionType": GATE }]);
        for (provider_id, expected) in [("gce://own/z/a", 1), ("gce://another/z/a", 0), ("k3s://a", 1)] {
            let mut index = index(&declared, &json!([]));
            let node = json!({ "metadata": { "name": "a" }, "spec": { "providerID": provider_id } });
            index.reset(Watch::Nodes, vec![Object::Node(from_json(node))]);
            let outcomes = Outcomes {
                machines: ServedMachines::new(vec!["gce://own/".to_owned()]),
                pods_with_gate: pods_with_gate(&index),
                ..Outcomes::default()
            };
            assert_eq!(plan_gate_updates(&index, &outcomes, None).len(), expected, "{provider_id}");
        }
    }
}
