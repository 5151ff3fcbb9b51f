//! Our groups on interfaces, beside those of others.

use firewall_aws::{Aws, AwsConfig};
use firewall_core::testing::conformance::{converge, desired, group, observe_and_plan};
use firewall_core::{Desired, FirewallProvider};

use crate::fake::{FakeEc2, Fault, Group, NODES, State, VPC};
use crate::{HTTP, attach, first_error, id, ours, reasons, web};

#[tokio::test(start_paused = true)]
async fn a_change_that_another_writer_undid_is_made_again_and_theirs_is_kept() {
    let cloud = FakeEc2::new(1);
    cloud.state().groups.insert("sg-theirs".into(), Group::new(VPC, "theirs", &[]));
    let clobber =
        Fault::Then(Box::new(|state| *state.groups_of("i-01") = vec![NODES.into(), "sg-theirs".into()]));
    cloud.state().fault("ModifyNetworkInterfaceAttribute", [clobber]);
    converge(&attach(&cloud), &web(HTTP)).await;
    let (sg, _) = ours(&cloud.state()).unwrap();
    assert_eq!(*cloud.state().groups_of("i-01"), [NODES, "sg-theirs", &sg]);
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_never_stops_is_a_conflict() {
    let cloud = FakeEc2::new(1);
    let undo = || Fault::Then(Box::new(|state: &mut State| *state.groups_of("i-01") = vec![NODES.into()]));
    cloud.state().fault("ModifyNetworkInterfaceAttribute", (0..20).map(|_| undo()));
    assert_eq!(first_error(&attach(&cloud), &web(HTTP)).await.reason(), "Conflict");
}

#[tokio::test(start_paused = true)]
async fn an_interface_is_never_left_without_a_group() {
    let cloud = FakeEc2::new(1);
    converge(&attach(&cloud), &web(HTTP)).await;
    let (sg, _) = ours(&cloud.state()).unwrap();
    *cloud.state().groups_of("i-01") = vec![sg.clone()];
    let error = first_error(&attach(&cloud), &Desired::nothing()).await;
    assert_eq!(error.reason(), "InvalidRequest", "{error}");
    assert_eq!(*cloud.state().groups_of("i-01"), [sg]);
}

#[tokio::test(start_paused = true)]
async fn only_the_primary_interface_gets_groups() {
    let cloud = FakeEc2::new(1);
    let secondary = cloud.state().add_interface("i-01", &[NODES]);
    converge(&attach(&cloud), &web(HTTP)).await;
    assert_eq!(cloud.state().interfaces[&secondary].groups, [NODES]);
    assert_eq!(cloud.state().groups_of("i-01").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_group_too_many_closes_nothing_and_has_the_slot_when_another_leaves() {
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
async fn an_instance_that_is_being_terminated_is_not_there() {
    let cloud = FakeEc2::new(2);
    cloud.state().instances.get_mut("i-01").unwrap().state = "shutting-down";
    cloud.state().instances.get_mut("i-02").unwrap().managed_by = Some("eks.amazonaws.com".into());
    let wanted = desired([group("web", HTTP, &[&id("i-01"), &id("i-02"), &id("i-99")])]);
    assert_eq!(
        reasons(&attach(&cloud), &wanted).await,
        ["InstanceNotFound", "ManagedInstance", "InstanceNotFound"]
    );
    converge(&attach(&cloud), &wanted).await;
    assert_eq!(cloud.state().mutations(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_interface_that_went_with_its_instance_needs_no_detaching() {
    let cloud = FakeEc2::new(1);
    let provider = attach(&cloud);
    converge(&provider, &web(HTTP)).await;
    let (plan, _) = observe_and_plan(&provider, &Desired::nothing()).await.unwrap();
    cloud.state().instances.clear();
    cloud.state().interfaces.clear();
    for step in &plan.steps {
        provider.apply(&step.action).await.unwrap();
    }
    assert!(ours(&cloud.state()).is_none());
}
