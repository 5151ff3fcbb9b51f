//! The lifecycle of groups, attachments and shared rules on the real wire, in `LocalStack`.

#[path = "localstack/cloud.rs"]
mod cloud;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_sdk_ec2::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_ec2::error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextRef;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use firewall_aws::{Aws, AwsConfig, AwsResource, CLUSTER_TAG, Mode, SharedTargets};
use firewall_core::testing::conformance::{Harness, converge, desired, group, observe_and_plan, rule};
use firewall_core::{Action, Desired, ErrorKind, FirewallProvider, InstanceId, RuleSet};

use cloud::LocalStack;

/// Lets so many mutating calls pass, and fails all others: a process that was killed makes no more calls.
#[derive(Debug)]
struct KillAfter {
    calls: usize,
    made: Arc<AtomicUsize>,
}

impl Intercept for KillAfter {
    fn name(&self) -> &'static str {
        "KillAfter"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let operation = config.load::<Metadata>().map_or("", |metadata| metadata.name());
        if operation.starts_with("Describe") || self.made.fetch_add(1, Ordering::Relaxed) < self.calls {
            return Ok(());
        }
        Err("killed".into())
    }
}

/// Returns a provider that is killed after so many mutating calls, and the number of calls that it made.
fn provider_killed_after(calls: usize, cloud: &LocalStack, cluster: &str) -> (Aws, Arc<AtomicUsize>) {
    let made = Arc::new(AtomicUsize::new(0));
    let interceptor = KillAfter { calls, made: made.clone() };
    let config = cloud.ec2.config().to_builder().interceptor(interceptor).build();
    let client = aws_sdk_ec2::Client::from_conf(config);
    let config = AwsConfig { one_group_per_filter: true, ..AwsConfig::new(cluster) };
    (Aws::from_client(&client, config).unwrap(), made)
}

/// Returns a provider in mode `shared`, with the nodes' own group, and groups with the tag, as targets.
fn shared_provider(cloud: &LocalStack, cluster: &str, tag: Option<(String, String)>) -> Aws {
    let targets = SharedTargets { ids: BTreeSet::from([cloud.nodes.clone()]), tag };
    cloud.provider_with(AwsConfig { mode: Mode::Shared(targets), ..AwsConfig::new(cluster) })
}

/// Applies until the first error.
async fn apply_until_killed(provider: &Aws, desired: &Desired) {
    let Ok((plan, _)) = observe_and_plan(provider, desired).await else { return };
    for step in &plan.steps {
        if provider.apply(&step.action).await.is_err() {
            return;
        }
    }
}

fn rules(texts: &[&str]) -> RuleSet {
    texts.iter().map(|text| rule(text)).collect()
}

#[tokio::test]
#[ignore = "needs LocalStack: set LOCALSTACK_URL"]
async fn group_is_created_attached_changed_detached_and_deleted() {
    let cloud = LocalStack::with_instances(1).await;
    let [a] = &cloud.instances()[..] else { panic!("one instance") };
    let provider = cloud.provider("life");
    let first = ["tcp/80 0.0.0.0/0", "tcp/80 ::/0", "udp/30000-30100 2001:db8::/32", "sctp/3868 10.0.0.0/8"];
    converge(&provider, &desired([group("web", &first, &[a])])).await;
    let [created] = &cloud.groups_of("life").await[..] else { panic!("one group") };
    assert!(created.ip_permissions_egress().is_empty(), "it has no egress");
    assert_eq!(cloud.open_rules("life", a).await, rules(&first));

    converge(&provider, &desired([group("web", &["tcp/80 192.0.2.0/24"], &[a])])).await;
    assert_eq!(cloud.open_rules("life", a).await, rules(&["tcp/80 192.0.2.0/24"]));

    converge(&provider, &Desired::nothing()).await;
    assert_eq!(cloud.attached(a).await, std::slice::from_ref(&cloud.nodes));
    assert!(cloud.groups_of("life").await.is_empty());
}

