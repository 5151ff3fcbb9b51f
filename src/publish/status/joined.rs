//! The joined status: one controller's own report, with those of the others of the cluster, and what they say
//! together. Every controller joins in the same way, so that none rewrites what another has written. Pure.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::k8s::host_port_exposure::{ControllerStatus, HostPortExposureStatus};
use crate::k8s::reasons::{NO_PODS, ON_OTHER_NODES};

/// Most addresses of which each change is written at once.
const FEW_ADDRESSES: usize = 10;

/// A controller's own report, and what all say together.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::publish) struct JoinedStatus {
    /// The own report
    pub(in crate::publish) own: ControllerStatus,
    /// The status without any report
    together: HostPortExposureStatus,
}

impl JoinedStatus {
    /// Joins the own report with the others of the object's status.
    pub(in crate::publish) fn new(own: ControllerStatus, current: Option<&HostPortExposureStatus>) -> Self {
        let others = current.into_iter().flat_map(|status| &status.controllers);
        let mut reports: Vec<&ControllerStatus> = others.filter(|other| other.name != own.name).collect();
        reports.push(&own);
        reports.sort_by(|one, other| one.name.cmp(&other.name));
        let together = HostPortExposureStatus {
            conditions: ["Accepted", "Programmed"].iter().filter_map(|kind| join(kind, &reports)).collect(),
            ports: join_ports(&reports),
            node_count: reports.iter().map(|report| report.node_count).fold(0, i32::saturating_add),
            controllers: Vec::new(),
        };
        Self { own, together }
    }

    /// Returns the fields to apply: those of others stay as they are.
    pub(in crate::publish) fn applied(&self) -> HostPortExposureStatus {
        HostPortExposureStatus { controllers: vec![self.own.clone()], ..self.together.clone() }
    }

    /// Returns true if the object has it already.
    pub(in crate::publish) fn is_written(&self, current: Option<&HostPortExposureStatus>) -> bool {
        self.find_own(current).is_some_and(|before| *before == self.own)
    }

    /// Returns true if it matters little when it is written: nothing differs but a long list of own addresses,
    /// as when one of many pods becomes ready.
    pub(in crate::publish) fn may_wait(&self, current: Option<&HostPortExposureStatus>) -> bool {
        self.find_own(current).is_some_and(|before| {
            let rest =
                |report: &ControllerStatus| ControllerStatus { addresses: Vec::new(), ..report.clone() };
            before.addresses.len().min(self.own.addresses.len()) > FEW_ADDRESSES
                && rest(before) == rest(&self.own)
        })
    }

    /// Returns the report that the object has of this controller; none if what all say together is not written.
    fn find_own<'a>(&self, current: Option<&'a HostPortExposureStatus>) -> Option<&'a ControllerStatus> {
        let HostPortExposureStatus { conditions, ports, node_count, controllers } = current?;
        let is_joined = (conditions, ports, node_count)
            == (&self.together.conditions, &self.together.ports, &self.together.node_count);
        controllers.iter().find(|report| is_joined && report.name == self.own.name)
    }
}

/// Returns the condition that is furthest from being met, as observed for the oldest generation, of the
/// controllers that serve a node of the intent's pods; of all, if none does.
fn join(kind: &str, reports: &[&ControllerStatus]) -> Option<Condition> {
    let condition = |report: &ControllerStatus, kind: &str| {
        report.conditions.iter().find(|condition| condition.type_ == kind).cloned()
    };
    let serves = |report: &&&ControllerStatus| {
        condition(report, "Programmed").is_some_and(|condition| !is_elsewhere(&condition.reason))
    };
    let all = reports.iter().filter_map(|report| condition(report, kind));
    let serving = reports.iter().filter(serves).filter_map(|report| condition(report, kind));
    let conditions: Vec<Condition> =
        if reports.iter().any(|report| serves(&report)) { serving.collect() } else { all.collect() };
    let oldest = conditions.iter().filter_map(|condition| condition.observed_generation).min();
    // Where none serves a node, one that knows of pods says more.
    let rank = |condition: &Condition| {
        let status = match condition.status.as_str() {
            "False" => 0,
            "Unknown" => 1,
            _ => 2,
        };
        (status, condition.reason == NO_PODS)
    };
    let worst = conditions.into_iter().min_by_key(rank)?;
    Some(Condition { observed_generation: oldest, ..worst })
}

/// Returns true for the reason of a controller that serves no node of the intent's pods.
fn is_elsewhere(reason: &str) -> bool {
    [NO_PODS, ON_OTHER_NODES].contains(&reason)
}

