//! Calls on firewall rules and networks.

use google_cloud_compute_v1::model::Firewall;
use google_cloud_gax::options::RequestOptionsBuilder;

use super::{Client, MAX_NAMES_IN_FILTER, PAGE_SIZE, PollTransient, new_request_id, none_if_not_found};
use crate::api_calls::ApiCall;
use crate::network::Network;
use crate::resource::FirewallRule;
use crate::wire::error::CallError;

/// Makes a mutating call, and waits for its operation. A repeated call has the same request id.
macro_rules! mutate {
    ($client:expr, $call:expr, $object:expr, $request:expr) => {{
        let request = $request.set_request_id(new_request_id()).with_idempotency(true);
        let poller =
            |policy: PollTransient| request.clone().with_polling_error_policy(policy.limited()).poller();
        $client.mutate($call, $object, poller).await
    }};
}

impl Client {
    /// Returns the rule's path, as error messages name it.
    pub(crate) fn rule_path(&self, name: &str) -> String {
        format!("projects/{}/global/firewalls/{name}", self.rule_project)
    }

    /// Returns those of the rules with these names that exist; all whose names begin with `prefix`, as theirs do, where a
    /// filter would be too long.
    pub(crate) async fn list_rules_of(
        &self,
        prefix: &str,
        names: &[&str],
    ) -> Result<Vec<Firewall>, CallError> {
        match names {
            [] => Ok(Vec::new()),
            _ if names.len() > MAX_NAMES_IN_FILTER => self.list_rules(prefix).await,
            _ => self.list_filtered(prefix, &format!("name eq \"({})\"", names.join("|"))).await,
        }
    }

    /// Returns all rules whose names begin with `prefix`.
    pub(crate) async fn list_rules(&self, prefix: &str) -> Result<Vec<Firewall>, CallError> {
        self.list_filtered(prefix, &format!("name eq \"{prefix}.*\"")).await
    }

    async fn list_filtered(&self, prefix: &str, filter: &str) -> Result<Vec<Firewall>, CallError> {
        let request = self
            .firewalls
            .list()
            .set_project(&self.rule_project)
            .set_max_results(PAGE_SIZE)
            .set_filter(filter);
        let object = format!("projects/{}", self.rule_project);
        let (mut rules, mut token) = (Vec::new(), String::new());
        loop {
            let request = || request.clone().set_page_token(&token).send();
            let page = self.call(ApiCall::FirewallsList, &object, request).await?;
            rules.extend(page.items);
            token = page.next_page_token.unwrap_or_default();
            if token.is_empty() {
                break;
            }
        }
        // The prefix is checked again: if the filter did not work, foreign rules must not be taken for this
        // cluster's.
        rules.retain(|rule| rule.name.as_deref().is_some_and(|name| name.starts_with(prefix)));
        Ok(rules)
    }

    /// Returns the rule, if it exists.
    pub(crate) async fn find_rule(&self, name: &str) -> Result<Option<Firewall>, CallError> {
        let request = self.firewalls.get().set_project(&self.rule_project).set_firewall(name);
        none_if_not_found(
            self.call(ApiCall::FirewallsGet, &self.rule_path(name), || request.clone().send()).await,
        )
    }

    pub(crate) async fn insert_rule(&self, rule: &FirewallRule, firewall: Firewall) -> Result<(), CallError> {
        let request = self.firewalls.insert().set_project(&self.rule_project).set_body(firewall);
        mutate!(self, ApiCall::FirewallsInsert, &self.rule_path(&rule.name), request)
    }

    pub(crate) async fn patch_rule(&self, rule: &FirewallRule, patch: Firewall) -> Result<(), CallError> {
        let request = self.firewalls.patch().set_project(&self.rule_project).set_firewall(&rule.name);
        mutate!(self, ApiCall::FirewallsPatch, &self.rule_path(&rule.name), request.set_body(patch))
    }

    pub(crate) async fn update_rule(&self, rule: &FirewallRule, firewall: Firewall) -> Result<(), CallError> {
        let request = self.firewalls.update().set_project(&self.rule_project).set_firewall(&rule.name);
        mutate!(self, ApiCall::FirewallsUpdate, &self.rule_path(&rule.name), request.set_body(firewall))
    }

    pub(crate) async fn delete_rule(&self, name: &str) -> Result<(), CallError> {
        let request = self.firewalls.delete().set_project(&self.rule_project).set_firewall(name);
        mutate!(self, ApiCall::FirewallsDelete, &self.rule_path(name), request)
    }

    /// Returns true if the network exists.
    pub(crate) async fn has_network(&self, network: &Network) -> Result<bool, CallError> {
        let request = self.networks.get().set_project(&network.project).set_network(&network.name);
        let object = network.to_string();
        let found = self.call(ApiCall::NetworksGet, &object, || request.clone().send()).await;
        Ok(none_if_not_found(found)?.is_some())
    }
}
