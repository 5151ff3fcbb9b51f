//! Missing permissions, and the commands with which an administrator makes the change instead.

use std::collections::BTreeSet;

use firewall_core::testing::conformance::{converge, desired, group};
use firewall_core::{Desired, ErrorKind, FirewallProvider, ProviderError};
use firewall_gce::{ApiCall, GceConfig, Mode};

use crate::simulated::{PROJECT, Simulated, id, machine};
use crate::{CLUSTER, apply_once, web};

#[tokio::test]
async fn missing_permission_is_named_and_blocks_nothing_else() {
    for mode in [Mode::Destination, Mode::Tags] {
        let calls = ApiCall::of_rules().iter().chain(ApiCall::of_instances(mode));
        let permissions: BTreeSet<&str> = calls.flat_map(|call| call.permissions()).copied().collect();
        for permission in permissions {
            let named = permissions_in_errors(mode, permission).await;
            // These are needed only where a rule's name is taken or a network is configured, which is not so
            // here.
            let is_rare = ["compute.firewalls.get", "compute.networks.get"].contains(&permission);
            assert!(
                named.iter().all(|named| named == permission) && (is_rare || !named.is_empty()),
                "without {permission}: {named:?}"
            );
        }
    }
}

/// Creates, changes and deletes a rule without one permission, and returns the permissions that errors name.
async fn permissions_in_errors(mode: Mode, permission: &str) -> Vec<String> {
    let simulated = Simulated::start(mode, 2).await;
    let gce = simulated.connect(CLUSTER).await;
    let mut errors = Vec::new();
    for wanted in
        [web(&[0]), desired([group("web", &["tcp/80 192.0.2.0/24"], &[&id(1)])]), Desired::nothing()]
    {
        simulated.cloud().grant_all();
        simulated.cloud().deny("*", permission);
        match gce.observe(&wanted.members()).await {
            Err(error) => errors.push(error),
            Ok(_) => errors.extend(apply_once(&gce, &wanted).await),
        }
        // The change is completed, so that the next one starts from it.
        simulated.cloud().grant_all();
        converge(&gce, &wanted).await;
    }
    let permission_of = |error: ProviderError| {
        assert_eq!(error.kind, ErrorKind::PermissionDenied, "{error}");
        error.call
    };
    errors.into_iter().map(permission_of).collect()
}

#[tokio::test]
async fn host_project_denial_comes_with_the_manual_command() {
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
    let errors = apply_once(&gce, &web(&[0])).await;
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
    let errors = apply_once(&gce, &web(&[0])).await;
    assert!(
        matches!(
            &errors[..],
            [ProviderError { kind: ErrorKind::PermissionDenied, manual_command: None, .. }]
        ),
        "the rule has been created: {errors:?}"
    );
    simulated.cloud().grant_all();
    converge(&gce, &web(&[0])).await;
    assert_eq!(simulated.cloud().firewalls("host").len(), 1);
    assert_eq!(simulated.cloud().firewalls(PROJECT).len(), 0);

    simulated.cloud().deny("host", "compute.networks.updatePolicy");
    let errors = apply_once(&gce, &web(&[0, 1])).await;
    let [ProviderError { manual_command: Some(command), .. }] = &errors[..] else { panic!("{errors:?}") };
    assert!(
        command.contains("firewall-rules update") && command.ends_with("10.0.0.10/32,10.0.0.11/32"),
        "{command}"
    );
    let errors = apply_once(&gce, &Desired::nothing()).await;
    let [ProviderError { manual_command: Some(command), .. }] = &errors[..] else { panic!("{errors:?}") };
    assert!(command.contains("firewall-rules delete") && command.ends_with("--quiet"), "{command}");
}
