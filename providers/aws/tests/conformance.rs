//! The provider-neutral conformance suite, against the strict EC2 in memory and against `LocalStack`.

mod fake;
#[path = "localstack/cloud.rs"]
mod localstack;

use firewall_aws::{Aws, AwsConfig};
use firewall_core::testing::conformance::{Harness, run};
use firewall_core::{IngressRule, InstanceId, RuleSet};

use fake::{FakeEc2, Rule};
use localstack::LocalStack;

/// The strict EC2, with all permissions of mode `attach` and no others.
struct Strict(FakeEc2);

impl Strict {
    fn tagged(&self, cluster: &str) -> Vec<(String, fake::Group)> {
        let state = self.0.state();
        let ours = state
            .groups
            .iter()
            .filter(|(_, group)| group.tags.get(firewall_aws::CLUSTER_TAG).is_some_and(|tag| tag == cluster));
        ours.map(|(id, group)| (id.clone(), group.clone())).collect()
    }
}

fn as_rule(rule: &Rule) -> IngressRule {
    let protocol = if rule.protocol == "132" { "sctp" } else { &rule.protocol };
    let source = rule.source.parse().unwrap();
    IngressRule::new(protocol.parse().unwrap(), format!("{}-{}", rule.from, rule.to).parse().unwrap(), source)
}

impl Harness for Strict {
    type Provider = Aws;

    fn provider(&self, cluster: &str) -> Aws {
        Aws::from_client(&self.0.client(), AwsConfig::new(cluster)).unwrap()
    }

    fn instances(&self) -> Vec<InstanceId> {
        self.0.state().instances.keys().map(InstanceId::new).collect()
    }

    fn missing_instance(&self) -> InstanceId {
        InstanceId::new("i-0123456789abcdef0")
    }

    async fn open_rules(&self, cluster: &str, instance: &InstanceId) -> RuleSet {
        let attached = self.0.state().groups_of(instance.as_str()).clone();
        let ours = self.tagged(cluster).into_iter().filter(|(id, _)| attached.contains(id));
        ours.flat_map(|(_, group)| group.rules)
            .filter(|rule| !rule.egress)
            .map(|rule| as_rule(&rule))
            .collect()
    }

    async fn foreign_state(&self, cluster: &str) -> String {
        let ours: Vec<String> = self.tagged(cluster).into_iter().map(|(id, _)| id).collect();
        let state = self.0.state();
        let groups: Vec<_> = state.groups.iter().filter(|(id, _)| !ours.contains(id)).collect();
        let interfaces: Vec<Vec<&String>> = state
            .interfaces
            .values()
            .map(|interface| interface.groups.iter().filter(|id| !ours.contains(id)).collect())
            .collect();
        format!("{groups:?} {interfaces:?}")
    }

    async fn tamper_with_rule(&self, cluster: &str, rule: IngressRule, present: bool) {
        let (id, _) = self.tagged(cluster).into_iter().next().unwrap();
        let mut state = self.0.state();
        let group = state.groups.get_mut(&id).unwrap();
        if present {
            let (first, last) = (rule.ports.first(), rule.ports.last());
            group
                .rules
                .push(Rule::ingress(&format!("{} {first} {last} cidrIp {}", rule.protocol, rule.source)));
        } else {
            group.rules.retain(|own| own.egress || as_rule(own) != rule);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_strict_ec2_with_the_permissions_of_mode_attach() {
    let cloud = FakeEc2::new(3);
    cloud.state().granted = firewall_aws::ApiCall::ATTACH.iter().map(ToString::to_string).collect();
    run(&Strict(cloud)).await;
}

#[tokio::test(start_paused = true)]
async fn the_strict_ec2_with_the_permissions_that_voyager_documents() {
    let cloud = FakeEc2::new(3);
    cloud.state().granted = firewall_aws::ApiCall::VOYAGER.iter().map(ToString::to_string).collect();
    run(&Strict(cloud)).await;
}

#[tokio::test(start_paused = true)]
async fn the_strict_ec2_lagging_throttling_and_losing_answers() {
    use fake::Fault::{AnswerLost, Code, None};
    let cloud = FakeEc2::new(3);
    {
        let mut state = cloud.state();
        (state.lag, state.linger) = (2, 2);
        for action in firewall_aws::ApiCall::ALL {
            let name = action.to_string();
            for _ in 0..20 {
                state.fault(
                    &name,
                    [None, Code("RequestLimitExceeded"), AnswerLost, Code("Unavailable"), AnswerLost],
                );
            }
        }
    }
    run(&Strict(cloud)).await;
}

#[tokio::test]
#[ignore = "needs LocalStack: set LOCALSTACK_URL"]
async fn localstack() {
    run(&LocalStack::with_instances(3).await).await;
}
