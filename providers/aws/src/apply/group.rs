//! Creates, changes and deletes security groups.

use std::collections::BTreeSet;

use aws_sdk_ec2::types::SecurityGroup as Ec2Group;
use firewall_core::{Applied, ErrorKind, IngressRule, ProviderError};

use super::{Context, MAX_ATTEMPTS, concurrent_modification, describe_error};
use crate::api_calls::ApiCall;
use crate::client::{detach_backoff, propagation_backoff};
use crate::ec2_cache::AttachApi;
use crate::ownership;
use crate::resource::{Egress, ForeignPermission, SecurityGroup};
use crate::wire::error::CallError;
use crate::wire::permission;

impl Context<'_> {
    /// Creates the group, revokes its egress, and only then adds its rules: if the process is killed in
    /// between, the group admits nothing, and the next pass completes it.
    pub(super) async fn create_group(&self, to: &SecurityGroup) -> Result<Applied, ProviderError> {
        let id = self.create_or_find_group(to).await?;
        let Some(group) = self.client.await_group(&id).await? else {
            return Err(group_deleted(&id));
        };
        let notes = self.revoke_egress(to, &group).await?;
        let (rules, foreign) = permission::parse_permissions(group.ip_permissions());
        if !rules.is_subset(&to.rules) || !foreign.is_empty() {
            let message =
                "the group exists already, with other rules; the next pass will see and change them";
            return Err(create_error(id, message));
        }
        self.authorize_rules(&id, to, &to.rules - &rules).await?;
        // Not before: an attachment must not find a group that is not complete.
        self.cache.record_created(&to.name, &id);
        Ok(Applied { ids: vec![id], notes })
    }

    /// Returns the id of the new group, or of our own group that was created before but not listed.
    async fn create_or_find_group(&self, to: &SecurityGroup) -> Result<String, ProviderError> {
        let cluster = &self.config.cluster;
        let label = ownership::join_label(&to.serves);
        let description = ownership::clean_description(&format!("hostport-firewall {cluster}: {label}"));
        let tags = ownership::group_tags(self.config.marks(), &label, &to.name.name);
        match self.client.create_group(&to.name, &description, tags).await {
            Err(error) if error.is("InvalidGroup.Duplicate") => self.resolve_name_conflict(to, error).await,
            created => Ok(created?),
        }
    }

    /// Returns the id of the group that has the name, if it is ours from before.
    ///
    /// # Errors
    /// If another owner's group has the name; the error names that group.
    async fn resolve_name_conflict(
        &self,
        to: &SecurityGroup,
        duplicate: CallError,
    ) -> Result<String, ProviderError> {
        // EC2 answered that the group exists, so it will be listed.
        let find = || async { self.client.find_group_by_name(&to.name).await.map_err(Some)?.ok_or(None) };
        let found = self.client.retries().poll(propagation_backoff(), Option::is_none, find).await;
        let group = found.map_err(|error| error.unwrap_or(duplicate))?;
        let id = group.group_id().unwrap_or_default().to_owned();
        if ownership::is_ours(group.tags(), &self.config.cluster) {
            return Ok(id);
        }
        let message = format!(
            "{id} has the name and is not this cluster's; delete or rename it, or, if it is, tag it {}={}",
            ownership::CLUSTER_TAG,
            self.config.cluster
        );
        Err(create_error(to.name.to_string(), message))
    }

    /// Changes the group's egress and rules by the difference between `from` and `to`.
    pub(super) async fn update_group(
        &self,
        from: &SecurityGroup,
        to: &SecurityGroup,
    ) -> Result<Applied, ProviderError> {
        let mut notes = Vec::new();
        let id = self.group_id(from)?;
        if from.egress == Egress::Open && to.egress == Egress::Closed {
            let group = self.client.await_group(&id).await?.ok_or_else(|| group_deleted(&id))?;
            notes = self.revoke_egress(to, &group).await?;
        }
        self.revoke_rules(&id, &from.rules - &to.rules, &from.foreign - &to.foreign).await?;
        self.authorize_rules(&id, to, &to.rules - &from.rules).await?;
        Ok(Applied { ids: vec![id], notes })
    }

    /// Revokes whatever egress the group has: in a dual-stack VPC that is two rules. Returns a note if the
    /// permission is missing and the egress stays.
    async fn revoke_egress(
        &self,
        to: &SecurityGroup,
        group: &Ec2Group,
    ) -> Result<Vec<String>, ProviderError> {
        let egress = group.ip_permissions_egress();
        if egress.is_empty() || to.egress != Egress::Closed {
            return Ok(Vec::new());
        }
        let id = group.group_id().unwrap_or_default();
        match self.client.revoke_egress(id, egress.to_vec()).await {
            Ok(()) => Ok(Vec::new()),
            Err(error) if error.is("InvalidPermission.NotFound") => Ok(Vec::new()),
            Err(error) if error.is_unauthorized() && self.cache.attach_api() == Some(AttachApi::Instance) => {
                self.cache.record_egress_denied();
                Ok(vec![format!(
                    "{id} keeps the egress rule of a new security group, because \
                     ec2:RevokeSecurityGroupEgress is not granted: nodes that have the group may connect to \
                     anywhere"
                )])
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn authorize_rules(
        &self,
        id: &str,
        to: &SecurityGroup,
        mut rules: BTreeSet<IngressRule>,
    ) -> Result<(), ProviderError> {
        let label = ownership::join_label(&to.serves);
        let description = |protocol, ports| {
            let label = ownership::label_of_ports(&to.serves, protocol, ports);
            Some(ownership::clean_description(&label))
        };
        for _ in 0..MAX_ATTEMPTS {
            if rules.is_empty() {
                return Ok(());
            }
            let permissions = permission::build_permissions(&rules, description);
            let tags = ownership::rule_tags(self.config.marks(), &label);
            match self.client.authorize_ingress(id, permissions, tags).await {
                Ok(()) => return Ok(()),
                // EC2 does not document whether the others were added, so read the group.
                Err(error) if error.is("InvalidPermission.Duplicate") => {
                    rules = &rules - &self.read_rules(id).await?.0;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(concurrent_modification(ApiCall::DescribeSecurityGroups, id))
    }

    async fn revoke_rules(
        &self,
        id: &str,
        mut rules: BTreeSet<IngressRule>,
        mut foreign: BTreeSet<ForeignPermission>,
    ) -> Result<(), ProviderError> {
        for _ in 0..MAX_ATTEMPTS {
            if rules.is_empty() && foreign.is_empty() {
                return Ok(());
            }
            let mut permissions = permission::build_permissions(&rules, |_, _| None);
            permissions.extend(permission::build_foreign_permissions(&foreign));
            match self.client.revoke_ingress(id, permissions).await {
                Ok(()) => return Ok(()),
                // In a VPC that is not the default one nothing was revoked if any was missing.
                Err(error) if error.is("InvalidPermission.NotFound") => {
                    let (present, present_foreign) = self.read_rules(id).await?;
                    (rules, foreign) = (&rules & &present, &foreign & &present_foreign);
                }
                Err(error) if error.is_group_not_found() => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Err(concurrent_modification(ApiCall::DescribeSecurityGroups, id))
    }

    async fn read_rules(
        &self,
        id: &str,
    ) -> Result<(BTreeSet<IngressRule>, BTreeSet<ForeignPermission>), ProviderError> {
        let group = self.client.await_group(id).await?.ok_or_else(|| group_deleted(id))?;
        Ok(permission::parse_permissions(group.ip_permissions()))
    }

    /// Deletes the group once nothing uses it any more, if it still carries our tag.
    pub(super) async fn delete_group(&self, from: &SecurityGroup) -> Result<Applied, ProviderError> {
        let id = self.group_id(from)?;
        if let Some(group) = self.client.find_group(&id).await? {
            if !ownership::is_own_group(&group, &self.config.cluster) {
                let tag = ownership::CLUSTER_TAG;
                let message = format!("it does not carry the tag {tag} of this cluster any more");
                return Err(delete_error(ErrorKind::Conflict, id, message));
            }
            self.delete_when_unused(&id).await?;
        }
        self.cache.record_deleted(&from.name);
        Ok(Applied { ids: vec![id], ..Applied::default() })
    }

    /// Waits a moment for the last use to end, then deletes the group: detaching takes effect a little after
    /// its call. A later pass deletes the group where that takes longer, as where amazon-vpc-cni-k8s has
    /// copies to detach.
    async fn delete_when_unused(&self, id: &str) -> Result<(), ProviderError> {
        let attempt = || async {
            self.ensure_unused(id).await?;
            match self.client.delete_group(id).await {
                Err(error) if error.is_group_not_found() => Ok(()),
                Err(error) if error.is_in_use() => Err(DeleteError::InUse(error.to_string())),
                other => other.map_err(DeleteError::Call),
            }
        };
        let is_in_use = |error: &DeleteError| matches!(error, DeleteError::InUse(_));
        let deleted = self.client.retries().poll(detach_backoff(), is_in_use, attempt).await;
        deleted.map_err(|error| match error {
            DeleteError::Call(error) => error.into(),
            DeleteError::InUse(message) => delete_error(ErrorKind::InUse, id, message),
        })
    }

    /// Asks which interfaces have the group: EC2 refuses to delete a group in use without naming its users,
    /// and emulators do not refuse.
    async fn ensure_unused(&self, id: &str) -> Result<(), DeleteError> {
        if self.cache.attach_api() == Some(AttachApi::Instance) {
            return Ok(());
        }
        let users = self.client.describe_interfaces_with_groups(&[id.to_owned()]).await;
        let users = users.map_err(DeleteError::Call)?;
        if users.is_empty() {
            return Ok(());
        }
        let users: Vec<String> = users.into_iter().map(|interface| interface.id).collect();
        Err(DeleteError::InUse(format!("network interfaces have it: {}", users.join(", "))))
    }
}

/// The reason why a group was not deleted.
enum DeleteError {
    InUse(String),
    Call(CallError),
}

/// Returns the error of creating a group whose name is taken.
fn create_error(object: String, message: impl Into<String>) -> ProviderError {
    ProviderError::new(ErrorKind::Conflict, ApiCall::CreateSecurityGroup.name(), object, message)
}

/// Returns the error of deleting a group.
fn delete_error(kind: ErrorKind, id: impl Into<String>, message: String) -> ProviderError {
    ProviderError::new(kind, ApiCall::DeleteSecurityGroup.name(), id, message)
}

/// Returns the error for a group that was deleted while it was being changed.
fn group_deleted(id: &str) -> ProviderError {
    describe_error(ErrorKind::NotFound, id, "it was deleted meanwhile; the next pass creates it again")
}
