//! VPC firewall rules of Google Compute Engine as a firewall provider.
//!
//! Two modes: `destination` writes the members' addresses into the rules' destination ranges and touches no
//! instance; `tags` sets network tags of its own on the members.

mod api_calls;
mod apply;
mod client;
mod compile;
mod config;
mod inventory;
mod manual_command;
mod network;
mod observe;
mod ownership;
mod planning;
mod project;
mod provider_id;
mod resource;
mod target;
mod wire;

use std::collections::BTreeSet;
use std::time::Duration;

use firewall_core::{
    Action, Applied, Compiled, Desired, FirewallProvider, InstanceId, Observed, ProviderError,
};
use google_cloud_auth::credentials::Credentials;

pub use api_calls::ApiCall;
pub use config::{ConfigError, ConnectError, GceConfig, Mode};
pub use inventory::{InstanceFacts, Interface, Inventory};
pub use network::{Network, NetworkError};
pub use project::project;
pub use resource::{Capacity, FirewallRule, GceKey, GceResource, InstanceTags, PortsBySources};

use apply::Context;
use client::Client;

/// What one change takes on average: the call, and asking a few times whether its operation has ended. Google counts
/// calls by the minute, 1,500 of them per project. Source: "Rate quotas" in the Compute Engine documentation.
const PER_CHANGE: Duration = Duration::from_millis(4 * 60_000 / 1500);

/// The GCE provider for one cluster, in one project, with its rules there or in a host project.
#[derive(Debug)]
pub struct Gce {
    client: Client,
    config: GceConfig,
}

impl Gce {
    /// Connects with application default credentials: a key file, Workload Identity, the metadata server.
    ///
    /// # Errors
    /// If the configuration is wrong, or there are no credentials. What they permit shows with the first call.
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
        Ok(Self { client, config })
    }

    /// The instance behind a node, from `spec.providerID`; see [`FirewallProvider::instance`].
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

    fn compile(&self, desired: &Desired, inventory: &Inventory) -> Compiled<GceResource> {
        compile::compile(desired, inventory, &self.config)
    }

    async fn observe(
        &self,
        members: &BTreeSet<InstanceId>,
    ) -> Result<Observed<GceResource, Inventory>, ProviderError> {
        observe::observe(&self.client, &self.config, members).await
    }

    /// Names are what Google's own tools go by.
    fn cloud_id(&self, _: &GceKey) -> Option<String> {
        None
    }

    fn estimate_duration(&self, changes: usize) -> Duration {
        PER_CHANGE * u32::try_from(changes).unwrap_or(u32::MAX)
    }

    async fn apply(&self, action: &Action<GceResource>) -> Result<Applied, ProviderError> {
        Context { client: &self.client, config: &self.config }.apply(action).await
    }
}
