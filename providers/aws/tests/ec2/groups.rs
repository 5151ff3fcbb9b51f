//! The lifecycle of a security group, and its ownership.

use std::collections::BTreeSet;
use std::time::Duration;

use firewall_aws::{Aws, AwsConfig, AwsResource, CLUSTER_TAG};
use firewall_core::testing::conformance::{converge, observe_and_plan};
use firewall_core::{Action, Desired, ErrorKind, FirewallProvider, Owner, Resource};
use tokio::time::Instant;

use crate::fake::{DEFAULT_VPC, FakeEc2, Fault, Group, NODES, Rule, VPC};
use crate::{HTTP, apply_all, apply_plan, attach_provider, first_error, own_group, web};

#[tokio::test(start_paused = true)]
async fn egress_of_a_new_group_is_revoked_before_it_is_attached() {
    let cloud = FakeEc2::new(1);
    converge(&attach_provider(&cloud), &web(&["tcp/80 0.0.0.0/0", "tcp/80 ::/0"])).await;
    let expected = [
        "CreateSecurityGroup",
        "RevokeSecurityGroupEgress",
        "AuthorizeSecurityGroupIngress",
        "ModifyNetworkInterfaceAttribute",
    ];
    assert_eq!(cloud.state().mutations(), expected);
    let (id, group) = own_group(&cloud).unwrap();
    assert_eq!((group.egress(), group.ingress().len()), (0, 2));
    assert_eq!(*cloud.state().groups_of("i-01"), [NODES, &id]);
    assert!(
        group.tags.keys().all(|key| !key.starts_with("kubernetes.io/") && !key.starts_with("karpenter.sh/"))
    );
}

#[tokio::test(start_paused = true)]
async fn tags_of_the_administrator_are_on_all_that_is_created() {
    let cloud = FakeEc2::new(1);
    cloud.state().demanded_tag = Some("cost-center");
    assert_eq!(first_error(&attach_provider(&cloud), &web(HTTP)).await.kind, ErrorKind::PermissionDenied);
    let tags = vec![("cost-center".to_owned(), "7".to_owned())];
    let config = AwsConfig { tags, ..AwsConfig::new("test") };
    converge(&Aws::from_client(&cloud.client(), config).unwrap(), &web(HTTP)).await;
    let (_, group) = own_group(&cloud).expect("a group");
    assert_eq!(group.tags.get("cost-center").map(String::as_str), Some("7"));
    assert!(group.rules.iter().all(|rule| rule.tags.get("cost-center").is_some_and(|value| value == "7")));
    assert!(!group.rules.is_empty());
}

