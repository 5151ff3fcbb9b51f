//! Security groups that exchange members and sources, where an interface has room for one of ours.

use firewall_aws::{Aws, AwsConfig};
use firewall_core::testing::conformance::{desired, group, observe_and_plan};
use firewall_core::{Desired, FirewallProvider, InstanceId};

use crate::fake::{FakeEc2, Group, VPC};
use crate::id;

const A: &str = "tcp/80 10.0.0.0/8";
const B: &str = "tcp/80 192.0.2.0/24";

/// Plans and applies until nothing is left. Asserts after each step that nothing has closed that is asked for.
async fn converge_without_loss(provider: &Aws, to: &Desired, instances: &[InstanceId]) {
    for _ in 0..4 {
        let before = provider.observe(&to.members()).await.unwrap();
        let goal = provider.compile(to, &before.inventory).resources;
        let (plan, _) = observe_and_plan(provider, to).await.unwrap();
        let mut state = before.resources.clone();
        for step in &plan.steps {
            provider.apply(&step.action).await.unwrap();
            step.action.apply_to(&mut state);
            for instance in instances {
                let kept = before.resources.reach(instance).rules.intersection(&goal.reach(instance).rules);
                let open = state.reach(instance).rules;
                assert!(open.covers(&kept), "{instance} admits {open}, not {kept}, after {step:?}");
            }
        }
    }
}

/// The names of the groups are digests, and must not decide what is detached first.
#[tokio::test(start_paused = true)]
async fn circle_closes_nothing_where_one_side_has_room() {
    for (one, two) in [("web", "api"), ("api", "web"), ("a", "b"), ("b", "a"), ("x", "y"), ("y", "x")] {
        let cloud = FakeEc2::new(2);
        // One of ours fits beside these.
        for other in ["sg-2", "sg-3", "sg-4"] {
            cloud.state().groups.insert(other.into(), Group::new(VPC, other, &[]));
            cloud.state().groups_of("i-01").push(other.to_owned());
        }
        let provider = Aws::from_client(&cloud.client(), AwsConfig::new("test")).unwrap();
        let ids = [id("i-01"), id("i-02")];
        let from = desired([group(one, &[A], &[&ids[0]]), group(two, &[B], &[&ids[1]])]);
        let to = desired([group(one, &[B], &[&ids[1]]), group(two, &[A], &[&ids[0]])]);
        converge_without_loss(&provider, &from, &ids).await;
        converge_without_loss(&provider, &to, &ids).await;
        let (plan, _) = observe_and_plan(&provider, &to).await.unwrap();
        assert_eq!(plan.steps.len(), 0, "{one} and {two}: {plan:?}");
    }
}
