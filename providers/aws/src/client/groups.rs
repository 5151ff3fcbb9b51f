//! Calls about security groups and their rules.

use std::slice;

use aws_sdk_ec2::types::{Filter, IpPermission, SecurityGroup, SecurityGroupRule, TagSpecification};

use super::{Client, MAX_FILTER_VALUES, PAGE_SIZE, fetch_all_batches, fetch_all_pages, propagation_backoff};
use crate::api_calls::ApiCall;
use crate::rate_limit::Ec2Limit;
use crate::resource::GroupName;
use crate::wire::error::CallError;

/// Returns a filter of a Describe call, which admits any of the values.
pub(super) fn filter(name: &str, values: &[String]) -> Filter {
    Filter::builder().name(name).set_values(Some(values.to_vec())).build()
}

impl Client {
    /// Returns all groups that have one of `values` for the filter `name`.
    pub(crate) async fn describe_groups(
        &self,
        name: &str,
        values: &[String],
    ) -> Result<Vec<SecurityGroup>, CallError> {
        let object = &format!("groups by {name}");
        fetch_all_batches(values, MAX_FILTER_VALUES, |batch| {
            self.describe_filtered_groups(object, vec![filter(name, batch)])
        })
        .await
    }

    async fn describe_filtered_groups(
        &self,
        object: &str,
        filters: Vec<Filter>,
    ) -> Result<Vec<SecurityGroup>, CallError> {
        let call = ApiCall::DescribeSecurityGroups;
        let request = self.ec2.describe_security_groups().set_filters(Some(filters)).max_results(PAGE_SIZE);
        fetch_all_pages(call, |token| {
            let request = request.clone().set_next_token(token);
            async move {
                let page = self.call(call, object, || request.clone().send()).await?;
                Ok((page.security_groups.unwrap_or_default(), page.next_token))
            }
        })
        .await
    }

    /// Returns the group of that name, whatever its owner.
    pub(crate) async fn find_group_by_name(
        &self,
        name: &GroupName,
    ) -> Result<Option<SecurityGroup>, CallError> {
        let filters = vec![
            filter("vpc-id", slice::from_ref(&name.vpc)),
            filter("group-name", slice::from_ref(&name.name)),
        ];
        Ok(self.describe_filtered_groups(&name.to_string(), filters).await?.pop())
    }

    /// Returns the group with that id, if it exists.
    pub(crate) async fn find_group(&self, id: &str) -> Result<Option<SecurityGroup>, CallError> {
        match self.describe_group(id).await {
            Ok(group) => Ok(group),
            Err(error) if error.is_group_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns a group that exists, although EC2 may not know it everywhere yet: waits until it does.
    pub(crate) async fn await_group(&self, id: &str) -> Result<Option<SecurityGroup>, CallError> {
        self.retries()
            .poll(propagation_backoff(), CallError::is_group_not_found, || self.describe_group(id))
            .await
    }

    /// Asks by id and not by filter: a missing group is then an error and not an empty list.
    async fn describe_group(&self, id: &str) -> Result<Option<SecurityGroup>, CallError> {
        let request = self.ec2.describe_security_groups().group_ids(id);
        let call = ApiCall::DescribeSecurityGroups;
        let answer = self.call_within(Ec2Limit::of_ids(call), id, || request.clone().send()).await?;
        Ok(answer.security_groups.unwrap_or_default().pop())
    }

    /// Returns all rules that have one of `values` for the filter `name`, with their ids and tags.
    pub(crate) async fn describe_rules(
        &self,
        name: &str,
        values: &[String],
    ) -> Result<Vec<SecurityGroupRule>, CallError> {
        let call = ApiCall::DescribeSecurityGroupRules;
        fetch_all_batches(values, MAX_FILTER_VALUES, |batch| {
            let request =
                self.ec2.describe_security_group_rules().filters(filter(name, batch)).max_results(PAGE_SIZE);
            fetch_all_pages(call, move |token| {
                let request = request.clone().set_next_token(token);
                async move {
                    let page = self.call(call, "rules", || request.clone().send()).await?;
                    Ok((page.security_group_rules.unwrap_or_default(), page.next_token))
                }
            })
        })
        .await
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
        let answer = self.call(ApiCall::CreateSecurityGroup, &object, || request.clone().send()).await?;
        Ok(answer.group_id.unwrap_or_default())
    }

    /// Adds ingress rules to a group.
    pub(crate) async fn authorize_ingress(
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
        let call = ApiCall::AuthorizeSecurityGroupIngress;
        let attempt = || self.call(call, group, || request.clone().send());
        self.retries().poll(propagation_backoff(), CallError::is_group_not_found, attempt).await.map(drop)
    }

    /// Removes ingress rules from a group by their properties.
    pub(crate) async fn revoke_ingress(
        &self,
        group: &str,
        permissions: Vec<IpPermission>,
    ) -> Result<(), CallError> {
        let request =
            self.ec2.revoke_security_group_ingress().group_id(group).set_ip_permissions(Some(permissions));
        self.call(ApiCall::RevokeSecurityGroupIngress, group, || request.clone().send()).await.map(drop)
    }

    /// Removes ingress rules from a group by their ids.
    pub(crate) async fn revoke_ingress_by_id(
        &self,
        group: &str,
        rules: Vec<String>,
    ) -> Result<(), CallError> {
        let request =
            self.ec2.revoke_security_group_ingress().group_id(group).set_security_group_rule_ids(Some(rules));
        self.call(ApiCall::RevokeSecurityGroupIngress, group, || request.clone().send()).await.map(drop)
    }

    /// Removes egress rules from a group by their properties.
    pub(crate) async fn revoke_egress(
        &self,
        group: &str,
        permissions: Vec<IpPermission>,
    ) -> Result<(), CallError> {
        let request =
            self.ec2.revoke_security_group_egress().group_id(group).set_ip_permissions(Some(permissions));
        let call = ApiCall::RevokeSecurityGroupEgress;
        let attempt = || self.call(call, group, || request.clone().send());
        self.retries().poll(propagation_backoff(), CallError::is_group_not_found, attempt).await.map(drop)
    }

    /// Deletes a group.
    pub(crate) async fn delete_group(&self, group: &str) -> Result<(), CallError> {
        let request = self.ec2.delete_security_group().group_id(group);
        self.call(ApiCall::DeleteSecurityGroup, group, || request.clone().send()).await.map(drop)
    }
}
