//! The life of a security group, and whose it is.

use std::collections::BTreeSet;
use std::time::Duration;

use firewall_aws::{Aws, AwsConfig, AwsResource, CLUSTER_TAG};
use firewall_core::testing::conformance::{converge, observe_and_plan};
use firewall_core::{Action, Desired, ErrorKind, FirewallProvider, Owner, Resource};
use tokio::time::Instant;

use crate::fake::{DEFAULT_VPC, FakeEc2, Fault, Group, NODES, Rule, VPC};
use crate::{HTTP, attach, attempt, first_error, ours, web};

#[tokio::test(start_paused = true)]
async fn a_new_group_has_its_egress_revoked_before_it_is_attached() {
    let cloud = FakeEc2::new(1);
    converge(&attach(&cloud), &web(&["tcp/80 0.0.0.0/0", "tcp/80 ::/0"])).await;
    let expected = [
        "CreateSecurityGroup",
        "RevokeSecurityGroupEgress",
        "AuthorizeSecurityGroupIngress",
        "ModifyNetworkInterfaceAttribute",
    ];
    assert_eq!(cloud.state().mutations(), expected);
    let (id, group) = ours(&cloud.state()).unwrap();
    assert_eq!((group.egress(), group.ingress().len()), (0, 2));
    assert_eq!(*cloud.state().groups_of("i-01"), [NODES, &id]);
    assert!(
        group.tags.keys().all(|key| !key.starts_with("kubernetes.io/") && !key.starts_with("karpenter.sh/"))
    );
}

