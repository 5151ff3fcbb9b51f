//! What is not granted, and who is told how to do it instead.

use std::collections::BTreeSet;

use firewall_core::testing::conformance::{converge, desired, group};
use firewall_core::{Desired, ErrorKind, FirewallProvider, ProviderError};
use firewall_gce::{ApiCall, GceConfig, Mode};

use crate::simulated::{PROJECT, Simulated, id, machine};
use crate::{CLUSTER, attempt, web};

#[tokio::test]
async fn each_missing_permission_is_named_and_what_needs_it_not_still_works() {
    for mode in [Mode::Destination, Mode::Tags] {
        let methods = ApiCall::of_rules().iter().chain(ApiCall::of_instances(mode));
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
    let action = |error: ProviderError| {
        assert_eq!(error.kind, ErrorKind::PermissionDenied, "{error}");
        error.call
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
    let [ProviderError { call, manual_command: Some(command), .. }] = &errors[..] else {
        panic!("{errors:?}")
    };
    assert_eq!(call, "compute.firewalls.create");
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
        matches!(
            &errors[..],
            [ProviderError { kind: ErrorKind::PermissionDenied, manual_command: None, .. }]
        ),
        "it has been made: {errors:?}"
    );
    simulated.cloud().grant_all();
    converge(&gce, &web(&[0])).await;
    assert_eq!(simulated.cloud().firewalls("host").len(), 1);
    assert_eq!(simulated.cloud().firewalls(PROJECT).len(), 0);

    simulated.cloud().deny("host", "compute.networks.updatePolicy");
    let errors = attempt(&gce, &web(&[0, 1])).await;
    let [ProviderError { manual_command: Some(command), .. }] = &errors[..] else { panic!("{errors:?}") };
    assert!(
        command.contains("firewall-rules update") && command.ends_with("10.0.0.10/32,10.0.0.11/32"),
        "{command}"
    );
    let errors = attempt(&gce, &Desired::nothing()).await;
    let [ProviderError { manual_command: Some(command), .. }] = &errors[..] else { panic!("{errors:?}") };
    assert!(command.contains("firewall-rules delete") && command.ends_with("--quiet"), "{command}");
}
