//! What is not granted.

use firewall_aws::ApiCall;
use firewall_core::testing::conformance::{converge, desired, group};
use firewall_core::{Desired, ErrorKind};

use crate::fake::{FakeEc2, NODES};
use crate::{HTTP, attach, attempt, id, reasons, web};

#[tokio::test(start_paused = true)]
async fn a_denied_call_names_the_permission() {
    let cloud = FakeEc2::new(1);
    let all = ApiCall::ATTACH.iter().map(ToString::to_string);
    cloud.state().granted = all.filter(|action| action != "RevokeSecurityGroupEgress").collect();
    let results = attempt(&attach(&cloud), &web(HTTP)).await;
    let error = results[0].as_ref().expect_err("it is denied");
    assert_eq!(
        (error.kind, error.call.as_str()),
        (ErrorKind::PermissionDenied, "ec2:RevokeSecurityGroupEgress")
    );
    cloud.state().granted = ApiCall::ATTACH.iter().map(ToString::to_string).collect();
    cloud.state().granted.remove("CreateTags");
    let results = attempt(&attach(&cloud), &web(&["udp/53 ::/0"])).await;
    let denied = results.iter().find_map(|result| match result {
        Err(error) if error.kind == ErrorKind::PermissionDenied => Some(error.call.as_str()),
        _ => None,
    });
    assert_eq!(denied, Some("ec2:CreateTags"));
}

#[tokio::test(start_paused = true)]
async fn with_voyagers_policy_groups_go_by_the_instance_and_the_egress_that_stays_is_said() {
    let cloud = FakeEc2::new(2);
    cloud.state().granted = ApiCall::VOYAGER.iter().map(ToString::to_string).collect();
    cloud.state().add_interface("i-02", &[NODES]);
    let provider = attach(&cloud);
    let wanted = desired([group("web", HTTP, &[&id("i-01"), &id("i-02")])]);
    let results = attempt(&provider, &wanted).await;
    let notes: Vec<String> = results.into_iter().flat_map(|result| result.unwrap().notes).collect();
    assert!(notes.len() == 1 && notes[0].contains("ec2:RevokeSecurityGroupEgress"), "{notes:?}");
    assert_eq!(reasons(&provider, &wanted).await, ["MultipleInterfaces"]);
    assert_eq!(converge(&provider, &wanted).await, 0, "egress that cannot be revoked is no difference");
    assert_eq!(cloud.state().count("ModifyInstanceAttribute"), 1);
    converge(&provider, &Desired::nothing()).await;
    assert_eq!(cloud.state().groups.len(), 1);
}
