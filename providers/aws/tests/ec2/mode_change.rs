//! A change of mode opens before it closes, and leaves nothing behind.

use std::collections::BTreeSet;

use firewall_core::Desired;
use firewall_core::testing::conformance::converge;

use crate::fake::{FakeEc2, Fault, NODES};
use crate::{HTTP, apply_all, attach_provider, own_group, shared_provider, web};

/// Returns what the nodes' group and the cluster's groups let in to `i-01`.
fn open(cloud: &FakeEc2) -> BTreeSet<String> {
    let mut state = cloud.state();
    let groups = state.groups_of("i-01").clone();
    groups.iter().flat_map(|group| state.groups[group].ingress()).collect()
}

fn http() -> BTreeSet<String> {
    BTreeSet::from(["tcp 80 80 0.0.0.0/0".to_owned()])
}

#[tokio::test(start_paused = true)]
async fn attached_groups_stay_until_shared_rules_are_open() {
    let cloud = FakeEc2::new(1);
    converge(&attach_provider(&cloud), &web(HTTP)).await;
    let provider = shared_provider(&cloud);
    cloud
        .state()
        .fault("AuthorizeSecurityGroupIngress", Fault::codes("RulesPerSecurityGroupLimitExceeded", 1));
    assert!(apply_all(&provider, &web(HTTP)).await.iter().any(Result::is_err));
    assert_eq!(open(&cloud), http(), "by the attached group");
    assert!(apply_all(&provider, &web(HTTP)).await.iter().all(Result::is_ok));
    converge(&provider, &web(HTTP)).await;
    assert_eq!(open(&cloud), http(), "by the shared rule");
    assert!(own_group(&cloud).is_none());
    assert_eq!(*cloud.state().groups_of("i-01"), [NODES]);
}

#[tokio::test(start_paused = true)]
async fn shared_rules_stay_until_attached_groups_are_open() {
    let cloud = FakeEc2::new(1);
    converge(&shared_provider(&cloud), &web(HTTP)).await;
    let provider = attach_provider(&cloud);
    cloud.state().fault("CreateSecurityGroup", Fault::codes("SecurityGroupLimitExceeded", 1));
    assert!(apply_all(&provider, &web(HTTP)).await.iter().any(Result::is_err));
    assert_eq!(open(&cloud), http(), "by the shared rule");
    assert!(apply_all(&provider, &web(HTTP)).await.iter().all(Result::is_ok));
    converge(&provider, &web(HTTP)).await;
    assert_eq!(cloud.state().groups[NODES].ingress(), [""; 0]);
    assert_eq!(open(&cloud), http(), "by the attached group");
}

#[tokio::test(start_paused = true)]
async fn nothing_of_either_mode_is_left_behind() {
    let cloud = FakeEc2::new(1);
    converge(&shared_provider(&cloud), &web(HTTP)).await;
    converge(&attach_provider(&cloud), &Desired::nothing()).await;
    assert_eq!(open(&cloud), BTreeSet::new());
    converge(&attach_provider(&cloud), &web(HTTP)).await;
    converge(&shared_provider(&cloud), &Desired::nothing()).await;
    assert_eq!(open(&cloud), BTreeSet::new());
    assert!(own_group(&cloud).is_none());
}

#[tokio::test(start_paused = true)]
async fn other_mode_is_looked_for_only_until_nothing_is_found() {
    let cloud = FakeEc2::new(1);
    let provider = attach_provider(&cloud);
    converge(&provider, &web(HTTP)).await;
    converge(&provider, &Desired::nothing()).await;
    assert_eq!(cloud.state().count("DescribeSecurityGroupRules"), 1);
}
