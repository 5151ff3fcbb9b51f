//! Applies one action, idempotently. The plan has decided the change; it is only carried out here.

mod tags;

use std::collections::BTreeSet;

use firewall_core::{Action, Applied, ErrorKind, Owner, ProviderError, Resource};

use crate::client::Client;
use crate::config::GceConfig;
use crate::manual_command;
use crate::resource::{FirewallRule, GceResource};
use crate::wire::error::CallError;
use crate::wire::firewall;

/// Holds what applying an action needs besides the action itself.
pub(crate) struct Context<'a> {
    pub(crate) client: &'a Client,
    pub(crate) config: &'a GceConfig,
}

impl Context<'_> {
    /// Makes the calls by which `before` becomes `after`.
    pub(crate) async fn apply(&self, action: &Action<GceResource>) -> Result<Applied, ProviderError> {
        match (action.before(), action.after()) {
            (from, Some(GceResource::Tags(to))) => {
                let none = BTreeSet::new();
                let from = from.and_then(GceResource::as_tags).map_or(&none, |from| &from.tags);
                self.change_tags(&to.instance, from, &to.tags).await
            }
            (Some(GceResource::Tags(from)), None) => {
                self.change_tags(&from.instance, &from.tags, &BTreeSet::new()).await
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

    /// Adds the manual command to an error for a missing permission where the rules are in a host project:
    /// its administrator may have to make the change.
    fn with_manual_command(
        &self,
        result: Result<Applied, ProviderError>,
        command: impl FnOnce() -> String,
    ) -> Result<Applied, ProviderError> {
        let is_shared_vpc = self.config.rule_project() != self.config.project;
        // Without a permission to read, the change itself has been made.
        let is_mutating = |permission: &str| {
            !["compute.firewalls.get", "compute.globalOperations.get"].contains(&permission)
        };
        result.map_err(|error| match error {
            denied
                if is_shared_vpc
                    && denied.kind == ErrorKind::PermissionDenied
                    && is_mutating(&denied.call) =>
            {
                denied.with_manual_command(command())
            }
            other => other,
        })
    }

    fn applied(&self, rule: &FirewallRule) -> Applied {
        Applied { ids: vec![self.client.rule_path(&rule.name)], notes: Vec::new() }
    }

    async fn create(&self, to: &FirewallRule) -> Result<Applied, ProviderError> {
        self.validate(to)?;
        match self.client.insert_rule(to, firewall::write(to, &self.config.cluster)).await {
            Ok(()) => Ok(self.applied(to)),
            Err(error) if error.is_name_taken() => self.resolve_name_conflict(to, error).await,
            Err(error) => Err(error.into()),
        }
    }

    /// Updates the rule that has the name if it is this cluster's, created by an earlier attempt; any other
    /// rule is left alone.
    async fn resolve_name_conflict(
        &self,
        to: &FirewallRule,
        taken: CallError,
    ) -> Result<Applied, ProviderError> {
        let Some(found) = self.client.find_rule(&to.name).await? else {
            return Err(taken.explain(ErrorKind::Unavailable, "an earlier call is still creating it"));
        };
        let found = firewall::read(&found, self.config);
        if found.owner == Owner::Foreign || found.network != to.network {
            let message = "a rule without this cluster's ownership mark has the name; delete that rule, or create \
                           it again under another name";
            return Err(taken.explain(ErrorKind::Conflict, message));
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

    /// Checks that the rule has targets and sources. Without targets it would apply to the whole network,
    /// without sources to the whole internet: neither is ever written.
    fn validate(&self, rule: &FirewallRule) -> Result<(), ProviderError> {
        if rule.rules.is_empty() || rule.destinations.is_empty() && rule.tags.is_empty() {
            return Err(ProviderError::new(
                ErrorKind::InvalidRequest,
                "compute.firewalls",
                self.client.rule_path(&rule.name),
                "it would be open from everywhere or to every instance; this is a defect, please report it",
            ));
        }
        Ok(())
    }
}
