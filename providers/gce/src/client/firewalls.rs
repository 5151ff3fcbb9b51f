//! Firewall rules and networks.

use google_cloud_compute_v1::model::Firewall;
use google_cloud_gax::options::RequestOptionsBuilder;
use google_cloud_gax::paginator::ItemPaginator;

use super::{Client, PAGE, finished, found, request_id};
use crate::api_calls::ApiCall;
use crate::network::Network;
use crate::resource::FirewallRule;
use crate::wire::error::CallError;

/// Sends a mutating call, and waits for its operation.
macro_rules! run {
    ($method:expr, $object:expr, $request:expr) => {
        finished($method, $object, $request.set_request_id(request_id()).with_idempotency(true).poller())
            .await
    };
}

impl Client {
    /// A rule as error messages name it.
    pub(crate) fn rule(&self, name: &str) -> String {
        format!("projects/{}/global/firewalls/{name}", self.rule_project)
    }

    /// All rules whose names begin with `prefix`.
    pub(crate) async fn rules(&self, prefix: &str) -> Result<Vec<Firewall>, CallError> {
        let request = self
            .firewalls
            .list()
            .set_project(&self.rule_project)
            .set_max_results(PAGE)
            .set_filter(format!("name eq \"{prefix}.*\""));
        let (mut rules, mut items) = (Vec::new(), request.by_item());
        while let Some(rule) = items.next().await {
            let object = format!("projects/{}", self.rule_project);
            rules.push(rule.map_err(|error| CallError::new(ApiCall::FirewallsList, &object, &error))?);
        }
        // A filter that does not filter must not make somebody else's rules ours.
        rules.retain(|rule| rule.name.as_deref().is_some_and(|name| name.starts_with(prefix)));
        Ok(rules)
    }

    /// One rule, if it is there.
    pub(crate) async fn find_rule(&self, name: &str) -> Result<Option<Firewall>, CallError> {
        let request = self.firewalls.get().set_project(&self.rule_project).set_firewall(name);
        found(ApiCall::FirewallsGet, &self.rule(name), request.send().await)
    }

    pub(crate) async fn insert_rule(&self, rule: &FirewallRule, firewall: Firewall) -> Result<(), CallError> {
        let request = self.firewalls.insert().set_project(&self.rule_project).set_body(firewall);
        run!(ApiCall::FirewallsInsert, &self.rule(&rule.name), request)
    }

    pub(crate) async fn patch_rule(&self, rule: &FirewallRule, patch: Firewall) -> Result<(), CallError> {
        let request = self.firewalls.patch().set_project(&self.rule_project).set_firewall(&rule.name);
        run!(ApiCall::FirewallsPatch, &self.rule(&rule.name), request.set_body(patch))
    }

    pub(crate) async fn update_rule(&self, rule: &FirewallRule, firewall: Firewall) -> Result<(), CallError> {
        let request = self.firewalls.update().set_project(&self.rule_project).set_firewall(&rule.name);
        run!(ApiCall::FirewallsUpdate, &self.rule(&rule.name), request.set_body(firewall))
    }

    pub(crate) async fn delete_rule(&self, name: &str) -> Result<(), CallError> {
        let request = self.firewalls.delete().set_project(&self.rule_project).set_firewall(name);
        run!(ApiCall::FirewallsDelete, &self.rule(name), request)
    }

    /// Whether the network exists.
    pub(crate) async fn has_network(&self, network: &Network) -> Result<bool, CallError> {
        let request = self.networks.get().set_project(&network.project).set_network(&network.name);
        Ok(found(ApiCall::NetworksGet, &network.to_string(), request.send().await)?.is_some())
    }
}
