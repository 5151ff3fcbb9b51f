//! The provider-neutral conformance suite against the strict EC2 in memory and against `LocalStack`.

mod fake;
#[path = "localstack/cloud.rs"]
mod localstack;

use firewall_aws::{ApiCall, Aws, AwsConfig, CLUSTER_TAG};
use firewall_core::testing::conformance::{Harness, run};
use firewall_core::{IngressRule, InstanceId, RuleSet};

use fake::{FakeEc2, Rule};
use localstack::LocalStack;

/// The conformance suite's access to the fake EC2.
struct FakeHarness(FakeEc2);

impl FakeHarness {
    /// Returns the cluster's groups by id.
    fn groups_of_cluster(&self, cluster: &str) -> Vec<(String, fake::Group)> {
        let state = self.0.state();
        let ours = state
            .groups
            .iter()
            .filter(|(_, group)| group.tags.get(CLUSTER_TAG).is_some_and(|tag| tag == cluster));
        ours.map(|(id, group)| (id.clone(), group.clone())).collect()
    }
}

fn parse_rule(rule: &Rule) -> IngressRule {
    let protocol = if rule.protocol == "132" { "sctp" } else { &rule.protocol };
    let source = rule.source.parse().unwrap();
    IngressRule::new(protocol.parse().unwrap(), format!("{}-{}", rule.from, rule.to).parse().unwrap(), source)
}

impl Harness for FakeHarness {
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
        let ours = self.groups_of_cluster(cluster).into_iter().filter(|(id, _)| attached.contains(id));
        ours.flat_map(|(_, group)| group.rules)
            .filter(|rule| !rule.egress)
            .map(|rule| parse_rule(&rule))
            .collect()
    }

    async fn foreign_state(&self, cluster: &str) -> String {
        let ours: Vec<String> = self.groups_of_cluster(cluster).into_iter().map(|(id, _)| id).collect();
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
        let (id, _) = self.groups_of_cluster(cluster).into_iter().next().unwrap();
        let mut state = self.0.state();
        let group = state.groups.get_mut(&id).unwrap();
        if present {
            let (first, last) = (rule.ports.first(), rule.ports.last());
            group
                .rules
                .push(Rule::ingress(&format!("{} {first} {last} cidrIp {}", rule.protocol, rule.source)));
        } else {
            group.rules.retain(|own| own.egress || parse_rule(own) != rule);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn fake_ec2_conforms_with_the_permissions_of_mode_attach() {
    let cloud = FakeEc2::new(3);
    cloud.state().grant(&ApiCall::ATTACH);
    run(&FakeHarness(cloud)).await;
}

#[tokio::test(start_paused = true)]
async fn fake_ec2_conforms_with_the_permissions_for_voyager() {
    let cloud = FakeEc2::new(3);
    cloud.state().grant(&ApiCall::VOYAGER);
    run(&FakeHarness(cloud)).await;
}

#[tokio::test(start_paused = true)]
async fn fake_ec2_conforms_while_lagging_and_losing_answers() {
    use fake::Fault::{AnswerLost, Code, None};
    let cloud = FakeEc2::new(3);
    {
        let mut state = cloud.state();
        (state.lag, state.detach_lag) = (2, 2);
        for call in ApiCall::ALL {
            let name = call.to_string();
            for _ in 0..20 {
                state.fault(
                    &name,
                    [None, Code("RequestLimitExceeded"), None, AnswerLost, Code("Unavailable"), None],
                );
            }
        }
    }
    run(&FakeHarness(cloud)).await;
}

#[tokio::test]
#[ignore = "needs LocalStack: set LOCALSTACK_URL"]
async fn localstack_conforms() {
    run(&LocalStack::with_instances(3).await).await;
}
