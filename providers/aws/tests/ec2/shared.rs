//! Our rules in the user's groups.

use firewall_aws::{ApiCall, Aws, AwsConfig};
use firewall_core::testing::conformance::{converge, desired, group, observe_and_plan};
use firewall_core::{Desired, FirewallProvider};

use crate::fake::{FakeEc2, Fault, NODES, Rule};
use crate::{HTTP, id, reasons, shared_config, shared_provider, web};

#[tokio::test(start_paused = true)]
async fn shared_rules_coexist_with_others_and_need_few_permissions() {
    let cloud = FakeEc2::new(1);
    cloud.state().grant(&ApiCall::SHARED);
    let foreign = ["tcp 22 22 cidrIp 10.0.0.0/8", "tcp 80 80 cidrIp 0.0.0.0/0"].map(Rule::ingress);
    cloud.state().groups.get_mut(NODES).unwrap().rules.extend(foreign.clone());
    let desired_groups = web(&["tcp/80 0.0.0.0/0", "tcp/443 0.0.0.0/0", "udp/53 ::/0"]);
    let provider = shared_provider(&cloud);
    assert_eq!(reasons(&provider, &desired_groups).await, ["AlreadyOpen"]);
    converge(&provider, &desired_groups).await;
    let expected = ["tcp 22 22 10.0.0.0/8", "tcp 443 443 0.0.0.0/0", "tcp 80 80 0.0.0.0/0", "udp 53 53 ::/0"];
    assert_eq!(cloud.state().groups[NODES].ingress(), expected);
    converge(&shared_provider(&cloud), &web(&["udp/53 ::/0", "udp/54 10.0.0.0/8"])).await;
    converge(&shared_provider(&cloud), &Desired::nothing()).await;
    assert_eq!(cloud.state().groups[NODES].ingress(), ["tcp 22 22 10.0.0.0/8", "tcp 80 80 0.0.0.0/0"]);
    assert_eq!(cloud.state().groups[NODES].egress(), 2, "mode shared leaves egress alone");
    assert_eq!(*cloud.state().groups_of("i-01"), [NODES]);
}

#[tokio::test(start_paused = true)]
async fn shared_rules_survive_races_and_lost_answers() {
    let cloud = FakeEc2::new(1);
    cloud.state().fault("AuthorizeSecurityGroupIngress", [Fault::AnswerLost]);
    converge(&shared_provider(&cloud), &web(&["tcp/80 0.0.0.0/0", "tcp/443 0.0.0.0/0"])).await;
    let provider = shared_provider(&cloud);
    let (plan, _) = observe_and_plan(&provider, &Desired::nothing()).await.unwrap();
    cloud.state().groups.get_mut(NODES).unwrap().rules.retain(|rule| rule.from != "80");
    provider.apply(&plan.steps[0].action).await.unwrap();
    assert_eq!(cloud.state().groups[NODES].ingress(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn newcomer_takes_no_capacity_from_an_open_shared_group() {
    let cloud = FakeEc2::new(1);
    let config = AwsConfig { rules_per_group: 2, ..shared_config() };
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
async fn altered_shared_rule_is_revoked() {
    let cloud = FakeEc2::new(1);
    converge(&shared_provider(&cloud), &web(HTTP)).await;
    {
        let mut state = cloud.state();
        let rules = &mut state.groups.get_mut(NODES).unwrap().rules;
        let ours = rules.iter_mut().find(|rule| !rule.egress).unwrap();
        (ours.protocol, ours.from, ours.to) = ("-1".into(), String::new(), String::new());
    }
    converge(&shared_provider(&cloud), &web(HTTP)).await;
    assert_eq!(cloud.state().groups[NODES].ingress(), ["tcp 80 80 0.0.0.0/0"]);
}
