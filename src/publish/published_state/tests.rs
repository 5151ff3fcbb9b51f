//! Tests of the published state.

use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::k8s::objects::builders::object_ref;
use crate::publish::status::tests::{index, outcomes, time};

fn exposure() -> ObjectRef {
    object_ref("HostPortExposure", "shop", "web")
}

/// Returns the result of a pass whose snapshot was taken at this second, of this generation.
fn result(second: u64, generation: i64) -> CloudResult {
    let demand = ClusterDemand {
        taken_at: Duration::from_secs(second),
        generations: [(exposure(), generation)].into_iter().collect(),
        ..ClusterDemand::default()
    };
    CloudResult { problems: BTreeSet::new(), scope: None, memberships: Vec::new(), demand }
}

fn generation(state: &PublishedState) -> Option<i64> {
    state.assemble_outcomes(&PortOwners::default(), None).generations.get(&exposure()).copied()
}

#[test]
fn nothing_is_published_before_every_cloud_has_been_tried() {
    let mut state = PublishedState::new("test", 2, ServedMachines::default());
    state.mark_unobserved("gce");
    assert!(!state.can_publish(), "no cloud has a result");
    state.record("aws", result(0, 1));
    assert!(state.can_publish() && state.assemble_outcomes(&PortOwners::default(), None).is_incomplete);
    state.record("gce", result(0, 1));
    assert!(state.can_publish() && !state.assemble_outcomes(&PortOwners::default(), None).is_incomplete);
    state.mark_unobserved("aws");
    assert!(state.can_publish() && state.assemble_outcomes(&PortOwners::default(), None).is_incomplete);
}

#[test]
fn covered_generation_is_the_oldest_of_observed_clouds() {
    let mut state = PublishedState::new("test", 2, ServedMachines::default());
    state.record("aws", result(0, 1));
    state.record("gce", result(1, 2));
    assert_eq!(generation(&state), Some(1));
    state.mark_unobserved("aws");
    assert_eq!(generation(&state), Some(2));
}

/// A pod's ownerReferences are free text: the intent counts, not the workload that a pod says it is of.
#[test]
fn ports_on_anothers_machine_are_left_to_it() {
    let programmed = |provider_ids: [&str; 2], intent: ObjectRef| {
        let planned = outcomes(&["a", "bb"], &[]);
        let mut exposures = planned.exposures.iter().cloned().collect::<Vec<_>>();
        for (exposure, id) in exposures.iter_mut().zip(provider_ids) {
            id.clone_into(&mut exposure.provider_id);
            exposure.intent = intent.clone();
        }
        let index = index(&["a", "bb"], &["a", "bb"], &Value::Null);
        let web = index.host_port_exposures().next().expect("the exposure").reference();
        let mut result = CloudResult { memberships: planned.memberships, ..result(0, 3) };
        result.demand.exposures = exposures.into_iter().collect();
        result.demand.generations = [(web, 3)].into_iter().collect();
        let machines = ServedMachines::new(vec!["gce://own/".to_owned()]);
        let mut state = PublishedState::new("test", 1, machines);
        state.record("gce", result);
        let (_, status) = state
            .plan_statuses(&index, &state.assemble_outcomes(&PortOwners::default(), None), None, &time(1))
            .remove(0);
        (status.own.conditions[1].reason.clone(), status.own.addresses.len())
    };
    let (own, anothers) = ("gce://own/z/n", "gce://another/z/n");
    assert_eq!(programmed([own, own], exposure()), ("Programmed".to_owned(), 2));
    assert_eq!(programmed([own, anothers], exposure()), ("Programmed".to_owned(), 1));
    assert_eq!(programmed([anothers, anothers], exposure()), ("OnOtherNodes".to_owned(), 0));
    let pod = object_ref("Pod", "shop", "a");
    assert_eq!(programmed([anothers, anothers], pod), ("NoPods".to_owned(), 0));
}

#[test]
fn only_readiness_of_many_pods_waits() {
    let names: Vec<String> = (0..20).map(|number| format!("n{number:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut state = PublishedState::new("test", 1, ServedMachines::default());
    // The index has the status that was written before.
    let mut written = Value::Null;
    let mut write = |open: &[&str], ready: &[&str], second: i64| {
        let index = index(&names, ready, &written);
        let planned = state.plan_statuses(&index, &outcomes(open, &[]), None, &time(second));
        if let Some((exposure, status)) = planned.first() {
            state.record_status_at(exposure.clone(), status.own.clone(), time(second));
            written = serde_json::to_value(status.applied()).expect("JSON");
        }
        (planned.len(), state.is_waiting())
    };
    assert_eq!(write(&names, &names, 0), (1, false));
    assert_eq!(write(&names, &names, 1), (0, false), "nothing differs");
    assert_eq!(write(&names, &names[1..], 2), (0, true));
    assert_eq!(write(&names[1..], &names[1..], 3), (1, false), "a node has closed");
    assert_eq!(write(&names[1..], &names[2..], 12), (0, true));
    assert_eq!(write(&names[1..], &names[2..], 13), (1, false));
    assert_eq!(write(&names[1..], &names[..8], 14), (1, false), "few addresses");
}

#[test]
fn report_that_is_not_seen_yet_is_replaced_too() {
    let mut state = PublishedState::new("test", 1, ServedMachines::default());
    let mut write = |ready: &[&str], seen: &Value| {
        let index = index(&["a", "bb"], ready, seen);
        let planned = state.plan_statuses(&index, &outcomes(&["a", "bb"], &[]), None, &time(0));
        let (exposure, status) = planned.into_iter().next()?;
        let applied = serde_json::to_value(status.applied()).expect("JSON");
        state.record_status_at(exposure, status.own, time(0));
        Some(applied)
    };
    let first = write(&["a"], &Value::Null).expect("a status");
    assert!(write(&["a", "bb"], &first).is_some(), "an address more");
    let again = write(&["a"], &first);
    assert!(again.is_some(), "it is as it was, but what is written is not");
    assert!(write(&["a"], &first).is_none());
}

#[test]
fn older_demand_does_not_replace_a_newer_one() {
    let mut state = PublishedState::new("test", 2, ServedMachines::default());
    state.record("aws", result(5, 2));
    state.record("gce", result(1, 1));
    assert_eq!(state.demand.taken_at, Duration::from_secs(5));
    assert_eq!(generation(&state), Some(1), "one cloud was planned for the older demand");
}
