//! Brings one action about. What to do was decided in the plan; here it is only made true, however often.

mod tags;

use std::collections::BTreeSet;

use firewall_core::{Action, Applied, ErrorKind, Owner, ProviderError, Resource};

use crate::client::Client;
use crate::config::GceConfig;
use crate::manual_command;
use crate::resource::{FirewallRule, GceResource};
use crate::wire::error::CallError;
use crate::wire::firewall;

/// What applying needs besides the action.
pub(crate) struct Context<'a> {
    pub(crate) client: &'a Client,
    pub(crate) config: &'a GceConfig,
}

impl Context<'_> {
    pub(crate) async fn apply(&self, action: &Action<GceResource>) -> Result<Applied, ProviderError> {
        match (action.before(), action.after()) {
            (from, Some(GceResource::Tags(to))) => {
                let none = BTreeSet::new();
                let from = from.and_then(GceResource::as_tags).map_or(&none, |from| &from.tags);
                self.retag(&to.instance, from, &to.tags).await
            }
            (Some(GceResource::Tags(from)), None) => {
                self.retag(&from.instance, &from.tags, &BTreeSet::new()).await
            }
            (None, Some(GceResource::Rule(to))) => {
                self.with_manual_command(self.create(to).await, || manual_command::create(to, self.config))
            }
            (Some(GceResource::Rule(from)), Some(GceResource::Rule(to))) => {
                self.with_manual_command(self.update(from, to).await, || manual_command::update(from, to))
            }
            (Some(GceResource::Rule(from)), None) => {
                self.with_manual_command(self.delete(from).await, || manual_command::delete(from))
            }
            (Some(GceResource::Tags(_)), Some(GceResource::Rule(_))) | (None, None) => Ok(Applied::default()),
        }
    }

    /// Where the rules belong to another project, somebody there may have to change them by hand: says how.
    fn with_manual_command(
        &self,
        result: Result<Applied, ProviderError>,
        command: impl FnOnce() -> String,
    ) -> Result<Applied, ProviderError> {
        let shared = self.config.rule_project() != self.config.project;
        // Where only reading is refused, the change itself has been made.
        let changing =
            |action: &str| !["compute.firewalls.get", "compute.globalOperations.get"].contains(&action);
        result.map_err(|error| match error {
            denied if shared && denied.kind == ErrorKind::PermissionDenied && changing(&denied.call) => {
                denied.with_manual_command(command())
            }
            other => other,
        })
    }

    fn applied(&self, rule: &FirewallRule) -> Applied {
        Applied { ids: vec![self.client.rule(&rule.name)], notes: Vec::new() }
    }

    async fn create(&self, to: &FirewallRule) -> Result<Applied, ProviderError> {
        self.validate(to)?;
        match self.client.insert_rule(to, firewall::write(to, &self.config.cluster)).await {
            Ok(()) => Ok(self.applied(to)),
            Err(error) if error.is_taken() => self.take_over(to, error).await,
            Err(error) => Err(error.into()),
        }
    }

    /// Something has the name: what an earlier try of ours has made is made right, anything else is left alone.
    async fn take_over(&self, to: &FirewallRule, taken: CallError) -> Result<Applied, ProviderError> {
        let Some(found) = self.client.find_rule(&to.name).await? else {
            return Err(ProviderError::new(
                ErrorKind::Unavailable,
                taken.method.to_string(),
                taken.object,
                "an earlier call is still making it",
            ));
        };
        let found = firewall::read(&found, self.config);
        if found.owner == Owner::Foreign || found.network != to.network {
            return Err(ProviderError::new(
                ErrorKind::Conflict,
                taken.method.to_string(),
                taken.object,
                "the name is taken by a rule that does not carry this cluster's mark; rename or delete that \
                          rule",
            ));
        }
        if GceResource::Rule(found.clone()).has_same_spec(&GceResource::Rule(to.clone())) {
            return Ok(self.applied(to));
        }
        self.update(&found, to).await
    }

    async fn update(&self, from: &FirewallRule, to: &FirewallRule) -> Result<Applied, ProviderError> {
        self.validate(to)?;
        match firewall::patch(from, to) {
            Some(patch) => self.client.patch_rule(to, patch).await?,
            None => self.client.update_rule(to, firewall::write(to, &self.config.cluster)).await?,
        }
        Ok(self.applied(to))
    }

    async fn delete(&self, from: &FirewallRule) -> Result<Applied, ProviderError> {
        match self.client.delete_rule(&from.name).await {
            Ok(()) => Ok(self.applied(from)),
            Err(error) if error.is_not_found() => Ok(self.applied(from)),
            Err(error) => Err(error.into()),
        }
    }

    /// A rule without targets applies to the whole network, and one without sources to the whole internet: neither is
    /// ever written.
    fn validate(&self, rule: &FirewallRule) -> Result<(), ProviderError> {
        if rule.rules.is_empty() || rule.destinations.is_empty() && rule.tags.is_empty() {
            return Err(ProviderError::new(
                ErrorKind::InvalidRequest,
                "compute.firewalls",
                self.client.rule(&rule.name),
                "it would be open to everybody or everywhere; this is a defect, please report it",
            ));
        }
        Ok(())
    }
}