#[tokio::test(start_paused = true)]
async fn the_steady_state_makes_no_mutating_call() {
    let cloud = FakeEc2::new(1);
    converge(&attach(&cloud), &web(HTTP)).await;
    cloud.state().calls.clear();
    assert_eq!(converge(&attach(&cloud), &web(HTTP)).await, 0);
    assert_eq!(cloud.state().mutations(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_sources_is_one_authorize_and_one_revoke() {
    let cloud = FakeEc2::new(1);
    converge(&attach(&cloud), &web(&["tcp/80 10.0.0.0/8", "tcp/443 10.0.0.0/8"])).await;
    cloud.state().calls.clear();
    converge(&attach(&cloud), &web(&["tcp/80 192.0.2.0/24", "tcp/443 192.0.2.0/24"])).await;
    assert_eq!(cloud.state().mutations(), ["AuthorizeSecurityGroupIngress", "RevokeSecurityGroupIngress"]);
}

#[tokio::test(start_paused = true)]
async fn authorizing_what_is_there_already_adds_only_what_is_missing() {
    let cloud = FakeEc2::new(1);
    let provider = attach(&cloud);
    converge(&provider, &web(&["tcp/80 10.0.0.0/8"])).await;
    let (plan, _) =
        observe_and_plan(&provider, &web(&["tcp/80 10.0.0.0/8", "tcp/80 192.0.2.0/24", "tcp/80 ::/0"]))
            .await
            .unwrap();
    let (sg, _) = ours(&cloud.state()).unwrap();
    let sneaked = Rule::ingress("tcp 80 80 cidrIpv6 ::/0");
    cloud.state().groups.get_mut(&sg).unwrap().rules.push(sneaked);
    provider.apply(&plan.steps[0].action).await.unwrap();
    assert_eq!(ours(&cloud.state()).unwrap().1.ingress().len(), 3);
}

/// Revokes two rules of which one has gone meanwhile.
async fn revoking_what_has_gone(vpc: &str) {
    let cloud = FakeEc2::new(0);
    {
        let mut state = cloud.state();
        state.groups.insert("sg-0001".into(), Group::new(vpc, "n", &[("kubernetes.io/cluster/test", "")]));
        state.add_instance("i-01", vpc, &["sg-0001"]);
    }
    let provider = attach(&cloud);
    converge(&provider, &web(&["tcp/80 10.0.0.0/8", "tcp/80 192.0.2.0/24", "tcp/80 ::/0"])).await;
    let (plan, _) = observe_and_plan(&provider, &web(&["tcp/80 ::/0"])).await.unwrap();
    let (sg, _) = ours(&cloud.state()).unwrap();
    cloud.state().groups.get_mut(&sg).unwrap().rules.retain(|rule| rule.source != "10.0.0.0/8");
    provider.apply(&plan.steps[0].action).await.unwrap();
    assert_eq!(ours(&cloud.state()).unwrap().1.ingress(), ["tcp 80 80 ::/0"]);
}

#[tokio::test(start_paused = true)]
async fn revoking_what_has_gone_in_a_default_vpc() {
    revoking_what_has_gone(DEFAULT_VPC).await;
}

#[tokio::test(start_paused = true)]
async fn revoking_what_has_gone_in_another_vpc_where_nothing_is_revoked_then() {
    revoking_what_has_gone(VPC).await;
}

#[tokio::test(start_paused = true)]
async fn deleting_waits_until_the_last_use_has_ended() {
    let cloud = FakeEc2::new(1);
    cloud.state().linger = 4;
    converge(&attach(&cloud), &web(HTTP)).await;
    converge(&attach(&cloud), &Desired::nothing()).await;
    assert!(ours(&cloud.state()).is_none());
}

#[tokio::test(start_paused = true)]
async fn deleting_what_stays_in_use_holds_nothing_up() {
    let cloud = FakeEc2::new(1);
    cloud.state().linger = 1000;
    converge(&attach(&cloud), &web(HTTP)).await;
    let provider = attach(&cloud);
    let start = Instant::now();
    let error = first_error(&provider, &Desired::nothing()).await;
    assert!(error.kind == ErrorKind::InUse, "{error}");
    assert!((3..=6).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert_eq!(*cloud.state().groups_of("i-01"), [NODES], "it is on no interface meanwhile");
    let (first, longest) = error.kind.retry().delays();
    assert!(first <= Duration::from_secs(2) && longest <= Duration::from_mins(1), "{first:?} {longest:?}");
    ours(&cloud.state()).expect("it is there still");
    for group in cloud.state().groups.values_mut() {
        group.linger = 0;
    }
    converge(&provider, &Desired::nothing()).await;
    assert!(ours(&cloud.state()).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_group_on_an_interface_that_is_not_ours_to_change_is_in_use() {
    let cloud = FakeEc2::new(1);
    converge(&attach(&cloud), &web(HTTP)).await;
    let (sg, _) = ours(&cloud.state()).unwrap();
    let secondary = cloud.state().add_interface("i-01", &[NODES, &sg]);
    let error = first_error(&attach(&cloud), &Desired::nothing()).await;
    assert!(error.kind == ErrorKind::InUse && error.message.contains(&secondary), "{error}");
    assert_eq!(cloud.state().interfaces[&secondary].groups, [NODES, &sg], "the copy is not touched");
    assert_eq!(*cloud.state().groups_of("i-01"), [NODES], "the primary interface is free of it");
    assert_eq!(cloud.state().count("DeleteSecurityGroup"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_lost_our_tag_is_not_deleted() {
    let cloud = FakeEc2::new(1);
    let provider = attach(&cloud);
    converge(&provider, &web(HTTP)).await;
    let (plan, _) = observe_and_plan(&provider, &Desired::nothing()).await.unwrap();
    let (sg, _) = ours(&cloud.state()).unwrap();
    cloud.state().groups.get_mut(&sg).unwrap().tags.clear();
    let mut results = Vec::new();
    for step in &plan.steps {
        results.push(provider.apply(&step.action).await);
    }
    assert_eq!(results.last().unwrap().as_ref().unwrap_err().reason(), "Conflict");
    assert!(cloud.state().groups.contains_key(&sg));
}

#[tokio::test(start_paused = true)]
async fn a_name_that_somebody_else_holds_is_a_conflict_that_names_the_holder() {
    let cloud = FakeEc2::new(1);
    let provider = attach(&cloud);
    let (plan, _) = observe_and_plan(&provider, &web(HTTP)).await.unwrap();
    let Action::Create(AwsResource::SecurityGroup(wanted)) = &plan.steps[0].action else {
        panic!("{plan:?}")
    };
    cloud
        .state()
        .groups
        .insert("sg-beef".into(), Group::new(VPC, &wanted.name.name, &[(CLUSTER_TAG, "other")]));
    let error = provider.apply(&plan.steps[0].action).await.unwrap_err();
    assert!(error.kind == ErrorKind::Conflict && error.message.contains("sg-beef"), "{error}");
    assert_eq!(cloud.state().groups["sg-beef"].egress(), 2, "it is not touched");
}

#[tokio::test(start_paused = true)]
async fn killed_between_any_two_calls_the_next_converges_and_nothing_wider_was_ever_attached() {
    let mut survived = 0;
    loop {
        let cloud = FakeEc2::new(1);
        {
            let mut state = cloud.state();
            // After so many mutating calls EC2 answers no more.
            let actions =
                ["CreateSecurityGroup", "RevokeSecurityGroupEgress", "AuthorizeSecurityGroupIngress"];
            for action in actions.iter().skip(survived) {
                state.fault(action, [Fault::Code("SomethingNew")]);
            }
        }
        let results = attempt(&attach(&cloud), &web(HTTP)).await;
        let attached = cloud.state().groups_of("i-01").clone();
        if attached.len() > 1 {
            assert_eq!(ours(&cloud.state()).unwrap().1.egress(), 0);
        }
        cloud.state().faults.clear();
        converge(&attach(&cloud), &web(HTTP)).await;
        let (_, group) = ours(&cloud.state()).unwrap();
        assert_eq!((group.egress(), group.ingress().len()), (0, 1));
        if results.iter().all(Result::is_ok) {
            break;
        }
        survived += 1;
    }
    assert_eq!(survived, 3);
}

#[tokio::test(start_paused = true)]
async fn egress_that_came_back_is_revoked_and_strays_too() {
    let cloud = FakeEc2::new(1);
    converge(&attach(&cloud), &web(HTTP)).await;
    let (sg, _) = ours(&cloud.state()).unwrap();
    {
        let mut state = cloud.state();
        let egress = state.groups[NODES].rules.clone();
        let rules = &mut state.groups.get_mut(&sg).unwrap().rules;
        rules.extend(egress.into_iter().filter(|rule| rule.egress));
        rules.push(Rule::ingress("tcp 0 65535 groupId sg-0000"));
        rules.push(Rule::ingress("icmp 8 -1 cidrIp 0.0.0.0/0"));
    }
    converge(&attach(&cloud), &web(HTTP)).await;
    let (_, group) = ours(&cloud.state()).unwrap();
    assert_eq!((group.egress(), group.ingress()), (0, vec!["tcp 80 80 0.0.0.0/0".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn another_clusters_groups_are_not_seen() {
    let cloud = FakeEc2::new(1);
    let other = Aws::from_client(&cloud.client(), AwsConfig::new("other")).unwrap();
    converge(&other, &web(HTTP)).await;
    let before = cloud.state().groups.keys().cloned().collect::<Vec<_>>();
    let observed = attach(&cloud).observe(&BTreeSet::new()).await.unwrap();
    assert!(observed.resources.is_empty());
    converge(&attach(&cloud), &web(&["udp/53 ::/0"])).await;
    converge(&attach(&cloud), &Desired::nothing()).await;
    assert_eq!(cloud.state().groups.keys().cloned().collect::<Vec<_>>(), before);
    assert_eq!(cloud.state().groups_of("i-01").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn only_what_is_ours_is_ever_a_resource() {
    let cloud = FakeEc2::new(1);
    converge(&attach(&cloud), &web(HTTP)).await;
    let observed = attach(&cloud).observe(&BTreeSet::new()).await.unwrap();
    assert_eq!(observed.resources.len(), 2);
    assert!(observed.resources.values().all(|resource| resource.owner() == Owner::Ours));
}
