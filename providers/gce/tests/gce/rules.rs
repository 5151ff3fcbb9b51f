//! The life of a rule, and whose it is.

use std::time::Duration;

use firewall_core::testing::conformance::{converge, desired, group, observe_and_plan};
use firewall_core::{Action, Desired, ErrorKind, FirewallProvider};
use firewall_gce::{GceKey, Mode};
use gce_simulator::{Fault, FaultKind};
use serde_json::json;

use crate::simulated::{PROJECT, Simulated, id};
use crate::{CLUSTER, WEB, attempt, mutations, steps, web};

#[tokio::test]
async fn two_thousand_nodes_take_eight_rules_and_one_that_leaves_takes_one_patch() {
    let simulated = Simulated::start(Mode::Destination, 2000).await;
    let gce = simulated.connect(CLUSTER).await;
    let members: Vec<u32> = (0..2000).collect();
    converge(&gce, &web(&members)).await;
    assert_eq!(mutations(&simulated), ["compute.firewalls.insert"; 8]);

    simulated.cloud().clear_requests();
    converge(&gce, &web(&members[1..])).await;
    assert_eq!(mutations(&simulated), ["compute.firewalls.patch"]);
    simulated.cloud().clear_requests();
    converge(&gce, &web(&members[301..])).await;
    let calls = mutations(&simulated);
    assert!(calls.len() <= 7, "one call for each of the rules that 300 leaving nodes are in: {calls:?}");
    assert_eq!(simulated.owned(CLUSTER).len(), 7, "1,699 addresses");
}

#[tokio::test]
async fn what_moves_and_changes_its_sources_takes_one_patch() {
    let simulated = Simulated::start(Mode::Destination, 2).await;
    let gce = simulated.connect(CLUSTER).await;
    converge(&gce, &web(&[0])).await;
    simulated.cloud().clear_requests();
    converge(&gce, &desired([group("web", &["tcp/80 192.0.2.0/24"], &[&id(1)])])).await;
    assert_eq!(mutations(&simulated), ["compute.firewalls.patch"]);
    let patch = simulated.cloud().requests().into_iter().find(|request| request.mutating).expect("a patch");
    let fields: Vec<String> =
        patch.body.expect("a body").as_object().expect("fields").keys().cloned().collect();
    assert_eq!(fields, ["allowed", "destinationRanges", "name", "sourceRanges"]);
}

#[tokio::test]
async fn a_crash_after_the_insert_was_accepted_leads_to_no_second_rule() {
    let simulated = Simulated::start(Mode::Destination, 1).await;
    simulated.cloud().configure(|settings| settings.operation_delay = Duration::from_millis(1500));
    let first = simulated.connect(CLUSTER).await;
    let wanted = web(&[0]);
    let steps = steps(&first, &wanted).await;
    let crashed = tokio::time::timeout(Duration::from_millis(300), first.apply(&steps[0].action)).await;
    assert!(crashed.is_err(), "it was still waiting for the operation");
    assert_eq!(mutations(&simulated), ["compute.firewalls.insert"], "which had been accepted");

    let next = simulated.connect(CLUSTER).await;
    let errors = attempt(&next, &wanted).await;
    assert!(
        matches!(&errors[..], [error] if error.kind == ErrorKind::Unavailable),
        "it is still being made: {errors:?}"
    );
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(attempt(&next, &wanted).await, []);
    assert_eq!(simulated.owned(CLUSTER).len(), 1);
    assert_eq!(simulated.open(&id(0), &simulated.owned(CLUSTER).into_keys().collect()).len(), 1);
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_under_the_same_request_id() {
    let simulated = Simulated::start(Mode::Destination, 1).await;
    let method = "compute.firewalls.insert".to_owned();
    simulated.cloud().inject(Fault { method, times: 1, kind: FaultKind::DropResponse });
    converge(&simulated.connect(CLUSTER).await, &web(&[0])).await;
    let inserts: Vec<_> =
        simulated.cloud().requests().into_iter().filter(|request| request.mutating).collect();
    assert_eq!(inserts.len(), 2);
    assert_eq!(inserts[0].query.get("requestId"), inserts[1].query.get("requestId"));
    assert_eq!(simulated.owned(CLUSTER).len(), 1);
}

#[tokio::test]
async fn a_name_that_somebody_else_has_taken_is_left_alone() {
    let simulated = Simulated::start(Mode::Destination, 1).await;
    let gce = simulated.connect(CLUSTER).await;
    converge(&gce, &web(&[0])).await;
    let (name, mut rule) = simulated.owned(CLUSTER).pop_first().expect("a rule");
    rule["description"] = json!("mine");
    simulated.cloud().put_firewall(PROJECT, &rule).expect("a valid rule");
    let before = simulated.cloud().firewalls(PROJECT);
    let (plan, _) = observe_and_plan(&gce, &web(&[0])).await.expect("it can be observed");
    assert_eq!((plan.steps.len(), plan.withheld.len()), (0, 1), "{plan:?}");
    assert_eq!(steps(&gce, &Desired::nothing()).await, []);

    // Taken between reading and writing: the plan knew nothing of it.
    let observed = gce.observe(&web(&[0]).members()).await.expect("it can be observed");
    let compiled = gce.compile(&web(&[0]), &observed.inventory);
    let create = Action::Create(compiled.resources[&GceKey::Rule(name)].clone());
    let error = gce.apply(&create).await.expect_err("it is taken");
    assert!(error.kind == ErrorKind::Conflict, "{error}");
    assert_eq!(simulated.cloud().firewalls(PROJECT), before);
}

#[tokio::test]
async fn whatever_somebody_changes_in_a_rule_of_ours_is_set_right() {
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
        simulated.cloud().put_firewall(PROJECT, &rule).expect("a valid rule");
        let repairs = converge(&gce, &web(&[0])).await;
        // 10.0.0.0/8 beside everything says nothing new.
        assert!(
            repairs > 0 || value == json!(["0.0.0.0/0", "10.0.0.0/8"]),
            "{field} {value} was not noticed"
        );
        let names = simulated.owned(CLUSTER).into_keys().collect();
        assert_eq!(
            simulated.open(&id(0), &names),
            WEB.iter().map(|text| firewall_core::testing::conformance::rule(text)).collect()
        );
        assert!(simulated.open(&id(1), &names).is_empty(), "{field} {value}");
    }
}

