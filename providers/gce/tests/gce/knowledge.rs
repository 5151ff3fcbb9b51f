//! Zones that do not answer, and answers that leave an instance out.

use std::collections::BTreeSet;

use firewall_core::testing::conformance::{converge, desired, group};
use firewall_core::{Desired, FirewallProvider, GONE_AFTER, InstanceId};
use firewall_gce::{Gce, Mode, reasons};
use gce_simulator::FaultKind;

use crate::simulated::{PROJECT, Simulated, ZONE, error_response, id, machine, name};
use crate::{CLUSTER, WEB, pass, plan_steps};

/// The zone of the third instance.
const OTHER_ZONE: &str = "europe-west1-c";

/// The third instance, alone in its zone.
fn other() -> InstanceId {
    InstanceId::new(format!("{PROJECT}/{OTHER_ZONE}/{}", name(2)))
}

/// Returns a project with two instances in one zone and one in another, and a group on the first and the third.
async fn start(mode: Mode) -> (Simulated, Gce, Desired) {
    let simulated = Simulated::start(mode, 2).await;
    let mut third = machine(2, PROJECT, "main");
    OTHER_ZONE.clone_into(&mut third.zone);
    simulated.cloud().add_instance(third);
    let wanted = desired([group("web", WEB, &[&id(0), &other()])]);
    let gce = simulated.connect(CLUSTER).await;
    converge(&gce, &wanted).await;
    (simulated, gce, wanted)
}

/// Lets the next observation not read the zone of the third instance.
fn hide_zone(simulated: &Simulated, mode: Mode) {
    let zone = OTHER_ZONE.to_owned();
    match mode {
        Mode::Destination => simulated.inject("compute.instances.list", 1, FaultKind::UnknownZone(zone)),
        Mode::Tags => simulated.inject("compute.instances.aggregatedList", 1, FaultKind::Unreachable(zone)),
    }
}

/// Returns the members about which the next observation says that they are unknown.
async fn unknown(gce: &Gce, wanted: &Desired) -> BTreeSet<InstanceId> {
    gce.observe(&wanted.members()).await.expect("it can be observed").unknown_instances.into_keys().collect()
}

#[tokio::test]
async fn zone_that_does_not_answer_changes_nothing() {
    for mode in [Mode::Destination, Mode::Tags] {
        let (simulated, gce, wanted) = start(mode).await;
        let before = simulated.cloud().firewalls(PROJECT);
        // Once with what this process has seen of the zone, and once after a restart.
        for gce in [gce, simulated.connect(CLUSTER).await] {
            hide_zone(&simulated, mode);
            assert_eq!(unknown(&gce, &wanted).await, [other()].into(), "{mode:?}");
            hide_zone(&simulated, mode);
            assert_eq!(plan_steps(&gce, &wanted).await, [], "{mode:?}");
        }
        // The other zone's changes go on.
        let gce = simulated.connect(CLUSTER).await;
        hide_zone(&simulated, mode);
        let moved = desired([group("web", WEB, &[&id(1), &other()])]);
        for step in plan_steps(&gce, &moved).await {
            gce.apply(&step.action).await.expect("it can be applied");
        }
        assert_eq!(simulated.open_rules(CLUSTER, &id(1)).len(), 1, "{mode:?}");
        assert_eq!(simulated.open_rules(CLUSTER, &other()).len(), 1, "{mode:?}");
        converge(&gce, &moved).await;
        assert!(simulated.open_rules(CLUSTER, &id(0)).is_empty(), "{mode:?}");
        assert_eq!(simulated.cloud().firewalls(PROJECT).len(), before.len());
    }
}

#[tokio::test]
async fn zone_that_fails_is_unknown_and_delays_no_other() {
    let (simulated, gce, wanted) = start(Mode::Destination).await;
    // Both zones are asked at once: every attempt of one call fails.
    simulated.inject("compute.instances.list", 8, error_response(503, "backendError", "try again"));
    assert_eq!(unknown(&gce, &wanted).await, [id(0), other()].into());
    assert_eq!(plan_steps(&gce, &wanted).await, []);
}

#[tokio::test]
async fn nothing_new_opens_on_an_unknown_instance() {
    for mode in [Mode::Destination, Mode::Tags] {
        let (simulated, gce, wanted) = start(mode).await;
        let dns = group("dns", &["udp/53 0.0.0.0/0"], &[&other()]);
        let more = Desired { groups: wanted.groups.into_iter().chain([dns]).collect(), ..Desired::nothing() };
        hide_zone(&simulated, mode);
        let observed = gce.observe(&more.members()).await.expect("it can be observed");
        let compiled = gce.compile(&more, &observed.inventory);
        let found: Vec<&str> = compiled.infeasible.iter().map(|one| one.reason).collect();
        assert_eq!(found, [reasons::INSTANCE_UNKNOWN], "{mode:?}");
        hide_zone(&simulated, mode);
        assert_eq!(plan_steps(&gce, &more).await, [], "{mode:?}");
    }
}

#[tokio::test]
async fn instance_left_out_is_gone_after_a_minute() {
    for (mode, method) in
        [(Mode::Destination, "compute.instances.list"), (Mode::Tags, "compute.instances.aggregatedList")]
    {
        let (simulated, gce, wanted) = start(mode).await;
        let leave_out = |times| simulated.inject(method, times, FaultKind::LeaveOut(name(2)));
        leave_out(1);
        assert!(unknown(&gce, &wanted).await.is_empty(), "{mode:?}: it is asked for once more");
        simulated.cloud().remove_instance(PROJECT, OTHER_ZONE, &name(2));
        assert_eq!(unknown(&gce, &wanted).await, [other()].into(), "{mode:?}");
        assert_eq!(plan_steps(&gce, &wanted).await, [], "{mode:?}");
        pass(GONE_AFTER).await;
        assert!(unknown(&gce, &wanted).await.is_empty(), "{mode:?}");
        converge(&gce, &wanted).await;
        let text = format!("{:?}", simulated.owned(CLUSTER));
        assert!(!text.contains("10.0.0.12"), "{mode:?}: another instance may get the address next: {text}");
    }
}

#[tokio::test]
async fn node_in_a_zone_that_never_was_holds_a_minute() {
    let (simulated, _, _) = start(Mode::Destination).await;
    let gce = simulated.connect(CLUSTER).await;
    let typo = InstanceId::new(format!("{PROJECT}/europe-west1-typo/{}", name(9)));
    let wanted = desired([group("web", WEB, &[&id(0), &other(), &typo])]);
    converge(&gce, &wanted).await;
    let left = desired([group("web", WEB, &[&id(0), &typo])]);
    assert_eq!(plan_steps(&gce, &left).await, [], "it may be the one whose address that is");
    pass(GONE_AFTER).await;
    converge(&gce, &left).await;
    assert!(simulated.open_rules(CLUSTER, &other()).is_empty());
    let observed = gce.observe(&left.members()).await.expect("it can be observed");
    let compiled = gce.compile(&left, &observed.inventory);
    let found: Vec<&str> = compiled.infeasible.iter().map(|one| one.reason).collect();
    assert_eq!(found, [reasons::INSTANCE_NOT_FOUND]);
    assert_eq!(simulated.cloud().tags(PROJECT, ZONE, &name(0)).len(), 1);
}