#[tokio::test]
#[ignore = "needs LocalStack: set LOCALSTACK_URL"]
async fn other_groups_of_an_interface_stay() {
    let cloud = LocalStack::with_instances(1).await;
    let [a] = &cloud.instances()[..] else { panic!("one instance") };
    let foreign = LocalStack::create_group(&cloud.ec2, &cloud.vpc, "foreign", &[]).await;
    let interface = cloud.ec2.describe_instances().instance_ids(a.as_str()).send().await.unwrap();
    let interface = interface.reservations()[0].instances()[0].network_interfaces()[0]
        .network_interface_id()
        .unwrap()
        .to_owned();
    let request = cloud.ec2.modify_network_interface_attribute().network_interface_id(interface);
    request.groups(&cloud.nodes).groups(&foreign).send().await.unwrap();
    let before = cloud.attached(a).await;
    converge(&cloud.provider("others"), &desired([group("web", &["tcp/80 0.0.0.0/0"], &[a])])).await;
    let during = cloud.attached(a).await;
    assert_eq!(during.len(), 3);
    assert!(before.iter().all(|id| during.contains(id)));
    converge(&cloud.provider("others"), &Desired::nothing()).await;
    assert_eq!(cloud.attached(a).await, before);
}

#[tokio::test]
#[ignore = "needs LocalStack: set LOCALSTACK_URL"]
async fn process_converges_after_a_crash_at_any_mutating_call() {
    let cloud = LocalStack::with_instances(2).await;
    let [a, b] = &cloud.instances()[..] else { panic!("two instances") };
    let from = desired([group("web", &["tcp/80 0.0.0.0/0"], &[a])]);
    let to = desired([
        group("web", &["tcp/80 10.0.0.0/8"], &[b]),
        group("dns", &["udp/53 ::/0", "tcp/53 ::/0"], &[a]),
    ]);
    for calls in 0.. {
        converge(&cloud.provider("killed"), &from).await;
        let (killed, made) = provider_killed_after(calls, &cloud, "killed");
        apply_until_killed(&killed, &to).await;
        for instance in [a, b] {
            let attached = cloud.attached(instance).await;
            for group in cloud.groups_of("killed").await {
                let open = !group.ip_permissions_egress().is_empty();
                assert!(
                    !open || !attached.iter().any(|id| group.group_id() == Some(id)),
                    "open egress is attached"
                );
            }
        }
        converge(&cloud.provider("killed"), &to).await;
        assert_eq!(cloud.open_rules("killed", a).await, rules(&["udp/53 ::/0", "tcp/53 ::/0"]));
        assert_eq!(cloud.open_rules("killed", b).await, rules(&["tcp/80 10.0.0.0/8"]));
        if made.load(Ordering::Relaxed) <= calls {
            assert!(calls >= 7, "the change takes more calls than {calls}");
            break;
        }
    }
    converge(&cloud.provider("killed"), &Desired::nothing()).await;
}

#[tokio::test]
#[ignore = "needs LocalStack: set LOCALSTACK_URL"]
async fn groups_beyond_the_slots_are_combined_and_separated_again() {
    let cloud = LocalStack::with_instances(2).await;
    let [a, b] = &cloud.instances()[..] else { panic!("two instances") };
    let numbered = |count: u16, members: &[&InstanceId]| {
        let one = |n: u16| group(&format!("g{n}"), &[&format!("tcp/{} 10.0.0.0/8", 1000 + 2 * n)], members);
        desired((0..count).map(one))
    };
    let provider = cloud.provider("slots");
    converge(&provider, &numbered(4, &[a, b])).await;
    assert_eq!(cloud.attached(a).await.len(), 5);
    converge(&provider, &numbered(6, &[a, b])).await;
    assert_eq!((cloud.attached(a).await.len(), cloud.open_rules("slots", a).await.len()), (2, 6));
    assert_eq!(cloud.attached(b).await.len(), 2);
    assert_ne!(
        cloud.attached(a).await,
        cloud.attached(b).await,
        "each interface has a combined group of its own"
    );
    converge(&provider, &numbered(3, &[b])).await;
    assert_eq!((cloud.attached(a).await.len(), cloud.attached(b).await.len()), (1, 4));
    converge(&provider, &Desired::nothing()).await;
}

