//! Attaching our groups to interfaces beside other groups.

use firewall_aws::{Aws, AwsConfig};
use firewall_core::Desired;
use firewall_core::testing::conformance::{converge, desired, group, observe_and_plan};

use crate::fake::{FakeEc2, Fault, Group, NODES, VPC};
use crate::{HTTP, apply_plan, attach_provider, first_error, id, own_group, reasons, web};

#[tokio::test(start_paused = true)]
async fn undone_change_is_repeated_and_foreign_groups_are_kept() {
    let cloud = FakeEc2::new(1);
    cloud.state().groups.insert("sg-theirs".into(), Group::new(VPC, "theirs", &[]));
    let overwrite = Fault::then(|state| *state.groups_of("i-01") = vec![NODES.into(), "sg-theirs".into()]);
    cloud.state().fault("ModifyNetworkInterfaceAttribute", [overwrite]);
    converge(&attach_provider(&cloud), &web(HTTP)).await;
    let (sg, _) = own_group(&cloud).unwrap();
    assert_eq!(*cloud.state().groups_of("i-01"), [NODES, "sg-theirs", &sg]);
}

#[tokio::test(start_paused = true)]
async fn writer_that_never_stops_is_a_conflict() {
    let cloud = FakeEc2::new(1);
    let undo = || Fault::then(|state| *state.groups_of("i-01") = vec![NODES.into()]);
    cloud.state().fault("ModifyNetworkInterfaceAttribute", (0..20).map(|_| undo()));
    assert_eq!(first_error(&attach_provider(&cloud), &web(HTTP)).await.reason(), "Conflict");
}

#[tokio::test(start_paused = true)]
async fn interface_is_never_left_without_a_group() {
    let cloud = FakeEc2::new(1);
    converge(&attach_provider(&cloud), &web(HTTP)).await;
    let (sg, _) = own_group(&cloud).unwrap();
    *cloud.state().groups_of("i-01") = vec![sg.clone()];
    let error = first_error(&attach_provider(&cloud), &Desired::nothing()).await;
    assert_eq!(error.reason(), "InvalidRequest", "{error}");
    assert_eq!(*cloud.state().groups_of("i-01"), [sg]);
}

#[tokio::test(start_paused = true)]
async fn only_the_primary_interface_gets_groups() {
    let cloud = FakeEc2::new(1);
    let secondary = cloud.state().add_interface("i-01", &[NODES]);
    converge(&attach_provider(&cloud), &web(HTTP)).await;
    assert_eq!(cloud.state().interfaces[&secondary].groups, [NODES]);
    assert_eq!(cloud.state().groups_of("i-01").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn excess_group_closes_nothing_and_gets_the_next_free_slot() {
    let cloud = FakeEc2::new(1);
    let config = AwsConfig { rules_per_group: 5, slots_per_interface: 3, ..AwsConfig::new("test") };
    let provider = Aws::from_client(&cloud.client(), config).unwrap();
    let node = id("i-01");
    let three = |name: &str, port: u16| {
        let rules = [0, 2, 4].map(|net| format!("tcp/{port} 10.{net}.0.0/16"));
        group(name, &rules.each_ref().map(String::as_str), &[&node])
    };
    let (first, second, third) = (three("c", 80), three("b", 82), three("a", 84));
    converge(&provider, &desired([first.clone(), second.clone()])).await;
    let before = cloud.state().groups_of("i-01").clone();
    let all = desired([first.clone(), second, third.clone()]);
    assert_eq!(reasons(&provider, &all).await, ["TooManyRules"]);
    converge(&provider, &all).await;
    assert_eq!(*cloud.state().groups_of("i-01"), before);
    converge(&provider, &desired([first, third])).await;
    assert_eq!(cloud.state().groups_of("i-01").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn instance_being_terminated_does_not_exist() {
    let cloud = FakeEc2::new(2);
    cloud.state().instances.get_mut("i-01").unwrap().state = "shutting-down";
    cloud.state().instances.get_mut("i-02").unwrap().managed_by = Some("eks.amazonaws.com".into());
    let desired_groups = desired([group("web", HTTP, &[&id("i-01"), &id("i-02"), &id("i-99")])]);
    assert_eq!(
        reasons(&attach_provider(&cloud), &desired_groups).await,
        ["InstanceNotFound", "ManagedInstance", "InstanceUnknown"]
    );
    converge(&attach_provider(&cloud), &desired_groups).await;
    assert_eq!(cloud.state().mutations(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn provisioned_instance_is_not_touched() {
    let cloud = FakeEc2::new(3);
    let desired = desired([group("web", HTTP, &[&id("i-01"), &id("i-02"), &id("i-03")])]);
    cloud.state().instances.get_mut("i-01").unwrap().tag = "karpenter.sh/nodepool";
    cloud.state().instances.get_mut("i-02").unwrap().tag =
        "sigs.k8s.io/cluster-api-provider-aws/cluster/test";
    let before = cloud.state().groups_of("i-01").clone();
    assert_eq!(
        reasons(&attach_provider(&cloud), &desired).await,
        ["ProvisionedInstance", "ProvisionedInstance"]
    );
    converge(&attach_provider(&cloud), &desired).await;
    assert_eq!(*cloud.state().groups_of("i-01"), before);
    assert_eq!(*cloud.state().groups_of("i-02"), before);
    assert_eq!(cloud.state().groups_of("i-03").len(), before.len() + 1);
}

#[tokio::test(start_paused = true)]
async fn missing_interface_needs_no_detaching() {
    let cloud = FakeEc2::new(1);
    let provider = attach_provider(&cloud);
    converge(&provider, &web(HTTP)).await;
    let (plan, _) = observe_and_plan(&provider, &Desired::nothing()).await.unwrap();
    cloud.state().instances.clear();
    cloud.state().interfaces.clear();
    let results = apply_plan(&provider, &plan).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert!(own_group(&cloud).is_none());
}
