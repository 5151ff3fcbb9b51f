//! Creating, changing and deleting rules, and their ownership.

use std::sync::Arc;
use std::time::{Duration, Instant};

use firewall_core::testing::conformance::{
    converge, desired, group, observe_and_plan, observe_and_plan_with,
};
use firewall_core::{Action, Compiled, Desired, ErrorKind, Fence, FirewallProvider, Policy};
use firewall_gce::{Gce, GceKey, GceResource, Mode, reasons};
use gce_simulator::FaultKind;
use serde_json::json;

use crate::simulated::{PROJECT, Simulated, error_response, id, throttled};
use crate::{CLUSTER, WEB, apply_once, mutating_calls, plan_steps, web};

/// Observes the cloud, and compiles the groups with what was found.
async fn observe_and_compile(gce: &Gce, wanted: &Desired) -> Compiled<GceResource> {
    let observed = gce.observe(&wanted.members()).await.expect("it can be observed");
    gce.compile(wanted, &observed.inventory)
}

fn infeasible_reasons(compiled: &Compiled<GceResource>) -> Vec<&str> {
    compiled.infeasible.iter().map(|one| one.reason).collect()
}

#[tokio::test]
async fn node_leaving_two_thousand_takes_one_patch_of_eight_rules() {
    let simulated = Simulated::start(Mode::Destination, 2000).await;
    let gce = simulated.connect(CLUSTER).await;
    let members: Vec<u32> = (0..2000).collect();
    converge(&gce, &web(&members)).await;
    assert_eq!(mutating_calls(&simulated), ["compute.firewalls.insert"; 8]);

    simulated.cloud().clear_requests();
    converge(&gce, &web(&members[1..])).await;
    assert_eq!(mutating_calls(&simulated), ["compute.firewalls.patch"]);
    simulated.cloud().clear_requests();
    converge(&gce, &web(&members[301..])).await;
    let calls = mutating_calls(&simulated);
    assert!(calls.len() <= 7, "one call for each of the rules that 300 leaving nodes are in: {calls:?}");
    assert_eq!(simulated.owned(CLUSTER).len(), 7, "1,699 addresses");
}

#[tokio::test]
async fn moved_group_with_new_sources_takes_one_patch() {
    let simulated = Simulated::start(Mode::Destination, 2).await;
    let gce = simulated.connect(CLUSTER).await;
    converge(&gce, &web(&[0])).await;
    simulated.cloud().clear_requests();
    converge(&gce, &desired([group("web", &["tcp/80 192.0.2.0/24"], &[&id(1)])])).await;
    assert_eq!(mutating_calls(&simulated), ["compute.firewalls.patch"]);
    let patch = simulated.cloud().requests().into_iter().find(|request| request.mutating).expect("a patch");
    let fields: Vec<String> =
        patch.body.expect("a body").as_object().expect("fields").keys().cloned().collect();
    assert_eq!(fields, ["allowed", "destinationRanges", "name", "sourceRanges"]);
}

#[tokio::test]
async fn new_node_opens_beside_a_full_rule_that_may_not_close() {
    let mut simulated = Simulated::start(Mode::Destination, 4).await;
    simulated.config.ranges_per_rule = 2;
    let gce = simulated.connect(CLUSTER).await;
    converge(&gce, &web(&[0, 1])).await;
    for wanted in [web(&[1, 2]), web(&[1, 2, 3])] {
        let (plan, _) = observe_and_plan_with(&gce, &wanted, Policy::OpenOnly).await.expect("observed");
        assert_eq!(plan.steps.len(), 1, "{plan:?}");
        gce.apply(&plan.steps[0].action).await.expect("it is applied");
        let (again, _) = observe_and_plan_with(&gce, &wanted, Policy::OpenOnly).await.expect("observed");
        assert_eq!(again.steps, []);
    }
    for number in 0..4 {
        assert_eq!(simulated.open_rules(CLUSTER, &id(number)).len(), 1, "node {number}");
    }
    converge(&gce, &web(&[1, 2])).await;
    assert_eq!(simulated.owned(CLUSTER).len(), 1);
}

#[tokio::test]
async fn crash_after_an_accepted_insert_creates_no_second_rule() {
    let simulated = Simulated::start(Mode::Destination, 1).await;
    simulated.cloud().configure(|settings| settings.operation_delay = Duration::from_millis(1500));
    let first = simulated.connect(CLUSTER).await;
    let wanted = web(&[0]);
    let steps = plan_steps(&first, &wanted).await;
    let crashed = tokio::time::timeout(Duration::from_millis(300), first.apply(&steps[0].action)).await;
    assert!(crashed.is_err(), "it was still waiting for the operation");
    assert_eq!(mutating_calls(&simulated), ["compute.firewalls.insert"], "the call had been accepted");

    let next = simulated.connect(CLUSTER).await;
    let errors = apply_once(&next, &wanted).await;
    assert!(
        matches!(&errors[..], [error] if error.kind == ErrorKind::Unavailable),
        "the rule is still being created: {errors:?}"
    );
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(apply_once(&next, &wanted).await, []);
    assert_eq!(simulated.owned(CLUSTER).len(), 1);
    assert_eq!(simulated.open_rules(CLUSTER, &id(0)).len(), 1);
}