#[tokio::test]
async fn a_network_that_does_not_exist_is_told() {
    let mut simulated = Simulated::start(Mode::Destination, 1).await;
    simulated.config.network = Some("absent".to_owned());
    let gce = simulated.connect(CLUSTER).await;
    let observed = gce.observe(&web(&[0]).members()).await.expect("it can be observed");
    let compiled = gce.compile(&web(&[0]), &observed.inventory);
    let reasons: Vec<&str> = compiled.infeasible.iter().map(|one| one.reason).collect();
    assert_eq!((reasons, compiled.resources.len()), (vec!["NetworkNotFound"], 0));

    simulated.cloud().deny("*", "compute.networks.get");
    let observed = gce.observe(&web(&[0]).members()).await.expect("it can be observed");
    let compiled = gce.compile(&web(&[0]), &observed.inventory);
    let reasons: Vec<&str> = compiled.infeasible.iter().map(|one| one.reason).collect();
    assert_eq!(reasons, ["NotInNetwork"], "what cannot be asked is not claimed");
}

#[tokio::test]
async fn a_full_project_says_which_quota() {
    let simulated = Simulated::start(Mode::Destination, 1).await;
    simulated.cloud().configure(|settings| settings.firewalls_per_project = 0);
    let errors = attempt(&simulated.connect(CLUSTER).await, &web(&[0])).await;
    assert!(
        matches!(&errors[..], [error] if error.kind == ErrorKind::QuotaReached && error.message.contains("FIREWALLS")),
        "{errors:?}"
    );
}

#[tokio::test]
async fn a_call_that_goes_on_failing_is_left_to_a_later_pass() {
    let simulated = Simulated::start(Mode::Destination, 1).await;
    let kind =
        FaultKind::Error { status: 503, reason: "backendError".to_owned(), message: "try again".to_owned() };
    simulated.cloud().inject(Fault { method: "compute.firewalls.insert".to_owned(), times: 100, kind });
    let errors = attempt(&simulated.connect(CLUSTER).await, &web(&[0])).await;
    assert!(matches!(&errors[..], [error] if error.kind == ErrorKind::Unavailable), "{errors:?}");
    assert_eq!(mutations(&simulated).len(), 4);
}

#[tokio::test]
async fn an_operation_that_fails_is_a_failure() {
    let simulated = Simulated::start(Mode::Destination, 1).await;
    let kind = FaultKind::OperationError {
        status: 400,
        code: "INVALID_USAGE".to_owned(),
        message: "the operation did not work".to_owned(),
    };
    simulated.cloud().inject(Fault { method: "compute.firewalls.insert".to_owned(), times: 1, kind });
    let errors = attempt(&simulated.connect(CLUSTER).await, &web(&[0])).await;
    assert!(
        matches!(&errors[..], [error] if error.kind == ErrorKind::InvalidRequest && error.message.contains("did not work")),
        "{errors:?}"
    );
}

#[tokio::test]
async fn two_clusters_and_two_groups_that_look_the_same_share_nothing() {
    let simulated = Simulated::start(Mode::Destination, 1).await;
    let group = |namespace: &str, name: &str| {
        let (mut key, wanted) = group("web", WEB, &[&id(0)]);
        key.workload.namespace = namespace.to_owned();
        key.workload.name = name.to_owned();
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
