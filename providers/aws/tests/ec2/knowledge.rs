//! Answers that leave something out which exists.

use std::collections::BTreeSet;

use firewall_aws::CLUSTER_TAG;
use firewall_core::testing::conformance::{converge, desired, group, observe_and_plan};
use firewall_core::{Desired, FirewallProvider, GONE_AFTER};

use crate::fake::{FakeEc2, Fault, Group, NODES, VPC};
use crate::{HTTP, attach_provider, id, own_group, reasons, shared_provider, web};

#[tokio::test(start_paused = true)]
async fn group_that_a_list_leaves_out_is_still_ours() {
    let cloud = FakeEc2::new(1);
    let provider = attach_provider(&cloud);
    converge(&provider, &web(HTTP)).await;
    let (sg, _) = own_group(&cloud).unwrap();
    cloud.state().hide("tag:", &sg);
    assert_eq!(observe_and_plan(&provider, &web(HTTP)).await.unwrap().0.steps, []);
    cloud.state().hide("group-id", &sg);
    let observed = provider.observe(&BTreeSet::from([id("i-01")])).await.unwrap();
    assert_eq!(observed.resources.len(), 2, "the group and its attachment: {observed:?}");
    cloud.state().groups.remove(&sg);
    cloud.state().groups_of("i-01").retain(|group| group == NODES);
    converge(&provider, &web(HTTP)).await;
    assert!(own_group(&cloud).is_some_and(|(new, _)| new != sg), "that it is gone is a fact too");
}

#[tokio::test(start_paused = true)]
async fn group_that_lost_our_tag_is_foreign_and_stays_attached() {
    let cloud = FakeEc2::new(2);
    let provider = attach_provider(&cloud);
    converge(&provider, &web(HTTP)).await;
    let (sg, _) = own_group(&cloud).unwrap();
    cloud.state().groups.get_mut(&sg).unwrap().tags.clear();
    cloud.state().calls.clear();
    let members = BTreeSet::from([id("i-01")]);
    let observed = provider.observe(&members).await.unwrap();
    assert!(observed.resources.is_empty(), "{observed:?}");
    assert!(observed.inventory.instances[&id("i-01")].foreign_groups.contains(&sg));
    assert_eq!(*cloud.state().groups_of("i-01"), [NODES, &sg], "what it lets in is still asked for");
    let other = desired([group("dns", &["udp/53 0.0.0.0/0"], &[&id("i-02")])]);
    converge(&provider, &other).await;
    assert_eq!(*cloud.state().groups_of("i-01"), [NODES, &sg], "nobody but its owner detaches it");
}

#[tokio::test(start_paused = true)]
async fn group_with_our_tag_and_another_name_is_foreign() {
    let cloud = FakeEc2::new(1);
    let company = Group::new(VPC, "bastion-access", &[(CLUSTER_TAG, "test")]);
    cloud.state().groups.insert("sg-c0de".into(), company.clone());
    *cloud.state().groups_of("i-01") = vec![NODES.into(), "sg-c0de".into()];
    let provider = attach_provider(&cloud);
    converge(&provider, &web(HTTP)).await;
    let groups = cloud.state().groups_of("i-01").clone();
    assert_eq!(
        (groups.len(), &groups[..2]),
        (3, &[NODES.to_owned(), "sg-c0de".to_owned()][..]),
        "ours is beside it"
    );
    converge(&provider, &Desired::nothing()).await;
    assert_eq!(*cloud.state().groups_of("i-01"), [NODES, "sg-c0de"], "nobody but its owner detaches it");
    assert_eq!(cloud.state().groups["sg-c0de"].ingress(), company.ingress());
}

#[tokio::test(start_paused = true)]
async fn attached_instance_is_known_by_its_interface() {
    let cloud = FakeEc2::new(1);
    converge(&attach_provider(&cloud), &web(HTTP)).await;
    cloud.state().hide("instance-id", "i-01");
    cloud.state().calls.clear();
    let provider = attach_provider(&cloud);
    for _ in 0..3 {
        assert_eq!(observe_and_plan(&provider, &web(HTTP)).await.unwrap().0.steps, []);
        assert_eq!(reasons(&provider, &web(HTTP)).await, [""; 0]);
        tokio::time::advance(GONE_AFTER).await;
    }
    assert_eq!(cloud.state().count("DescribeInstances"), 0, "it need not be asked about");
}

#[tokio::test(start_paused = true)]
async fn interface_that_an_answer_leaves_out_is_still_attached() {
    let cloud = FakeEc2::new(1);
    let provider = attach_provider(&cloud);
    converge(&provider, &web(HTTP)).await;
    let interface = cloud.state().instances["i-01"].interfaces[0].clone();
    cloud.state().hide("group-id", &interface);
    assert_eq!(observe_and_plan(&provider, &web(HTTP)).await.unwrap().0.steps, []);
}

#[tokio::test(start_paused = true)]
async fn instance_left_out_once_is_asked_for_once_more() {
    let cloud = FakeEc2::new(1);
    cloud.state().hide("instance-id", "i-01");
    cloud.state().fault("DescribeInstances", [Fault::then(|state| state.hidden.clear())]);
    assert_eq!(reasons(&attach_provider(&cloud), &web(HTTP)).await, [""; 0]);
    assert_eq!(cloud.state().count("DescribeInstances"), 2);
}

#[tokio::test(start_paused = true)]
async fn instance_that_is_left_out_is_unknown_for_a_minute() {
    for provider in [attach_provider, shared_provider] {
        let cloud = FakeEc2::new(1);
        let provider = provider(&cloud);
        cloud.state().hide("instance-id", "i-01");
        let members = BTreeSet::from([id("i-01")]);
        let observed = provider.observe(&members).await.unwrap();
        assert_eq!(observed.unknown_instances.keys().collect::<BTreeSet<_>>(), members.iter().collect());
        tokio::time::advance(GONE_AFTER / 2).await;
        assert_eq!(reasons(&provider, &web(HTTP)).await, ["InstanceUnknown"]);
        tokio::time::advance(GONE_AFTER / 2).await;
        assert_eq!(reasons(&provider, &web(HTTP)).await, ["InstanceNotFound"]);
        cloud.state().hidden.clear();
        assert_eq!(reasons(&provider, &web(HTTP)).await, [""; 0]);
        cloud.state().instances.get_mut("i-01").unwrap().state = "terminated";
        assert_eq!(reasons(&provider, &web(HTTP)).await, ["InstanceNotFound"], "that is a fact at once");
    }
}

#[tokio::test(start_paused = true)]
async fn node_group_that_an_answer_leaves_out_is_still_tagged() {
    let cloud = FakeEc2::new(1);
    let provider = attach_provider(&cloud);
    assert_eq!(reasons(&provider, &web(HTTP)).await, [""; 0]);
    cloud.state().hide("group-id", NODES);
    assert_eq!(reasons(&provider, &web(HTTP)).await, [""; 0]);
    cloud.state().hidden.clear();
    cloud.state().groups.insert(NODES.to_owned(), Group::new(VPC, "nodes", &[]));
    assert_eq!(reasons(&provider, &web(HTTP)).await, ["UntaggedNodeGroup"]);
}
