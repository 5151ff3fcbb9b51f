//! Applies one action. The plan has decided what to do; applying it again does no harm.

mod attachment;
mod group;
mod shared;

use firewall_core::{Action, Applied, ErrorKind, ProviderError};

use crate::api_calls::ApiCall;
use crate::client::Client;
use crate::config::AwsConfig;
use crate::ec2_cache::Ec2Cache;
use crate::resource::{AwsResource, SecurityGroup};

/// The attempts at a change of rules. Each but the first follows a new read, because EC2 answered that some
/// of the rules exist already or do not exist any more.
const MAX_ATTEMPTS: usize = 3;

/// Holds all that applying an action needs beside the action.
pub(crate) struct Context<'a> {
    pub(crate) client: &'a Client,
    pub(crate) config: &'a AwsConfig,
    pub(crate) cache: &'a Ec2Cache,
}

impl Context<'_> {
    /// Applies the action; see [`FirewallProvider::apply`](firewall_core::FirewallProvider::apply).
    pub(crate) async fn apply(&self, action: &Action<AwsResource>) -> Result<Applied, ProviderError> {
        match (action.before(), action.after()) {
            (None, Some(AwsResource::SecurityGroup(to))) => self.create_group(to).await,
            (Some(AwsResource::SecurityGroup(from)), Some(AwsResource::SecurityGroup(to))) => {
                self.update_group(from, to).await
            }
            (Some(AwsResource::SecurityGroup(from)), None) => self.delete_group(from).await,
            (from, Some(AwsResource::Attachment(to))) => {
                self.attach(from.and_then(AwsResource::as_attachment), to).await
            }
            (Some(AwsResource::Attachment(from)), None) => self.detach(from).await,
            (from, Some(AwsResource::SharedRules(to))) => {
                let from = from.and_then(AwsResource::as_shared_rules);
                self.update_shared_rules(from, Some(to), &to.group).await
            }
            (Some(AwsResource::SharedRules(from)), None) => {
                self.update_shared_rules(Some(from), None, &from.group).await
            }
            (_, Some(AwsResource::SecurityGroup(_))) | (None, None) => Ok(Applied::default()),
        }
    }

    /// Returns the id of a group that the plan knows by name.
    fn group_id(&self, group: &SecurityGroup) -> Result<String, ProviderError> {
        let known = self.cache.group_id(&group.name).or_else(|| group.id.clone());
        known.ok_or_else(|| {
            let message = "it has no id yet; it is created first";
            describe_error(ErrorKind::NotFound, group.name.to_string(), message)
        })
    }
}

/// Returns the error of a read group that is not as expected.
fn describe_error(kind: ErrorKind, object: impl Into<String>, message: &str) -> ProviderError {
    ProviderError::new(kind, ApiCall::DescribeSecurityGroups.name(), object, message)
}

/// Returns the error for a group whose rules another writer changes as often as we do; `call` reads them.
fn concurrent_modification(call: ApiCall, group: &str) -> ProviderError {
    let message = format!("its rules changed {MAX_ATTEMPTS} times meanwhile; something else writes to it");
    ProviderError::new(ErrorKind::Conflict, call.name(), group, message)
}
