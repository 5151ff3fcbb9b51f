//! The security group that several firewall groups on one interface share.

use firewall_aws::{Aws, AwsConfig, AwsResource, CLUSTER_TAG};
use firewall_core::testing::conformance::{converge, desired, group};
use firewall_core::{Desired, FirewallProvider, Resource};

use crate::fake::{FakeEc2, Group, NODES, Rule, VPC};
use crate::{id, own_group};

/// Returns a provider for interfaces with two free slots.
fn two_slots(cloud: &FakeEc2) -> Aws {
    let config = AwsConfig { slots_per_interface: 3, ..AwsConfig::new("test") };
    Aws::from_client(&cloud.client(), config).unwrap()
}

/// Returns groups of these names on `i-01`, each with a port of its own: 80 for `a`, 82 for `b`, …
fn groups(names: &str) -> Desired {
    desired(names.chars().map(|name| {
        let port = 80 + 2 * (u32::from(name) - u32::from('a'));
        group(&name.to_string(), &[&format!("tcp/{port} 10.0.0.0/8")], &[&id("i-01")])
    }))
}

#[tokio::test(start_paused = true)]
async fn change_of_what_a_combined_group_holds_takes_two_calls() {
    let cloud = FakeEc2::new(1);
    let provider = two_slots(&cloud);
    converge(&provider, &groups("abc")).await;
    let (sg, _) = own_group(&cloud).expect("a combined group");
    cloud.state().calls.clear();
    converge(&provider, &groups("abd")).await;
    assert_eq!(cloud.state().mutations(), ["AuthorizeSecurityGroupIngress", "RevokeSecurityGroupIngress"]);
    let (same, edited) = own_group(&cloud).expect("the combined group");
    let ports = ["tcp 80 80 10.0.0.0/8", "tcp 82 82 10.0.0.0/8", "tcp 86 86 10.0.0.0/8"];
    assert_eq!((same, &edited.ingress()[..]), (sg, &ports.map(str::to_owned)[..]));

    // The tag that the group was created with cannot be changed: the rules say what they are for.
    let observed = provider.observe(&groups("abd").members()).await.unwrap();
    let labels = observed.resources.values().filter(|one| matches!(one, AwsResource::SecurityGroup(_)));
    let labels: Vec<String> = labels.flat_map(Resource::serves).collect();
    let expected = ["a tcp/80", "b tcp/82", "d tcp/86"].map(|one| format!("Deployment default/{one}"));
    assert_eq!(labels, expected);
}

#[tokio::test(start_paused = true)]
async fn combined_group_of_another_name_is_replaced_in_one_call() {
    let cloud = FakeEc2::new(1);
    let mut old = Group::new(VPC, "hostport-firewall-test-0123456789abcdef", &[(CLUSTER_TAG, "test")]);
    old.rules =
        [80, 82, 84].map(|port| Rule::ingress(&format!("tcp {port} {port} cidrIp 10.0.0.0/8"))).to_vec();
    cloud.state().groups.insert("sg-0ld".into(), old);
    *cloud.state().groups_of("i-01") = vec![NODES.into(), "sg-0ld".into()];
    converge(&two_slots(&cloud), &groups("abc")).await;
    let expected = [
        "CreateSecurityGroup",
        "RevokeSecurityGroupEgress",
        "AuthorizeSecurityGroupIngress",
        "ModifyNetworkInterfaceAttribute",
        "DeleteSecurityGroup",
    ];
    assert_eq!(cloud.state().mutations(), expected);
    let (sg, _) = own_group(&cloud).expect("a combined group");
    assert_eq!(*cloud.state().groups_of("i-01"), [NODES, &sg]);
}
