//! Rules in groups of the user's.

use std::collections::BTreeSet;

use firewall_aws::{ApiCall, Aws, AwsConfig, Mode, SharedTargets};
use firewall_core::testing::conformance::{converge, desired, group, observe_and_plan};
use firewall_core::{Desired, FirewallProvider};

use crate::fake::{FakeEc2, Fault, NODES, Rule};
use crate::{HTTP, id, reasons, shared, web};

#[tokio::test(start_paused = true)]
async fn shared_rules_live_beside_those_of_others_and_need_few_permissions() {
    let cloud = FakeEc2::new(1);
    cloud.state().granted = ApiCall::SHARED.iter().map(ToString::to_string).collect();
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
    let (plan, _) = observe_and_plan(&provider, &Desired::nothing()).await.unwrap();
    cloud.state().groups.get_mut(NODES).unwrap().rules.retain(|rule| rule.from != "80");
    provider.apply(&plan.steps[0].action).await.unwrap();
    assert_eq!(cloud.state().groups[NODES].ingress(), [""; 0]);
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
