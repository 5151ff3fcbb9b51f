//! The memory provider passes the conformance suite.

use firewall_core::testing::conformance::{self, Harness};
use firewall_core::testing::memory::{MemoryCloud, MemoryKey, MemoryProvider};
use firewall_core::{IngressRule, InstanceId, RuleSet};
use futures::executor::block_on;

use crate::instances;

struct InMemory {
    cloud: MemoryCloud,
    instances: Vec<InstanceId>,
}

impl Harness for InMemory {
    type Provider = MemoryProvider;

    fn provider(&self, cluster: &str) -> MemoryProvider {
        self.cloud.provider(cluster)
    }

    fn instances(&self) -> Vec<InstanceId> {
        self.instances.clone()
    }

    fn missing_instance(&self) -> InstanceId {
        InstanceId::new("i-gone")
    }

    async fn open_rules(&self, cluster: &str, instance: &InstanceId) -> RuleSet {
        let resources = self.cloud.resources();
        let attachment = resources.get(&MemoryKey::Attachment(cluster.into(), instance.clone()));
        let groups = attachment.into_iter().flat_map(|attachment| &attachment.groups);
        groups.flat_map(|group| resources[group].rules.iter().copied()).collect()
    }

    async fn foreign_state(&self, cluster: &str) -> String {
        let resources = self.cloud.resources();
        let foreign = resources.iter().filter(|(key, _)| {
            let (MemoryKey::Group(owner, _) | MemoryKey::Attachment(owner, _)) = key;
            owner != cluster
        });
        format!("{:?}", foreign.collect::<Vec<_>>())
    }

    async fn tamper_with_rule(&self, cluster: &str, rule: IngressRule, present: bool) {
        let resources = self.cloud.resources();
        let owned = |key: &&MemoryKey| matches!(key, MemoryKey::Group(owner, _) if owner == cluster);
        let key = resources.keys().find(owned).expect("an owned group");
        self.cloud.tamper_with(key, |group| {
            if present {
                group.rules.insert(rule)
            } else {
                group.rules.remove(&rule)
            };
        });
    }
}

#[test]
fn memory_provider_conforms() {
    let instances = instances(3);
    block_on(conformance::run(&InMemory { cloud: MemoryCloud::new(instances.clone()), instances }));
}
