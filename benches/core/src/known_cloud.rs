//! A cloud that does at once what it is told, and that nobody else changes: so what is left is what planning takes.

use std::collections::BTreeSet;
use std::time::Duration;

use firewall_core::testing::memory::{MemoryInventory, MemoryKey, MemoryProvider, MemoryResource};
use firewall_core::{
    Action, Applied, ChangesSince, Compiled, Desired, FirewallProvider, InstanceId, Observed, ProviderError,
};

type Answer = Observed<MemoryResource, MemoryInventory>;

/// Plans as the cloud in memory does.
pub(crate) struct Known(pub(crate) MemoryProvider);

impl FirewallProvider for Known {
    type Resource = MemoryResource;
    type Inventory = MemoryInventory;

    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn parse_provider_id(&self, provider_id: &str) -> Option<Result<InstanceId, String>> {
        self.0.parse_provider_id(provider_id)
    }

    fn provider_id_prefixes(&self) -> Vec<String> {
        self.0.provider_id_prefixes()
    }

    fn compile(&self, desired: &Desired, inventory: &MemoryInventory) -> Compiled<MemoryResource> {
        self.0.compile(desired, inventory)
    }

    async fn observe(&self, members: &BTreeSet<InstanceId>) -> Result<Answer, ProviderError> {
        self.0.observe(members).await
    }

    async fn observe_added(
        &self,
        _: &mut Answer,
        _: &ChangesSince<MemoryKey>,
    ) -> Result<bool, ProviderError> {
        Ok(false)
    }

    fn rules_name_members(&self) -> bool {
        self.0.rules_name_members()
    }

    fn find_affected(
        &self,
        instances: &BTreeSet<InstanceId>,
        inventory: &MemoryInventory,
    ) -> Option<BTreeSet<InstanceId>> {
        self.0.find_affected(instances, inventory)
    }

    fn cloud_id(&self, key: &MemoryKey) -> Option<String> {
        self.0.cloud_id(key)
    }

    fn estimate_duration(&self, changes: usize) -> Duration {
        self.0.estimate_duration(changes)
    }

    async fn apply(&self, _: &Action<MemoryResource>) -> Result<Applied, ProviderError> {
        Ok(Applied::default())
    }
}