fn join_ports(reports: &[&ControllerStatus]) -> String {
    let ports: BTreeSet<&str> =
        reports.iter().map(|report| report.ports.as_str()).filter(|ports| !ports.is_empty()).collect();
    ports.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::k8s::host_port_exposure::OpenAddress;

    fn report(name: &str, programmed: (&str, &str), nodes: i32) -> ControllerStatus {
        let (status, reason) = programmed;
        let condition = |kind: &str, status: &str, reason: &str| {
            json!({
                "type": kind, "status": status, "reason": reason, "message": name, "observedGeneration": nodes,
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            })
        };
        let conditions =
            json!([condition("Accepted", "True", "Accepted"), condition("Programmed", status, reason)]);
        let report = json!({
            "name": name, "conditions": conditions, "nodeCount": nodes,
            "ports": if nodes > 0 { "tcp/80" } else { "" },
        });
        serde_json::from_value(report).expect("a report")
    }

    /// Joins the first report with the others, as the first's controller does.
    fn joined(own: &ControllerStatus, others: &[&ControllerStatus]) -> JoinedStatus {
        let controllers = others.iter().copied().cloned().collect();
        let current = HostPortExposureStatus { controllers, ..HostPortExposureStatus::default() };
        JoinedStatus::new(own.clone(), Some(&current))
    }

    #[test]
    fn all_controllers_join_in_the_same_way() {
        const TRUE: (&str, &str) = ("True", "Programmed");
        let table = [
            (TRUE, TRUE, "True Programmed"),
            (TRUE, ("False", "QuotaReached"), "False QuotaReached"),
            (("Unknown", "NotConfirmed"), TRUE, "Unknown NotConfirmed"),
            (TRUE, ("False", "NoPods"), "True Programmed"),
            (("False", "OnOtherNodes"), TRUE, "True Programmed"),
            (("False", "NoPods"), ("False", "NoPods"), "False NoPods"),
            (("False", "NoPods"), ("False", "OnOtherNodes"), "False OnOtherNodes"),
        ];
        for (one, two, expected) in table {
            let (one, two) = (report("a", one, 2), report("b", two, 1));
            let (first, second) = (joined(&one, &[&two]), joined(&two, &[&one]));
            assert_eq!(first.together, second.together);
            let condition = &first.together.conditions[1];
            assert_eq!(format!("{} {}", condition.status, condition.reason), expected);
            assert_eq!((first.together.ports.as_str(), first.together.node_count), ("tcp/80", 3));
            assert_eq!(first.applied().controllers, [one], "the other's report is left to it");
        }
    }

    #[test]
    fn only_a_difference_is_written() {
        let (one, two) = (report("a", ("True", "Programmed"), 2), report("b", ("True", "Programmed"), 1));
        let status = joined(&one, &[&two]);
        let written =
            HostPortExposureStatus { controllers: vec![two.clone(), one.clone()], ..status.applied() };
        assert!(status.is_written(Some(&written)) && joined(&two, &[&one]).is_written(Some(&written)));
        assert!(!joined(&report("a", ("True", "Programmed"), 3), &[&two]).is_written(Some(&written)));
        let outdated = HostPortExposureStatus { node_count: 2, ..written };
        assert!(!status.is_written(Some(&outdated)) && !status.is_written(None));
    }

    #[test]
    fn only_a_long_list_of_own_addresses_waits() {
        let two = report("b", ("True", "Programmed"), 1);
        let with_addresses = |count: usize| {
            let addresses = vec![OpenAddress::default(); count];
            ControllerStatus { addresses, ..report("a", ("True", "Programmed"), 20) }
        };
        let before = joined(&with_addresses(20), &[&two]);
        let written =
            HostPortExposureStatus { controllers: vec![before.own.clone(), two.clone()], ..before.applied() };
        let may_wait = |count: usize, current: &HostPortExposureStatus| {
            JoinedStatus::new(with_addresses(count), Some(current)).may_wait(Some(current))
        };
        assert!(may_wait(11, &written));
        assert!(!may_wait(10, &written), "few addresses");
        let failed = report("b", ("False", "QuotaReached"), 1);
        let another = HostPortExposureStatus { controllers: vec![before.own, failed], ..written.clone() };
        assert!(!may_wait(11, &another), "what all say together differs");
        let alone = HostPortExposureStatus { controllers: vec![two], ..written };
        assert!(!may_wait(11, &alone), "it has not reported yet");
    }
}
