//! Throttling, pages, lost answers and propagation delays.

use std::collections::BTreeSet;
use std::time::Duration;

use firewall_core::testing::conformance::{converge, desired, group, observe_and_plan};
use firewall_core::{Desired, ErrorKind, Fence, FirewallProvider, InstanceId};
use tokio::time::Instant;

use crate::fake::{FakeEc2, Fault, NODES};
use crate::{HTTP, apply_all, attach_provider, first_error, id, web};

#[tokio::test(start_paused = true)]
async fn propagation_of_a_new_group_is_waited_for() {
    let cloud = FakeEc2::new(1);
    cloud.state().lag = 5;
    converge(&attach_provider(&cloud), &web(HTTP)).await;
    assert_eq!(cloud.state().count("CreateSecurityGroup"), 1);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_propagation_ends() {
    let cloud = FakeEc2::new(1);
    cloud.state().lag = 10_000;
    let start = Instant::now();
    let error = first_error(&attach_provider(&cloud), &web(HTTP)).await;
    assert_eq!(error.reason(), "NotFound");
    assert!((10..=15).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn throttling_delays_and_fails_nothing() {
    let cloud = FakeEc2::new(1);
    for action in ["DescribeSecurityGroups", "CreateSecurityGroup", "ModifyNetworkInterfaceAttribute"] {
        cloud.state().fault(action, Fault::codes("RequestLimitExceeded", 4));
    }
    let start = Instant::now();
    converge(&attach_provider(&cloud), &web(HTTP)).await;
    assert!((5..30).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn throttling_without_end_is_soon_an_error() {
    for (action, code) in [
        ("CreateSecurityGroup", "RequestLimitExceeded"),
        ("DescribeSecurityGroups", "RequestLimitExceeded"),
        ("AuthorizeSecurityGroupIngress", "InvalidGroup.NotFound"),
        ("AuthorizeSecurityGroupIngress", "InvalidSecurityGroupID.NotFound"),
    ] {
        let cloud = FakeEc2::new(1);
        let provider = attach_provider(&cloud);
        let step = observe_and_plan(&provider, &web(HTTP)).await.unwrap().0.steps.remove(0);
        cloud.state().fault(action, Fault::codes(code, 1000));
        let start = Instant::now();
        provider.apply(&step.action).await.unwrap_err();
        let took = start.elapsed();
        assert!((8..=15).contains(&took.as_secs()), "{action}: {took:?}");
    }
    let cloud = FakeEc2::new(1);
    cloud.state().fault("DescribeSecurityGroups", Fault::codes("RequestLimitExceeded", 1000));
    let start = Instant::now();
    let error = attach_provider(&cloud).observe(&BTreeSet::new()).await.unwrap_err();
    assert!(
        error.reason() == "Throttled" && start.elapsed().as_secs() <= 15,
        "{error} {:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn throttled_action_delays_no_other() {
    let cloud = FakeEc2::new(2);
    let provider = attach_provider(&cloud);
    converge(&provider, &web(HTTP)).await;
    cloud.state().fault("CreateSecurityGroup", Fault::codes("RequestLimitExceeded", 1000));
    let start = Instant::now();
    let new = group("dns", &["udp/53 0.0.0.0/0"], &[&id("i-02")]);
    let opening = observe_and_plan(&provider, &desired([new])).await.unwrap().0;
    let closing = opening.steps.iter().find(|step| step.action.after().is_none()).unwrap();
    let creating = &opening.steps.iter().find(|step| step.action.before().is_none()).unwrap().action;
    let (opened, ()) = tokio::join!(provider.apply(creating), async {
        provider.apply(&closing.action).await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 0);
    });
    assert_eq!(opened.unwrap_err().kind, ErrorKind::Throttled);
}

#[tokio::test(start_paused = true)]
async fn failing_call_is_given_up_and_throttled_call_is_waited_for() {
    let cloud = FakeEc2::new(1);
    let provider = attach_provider(&cloud);
    for code in ["InternalError", "IncorrectState"] {
        cloud.state().fault("CreateSecurityGroup", Fault::codes(code, 100));
        let start = Instant::now();
        assert_eq!(first_error(&provider, &web(HTTP)).await.reason(), "Unavailable");
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
        assert_eq!(cloud.state().faults["CreateSecurityGroup"].len(), 96);
        cloud.state().faults.clear();
    }
    let throttled = || Fault::codes("RequestLimitExceeded", 3);
    let faults = std::iter::once(Fault::Code("Unavailable")).chain(throttled());
    cloud.state().fault("CreateSecurityGroup", faults);
    converge(&provider, &web(HTTP)).await;
}

#[tokio::test(start_paused = true)]
async fn missing_page_is_an_error_and_not_an_empty_list() {
    let cloud = FakeEc2::new(5);
    let members: Vec<InstanceId> = (1..=5).map(|n| id(&format!("i-{n:02x}"))).collect();
    let desired_groups = desired([group("web", HTTP, &members.iter().collect::<Vec<_>>())]);
    converge(&attach_provider(&cloud), &desired_groups).await;
    let faults = std::iter::once(Fault::None).chain(Fault::codes("InternalError", 100));
    cloud.state().fault("DescribeNetworkInterfaces", faults);
    let error = attach_provider(&cloud).observe(&desired_groups.members()).await.unwrap_err();
    assert_eq!(error.reason(), "Unavailable");
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_members_are_read_in_batches_and_pages() {
    let cloud = FakeEc2::new(400);
    let members: Vec<InstanceId> = cloud.state().instances.keys().map(InstanceId::new).collect();
    let desired_groups = desired([group("web", HTTP, &members.iter().collect::<Vec<_>>())]);
    converge(&attach_provider(&cloud), &desired_groups).await;
    assert_eq!(cloud.state().count("ModifyNetworkInterfaceAttribute"), 400);
    converge(&attach_provider(&cloud), &Desired::nothing()).await;
    assert!(cloud.state().interfaces.values().all(|interface| interface.groups == [NODES]));
}

#[tokio::test(start_paused = true)]
async fn lost_answer_to_a_creation_makes_no_second_group() {
    let cloud = FakeEc2::new(1);
    cloud.state().fault("CreateSecurityGroup", [Fault::AnswerLost]);
    converge(&attach_provider(&cloud), &web(HTTP)).await;
    assert_eq!(cloud.state().groups.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn call_after_the_fence_has_closed_is_not_sent() {
    let cloud = FakeEc2::new(1);
    let (start, fence) = (Instant::now(), Fence::closed(Instant::now().into_std()));
    let provider = attach_provider(&cloud).with_fence(fence.clone());
    let errors = apply_all(&provider, &web(HTTP)).await;
    assert!(errors.iter().any(|result| result.as_ref().is_err_and(|error| error.kind == ErrorKind::Fenced)));
    assert_eq!(cloud.state().count("CreateSecurityGroup"), 0);

    // The first try is refused; the second would be due after the end.
    fence.open_until((start + Duration::from_millis(200)).into_std());
    cloud.state().fault("CreateSecurityGroup", Fault::codes("RequestLimitExceeded", 1));
    let error = first_error(&provider, &web(HTTP)).await;
    assert_eq!((error.kind, error.reason()), (ErrorKind::Fenced, "Fenced"), "{error}");
    assert!(cloud.state().faults["CreateSecurityGroup"].is_empty(), "one was sent");
    assert_eq!(cloud.state().count("CreateSecurityGroup"), 0, "and no other");
}
