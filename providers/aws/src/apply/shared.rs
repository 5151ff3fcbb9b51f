//! Adds our rules to the user's security groups and removes them.

use std::collections::BTreeSet;

use firewall_core::{Applied, IngressRule, ProviderError};

use super::{Context, MAX_ATTEMPTS, concurrent_modification};
use crate::api_calls::ApiCall;
use crate::ownership;
use crate::resource::{RuleCapacity, SharedRules};
use crate::wire::permission::{self, ParsedPermission};

impl Context<'_> {
    /// Changes our rules in the user's group by the difference between `from` and `to`.
    pub(super) async fn update_shared_rules(
        &self,
        from: Option<&SharedRules>,
        to: Option<&SharedRules>,
        group: &str,
    ) -> Result<Applied, ProviderError> {
        let empty = SharedRules::empty(group.to_owned(), RuleCapacity::per_family(0));
        let (from, to) = (from.unwrap_or(&empty), to.unwrap_or(&empty));
        self.revoke_shared_rules(from, to).await?;
        let notes = self.authorize_shared_rules(to, &to.rules - &from.rules).await?;
        Ok(Applied { ids: vec![group.to_owned()], notes })
    }

    /// Adds the rules. Returns a note for each that another owner has added meanwhile.
    async fn authorize_shared_rules(
        &self,
        to: &SharedRules,
        mut rules: BTreeSet<IngressRule>,
    ) -> Result<Vec<String>, ProviderError> {
        let mut notes = Vec::new();
        let cluster = &self.config.cluster;
        let label = ownership::join_label(&to.serves);
        let description = ownership::clean_description(&format!("hostport-firewall {cluster}: {label}"));
        for _ in 0..MAX_ATTEMPTS {
            if rules.is_empty() {
                return Ok(notes);
            }
            let permissions = permission::build_permissions(&rules, |_, _| Some(description.clone()));
            let tags = ownership::rule_tags(self.config.marks(), &label);
            match self.client.authorize_ingress(&to.group, permissions, tags).await {
                Ok(()) => return Ok(notes),
                Err(error) if error.is("InvalidPermission.Duplicate") => {
                    let current = self.read_shared_rules(&to.group).await?;
                    let already_open = rules.intersection(&current.foreign);
                    notes.extend(already_open.map(|rule| {
                        format!("{rule} is open already by a rule in {} that is not ours", to.group)
                    }));
                    rules.retain(|rule| !current.foreign.contains(rule) && !current.own.contains(rule));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(concurrent_modification(ApiCall::DescribeSecurityGroupRules, &to.group))
    }

    /// Revokes by the rules' ids: exact, and never another owner's rule for the same traffic.
    async fn revoke_shared_rules(&self, from: &SharedRules, to: &SharedRules) -> Result<(), ProviderError> {
        let rules = &from.rules - &to.rules;
        let altered = from.altered.keys().filter(|id| !to.altered.contains_key(*id));
        let mut ids: BTreeSet<String> =
            rules.iter().filter_map(|rule| from.ids.get(rule)).chain(altered).cloned().collect();
        for _ in 0..MAX_ATTEMPTS {
            if ids.is_empty() {
                return Ok(());
            }
            match self.client.revoke_ingress_by_id(&from.group, ids.iter().cloned().collect()).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_group_not_found() => return Ok(()),
                Err(error)
                    if error.is("InvalidSecurityGroupRuleId.NotFound")
                        || error.is("InvalidPermission.NotFound") =>
                {
                    let current = self.read_shared_rules(&from.group).await?;
                    ids.retain(|id| current.own_ids.contains(id));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(concurrent_modification(ApiCall::DescribeSecurityGroupRules, &from.group))
    }

    async fn read_shared_rules(&self, group: &str) -> Result<CurrentRules, ProviderError> {
        let mut current = CurrentRules::default();
        for rule in self.client.describe_rules("group-id", &[group.to_owned()]).await? {
            if rule.is_egress() != Some(false) {
                continue;
            }
            let id = rule.security_group_rule_id().unwrap_or_default().to_owned();
            let is_ours = ownership::is_ours(rule.tags(), &self.config.cluster);
            if is_ours {
                current.own_ids.insert(id);
            }
            if let ParsedPermission::Rule(rule) = permission::parse_rule(&rule) {
                let rules = if is_ours { &mut current.own } else { &mut current.foreign };
                rules.insert(rule);
            }
        }
        Ok(current)
    }
}

/// The ingress rules that one of the user's groups has now.
#[derive(Default)]
struct CurrentRules {
    own: BTreeSet<IngressRule>,
    own_ids: BTreeSet<String>,
    foreign: BTreeSet<IngressRule>,
}