#[tokio::test]
async fn lost_response_is_retried_with_the_same_request_id() {
    let simulated = Simulated::start(Mode::Destination, 1).await;
    simulated.inject("compute.firewalls.insert", 1, FaultKind::DropResponse);
    converge(&simulated.connect(CLUSTER).await, &web(&[0])).await;
    let inserts: Vec<_> =
        simulated.cloud().requests().into_iter().filter(|request| request.mutating).collect();
    assert_eq!(inserts.len(), 2);
    assert_eq!(inserts[0].query.get("requestId"), inserts[1].query.get("requestId"));
    assert_eq!(simulated.owned(CLUSTER).len(), 1);
}

#[tokio::test]
async fn foreign_rule_with_the_same_name_is_left_alone() {
    let simulated = Simulated::start(Mode::Destination, 1).await;
    let gce = simulated.connect(CLUSTER).await;
    converge(&gce, &web(&[0])).await;
    let (name, mut rule) = simulated.owned(CLUSTER).pop_first().expect("a rule");
    rule["description"] = json!("mine");
    simulated.put_rule(&rule);
    let before = simulated.cloud().firewalls(PROJECT);
    let (plan, _) = observe_and_plan(&gce, &web(&[0])).await.expect("it can be observed");
    assert_eq!((plan.steps.len(), plan.withheld.len()), (0, 1), "{plan:?}");
    assert_eq!(plan_steps(&gce, &Desired::nothing()).await, []);

    // The same if the name is taken between observing and applying, unknown to the plan.
    let compiled = observe_and_compile(&gce, &web(&[0])).await;
    let create = Action::Create(compiled.resources[&GceKey::Rule(name)].clone());
    let error = gce.apply(&create).await.expect_err("the name is taken");
    assert!(error.kind == ErrorKind::Conflict, "{error}");
    assert_eq!(simulated.cloud().firewalls(PROJECT), before);
}

#[tokio::test]
async fn change_of_any_field_of_a_rule_is_repaired() {
    let simulated = Simulated::start(Mode::Destination, 2).await;
    let gce = simulated.connect(CLUSTER).await;
    converge(&gce, &web(&[0])).await;
    let good = simulated.owned(CLUSTER);
    let changes = [
        ("disabled", json!(true)),
        ("priority", json!(5)),
        ("sourceTags", json!(["x"])),
        ("targetTags", json!(["x"])),
        ("destinationRanges", json!(["10.0.0.0/8"])),
        ("destinationRanges", json!([])),
        ("sourceRanges", json!(["0.0.0.0/0", "10.0.0.0/8"])),
        ("sourceRanges", json!(["203.0.113.0/24"])),
        ("allowed", json!([{ "IPProtocol": "all" }])),
        ("allowed", json!([{ "IPProtocol": "tcp" }])),
    ];
    for (field, value) in changes {
        let mut rule = good.values().next().expect("a rule").clone();
        rule[field] = value.clone();
        simulated.put_rule(&rule);
        let repairs = converge(&gce, &web(&[0])).await;
        // 10.0.0.0/8 beside 0.0.0.0/0 opens nothing more.
        assert!(
            repairs > 0 || value == json!(["0.0.0.0/0", "10.0.0.0/8"]),
            "{field} {value} was not repaired"
        );
        assert_eq!(
            simulated.open_rules(CLUSTER, &id(0)),
            WEB.iter().map(|text| firewall_core::testing::conformance::rule(text)).collect()
        );
        assert!(simulated.open_rules(CLUSTER, &id(1)).is_empty(), "{field} {value}");
    }
}

#[tokio::test]
async fn missing_network_is_reported() {
    let mut simulated = Simulated::start(Mode::Destination, 1).await;
    simulated.config.network = Some("absent".to_owned());
    let gce = simulated.connect(CLUSTER).await;
    let compiled = observe_and_compile(&gce, &web(&[0])).await;
    assert_eq!(infeasible_reasons(&compiled), [reasons::NETWORK_NOT_FOUND]);
    assert_eq!(compiled.resources.len(), 0);

    simulated.cloud().deny("*", "compute.networks.get");
    let compiled = observe_and_compile(&gce, &web(&[0])).await;
    assert_eq!(
        infeasible_reasons(&compiled),
        [reasons::NOT_IN_NETWORK],
        "a network that may not be read is not reported as missing"
    );
}

#[tokio::test]
async fn quota_error_names_the_quota() {
    let simulated = Simulated::start(Mode::Destination, 1).await;
    simulated.cloud().configure(|settings| settings.firewalls_per_project = 0);
    let errors = apply_once(&simulated.connect(CLUSTER).await, &web(&[0])).await;
    assert!(
        matches!(&errors[..], [error] if error.kind == ErrorKind::QuotaReached && error.message.contains("FIREWALLS")),
        "{errors:?}"
    );
}

