//! VPC firewall rules of Google Compute Engine as a firewall provider.
//!
//! Two modes: `destination` writes the members' addresses into the rules' destination ranges and changes no
//! instance; `tags` sets network tags of its own on the members.

mod api_calls;
mod apply;
mod client;
mod compile;
mod config;
mod instance_cache;
mod inventory;
mod manual_command;
mod network;
mod observe;
mod ownership;
mod planning;
mod project;
mod provider_id;
mod rate_limit;
pub mod reasons;
mod resource;
mod target;
#[cfg(test)]
mod testing;
mod wire;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use firewall_core::{
    Action, Applied, ChangesSince, Compiled, Desired, Fence, FirewallProvider, InstanceId, Observed,
    ProviderError,
};
use google_cloud_auth::credentials::Credentials;
use google_cloud_compute_v1::client::{Firewalls, Instances, Networks};

pub use api_calls::ApiCall;
pub use config::{ConfigError, ConnectError, GceConfig, Mode};
pub use inventory::{InstanceFacts, Interface, Inventory};
pub use network::{Network, NetworkError};
pub use project::detect_project;
pub use resource::{FirewallRule, GceKey, GceResource, InstanceTags, PortsBySources, RuleCapacity};

use apply::Context;
use client::Client;
use instance_cache::InstanceCache;

/// Average time of one change at the rate quota: its call and a few polls of its operation, four calls in
/// all. Google counts calls by the minute, 1,500 of them per project. Source: "Rate quotas" in the Compute
/// Engine documentation.
const TIME_PER_CHANGE: Duration = Duration::from_millis(4 * 60_000 / 1500);

/// The GCE provider of one cluster, in one project, with its rules there or in the host project of a Shared
/// VPC.
#[derive(Debug)]
pub struct Gce {
    client: Client,
    config: GceConfig,
    cache: Mutex<InstanceCache>,
}

impl Gce {
    /// Connects with Application Default Credentials: a key file, Workload Identity, the metadata server.
    ///
    /// # Errors
    /// If the configuration is wrong, or there are no credentials. Which calls they permit is known only from
    /// the first call on.
    pub async fn connect(config: GceConfig) -> Result<Self, ConnectError> {
        let credentials = google_cloud_auth::credentials::Builder::default().build();
        let credentials = credentials.map_err(|error| {
            ConnectError::Credentials(google_cloud_gax::client_builder::Error::cred(error))
        })?;
        Self::with_credentials(config, &credentials).await
    }

    /// Connects with the given credentials.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn with_credentials(
        config: GceConfig,
        credentials: &Credentials,
    ) -> Result<Self, ConnectError> {
        config.validate()?;
        let client = Client::new(&config, credentials).await.map_err(ConnectError::Credentials)?;
        Ok(Self { client, config, cache: Mutex::default() })
    }

    /// Returns the provider with a fence, which is asked before each call that changes something.
    #[must_use]
    pub fn with_fence(mut self, fence: Fence) -> Self {
        self.client.fence = fence;
        self
    }

    /// Returns the provider with another clock than the system's, for tests on virtual time. A used up quota is
    /// full again when its next minute begins.
    #[must_use]
    pub fn with_clock(mut self, clock: fn() -> SystemTime) -> Self {
        self.client.clock = clock;
        self
    }

    /// Returns the provider over clients of Google's library, with whatever retries they have.
    ///
    /// # Errors
    /// If the configuration is wrong.
    pub fn from_clients(
        config: GceConfig,
        firewalls: Firewalls,
        instances: Instances,
        networks: Networks,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        let client = Client::from_clients(&config, firewalls, instances, networks);
        Ok(Self { client, config, cache: Mutex::default() })
    }

    /// Returns the instance behind a node, from `spec.providerID`; see
    /// [`FirewallProvider::parse_provider_id`].
    #[must_use]
    pub fn instance_of(provider_id: &str) -> Option<Result<InstanceId, String>> {
        provider_id::instance(provider_id)
    }
}

impl FirewallProvider for Gce {
    type Resource = GceResource;
    type Inventory = Inventory;

    fn name(&self) -> &'static str {
        "gce"
    }

    fn parse_provider_id(&self, provider_id: &str) -> Option<Result<InstanceId, String>> {
        provider_id::instance(provider_id)
    }

    fn provider_id_prefixes(&self) -> Vec<String> {
        vec![format!("gce://{}/", self.config.project)]
    }

    fn compile(&self, desired: &Desired, inventory: &Inventory) -> Compiled<GceResource> {
        compile::compile(desired, inventory, &self.config)
    }

    async fn observe(
        &self,
        members: &BTreeSet<InstanceId>,
    ) -> Result<Observed<GceResource, Inventory>, ProviderError> {
        observe::observe(&self.client, &self.config, &self.cache, members).await
    }

    async fn observe_added(
        &self,
        known: &mut Observed<GceResource, Inventory>,
        changes: &ChangesSince<GceKey>,
    ) -> Result<bool, ProviderError> {
        observe::observe_added(&self.client, &self.config, &self.cache, known, changes).await
    }

    /// A rule of mode `destination` has the addresses of its members.
    fn places_by_facts(&self) -> bool {
        true
    }

    fn rules_name_members(&self) -> bool {
        self.config.mode == Mode::Destination
    }

    fn find_affected(
        &self,
        instances: &BTreeSet<InstanceId>,
        inventory: &Inventory,
    ) -> Option<BTreeSet<InstanceId>> {
        (!compile::has_former_mode(inventory, &self.config)).then(|| instances.clone())
    }

    /// Returns `None`: Google's own tools name these resources by their names.
    fn cloud_id(&self, _: &GceKey) -> Option<String> {
        None
    }

    fn estimate_duration(&self, changes: usize) -> Duration {
        TIME_PER_CHANGE * u32::try_from(changes).unwrap_or(u32::MAX)
    }

    async fn apply(&self, action: &Action<GceResource>) -> Result<Applied, ProviderError> {
        Context { client: &self.client.for_step(), config: &self.config }.apply(action).await
    }
}
