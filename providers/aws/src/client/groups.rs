//! Calls about security groups and their rules.

use std::slice;

use aws_sdk_ec2::types::{Filter, IpPermission, SecurityGroup, SecurityGroupRule, TagSpecification};
use backon::Retryable;

use super::{Client, FILTER_VALUES, PAGE, paged, settling};
use crate::action::Ec2Action;
use crate::resource::GroupName;
use crate::wire::error::CallError;

pub(super) fn filter(name: &str, values: &[String]) -> Filter {
    Filter::builder().name(name).set_values(Some(values.to_vec())).build()
}

impl Client {
    /// All groups that have one of `values` for the filter `name`.
    pub(crate) async fn groups(
        &self,
        name: &str,
        values: &[String],
    ) -> Result<Vec<SecurityGroup>, CallError> {
        let mut all = Vec::new();
        for batch in values.chunks(FILTER_VALUES) {
            all.extend(self.groups_with(&format!("groups by {name}"), vec![filter(name, batch)]).await?);
        }
        Ok(all)
    }

    async fn groups_with(&self, object: &str, filters: Vec<Filter>) -> Result<Vec<SecurityGroup>, CallError> {
        let action = Ec2Action::DescribeSecurityGroups;
        let request = self.ec2.describe_security_groups().set_filters(Some(filters)).max_results(PAGE);
        paged(action, |token| {
            let request = request.clone().set_next_token(token);
            async move {
                let page = self.call(action, object, || request.clone().send()).await?;
                Ok((page.security_groups.unwrap_or_default(), page.next_token))
            }
        })
        .await
    }

    /// The group of that name, whoever owns it.
    pub(crate) async fn group_named(&self, name: &GroupName) -> Result<Option<SecurityGroup>, CallError> {
        let filters = vec![
            filter("vpc-id", slice::from_ref(&name.vpc)),
            filter("group-name", slice::from_ref(&name.name)),
        ];
        Ok(self.groups_with(&name.to_string(), filters).await?.pop())
    }

    /// The group with that id, if it exists.
    pub(crate) async fn group(&self, id: &str) -> Result<Option<SecurityGroup>, CallError> {
        match self.group_by_id(id).await {
            Ok(group) => Ok(group),
            Err(error) if error.is("InvalidGroup.NotFound") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The group with that id, which exists although EC2 may not know it everywhere yet.
    pub(crate) async fn existing_group(&self, id: &str) -> Result<Option<SecurityGroup>, CallError> {
        (|| self.group_by_id(id)).retry(settling()).when(is_unknown).await
    }

    /// By id and not by filter: what is not there is then an error and not an empty list.
    async fn group_by_id(&self, id: &str) -> Result<Option<SecurityGroup>, CallError> {
        let request = self.ec2.describe_security_groups().group_ids(id);
        let answer = self.call(Ec2Action::DescribeSecurityGroups, id, || request.clone().send()).await?;
        Ok(answer.security_groups.unwrap_or_default().pop())
    }

    /// All rules of the groups, with their ids and tags.
    pub(crate) async fn rules(&self, groups: &[String]) -> Result<Vec<SecurityGroupRule>, CallError> {
        let action = Ec2Action::DescribeSecurityGroupRules;
        let mut all = Vec::new();
        for batch in groups.chunks(FILTER_VALUES) {
            let request =
                self.ec2.describe_security_group_rules().filters(filter("group-id", batch)).max_results(PAGE);
            let rules = paged(action, |token| {
                let request = request.clone().set_next_token(token);
                async move {
                    let page = self.call(action, "rules by group", || request.clone().send()).await?;
                    Ok((page.security_group_rules.unwrap_or_default(), page.next_token))
                }
            });
            all.extend(rules.await?);
        }
        Ok(all)
    }

    /// Creates a group and returns its id.
    pub(crate) async fn create_group(
        &self,
        name: &GroupName,
        description: &str,
        tags: TagSpecification,
    ) -> Result<String, CallError> {
        let request = self
            .ec2
            .create_security_group()
            .vpc_id(&name.vpc)
            .group_name(&name.name)
            .description(description)
            .tag_specifications(tags);
        let object = name.to_string();
        let answer = self.call(Ec2Action::CreateSecurityGroup, &object, || request.clone().send()).await?;
        Ok(answer.group_id.unwrap_or_default())
    }

    /// Adds rules to a group.
    pub(crate) async fn authorize(
        &self,
        group: &str,
        permissions: Vec<IpPermission>,
        tags: TagSpecification,
    ) -> Result<(), CallError> {
        let request = self
            .ec2
            .authorize_security_group_ingress()
            .group_id(group)
            .set_ip_permissions(Some(permissions))
            .tag_specifications(tags);
        let action = Ec2Action::AuthorizeSecurityGroupIngress;
        let attempt = || self.call(action, group, || request.clone().send());
        attempt.retry(settling()).when(is_unknown).await.map(drop)
    }

    /// Removes rules from a group by their properties.
    pub(crate) async fn revoke(&self, group: &str, permissions: Vec<IpPermission>) -> Result<(), CallError> {
        let request =
            self.ec2.revoke_security_group_ingress().group_id(group).set_ip_permissions(Some(permissions));
        self.call(Ec2Action::RevokeSecurityGroupIngress, group, || request.clone().send()).await.map(drop)
    }

    /// Removes rules from a group by their ids.
    pub(crate) async fn revoke_rules(&self, group: &str, rules: Vec<String>) -> Result<(), CallError> {
        let request =
            self.ec2.revoke_security_group_ingress().group_id(group).set_security_group_rule_ids(Some(rules));
        self.call(Ec2Action::RevokeSecurityGroupIngress, group, || request.clone().send()).await.map(drop)
    }

    /// Removes egress rules from a group by their properties.
    pub(crate) async fn revoke_egress(
        &self,
        group: &str,
        permissions: Vec<IpPermission>,
    ) -> Result<(), CallError> {
        let request =
            self.ec2.revoke_security_group_egress().group_id(group).set_ip_permissions(Some(permissions));
        let action = Ec2Action::RevokeSecurityGroupEgress;
        let attempt = || self.call(action, group, || request.clone().send());
        attempt.retry(settling()).when(is_unknown).await.map(drop)
    }

    /// Deletes a group.
    pub(crate) async fn delete_group(&self, group: &str) -> Result<(), CallError> {
        let request = self.ec2.delete_security_group().group_id(group);
        self.call(Ec2Action::DeleteSecurityGroup, group, || request.clone().send()).await.map(drop)
    }
}

/// Right after a group was created, parts of EC2 do not know it yet.
fn is_unknown(error: &CallError) -> bool {
    error.is("InvalidGroup.NotFound")
}