#[tokio::test]
#[ignore = "needs LocalStack: set LOCALSTACK_URL"]
async fn taken_name_is_a_conflict() {
    let cloud = LocalStack::with_instances(1).await;
    let [a] = &cloud.instances()[..] else { panic!("one instance") };
    let provider = cloud.provider("taken");
    let desired_groups = desired([group("web", &["tcp/80 0.0.0.0/0"], &[a])]);
    let (plan, _) = observe_and_plan(&provider, &desired_groups).await.unwrap();
    let Action::Create(AwsResource::SecurityGroup(group)) = &plan.steps[0].action else { panic!("{plan:?}") };
    let other =
        LocalStack::create_group(&cloud.ec2, &cloud.vpc, &group.name.name, &[(CLUSTER_TAG, "other")]).await;
    let error = provider.apply(&plan.steps[0].action).await.unwrap_err();
    assert!(error.kind == ErrorKind::Conflict && error.message.contains(&other), "{error}");
    let error = provider.apply(&plan.steps[1].action).await.unwrap_err();
    assert!(error.kind == ErrorKind::NotFound, "a group that is not complete is not attached: {error}");
}

#[tokio::test]
#[ignore = "needs LocalStack: set LOCALSTACK_URL"]
async fn shared_rules_come_and_go_and_those_of_others_stay() {
    let cloud = LocalStack::with_instances(1).await;
    let [a] = &cloud.instances()[..] else { panic!("one instance") };
    cloud.authorize(&cloud.nodes, rule("tcp/22 10.0.0.0/8")).await;
    cloud.authorize(&cloud.nodes, rule("tcp/80 0.0.0.0/0")).await;
    let shared = |cluster: &str| shared_provider(&cloud, cluster, None);
    let before = cloud.foreign_state("no-cluster").await;
    let web = desired([group("web", &["tcp/80 0.0.0.0/0", "tcp/443 0.0.0.0/0", "udp/53 ::/0"], &[a])]);
    let (plan, infeasible) = observe_and_plan(&shared("one"), &web).await.unwrap();
    assert_eq!((plan.steps.len(), infeasible), (1, 1), "one rule exists already");
    converge(&shared("one"), &web).await;
    converge(&shared("two"), &desired([group("dns", &["tcp/53 ::/0"], &[a])])).await;
    let all = ["tcp/22 10.0.0.0/8", "tcp/80 0.0.0.0/0", "tcp/443 0.0.0.0/0", "udp/53 ::/0", "tcp/53 ::/0"];
    assert_eq!(cloud.rules_in(&cloud.nodes).await, rules(&all));
    converge(&shared("one"), &desired([group("web", &["tcp/443 192.0.2.0/24"], &[a])])).await;
    converge(&shared("one"), &Desired::nothing()).await;
    assert_eq!(
        cloud.rules_in(&cloud.nodes).await,
        rules(&["tcp/22 10.0.0.0/8", "tcp/80 0.0.0.0/0", "tcp/53 ::/0"])
    );
    converge(&shared("two"), &Desired::nothing()).await;
    assert_eq!(cloud.foreign_state("no-cluster").await, before);
}

#[tokio::test]
#[ignore = "needs LocalStack: set LOCALSTACK_URL"]
async fn removed_shared_rule_is_added_again() {
    let cloud = LocalStack::with_instances(1).await;
    let [a] = &cloud.instances()[..] else { panic!("one instance") };
    let tag = Some(("kubernetes.io/cluster/test".to_owned(), "owned".to_owned()));
    let provider = shared_provider(&cloud, "drift", tag);
    let web = desired([group("web", &["tcp/80 0.0.0.0/0", "tcp/443 0.0.0.0/0"], &[a])]);
    converge(&provider, &web).await;
    cloud.revoke(&cloud.nodes, rule("tcp/80 0.0.0.0/0")).await;
    assert!(converge(&provider, &web).await > 0);
    assert_eq!(cloud.rules_in(&cloud.nodes).await, rules(&["tcp/80 0.0.0.0/0", "tcp/443 0.0.0.0/0"]));
    converge(&provider, &Desired::nothing()).await;
}
