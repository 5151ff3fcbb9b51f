//! What EC2 does and the emulators do not: against the strict EC2 in memory, through the real SDK.

mod fake;

use std::collections::BTreeSet;
use std::time::Duration;

use firewall_aws::{Aws, AwsConfig, AwsResource, CLUSTER_TAG, Ec2Action, Mode, SharedTargets};
use firewall_model::conformance::{converge, desired, group, planned};
use firewall_model::{
    Action, Applied, Desired, FirewallProvider, InstanceId, Owner, ProviderError, Resource,
};
use tokio::time::Instant;

use fake::{DEFAULT_VPC, FakeEc2, Fault, Group, NODES, Rule, State, VPC};

fn attach(cloud: &FakeEc2) -> Aws {
    Aws::from_client(&cloud.client(), AwsConfig::new("test")).unwrap()
}

fn shared(cloud: &FakeEc2) -> Aws {
    let targets = SharedTargets { ids: BTreeSet::from([NODES.to_owned()]), tag: None };
    let config = AwsConfig { mode: Mode::Shared(targets), ..AwsConfig::new("test") };
    Aws::from_client(&cloud.client(), config).unwrap()
}

fn id(text: &str) -> InstanceId {
    InstanceId::new(text)
}

/// A group `web` with these rules on `i-01`.
fn web(rules: &[&str]) -> Desired {
    desired([group("web", rules, &[&id("i-01")])])
}

const HTTP: &[&str] = &["tcp/80 0.0.0.0/0"];

/// The one group that is the cluster's, if there is one.
fn ours(state: &State) -> Option<(String, Group)> {
    let tagged = |group: &&Group| group.tags.get(CLUSTER_TAG).is_some_and(|cluster| cluster == "test");
    state.groups.iter().find(|(_, group)| tagged(group)).map(|(id, group)| (id.clone(), group.clone()))
}

/// Plans and applies without stopping at errors; returns what came of each step.
async fn attempt(provider: &Aws, desired: &Desired) -> Vec<Result<Applied, ProviderError>> {
    let (plan, _) = planned(provider, desired).await.unwrap();
    let mut results = Vec::new();
    for step in &plan.steps {
        results.push(provider.apply(&step.action).await);
    }
    results
}

async fn first_error(provider: &Aws, desired: &Desired) -> ProviderError {
    attempt(provider, desired).await.into_iter().find_map(Result::err).expect("an error")
}

