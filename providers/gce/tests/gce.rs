//! What Compute Engine does that other clouds do not, each as a behaviour of the provider.

mod simulated;

use std::collections::BTreeSet;
use std::time::Duration;

use firewall_gce::{Gce, GceConfig, GceKey, GceResource, Method, Mode};
use firewall_model::conformance::{converge, desired, group, planned};
use firewall_model::{Action, Desired, FirewallProvider, InstanceId, ProviderError, Step};
use gce_simulator::{Fault, FaultKind};
use serde_json::json;

use simulated::{PROJECT, Simulated, ZONE, id, machine, name};

const CLUSTER: &str = "prod";
const WEB: &[&str] = &["tcp/80 0.0.0.0/0"];

async fn steps(gce: &Gce, wanted: &Desired) -> Vec<Step<GceResource>> {
    planned(gce, wanted).await.expect("it can be observed").0.steps
}

/// Applies the plan once, and returns what failed.
async fn attempt(gce: &Gce, wanted: &Desired) -> Vec<ProviderError> {
    let mut errors = Vec::new();
    for step in steps(gce, wanted).await {
        errors.extend(gce.apply(&step.action).await.err());
    }
    errors
}

/// The ids of the mutating calls so far.
fn mutations(simulated: &Simulated) -> Vec<String> {
    let requests = simulated.cloud().requests().into_iter();
    requests.filter(|request| request.mutating).map(|request| request.method).collect()
}

fn web(members: &[u32]) -> Desired {
    let members: Vec<InstanceId> = members.iter().copied().map(id).collect();
    desired([group("web", WEB, &members.iter().collect::<Vec<_>>())])
}

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
    assert!(matches!(errors[..], [ProviderError::Transient { .. }]), "it is still being made: {errors:?}");
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
    let (plan, _) = planned(&gce, &web(&[0])).await.expect("it can be observed");
    assert_eq!((plan.steps.len(), plan.withheld.len()), (0, 1), "{plan:?}");
    assert_eq!(steps(&gce, &Desired::nothing()).await, []);

    // Taken between reading and writing: the plan knew nothing of it.
    let observed = gce.observe(&web(&[0]).members()).await.expect("it can be observed");
    let compiled = gce.compile(&web(&[0]), &observed.inventory);
    let create = Action::Create(compiled.resources[&GceKey::Rule(name)].clone());
    let error = gce.apply(&create).await.expect_err("it is taken");
    assert!(matches!(error, ProviderError::Conflict { .. }), "{error}");
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
            WEB.iter().map(|text| firewall_model::conformance::rule(text)).collect()
        );
        assert!(simulated.open(&id(1), &names).is_empty(), "{field} {value}");
    }
}

#[tokio::test]
async fn each_missing_permission_is_named_and_what_needs_it_not_still_works() {
    for mode in [Mode::Destination, Mode::Tags] {
        let methods = Method::of_rules().iter().chain(Method::of_instances(mode));
        let permissions: BTreeSet<&str> = methods.flat_map(|method| method.permissions()).copied().collect();
        for permission in permissions {
            let named = missing(mode, permission).await;
            // What only some answers need is not asked for here.
            let rare = ["compute.firewalls.get", "compute.networks.get"].contains(&permission);
            assert!(
                named.iter().all(|named| named == permission) && (rare || !named.is_empty()),
                "without {permission}: {named:?}"
            );
        }
    }
}

/// A rule's whole life without one permission; the permissions that errors name on the way.
async fn missing(mode: Mode, permission: &str) -> Vec<String> {
    let simulated = Simulated::start(mode, 2).await;
    let gce = simulated.connect(CLUSTER).await;
    let mut errors = Vec::new();
    for wanted in
        [web(&[0]), desired([group("web", &["tcp/80 192.0.2.0/24"], &[&id(1)])]), Desired::nothing()]
    {
        simulated.cloud().grant_all();
        // What the step before could not do is done now, so that each step has something to do.
        simulated.cloud().deny("*", permission);
        match gce.observe(&wanted.members()).await {
            Err(error) => errors.push(error),
            Ok(_) => errors.extend(attempt(&gce, &wanted).await),
        }
        simulated.cloud().grant_all();
        converge(&gce, &wanted).await;
    }
    let action = |error| match error {
        ProviderError::Denied { action, .. } => action,
        other => panic!("{other}"),
    };
    errors.into_iter().map(action).collect()
}

