//! Creates, changes and deletes security groups.

use std::collections::BTreeSet;

use aws_sdk_ec2::types::SecurityGroup as Ec2Group;
use backon::Retryable;
use firewall_core::{Applied, ErrorKind, IngressRule, ProviderError};

use super::{Context, ROUNDS, restless};
use crate::action::Ec2Action;
use crate::client::{detaching, settling};
use crate::resource::{Egress, SecurityGroup, Stray};
use crate::session::Dialect;
use crate::wire::error::CallError;
use crate::wire::{permission, tag};

impl Context<'_> {
    /// Creates the group, takes its egress away, and only then adds its rules: killed in between, it lets
    /// nothing through, and the next pass completes it.
    pub(super) async fn create_group(&self, to: &SecurityGroup) -> Result<Applied, ProviderError> {
        let id = self.created(to).await?;
        let Some(now) = self.client.existing_group(&id).await? else {
            return Err(vanished(&id));
        };
        let notes = self.close_egress(to, &now).await?;
        let (rules, strays) = permission::atoms(now.ip_permissions());
        if !rules.is_subset(&to.rules) || !strays.is_empty() {
            return Err(ProviderError::new(
                ErrorKind::Conflict,
                "CreateSecurityGroup",
                id,
                "the group exists already, with other rules; the next pass will see and change them",
            ));
        }
        self.authorize(&id, to, &to.rules - &rules).await?;
        // Not before: a group that is not complete must not be found by whoever wants to attach it.
        self.session.created(&to.name, &id);
        Ok(Applied { ids: vec![id], notes })
    }

    /// The id of the new group, or of our own one that was created before but not listed.
    async fn created(&self, to: &SecurityGroup) -> Result<String, ProviderError> {
        let cluster = &self.config.cluster;
        let label = tag::label(&to.serves);
        let description = tag::description(&format!("hostport-firewall {cluster}: {label}"));
        let tags = tag::of_group(cluster, &label, &to.name.name);
        match self.client.create_group(&to.name, &description, tags).await {
            Err(error) if error.is("InvalidGroup.Duplicate") => self.holder(to, error).await,
            created => Ok(created?),
        }
    }

    /// Whose the name is that is taken: our own group of before, or a conflict that names the holder.
    async fn holder(&self, to: &SecurityGroup, duplicate: CallError) -> Result<String, ProviderError> {
        // It exists, so it will be listed.
        let look = || async { self.client.group_named(&to.name).await.map_err(Some)?.ok_or(None) };
        let group =
            look.retry(settling()).when(Option::is_none).await.map_err(|error| error.unwrap_or(duplicate))?;
        let id = group.group_id().unwrap_or_default().to_owned();
        if tag::is_ours(group.tags(), &self.config.cluster) {
            return Ok(id);
        }
        Err(ProviderError::new(
            ErrorKind::Conflict,
            "CreateSecurityGroup",
            to.name.to_string(),
            format!(
                "{id} has the name and is not this cluster's; delete or rename it, or, if it is, tag it {}={}",
                tag::CLUSTER_TAG,
                self.config.cluster
            ),
        ))
    }

    pub(super) async fn update_group(
        &self,
        from: &SecurityGroup,
        to: &SecurityGroup,
    ) -> Result<Applied, ProviderError> {
        let mut notes = Vec::new();
        let id = self.group_id(from)?;
        if from.egress == Egress::Open && to.egress == Egress::Closed {
            let now = self.client.existing_group(&id).await?.ok_or_else(|| vanished(&id))?;
            notes = self.close_egress(to, &now).await?;
        }
        self.revoke(&id, &from.rules - &to.rules, &from.strays - &to.strays).await?;
        self.authorize(&id, to, &to.rules - &from.rules).await?;
        Ok(Applied { ids: vec![id], notes })
    }

    /// Requirements away whatever egress the group has: in a dual-stack VPC that is two rules. Says so if it may not.
    async fn close_egress(&self, to: &SecurityGroup, now: &Ec2Group) -> Result<Vec<String>, ProviderError> {
        let egress = now.ip_permissions_egress();
        if egress.is_empty() || to.egress != Egress::Closed {
            return Ok(Vec::new());
        }
        let id = now.group_id().unwrap_or_default();
        match self.client.revoke_egress(id, egress.to_vec()).await {
            Ok(()) => Ok(Vec::new()),
            Err(error) if error.is("InvalidPermission.NotFound") => Ok(Vec::new()),
            Err(error) if error.is_unauthorized() && self.session.dialect() == Some(Dialect::Instances) => {
                self.session.learn_egress_denied();
                Ok(vec![format!(
                    "{id} keeps the egress rule of a new security group, because ec2:RevokeSecurityGroupEgress is \
                     not granted: nodes that have the group may connect to anywhere"
                )])
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn authorize(
        &self,
        id: &str,
        to: &SecurityGroup,
        mut rules: BTreeSet<IngressRule>,
    ) -> Result<(), ProviderError> {
        let label = tag::label(&to.serves);
        for _ in 0..ROUNDS {
            if rules.is_empty() {
                return Ok(());
            }
            let permissions = permission::permissions(&rules, Some(&tag::description(&label)));
            match self.client.authorize(id, permissions, tag::of_rules(&self.config.cluster, &label)).await {
                Ok(()) => return Ok(()),
                // Whether the others were added is not documented, so look.
                Err(error) if error.is("InvalidPermission.Duplicate") => {
                    rules = &rules - &self.rules_now(id).await?.0;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(restless(Ec2Action::DescribeSecurityGroups, id))
    }

    async fn revoke(
        &self,
        id: &str,
        mut rules: BTreeSet<IngressRule>,
        mut strays: BTreeSet<Stray>,
    ) -> Result<(), ProviderError> {
        for _ in 0..ROUNDS {
            if rules.is_empty() && strays.is_empty() {
                return Ok(());
            }
            let mut permissions = permission::permissions(&rules, None);
            permissions.extend(permission::stray_permissions(&strays));
            match self.client.revoke(id, permissions).await {
                Ok(()) => return Ok(()),
                // In a VPC that is not the default one nothing was revoked if any was missing.
                Err(error) if error.is("InvalidPermission.NotFound") => {
                    let (present, present_strays) = self.rules_now(id).await?;
                    (rules, strays) = (&rules & &present, &strays & &present_strays);
                }
                Err(error) if error.is("InvalidGroup.NotFound") => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Err(restless(Ec2Action::DescribeSecurityGroups, id))
    }

    async fn rules_now(&self, id: &str) -> Result<(BTreeSet<IngressRule>, BTreeSet<Stray>), ProviderError> {
        let group = self.client.existing_group(id).await?.ok_or_else(|| vanished(id))?;
        Ok(permission::atoms(group.ip_permissions()))
    }

    /// Deletes the group once nothing uses it any more, if it still carries our mark.
    pub(super) async fn delete_group(&self, from: &SecurityGroup) -> Result<Applied, ProviderError> {
        let id = self.group_id(from)?;
        if let Some(now) = self.client.group(&id).await? {
            if !tag::is_ours(now.tags(), &self.config.cluster) {
                return Err(ProviderError::new(
                    ErrorKind::Conflict,
                    "DeleteSecurityGroup",
                    id,
                    format!("it does not carry the tag {} of this cluster any more", tag::CLUSTER_TAG),
                ));
            }
            self.delete_unused(&id).await?;
        }
        self.session.deleted(&from.name);
        Ok(Applied { ids: vec![id], ..Applied::default() })
    }

    /// Waits a moment for the last use to end: detaching takes effect a little after its call. What takes longer, as where
    /// amazon-vpc-cni-k8s has copies to take off, is for a later pass.
    async fn delete_unused(&self, id: &str) -> Result<(), ProviderError> {
        let attempt = || async {
            self.unused(id).await?;
            match self.client.delete_group(id).await {
                Err(error) if error.is("InvalidGroup.NotFound") => Ok(()),
                Err(error) if error.is_in_use() => Err(DeleteError::InUse(error.to_string())),
                other => other.map_err(DeleteError::Call),
            }
        };
        let deleted = attempt.retry(detaching()).when(|error| matches!(error, DeleteError::InUse(_))).await;
        deleted.map_err(|error| match error {
            DeleteError::Call(error) => error.into(),
            DeleteError::InUse(message) => {
                ProviderError::new(ErrorKind::InUse, "DeleteSecurityGroup", id, message)
            }
        })
    }

    /// EC2 refuses to delete a group in use without saying by what, and emulators do not refuse: so ask.
    async fn unused(&self, id: &str) -> Result<(), DeleteError> {
        if self.session.dialect() == Some(Dialect::Instances) {
            return Ok(());
        }
        let users = self.client.interfaces_with_groups(&[id.to_owned()]).await.map_err(DeleteError::Call)?;
        if users.is_empty() {
            return Ok(());
        }
        let users: Vec<String> = users.into_iter().map(|interface| interface.id).collect();
        Err(DeleteError::InUse(format!("network interfaces have it: {}", users.join(", "))))
    }
}

enum DeleteError {
    InUse(String),
    Call(CallError),
}

fn vanished(id: &str) -> ProviderError {
    ProviderError::new(
        ErrorKind::NotFound,
        "DescribeSecurityGroups",
        id,
        "it was deleted meanwhile; the next pass creates it again",
    )
}
