//! Adds and removes our rules in the user's security groups.

use std::collections::BTreeSet;

use firewall_core::{Applied, IngressRule, ProviderError};

use super::{Context, ROUNDS, restless};
use crate::action::Ec2Action;
use crate::resource::SharedRules;
use crate::wire::permission::{self, Atom};
use crate::wire::tag;

impl Context<'_> {
    pub(super) async fn change_shared_rules(
        &self,
        from: Option<&SharedRules>,
        to: Option<&SharedRules>,
        group: &str,
    ) -> Result<Applied, ProviderError> {
        let none = SharedRules::none(group.to_owned(), crate::resource::Room::each(0));
        let (from, to) = (from.unwrap_or(&none), to.unwrap_or(&none));
        self.revoke_shared(from, to).await?;
        let notes = self.authorize_shared(to, &to.rules - &from.rules).await?;
        Ok(Applied { ids: vec![group.to_owned()], notes })
    }

    /// Adds the rules, and says which of them somebody else has added meanwhile.
    async fn authorize_shared(
        &self,
        to: &SharedRules,
        mut rules: BTreeSet<IngressRule>,
    ) -> Result<Vec<String>, ProviderError> {
        let mut notes = Vec::new();
        let label = tag::label(&to.serves);
        let description = tag::description(&format!("hostport-firewall {}: {label}", self.config.cluster));
        for _ in 0..ROUNDS {
            if rules.is_empty() {
                return Ok(notes);
            }
            let permissions = permission::permissions(&rules, Some(&description));
            let tags = tag::of_rules(&self.config.cluster, &label);
            match self.client.authorize(&to.group, permissions, tags).await {
                Ok(()) => return Ok(notes),
                Err(error) if error.is("InvalidPermission.Duplicate") => {
                    let present = self.shared_rules_now(&to.group).await?;
                    let already = rules.intersection(&present.others);
                    notes.extend(already.map(|rule| {
                        format!("{rule} is open already by a rule in {} that is not ours", to.group)
                    }));
                    rules.retain(|rule| !present.others.contains(rule) && !present.ours.contains(rule));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(restless(Ec2Action::DescribeSecurityGroupRules, &to.group))
    }

    /// By the rules' ids: exact, and never somebody else's rule for the same traffic.
    async fn revoke_shared(&self, from: &SharedRules, to: &SharedRules) -> Result<(), ProviderError> {
        let rules = &from.rules - &to.rules;
        let strays = from.strays.keys().filter(|id| !to.strays.contains_key(*id));
        let mut ids: BTreeSet<String> =
            rules.iter().filter_map(|rule| from.ids.get(rule)).chain(strays).cloned().collect();
        for _ in 0..ROUNDS {
            if ids.is_empty() {
                return Ok(());
            }
            match self.client.revoke_rules(&from.group, ids.iter().cloned().collect()).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is("InvalidGroup.NotFound") => return Ok(()),
                Err(error)
                    if error.is("InvalidSecurityGroupRuleId.NotFound")
                        || error.is("InvalidPermission.NotFound") =>
                {
                    let present = self.shared_rules_now(&from.group).await?;
                    ids.retain(|id| present.our_ids.contains(id));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(restless(Ec2Action::DescribeSecurityGroupRules, &from.group))
    }

    async fn shared_rules_now(&self, group: &str) -> Result<Present, ProviderError> {
        let mut present = Present::default();
        for rule in self.client.rules(&[group.to_owned()]).await? {
            if rule.is_egress() != Some(false) {
                continue;
            }
            let id = rule.security_group_rule_id().unwrap_or_default().to_owned();
            let ours = tag::is_ours(rule.tags(), &self.config.cluster);
            if ours {
                present.our_ids.insert(id);
            }
            if let Atom::Rule(rule) = permission::of_rule(&rule) {
                let set = if ours { &mut present.ours } else { &mut present.others };
                set.insert(rule);
            }
        }
        Ok(present)
    }
}

/// The ingress rules of one of the user's groups at this moment.
#[derive(Default)]
struct Present {
    ours: BTreeSet<IngressRule>,
    our_ids: BTreeSet<String>,
    others: BTreeSet<IngressRule>,
}
