//! Missing permissions.

use firewall_aws::ApiCall;
use firewall_core::testing::conformance::{converge, desired, group};
use firewall_core::{Desired, ErrorKind};

use crate::fake::{FakeEc2, NODES};
use crate::{HTTP, apply_all, attach_provider, id, reasons, web};

#[tokio::test(start_paused = true)]
async fn denied_call_names_the_permission() {
    let cloud = FakeEc2::new(1);
    cloud.state().grant(&ApiCall::ATTACH);
    cloud.state().granted.remove("RevokeSecurityGroupEgress");
    let results = apply_all(&attach_provider(&cloud), &web(HTTP)).await;
    let error = results[0].as_ref().expect_err("it is denied");
    assert_eq!(
        (error.kind, error.call.as_str()),
        (ErrorKind::PermissionDenied, "ec2:RevokeSecurityGroupEgress")
    );
    cloud.state().grant(&ApiCall::ATTACH);
    cloud.state().granted.remove("CreateTags");
    let results = apply_all(&attach_provider(&cloud), &web(&["udp/53 ::/0"])).await;
    let denied = results.iter().find_map(|result| match result {
        Err(error) if error.kind == ErrorKind::PermissionDenied => Some(error.call.as_str()),
        _ => None,
    });
    assert_eq!(denied, Some("ec2:CreateTags"));
}

#[tokio::test(start_paused = true)]
async fn voyagers_policy_attaches_by_instance_and_notes_the_egress() {
    let cloud = FakeEc2::new(2);
    cloud.state().grant(&ApiCall::VOYAGER);
    cloud.state().add_interface("i-02", &[NODES]);
    let provider = attach_provider(&cloud);
    let desired_groups = desired([group("web", HTTP, &[&id("i-01"), &id("i-02")])]);
    let results = apply_all(&provider, &desired_groups).await;
    let notes: Vec<String> = results.into_iter().flat_map(|result| result.unwrap().notes).collect();
    assert!(notes.len() == 1 && notes[0].contains("ec2:RevokeSecurityGroupEgress"), "{notes:?}");
    assert_eq!(reasons(&provider, &desired_groups).await, ["MultipleInterfaces"]);
    assert_eq!(
        converge(&provider, &desired_groups).await,
        0,
        "egress that cannot be revoked is no difference"
    );
    assert_eq!(cloud.state().count("ModifyInstanceAttribute"), 1);
    converge(&provider, &Desired::nothing()).await;
    assert_eq!(cloud.state().groups.len(), 1);
}