#[tokio::test]
async fn where_the_host_project_refuses_the_command_for_its_administrator_is_told() {
    let mut simulated = Simulated::start(Mode::Destination, 0).await;
    simulated.cloud().add_network("host", "shared");
    for number in 0..2 {
        let mut node = machine(number, PROJECT, "main");
        node.interfaces[0].network = "projects/host/global/networks/shared".to_owned();
        simulated.cloud().add_instance(node);
    }
    simulated.config = GceConfig { network_project: Some("host".to_owned()), ..simulated.config.clone() };
    simulated.cloud().deny("host", "compute.firewalls.create");
    let gce = simulated.connect(CLUSTER).await;
    let errors = attempt(&gce, &web(&[0])).await;
    let [ProviderError::Denied { action, instead: Some(command), .. }] = &errors[..] else {
        panic!("{errors:?}")
    };
    assert_eq!(action, "compute.firewalls.create");
    for part in [
        "gcloud compute firewall-rules create hpf-",
        "--project=host",
        "--network=shared",
        "--rules=tcp:80",
        "--source-ranges=0.0.0.0/0",
        "--destination-ranges=10.0.0.10/32",
        "--description='{\"managedBy\"",
    ] {
        assert!(command.contains(part), "{part} is not in {command}");
    }
    simulated.cloud().grant_all();
    simulated.cloud().deny("host", "compute.globalOperations.get");
    let errors = attempt(&gce, &web(&[0])).await;
    assert!(
        matches!(&errors[..], [ProviderError::Denied { instead: None, .. }]),
        "it has been made: {errors:?}"
    );
    simulated.cloud().grant_all();
    converge(&gce, &web(&[0])).await;
    assert_eq!(simulated.cloud().firewalls("host").len(), 1);
    assert_eq!(simulated.cloud().firewalls(PROJECT).len(), 0);

    simulated.cloud().deny("host", "compute.networks.updatePolicy");
    let errors = attempt(&gce, &web(&[0, 1])).await;
    let [ProviderError::Denied { instead: Some(command), .. }] = &errors[..] else { panic!("{errors:?}") };
    assert!(
        command.contains("firewall-rules update") && command.ends_with("10.0.0.10/32,10.0.0.11/32"),
        "{command}"
    );
    let errors = attempt(&gce, &Desired::nothing()).await;
    let [ProviderError::Denied { instead: Some(command), .. }] = &errors[..] else { panic!("{errors:?}") };
    assert!(command.contains("firewall-rules delete") && command.ends_with("--quiet"), "{command}");
}

#[tokio::test]
async fn tags_that_somebody_changes_in_between_are_kept() {
    for conflict_in_operation in [false, true] {
        let simulated = Simulated::start(Mode::Tags, 1).await;
        simulated
            .cloud()
            .configure(|settings| settings.fingerprint_conflict_in_operation = conflict_in_operation);
        let gce = simulated.connect(CLUSTER).await;
        let tags = || simulated.cloud().tags(PROJECT, ZONE, &name(0));
        // Between the reading and the writing of every try but the last, a tag comes.
        let comes = |tag: &str| {
            let method = "compute.instances.get".to_owned();
            simulated.cloud().inject(Fault { method, times: 1, kind: FaultKind::AddTag(tag.to_owned()) });
        };
        comes("first");
        comes("second");
        converge(&gce, &web(&[0])).await;
        let own: BTreeSet<String> = simulated.owned(CLUSTER).into_keys().collect();
        let others = ["first", "node", "second"].map(ToOwned::to_owned).into();
        assert_eq!((own.len(), tags()), (1, &own | &others));
        let requests = simulated.cloud().requests().into_iter();
        let tries = requests.filter(|request| request.method == "compute.instances.setTags");
        let accepted = if conflict_in_operation { [200; 3] } else { [412, 412, 200] };
        assert_eq!(tries.map(|request| request.status).collect::<Vec<_>>(), accepted);

        comes("third");
        converge(&gce, &Desired::nothing()).await;
        assert_eq!(tags(), &others | &["third".to_owned()].into());
    }
}

