//! Brings one action about. What to do was decided in the plan; here it is only made true, however often.

mod attachment;
mod group;
mod shared;

use firewall_core::{Action, Applied, ErrorKind, ProviderError};

use crate::action::Ec2Action;
use crate::client::Client;
use crate::config::AwsConfig;
use crate::resource::{AwsResource, SecurityGroup};
use crate::session::Session;

/// How often to look again when EC2 says that some of the rules are there, or gone, already.
const ROUNDS: usize = 3;

/// What applying needs besides the action.
pub(crate) struct Context<'a> {
    pub(crate) client: &'a Client,
    pub(crate) config: &'a AwsConfig,
    pub(crate) session: &'a Session,
}

impl Context<'_> {
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
                self.change_shared_rules(from, Some(to), &to.group).await
            }
            (Some(AwsResource::SharedRules(from)), None) => {
                self.change_shared_rules(Some(from), None, &from.group).await
            }
            (_, Some(AwsResource::SecurityGroup(_))) | (None, None) => Ok(Applied::default()),
        }
    }

    /// The id of a group that the plan knows by name.
    fn group_id(&self, group: &SecurityGroup) -> Result<String, ProviderError> {
        let known = self.session.id(&group.name).or_else(|| group.id.clone());
        known.ok_or_else(|| {
            ProviderError::new(
                ErrorKind::NotFound,
                "DescribeSecurityGroups",
                group.name.to_string(),
                "it has no id yet; it is created first",
            )
        })
    }
}

/// Something else writes to a group's rules as often as we do.
fn restless(call: Ec2Action, group: &str) -> ProviderError {
    ProviderError::new(
        ErrorKind::Conflict,
        call.to_string(),
        group,
        format!("its rules changed {ROUNDS} times meanwhile; something else writes to it"),
    )
}