#[tokio::test(start_paused = true)]
async fn steady_state_makes_no_mutating_call() {
    let cloud = FakeEc2::new(1);
    converge(&attach_provider(&cloud), &web(HTTP)).await;
    cloud.state().calls.clear();
    assert_eq!(converge(&attach_provider(&cloud), &web(HTTP)).await, 0);
    assert_eq!(cloud.state().mutations(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn change_of_sources_is_one_authorize_and_one_revoke() {
    let cloud = FakeEc2::new(1);
    converge(&attach_provider(&cloud), &web(&["tcp/80 10.0.0.0/8", "tcp/443 10.0.0.0/8"])).await;
    cloud.state().calls.clear();
    converge(&attach_provider(&cloud), &web(&["tcp/80 192.0.2.0/24", "tcp/443 192.0.2.0/24"])).await;
    assert_eq!(cloud.state().mutations(), ["AuthorizeSecurityGroupIngress", "RevokeSecurityGroupIngress"]);
}

#[tokio::test(start_paused = true)]
async fn authorizing_an_existing_rule_adds_only_the_missing_ones() {
    let cloud = FakeEc2::new(1);
    let provider = attach_provider(&cloud);
    converge(&provider, &web(&["tcp/80 10.0.0.0/8"])).await;
    let (plan, _) =
        observe_and_plan(&provider, &web(&["tcp/80 10.0.0.0/8", "tcp/80 192.0.2.0/24", "tcp/80 ::/0"]))
            .await
            .unwrap();
    let (sg, _) = own_group(&cloud).unwrap();
    let added = Rule::ingress("tcp 80 80 cidrIpv6 ::/0");
    cloud.state().groups.get_mut(&sg).unwrap().rules.push(added);
    provider.apply(&plan.steps[0].action).await.unwrap();
    assert_eq!(own_group(&cloud).unwrap().1.ingress().len(), 3);
}

/// Revokes two rules of which one was removed meanwhile. Outside a default VPC, EC2 then revokes nothing.
async fn revoke_with_a_missing_rule(vpc: &str) {
    let cloud = FakeEc2::new(0);
    {
        let mut state = cloud.state();
        state.groups.insert("sg-0001".into(), Group::new(vpc, "n", &[("kubernetes.io/cluster/test", "")]));
        state.add_instance("i-01", vpc, &["sg-0001"]);
    }
    let provider = attach_provider(&cloud);
    converge(&provider, &web(&["tcp/80 10.0.0.0/8", "tcp/80 192.0.2.0/24", "tcp/80 ::/0"])).await;
    let (plan, _) = observe_and_plan(&provider, &web(&["tcp/80 ::/0"])).await.unwrap();
    let (sg, _) = own_group(&cloud).unwrap();
    cloud.state().groups.get_mut(&sg).unwrap().rules.retain(|rule| rule.source != "10.0.0.0/8");
    provider.apply(&plan.steps[0].action).await.unwrap();
    assert_eq!(own_group(&cloud).unwrap().1.ingress(), ["tcp 80 80 ::/0"]);
}

#[tokio::test(start_paused = true)]
async fn missing_rule_does_not_stop_a_revoke_in_a_default_vpc() {
    revoke_with_a_missing_rule(DEFAULT_VPC).await;
}

#[tokio::test(start_paused = true)]
async fn missing_rule_does_not_stop_a_revoke_in_another_vpc() {
    revoke_with_a_missing_rule(VPC).await;
}

#[tokio::test(start_paused = true)]
async fn deleting_waits_until_the_last_use_has_ended() {
    let cloud = FakeEc2::new(1);
    cloud.state().detach_lag = 4;
    converge(&attach_provider(&cloud), &web(HTTP)).await;
    converge(&attach_provider(&cloud), &Desired::nothing()).await;
    assert!(own_group(&cloud).is_none());
}

#[tokio::test(start_paused = true)]
async fn deleting_a_group_that_stays_in_use_is_soon_given_up() {
    let cloud = FakeEc2::new(1);
    cloud.state().detach_lag = 1000;
    converge(&attach_provider(&cloud), &web(HTTP)).await;
    let provider = attach_provider(&cloud);
    let start = Instant::now();
    let error = first_error(&provider, &Desired::nothing()).await;
    assert!(error.kind == ErrorKind::InUse, "{error}");
    assert!((3..=6).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert_eq!(*cloud.state().groups_of("i-01"), [NODES], "it is on no interface meanwhile");
    let (first, longest) = error.kind.retry().delays();
    assert!(first <= Duration::from_secs(2) && longest <= Duration::from_mins(1), "{first:?} {longest:?}");
    own_group(&cloud).expect("it still exists");
    for group in cloud.state().groups.values_mut() {
        group.detach_lag = 0;
    }
    converge(&provider, &Desired::nothing()).await;
    assert!(own_group(&cloud).is_none());
}

#[tokio::test(start_paused = true)]
async fn group_on_a_secondary_interface_is_in_use() {
    let cloud = FakeEc2::new(1);
    converge(&attach_provider(&cloud), &web(HTTP)).await;
    let (sg, _) = own_group(&cloud).unwrap();
    let secondary = cloud.state().add_interface("i-01", &[NODES, &sg]);
    let error = first_error(&attach_provider(&cloud), &Desired::nothing()).await;
    assert!(error.kind == ErrorKind::InUse && error.message.contains(&secondary), "{error}");
    assert_eq!(cloud.state().interfaces[&secondary].groups, [NODES, &sg], "the copy is not touched");
    assert_eq!(*cloud.state().groups_of("i-01"), [NODES], "the primary interface is free of it");
    assert_eq!(cloud.state().count("DeleteSecurityGroup"), 0);
}

#[tokio::test(start_paused = true)]
async fn group_that_lost_our_tag_is_not_deleted() {
    let cloud = FakeEc2::new(1);
    let provider = attach_provider(&cloud);
    converge(&provider, &web(HTTP)).await;
    let (plan, _) = observe_and_plan(&provider, &Desired::nothing()).await.unwrap();
    let (sg, _) = own_group(&cloud).unwrap();
    cloud.state().groups.get_mut(&sg).unwrap().tags.clear();
    let results = apply_plan(&provider, &plan).await;
    assert_eq!(results.last().unwrap().as_ref().unwrap_err().reason(), "Conflict");
    assert!(cloud.state().groups.contains_key(&sg));
}

#[tokio::test(start_paused = true)]
async fn taken_name_is_a_conflict_that_names_the_other_group() {
    let cloud = FakeEc2::new(1);
    let provider = attach_provider(&cloud);
    let (plan, _) = observe_and_plan(&provider, &web(HTTP)).await.unwrap();
    let Action::Create(AwsResource::SecurityGroup(group)) = &plan.steps[0].action else { panic!("{plan:?}") };
    cloud
        .state()
        .groups
        .insert("sg-beef".into(), Group::new(VPC, &group.name.name, &[(CLUSTER_TAG, "other")]));
    let error = provider.apply(&plan.steps[0].action).await.unwrap_err();
    assert!(error.kind == ErrorKind::Conflict && error.message.contains("sg-beef"), "{error}");
    assert_eq!(cloud.state().groups["sg-beef"].egress(), 2, "it is not touched");
}

#[tokio::test(start_paused = true)]
async fn crash_between_calls_converges_and_attaches_nothing_wider() {
    let mut survived = 0;
    loop {
        let cloud = FakeEc2::new(1);
        {
            let mut state = cloud.state();
            // EC2 refuses all mutating calls after the first `survived`.
            let actions =
                ["CreateSecurityGroup", "RevokeSecurityGroupEgress", "AuthorizeSecurityGroupIngress"];
            for action in actions.iter().skip(survived) {
                state.fault(action, [Fault::Code("SomethingNew")]);
            }
        }
        let results = apply_all(&attach_provider(&cloud), &web(HTTP)).await;
        let attached = cloud.state().groups_of("i-01").clone();
        if attached.len() > 1 {
            assert_eq!(own_group(&cloud).unwrap().1.egress(), 0);
        }
        cloud.state().faults.clear();
        converge(&attach_provider(&cloud), &web(HTTP)).await;
        let (_, group) = own_group(&cloud).unwrap();
        assert_eq!((group.egress(), group.ingress().len()), (0, 1));
        if results.iter().all(Result::is_ok) {
            break;
        }
        survived += 1;
    }
    assert_eq!(survived, 3);
}

#[tokio::test(start_paused = true)]
async fn added_egress_and_foreign_permissions_are_revoked() {
    let cloud = FakeEc2::new(1);
    converge(&attach_provider(&cloud), &web(HTTP)).await;
    let (sg, _) = own_group(&cloud).unwrap();
    {
        let mut state = cloud.state();
        let egress = state.groups[NODES].rules.clone();
        let rules = &mut state.groups.get_mut(&sg).unwrap().rules;
        rules.extend(egress.into_iter().filter(|rule| rule.egress));
        rules.push(Rule::ingress("tcp 0 65535 groupId sg-0000"));
        rules.push(Rule::ingress("icmp 8 -1 cidrIp 0.0.0.0/0"));
    }
    converge(&attach_provider(&cloud), &web(HTTP)).await;
    let (_, group) = own_group(&cloud).unwrap();
    assert_eq!((group.egress(), group.ingress()), (0, vec!["tcp 80 80 0.0.0.0/0".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn groups_of_another_cluster_are_ignored() {
    let cloud = FakeEc2::new(1);
    let other = Aws::from_client(&cloud.client(), AwsConfig::new("other")).unwrap();
    converge(&other, &web(HTTP)).await;
    let before = cloud.state().groups.keys().cloned().collect::<Vec<_>>();
    let observed = attach_provider(&cloud).observe(&BTreeSet::new()).await.unwrap();
    assert!(observed.resources.is_empty());
    converge(&attach_provider(&cloud), &web(&["udp/53 ::/0"])).await;
    converge(&attach_provider(&cloud), &Desired::nothing()).await;
    assert_eq!(cloud.state().groups.keys().cloned().collect::<Vec<_>>(), before);
    assert_eq!(cloud.state().groups_of("i-01").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn only_our_objects_are_resources() {
    let cloud = FakeEc2::new(1);
    converge(&attach_provider(&cloud), &web(HTTP)).await;
    let observed = attach_provider(&cloud).observe(&BTreeSet::new()).await.unwrap();
    assert_eq!(observed.resources.len(), 2);
    assert!(observed.resources.values().all(|resource| resource.owner() == Owner::Ours));
}
