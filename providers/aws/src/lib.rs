//! EC2 security groups as a firewall provider.
//!
//! Two modes: `attach` makes security groups of its own and attaches them to the primary interfaces of the
//! members; `shared` keeps rules of its own in security groups that the user names.

mod action;
mod apply;
mod client;
mod compile;
mod config;
mod inventory;
mod observe;
mod pace;
mod planning;
mod provider_id;
mod resource;
mod session;
mod wire;

use std::collections::BTreeSet;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use firewall_core::{
    Action, Applied, Compiled, Desired, FirewallProvider, InstanceId, Observed, ProviderError,
};

pub use action::Ec2Action;
pub use config::{AwsConfig, ConfigError, ConnectError, Mode, SharedTargets};
pub use inventory::{InstanceFacts, Inventory, SharedGroup};
pub use resource::{
    Attachment, AwsKey, AwsResource, Egress, GroupName, Room, SecurityGroup, SharedRules, Stray, StraySource,
};
pub use session::Dialect;
pub use wire::tag::CLUSTER_TAG;

use apply::Context;
use client::Client;
use session::Session;

/// How long one call may take: EC2 answers within seconds or not at all.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The AWS provider for one cluster, in one account and Region.
#[derive(Debug)]
pub struct Aws {
    client: Client,
    config: AwsConfig,
    session: Session,
}

impl Aws {
    /// Connects by the AWS SDK's standard chain: environment, profile, web identity, container, instance.
    ///
    /// No call is made; what the credentials permit shows with the first one. `AWS_ENDPOINT_URL` is honoured.
    ///
    /// # Errors
    /// If the configuration is wrong, or nothing says which Region.
    pub async fn connect(mut config: AwsConfig) -> Result<Self, ConnectError> {
        config.validate()?;
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().operation_attempt_timeout(CALL_TIMEOUT).build());
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

    /// The provider over a client of the SDK, whose retries are replaced by the provider's own.
    ///
    /// # Errors
    /// If the configuration is wrong.
    pub fn from_client(ec2: &aws_sdk_ec2::Client, config: AwsConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let client = Client::new(ec2, config.one_group_per_filter);
        Ok(Self { client, config, session: Session::default() })
    }

    /// The instance behind a node, from `spec.providerID`; see [`FirewallProvider::instance`].
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

    fn compile(&self, desired: &Desired, inventory: &Inventory) -> Compiled<AwsResource> {
        compile::compile(desired, inventory, &self.config)
    }

    async fn observe(
        &self,
        members: &BTreeSet<InstanceId>,
    ) -> Result<Observed<AwsResource, Inventory>, ProviderError> {
        match &self.config.mode {
            Mode::Attach => observe::attach(&self.client, &self.config, &self.session, members).await,
            Mode::Shared(targets) => observe::shared(&self.client, &self.config, targets, members).await,
        }
    }

    /// EC2's API and console know groups by id above all. The others are named by an id as it is.
    fn cloud_id(&self, key: &AwsKey) -> Option<String> {
        match key {
            AwsKey::SecurityGroup(name) => self.session.id(name),
            AwsKey::Attachment(_) | AwsKey::SharedRules(_) => None,
        }
    }

    /// Attachments are what there are most of; they have an action's bucket to themselves.
    fn estimate_duration(&self, changes: usize) -> Duration {
        let action = match self.session.dialect() {
            Some(Dialect::Instances) => Ec2Action::ModifyInstanceAttribute,
            _ => Ec2Action::ModifyNetworkInterfaceAttribute,
        };
        pace::expected(action, u32::try_from(changes).unwrap_or(u32::MAX))
    }

    async fn apply(&self, action: &Action<AwsResource>) -> Result<Applied, ProviderError> {
        let context = Context { client: &self.client, config: &self.config, session: &self.session };
        context.apply(action).await
    }
}