#[tokio::test]
async fn a_change_of_mode_leaves_nothing_of_the_other() {
    let mut simulated = Simulated::start(Mode::Tags, 2).await;
    converge(&simulated.connect(CLUSTER).await, &web(&[0, 1])).await;
    for mode in [Mode::Destination, Mode::Tags] {
        simulated.config.mode = mode;
        converge(&simulated.connect(CLUSTER).await, &web(&[0])).await;
        let names = simulated.owned(CLUSTER).into_keys().collect();
        assert_eq!(simulated.open(&id(0), &names).len(), 1);
        assert!(simulated.open(&id(1), &names).is_empty());
        let tags = simulated.cloud().tags(PROJECT, ZONE, &name(0)).len();
        assert_eq!(tags, if mode == Mode::Tags { 2 } else { 1 });
    }
}

#[tokio::test]
async fn tags_that_a_former_mode_could_not_remove_are_removed_later() {
    let mut simulated = Simulated::start(Mode::Tags, 2).await;
    converge(&simulated.connect(CLUSTER).await, &web(&[0, 1])).await;
    simulated.config.mode = Mode::Destination;
    simulated.cloud().deny("*", "compute.instances.setTags");
    let gce = simulated.connect(CLUSTER).await;
    let errors = attempt(&gce, &web(&[0])).await;
    assert!(!errors.is_empty(), "the tags cannot be removed");
    simulated.cloud().grant_all();
    converge(&gce, &web(&[0])).await;
    converge(&gce, &Desired::nothing()).await;
    for number in 0..2 {
        assert_eq!(simulated.cloud().tags(PROJECT, ZONE, &name(number)), ["node".to_owned()].into());
    }
}

#[tokio::test]
async fn an_instance_that_is_deleted_meanwhile_holds_nothing_up() {
    for mode in [Mode::Destination, Mode::Tags] {
        let simulated = Simulated::start(mode, 2).await;
        let gce = simulated.connect(CLUSTER).await;
        let steps = steps(&gce, &web(&[0, 1])).await;
        simulated.cloud().remove_instance(PROJECT, ZONE, &name(1));
        for step in &steps {
            _ = gce.apply(&step.action).await;
        }
        converge(&gce, &web(&[0, 1])).await;
        let names = simulated.owned(CLUSTER).into_keys().collect();
        assert_eq!(simulated.open(&id(0), &names).len(), 1);
        let text = format!("{:?}", simulated.owned(CLUSTER));
        assert!(!text.contains("10.0.0.11"), "the address may be another instance's next: {text}");
    }
}

#[tokio::test]
async fn a_network_that_does_not_exist_is_told() {
    let mut simulated = Simulated::start(Mode::Destination, 1).await;
    simulated.config.network = Some("absent".to_owned());
    let gce = simulated.connect(CLUSTER).await;
    let observed = gce.observe(&web(&[0]).members()).await.expect("it can be observed");
    let compiled = gce.compile(&web(&[0]), &observed.inventory);
    let reasons: Vec<&str> = compiled.rejections.iter().map(|rejection| rejection.reason).collect();
    assert_eq!((reasons, compiled.resources.len()), (vec!["NetworkNotFound"], 0));

    simulated.cloud().deny("*", "compute.networks.get");
    let observed = gce.observe(&web(&[0]).members()).await.expect("it can be observed");
    let compiled = gce.compile(&web(&[0]), &observed.inventory);
    let reasons: Vec<&str> = compiled.rejections.iter().map(|rejection| rejection.reason).collect();
    assert_eq!(reasons, ["NotInNetwork"], "what cannot be asked is not claimed");
}

#[tokio::test]
async fn a_full_project_says_which_quota() {
    let simulated = Simulated::start(Mode::Destination, 1).await;
    simulated.cloud().configure(|settings| settings.firewalls_per_project = 0);
    let errors = attempt(&simulated.connect(CLUSTER).await, &web(&[0])).await;
    assert!(
        matches!(&errors[..], [ProviderError::Quota { message, .. }] if message.contains("FIREWALLS")),
        "{errors:?}"
    );
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
        matches!(&errors[..], [ProviderError::Refused { message, .. }] if message.contains("did not work")),
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