async fn reasons(provider: &Aws, desired: &Desired) -> Vec<&'static str> {
    let observed = provider.observe(&desired.members()).await.unwrap();
    provider.compile(desired, &observed.inventory).rejections.iter().map(|one| one.reason).collect()
}

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
async fn a_group_that_ec2_does_not_know_everywhere_yet_is_waited_for() {
    let cloud = FakeEc2::new(1);
    cloud.state().lag = 5;
    converge(&attach(&cloud), &web(HTTP)).await;
    assert_eq!(cloud.state().count("CreateSecurityGroup"), 1);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_propagation_ends() {
    let cloud = FakeEc2::new(1);
    cloud.state().lag = 10_000;
    let start = Instant::now();
    let error = first_error(&attach(&cloud), &web(HTTP)).await;
    assert_eq!(error.reason(), "NotFound");
    assert!((20..60).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn throttling_slows_down_and_fails_nothing() {
    let cloud = FakeEc2::new(1);
    for action in ["DescribeSecurityGroups", "CreateSecurityGroup", "ModifyNetworkInterfaceAttribute"] {
        cloud.state().fault(action, (0..6).map(|_| Fault::Code("RequestLimitExceeded")));
    }
    let start = Instant::now();
    converge(&attach(&cloud), &web(HTTP)).await;
    assert!(start.elapsed() > Duration::from_mins(1), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn throttling_without_end_becomes_an_error() {
    let cloud = FakeEc2::new(1);
    cloud.state().fault("DescribeSecurityGroups", (0..100).map(|_| Fault::Code("RequestLimitExceeded")));
    let error = attach(&cloud).observe(&BTreeSet::new()).await.unwrap_err();
    assert_eq!(error.reason(), "Throttled");
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_missing_is_an_error_and_not_an_empty_list() {
    let cloud = FakeEc2::new(5);
    let members: Vec<InstanceId> = (1..=5).map(|n| id(&format!("i-{n:02x}"))).collect();
    let wanted = desired([group("web", HTTP, &members.iter().collect::<Vec<_>>())]);
    converge(&attach(&cloud), &wanted).await;
    let faults = std::iter::once(Fault::None).chain((0..100).map(|_| Fault::Code("InternalError")));
    cloud.state().fault("DescribeNetworkInterfaces", faults);
    let error = attach(&cloud).observe(&wanted.members()).await.unwrap_err();
    assert_eq!(error.reason(), "Unavailable");
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_members_are_read_in_batches_and_pages() {
    let cloud = FakeEc2::new(400);
    let members: Vec<InstanceId> = cloud.state().instances.keys().map(InstanceId::new).collect();
    let wanted = desired([group("web", HTTP, &members.iter().collect::<Vec<_>>())]);
    converge(&attach(&cloud), &wanted).await;
    assert_eq!(cloud.state().count("ModifyNetworkInterfaceAttribute"), 400);
    converge(&attach(&cloud), &Desired::nothing()).await;
    assert!(cloud.state().interfaces.values().all(|interface| interface.groups == [NODES]));
}

#[tokio::test(start_paused = true)]
async fn authorizing_what_is_there_already_adds_only_what_is_missing() {
    let cloud = FakeEc2::new(1);
    let provider = attach(&cloud);
    converge(&provider, &web(&["tcp/80 10.0.0.0/8"])).await;
    let (plan, _) =
        planned(&provider, &web(&["tcp/80 10.0.0.0/8", "tcp/80 192.0.2.0/24", "tcp/80 ::/0"])).await.unwrap();
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
    let (plan, _) = planned(&provider, &web(&["tcp/80 ::/0"])).await.unwrap();
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
    assert!(matches!(error, ProviderError::InUse { .. }), "{error}");
    assert!((3..=6).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert_eq!(*cloud.state().groups_of("i-01"), [NODES], "it is on no interface meanwhile");
    let (first, longest) = error.retry().delays();
    assert!(first <= Duration::from_secs(2) && longest <= Duration::from_mins(1), "{first:?} {longest:?}");
    ours(&cloud.state()).expect("it is there still");
    for group in cloud.state().groups.values_mut() {
        group.linger = 0;
    }
    converge(&provider, &Desired::nothing()).await;
    assert!(ours(&cloud.state()).is_none());
}

#[tokio::test(start_paused = true)]
async fn what_goes_on_failing_is_left_to_a_later_pass_and_throttling_in_between_is_waited_for() {
    let cloud = FakeEc2::new(1);
    let provider = attach(&cloud);
    for code in ["InternalError", "IncorrectState"] {
        cloud.state().fault("CreateSecurityGroup", (0..100).map(|_| Fault::Code(code)));
        let start = Instant::now();
        assert_eq!(first_error(&provider, &web(HTTP)).await.reason(), "Unavailable");
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
        assert_eq!(cloud.state().faults["CreateSecurityGroup"].len(), 96);
        cloud.state().faults.clear();
    }
    let throttled = || (0..6).map(|_| Fault::Code("RequestLimitExceeded"));
    let faults = std::iter::once(Fault::Code("Unavailable")).chain(throttled());
    cloud.state().fault("CreateSecurityGroup", faults);
    converge(&provider, &web(HTTP)).await;
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
async fn a_new_group_takes_no_room_from_one_that_is_open_in_a_shared_group() {
    let cloud = FakeEc2::new(1);
    let targets = SharedTargets { ids: BTreeSet::from([NODES.to_owned()]), tag: None };
    let config = AwsConfig { mode: Mode::Shared(targets), rules_per_group: 2, ..AwsConfig::new("test") };
    let provider = Aws::from_client(&cloud.client(), config).unwrap();
    let node = id("i-01");
    let zeta = group("zeta", &["tcp/80 10.0.0.0/8", "tcp/443 10.0.0.0/8"], &[&node]);
    converge(&provider, &desired([zeta.clone()])).await;
    let both = desired([group("alpha", &["udp/53 10.0.0.0/8"], &[&node]), zeta]);
    assert_eq!(reasons(&provider, &both).await, ["TooManyRules"]);
    assert_eq!(converge(&provider, &both).await, 0);
    assert_eq!(cloud.state().groups[NODES].ingress(), ["tcp 443 443 10.0.0.0/8", "tcp 80 80 10.0.0.0/8"]);
}

#[tokio::test(start_paused = true)]
async fn a_group_on_an_interface_that_is_not_ours_to_change_is_in_use() {
    let cloud = FakeEc2::new(1);
    converge(&attach(&cloud), &web(HTTP)).await;
    let (sg, _) = ours(&cloud.state()).unwrap();
    let secondary = cloud.state().add_interface("i-01", &[NODES, &sg]);
    let error = first_error(&attach(&cloud), &Desired::nothing()).await;
    assert!(
        matches!(&error, ProviderError::InUse { message, .. } if message.contains(&secondary)),
        "{error}"
    );
    assert_eq!(cloud.state().interfaces[&secondary].groups, [NODES, &sg], "the copy is not touched");
    assert_eq!(*cloud.state().groups_of("i-01"), [NODES], "the primary interface is free of it");
    assert_eq!(cloud.state().count("DeleteSecurityGroup"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_lost_our_tag_is_not_deleted() {
    let cloud = FakeEc2::new(1);
    let provider = attach(&cloud);
    converge(&provider, &web(HTTP)).await;
    let (plan, _) = planned(&provider, &Desired::nothing()).await.unwrap();
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
    assert_eq!(error.reason(), "Refused", "{error}");
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
async fn a_lost_answer_to_a_creation_is_not_a_second_group() {
    let cloud = FakeEc2::new(1);
    cloud.state().fault("CreateSecurityGroup", [Fault::AnswerLost]);
    converge(&attach(&cloud), &web(HTTP)).await;
    assert_eq!(cloud.state().groups.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_somebody_else_holds_is_a_conflict_that_names_the_holder() {
    let cloud = FakeEc2::new(1);
    let provider = attach(&cloud);
    let (plan, _) = planned(&provider, &web(HTTP)).await.unwrap();
    let Action::Create(AwsResource::SecurityGroup(wanted)) = &plan.steps[0].action else {
        panic!("{plan:?}")
    };
    cloud
        .state()
        .groups
        .insert("sg-beef".into(), Group::new(VPC, &wanted.name.name, &[(CLUSTER_TAG, "other")]));
    let error = provider.apply(&plan.steps[0].action).await.unwrap_err();
    assert!(
        matches!(&error, ProviderError::Conflict { message, .. } if message.contains("sg-beef")),
        "{error}"
    );
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
async fn a_denied_call_names_the_permission() {
    let cloud = FakeEc2::new(1);
    let all = Ec2Action::ATTACH.iter().map(ToString::to_string);
    cloud.state().granted = all.filter(|action| action != "RevokeSecurityGroupEgress").collect();
    let results = attempt(&attach(&cloud), &web(HTTP)).await;
    let Err(ProviderError::Denied { action, .. }) = &results[0] else { panic!("{results:?}") };
    assert_eq!(action, "ec2:RevokeSecurityGroupEgress");
    cloud.state().granted = Ec2Action::ATTACH.iter().map(ToString::to_string).collect();
    cloud.state().granted.remove("CreateTags");
    let results = attempt(&attach(&cloud), &web(&["udp/53 ::/0"])).await;
    let denied = results.iter().find_map(|result| match result {
        Err(ProviderError::Denied { action, .. }) => Some(action.as_str()),
        _ => None,
    });
    assert_eq!(denied, Some("ec2:CreateTags"));
}

#[tokio::test(start_paused = true)]
async fn with_voyagers_policy_groups_go_by_the_instance_and_the_egress_that_stays_is_said() {
    let cloud = FakeEc2::new(2);
    cloud.state().granted = Ec2Action::VOYAGER.iter().map(ToString::to_string).collect();
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
    let (plan, _) = planned(&provider, &Desired::nothing()).await.unwrap();
    cloud.state().instances.clear();
    cloud.state().interfaces.clear();
    for step in &plan.steps {
        provider.apply(&step.action).await.unwrap();
    }
    assert!(ours(&cloud.state()).is_none());
}

#[tokio::test(start_paused = true)]
async fn shared_rules_live_beside_those_of_others_and_need_few_permissions() {
    let cloud = FakeEc2::new(1);
    cloud.state().granted = Ec2Action::SHARED.iter().map(ToString::to_string).collect();
    let theirs = ["tcp 22 22 cidrIp 10.0.0.0/8", "tcp 80 80 cidrIp 0.0.0.0/0"].map(Rule::ingress);
    cloud.state().groups.get_mut(NODES).unwrap().rules.extend(theirs.clone());
    let wanted = web(&["tcp/80 0.0.0.0/0", "tcp/443 0.0.0.0/0", "udp/53 ::/0"]);
    let provider = shared(&cloud);
    assert_eq!(reasons(&provider, &wanted).await, ["AlreadyOpen"]);
    converge(&provider, &wanted).await;
    let expected = ["tcp 22 22 10.0.0.0/8", "tcp 443 443 0.0.0.0/0", "tcp 80 80 0.0.0.0/0", "udp 53 53 ::/0"];
    assert_eq!(cloud.state().groups[NODES].ingress(), expected);
    converge(&shared(&cloud), &web(&["udp/53 ::/0", "udp/54 10.0.0.0/8"])).await;
    converge(&shared(&cloud), &Desired::nothing()).await;
    assert_eq!(cloud.state().groups[NODES].ingress(), ["tcp 22 22 10.0.0.0/8", "tcp 80 80 0.0.0.0/0"]);
    assert_eq!(cloud.state().groups[NODES].egress(), 2, "egress is none of our business there");
    assert_eq!(*cloud.state().groups_of("i-01"), [NODES]);
}

#[tokio::test(start_paused = true)]
async fn shared_rules_survive_races_and_lost_answers() {
    let cloud = FakeEc2::new(1);
    cloud.state().fault("AuthorizeSecurityGroupIngress", [Fault::AnswerLost]);
    converge(&shared(&cloud), &web(&["tcp/80 0.0.0.0/0", "tcp/443 0.0.0.0/0"])).await;
    let provider = shared(&cloud);
    let (plan, _) = planned(&provider, &Desired::nothing()).await.unwrap();
    cloud.state().groups.get_mut(NODES).unwrap().rules.retain(|rule| rule.from != "80");
    provider.apply(&plan.steps[0].action).await.unwrap();
    assert_eq!(cloud.state().groups[NODES].ingress(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_shared_rule_of_ours_that_somebody_widened_is_taken_back() {
    let cloud = FakeEc2::new(1);
    converge(&shared(&cloud), &web(HTTP)).await;
    {
        let mut state = cloud.state();
        let rules = &mut state.groups.get_mut(NODES).unwrap().rules;
        let ours = rules.iter_mut().find(|rule| !rule.egress).unwrap();
        (ours.protocol, ours.from, ours.to) = ("-1".into(), String::new(), String::new());
    }
    converge(&shared(&cloud), &web(HTTP)).await;
    assert_eq!(cloud.state().groups[NODES].ingress(), ["tcp 80 80 0.0.0.0/0"]);
}

#[tokio::test(start_paused = true)]
async fn only_what_is_ours_is_ever_a_resource() {
    let cloud = FakeEc2::new(1);
    converge(&attach(&cloud), &web(HTTP)).await;
    let observed = attach(&cloud).observe(&BTreeSet::new()).await.unwrap();
    assert_eq!(observed.resources.len(), 2);
    assert!(observed.resources.values().all(|resource| resource.owner() == Owner::Ours));
}