#[tokio::test]
async fn failing_call_is_left_to_a_later_pass() {
    let simulated = Simulated::start(Mode::Destination, 1).await;
    simulated.inject("compute.firewalls.insert", 100, error_response(503, "backendError", "try again"));
    let errors = apply_once(&simulated.connect(CLUSTER).await, &web(&[0])).await;
    assert!(matches!(&errors[..], [error] if error.kind == ErrorKind::Unavailable), "{errors:?}");
    assert_eq!(mutating_calls(&simulated).len(), 4);
}

#[tokio::test]
async fn failed_operation_is_an_error() {
    let simulated = Simulated::start(Mode::Destination, 1).await;
    let kind = FaultKind::OperationError {
        status: 400,
        code: "INVALID_USAGE".to_owned(),
        message: "the operation did not work".to_owned(),
    };
    simulated.inject("compute.firewalls.insert", 1, kind);
    let errors = apply_once(&simulated.connect(CLUSTER).await, &web(&[0])).await;
    assert!(
        matches!(&errors[..], [error] if error.kind == ErrorKind::InvalidRequest && error.message.contains("did not work")),
        "{errors:?}"
    );
}

#[tokio::test]
async fn similar_clusters_and_groups_share_no_rule() {
    let simulated = Simulated::start(Mode::Destination, 1).await;
    let group = |namespace: &str, name: &str| {
        let (mut key, wanted) = group("web", WEB, &[&id(0)]);
        let workload = Arc::make_mut(&mut key.workload);
        (workload.namespace, workload.name) = (namespace.to_owned(), name.to_owned());
        (key, wanted)
    };
    let (one, two) = (group("a-b", "c"), group("a", "b-c"));
    let clusters = [simulated.connect("prod").await, simulated.connect("prod-2").await];
    for cluster in &clusters {
        converge(cluster, &desired([one.clone(), two.clone()])).await;
    }
    assert_eq!(simulated.cloud().firewalls(PROJECT).len(), 4);
    let (others, kept) = (simulated.owned("prod-2"), simulated.owned("prod"));
    converge(&clusters[0], &desired([one])).await;
    let left = simulated.owned("prod");
    assert_eq!(left.len(), 1);
    assert!(
        left.iter().all(|(name, rule)| kept.get(name) == Some(rule)),
        "the other group's rule has changed"
    );
    converge(&clusters[0], &Desired::nothing()).await;
    assert_eq!(simulated.cloud().firewalls(PROJECT), others, "the other cluster's rules have changed");
}

#[tokio::test]
async fn call_after_the_fence_has_closed_is_not_sent() {
    let simulated = Simulated::start(Mode::Destination, 1).await;
    let fence = Fence::closed(Instant::now());
    let gce = simulated.connect(CLUSTER).await.with_fence(fence.clone());
    let errors = apply_once(&gce, &web(&[0])).await;
    assert_eq!(errors.iter().map(|error| error.kind).collect::<Vec<_>>(), [ErrorKind::Fenced]);
    assert_eq!(mutating_calls(&simulated), [""; 0]);

    // The library tries again by itself; it ends with the fence, and not after its four attempts.
    fence.open_until(Instant::now() + Duration::from_millis(100));
    simulated.inject("compute.firewalls.insert", 100, error_response(503, "backendError", "try again"));
    let errors = apply_once(&gce, &web(&[0])).await;
    assert_eq!(errors.iter().map(|error| error.kind).collect::<Vec<_>>(), [ErrorKind::Fenced], "{errors:?}");
    assert!((1..4).contains(&mutating_calls(&simulated).len()));
}

#[tokio::test]
async fn throttled_call_waits_or_is_left_to_a_later_pass() {
    let simulated = Simulated::start(Mode::Destination, 1).await;
    let gce = simulated.connect(CLUSTER).await;
    simulated.inject("compute.firewalls.insert", 1, throttled(1));
    let start = Instant::now();
    assert_eq!(apply_once(&gce, &web(&[0])).await, []);
    assert!(start.elapsed() >= Duration::from_secs(1), "Google's own time is kept: {:?}", start.elapsed());

    simulated.inject("compute.firewalls.delete", 1, throttled(60));
    let start = Instant::now();
    for attempt in 1..=2 {
        let errors = apply_once(&gce, &Desired::nothing()).await;
        assert!(matches!(&errors[..], [error] if error.kind == ErrorKind::Throttled), "{errors:?}");
        let calls = mutating_calls(&simulated);
        let deletes = calls.iter().filter(|call| *call == "compute.firewalls.delete").count();
        assert_eq!(deletes, 1, "attempt {attempt} within the minute sends nothing");
    }
    assert!(start.elapsed() < Duration::from_secs(5), "nothing waits for it: {:?}", start.elapsed());
}
