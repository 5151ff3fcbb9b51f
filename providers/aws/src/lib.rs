//! EC2 security groups as a firewall provider.
//!
//! Two modes: `attach` creates security groups of its own and attaches them to the primary network interfaces
//! of the members; `shared` keeps its own rules in security groups that the user names.

mod api_calls;
mod apply;
mod client;
mod compile;
mod config;
mod ec2_cache;
mod inventory;
mod observe;
mod ownership;
mod planning;
mod provider_id;
mod rate_limit;
pub mod reasons;
mod resource;
#[cfg(test)]
mod testing;
mod wire;

use std::collections::BTreeSet;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, Region};
use firewall_core::{
    Action, Applied, ChangesSince, Compiled, Desired, Fence, FirewallProvider, InstanceId, Observed,
    ProviderError,
};

pub use api_calls::ApiCall;
pub use config::{AwsConfig, ConfigError, ConnectError, Mode, SharedTargets};
pub use ec2_cache::AttachApi;
pub use inventory::{InstanceFacts, Inventory, SharedGroup};
pub use ownership::CLUSTER_TAG;
pub use resource::{
    Attachment, AwsKey, AwsResource, Egress, ForeignPermission, GroupName, PermissionSource, RuleCapacity,
    SecurityGroup, SharedRules,
};

use apply::Context;
use client::Client;
use ec2_cache::Ec2Cache;

/// The longest time that one call may take: EC2 answers within seconds or not at all.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// The name that `CloudTrail` shows in the user agent of each call.
const APP_NAME: &str = "hostport-firewall";

/// The AWS provider for one cluster, in one account and Region.
#[derive(Debug)]
pub struct Aws {
    client: Client,
    config: AwsConfig,
    cache: Ec2Cache,
}

impl Aws {
    /// Connects by the AWS SDK's standard chain: environment, profile, web identity, container, instance.
    ///
    /// No call is made; the first one shows which permissions the credentials have. `AWS_ENDPOINT_URL` is
    /// honoured.
    ///
    /// # Errors
    /// If the configuration is wrong, or no Region is set.
    pub async fn connect(mut config: AwsConfig) -> Result<Self, ConnectError> {
        config.validate()?;
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().operation_attempt_timeout(CALL_TIMEOUT).build());
        if let Ok(name) = AppName::new(APP_NAME) {
            loader = loader.app_name(name);
        }
        if let Some(region) = &config.region {
            loader = loader.region(Region::new(region.clone()));
        }
        let sdk = loader.load().await;
        if sdk.region().is_none() {
            return Err(ConnectError::NoRegion);
        }
        config.one_group_per_filter |=
            sdk.endpoint_url().is_some() || std::env::var_os("AWS_ENDPOINT_URL_EC2").is_some();
        Ok(Self::from_client(&aws_sdk_ec2::Client::new(&sdk), config)?)
    }

    /// Returns the provider over a client of the SDK, whose retries are replaced by the provider's own.
    ///
    /// # Errors
    /// If the configuration is wrong.
    pub fn from_client(ec2: &aws_sdk_ec2::Client, config: AwsConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let client = Client::new(ec2, &config);
        Ok(Self { client, config, cache: Ec2Cache::default() })
    }

    /// Returns the provider with a fence, which is asked before each call that changes something.
    #[must_use]
    pub fn with_fence(mut self, fence: Fence) -> Self {
        self.client.fence = fence;
        self
    }

    /// Returns the instance behind a node, from `spec.providerID`; see
    /// [`FirewallProvider::parse_provider_id`].
    #[must_use]
    pub fn instance_of(provider_id: &str) -> Option<Result<InstanceId, String>> {
        provider_id::instance(provider_id)
    }
}

impl FirewallProvider for Aws {
    type Resource = AwsResource;
    type Inventory = Inventory;

    fn name(&self) -> &'static str {
        "aws"
    }

    fn parse_provider_id(&self, provider_id: &str) -> Option<Result<InstanceId, String>> {
        provider_id::instance(provider_id)
    }

    /// A bare instance id is one too.
    fn provider_id_prefixes(&self) -> Vec<String> {
        vec!["aws://".to_owned(), "i-".to_owned()]
    }

    fn compile(&self, desired: &Desired, inventory: &Inventory) -> Compiled<AwsResource> {
        compile::compile(desired, inventory, &self.config)
    }

    async fn observe(
        &self,
        members: &BTreeSet<InstanceId>,
    ) -> Result<Observed<AwsResource, Inventory>, ProviderError> {
        let Self { client, config, cache } = self;
        let mut observed = match &config.mode {
            Mode::Attach => observe::observe_attach(client, config, cache, members).await?,
            Mode::Shared(targets) => observe::observe_shared(client, config, cache, targets, members).await?,
        };
        observe::add_former_mode(client, config, cache, &mut observed).await;
        Ok(observed)
    }

    async fn observe_added(
        &self,
        known: &mut Observed<AwsResource, Inventory>,
        changes: &ChangesSince<AwsKey>,
    ) -> Result<bool, ProviderError> {
        let Self { client, config, cache } = self;
        match &config.mode {
            // What another mode has left is read until nothing of it is.
            _ if !cache.is_former_mode_gone() => {
                let left = &changes.left;
                let known_members = known.inventory.instances.keys().filter(|id| !left.contains(*id));
                let members = known_members.chain(&changes.members).cloned().collect();
                let read = self.observe(&members).await?;
                let differences = known.resources.take_over(read.resources.into_values().collect(), |_| true);
                (known.inventory, known.unknown_instances) = (read.inventory, read.unknown_instances);
                Ok(differences.is_surprise)
            }
            Mode::Attach => observe::observe_added_attached(client, config, cache, known, changes).await,
            Mode::Shared(targets) => {
                observe::observe_added_shared(client, config, cache, targets, known, changes).await
            }
        }
    }

    fn rules_name_members(&self) -> bool {
        false
    }

    /// In mode `shared`, instances with the same group of the user's are affected together.
    fn find_affected(
        &self,
        instances: &BTreeSet<InstanceId>,
        inventory: &Inventory,
    ) -> Option<BTreeSet<InstanceId>> {
        if !inventory.former_mode.is_empty() {
            return None;
        }
        Some(match self.config.mode {
            Mode::Attach => instances.clone(),
            Mode::Shared(_) => compile::find_sharing(instances, inventory),
        })
    }

    /// Returns the id of a security group, by which EC2's API and console know it. The keys of the other
    /// resources hold an id already.
    fn cloud_id(&self, key: &AwsKey) -> Option<String> {
        match key {
            AwsKey::SecurityGroup(name) => self.cache.group_id(name),
            AwsKey::Attachment(_) | AwsKey::SharedRules(_) => None,
        }
    }

    /// Counts every change as an attachment: attachments are the most numerous, and their call has a token
    /// bucket of its own.
    fn estimate_duration(&self, changes: usize) -> Duration {
        let call = match self.cache.attach_api() {
            Some(AttachApi::Instance) => ApiCall::ModifyInstanceAttribute,
            Some(AttachApi::NetworkInterface) | None => ApiCall::ModifyNetworkInterfaceAttribute,
        };
        self.client.expected_duration(call, u32::try_from(changes).unwrap_or(u32::MAX))
    }

    async fn apply(&self, action: &Action<AwsResource>) -> Result<Applied, ProviderError> {
        let context = Context { client: &self.client.for_step(), config: &self.config, cache: &self.cache };
        context.apply(action).await
    }
}
