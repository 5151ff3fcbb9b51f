//! Attaches our groups to instances' primary interfaces and detaches them, and keeps all other groups.

use std::collections::BTreeSet;

use firewall_core::{Applied, ErrorKind, ProviderError};

use super::Context;
use crate::api_calls::ApiCall;
use crate::ec2_cache::AttachApi;
use crate::observe;
use crate::resource::{Attachment, GroupName};
use crate::wire::error::CallError;

/// The attempts at a change of an interface's groups. EC2 replaces the whole list and has no
/// compare-and-swap: a writer that read before us and wrote after us undoes our change. So the list is read
/// again after each write.
const MAX_ATTEMPTS: usize = 4;

/// A change of an interface's list of groups.
struct Edit {
    add: BTreeSet<String>,
    remove: BTreeSet<String>,
}

impl Edit {
    /// Returns the list with the change, in its order; an equal list if the change is made already.
    fn apply_to(&self, groups: &[String]) -> Vec<String> {
        let kept = groups.iter().filter(|id| !self.remove.contains(*id));
        let added = self.add.iter().filter(|id| !groups.contains(id));
        kept.chain(added).cloned().collect()
    }
}

impl Context<'_> {
    /// Attaches the groups of `to` that `from` lacks, and detaches those of `from` that `to` lacks.
    pub(super) async fn attach(
        &self,
        from: Option<&Attachment>,
        to: &Attachment,
    ) -> Result<Applied, ProviderError> {
        let none = BTreeSet::new();
        let before = from.map_or(&none, |from| &from.groups);
        let added = &to.groups - before;
        let add = added.iter().map(|name| self.require_group_id(name, to)).collect::<Result<_, _>>()?;
        let edit = Edit { add, remove: self.existing_group_ids(&(before - &to.groups)) };
        self.edit_groups(to, &edit).await?.ok_or_else(|| {
            let message = "the interface is gone; the instance is probably being terminated";
            modify_error(ErrorKind::NotFound, to, message)
        })
    }

    /// Detaches the groups.
    pub(super) async fn detach(&self, from: &Attachment) -> Result<Applied, ProviderError> {
        let edit = Edit { add: BTreeSet::new(), remove: self.existing_group_ids(&from.groups) };
        Ok(self.edit_groups(from, &edit).await?.unwrap_or_default())
    }

    fn require_group_id(&self, name: &GroupName, to: &Attachment) -> Result<String, ProviderError> {
        self.cache.group_id(name).ok_or_else(|| {
            let message = format!("security group {name} does not exist; it has to be created first");
            modify_error(ErrorKind::NotFound, to, message)
        })
    }

    /// Returns the ids of those of the groups that exist; the others are on no interface either.
    fn existing_group_ids(&self, names: &BTreeSet<GroupName>) -> BTreeSet<String> {
        names.iter().filter_map(|name| self.cache.group_id(name)).collect()
    }

    /// Makes the change and reads the groups again to see that it lasts; `None` if the interface does not
    /// exist.
    async fn edit_groups(
        &self,
        attachment: &Attachment,
        edit: &Edit,
    ) -> Result<Option<Applied>, ProviderError> {
        let attach_api = observe::detect_attach_api(self.client, self.cache).await?;
        let applied = Applied { ids: vec![attachment.interface.clone()], ..Applied::default() };
        for _ in 0..MAX_ATTEMPTS {
            let Some(groups) = self.read_groups(attachment, attach_api).await? else { return Ok(None) };
            let edited = edit.apply_to(&groups);
            if edited == groups {
                return Ok(Some(applied));
            }
            if edited.is_empty() {
                return Err(last_group_error(attachment));
            }
            self.modify_groups(attachment, attach_api, edited).await?;
        }
        // The last write has not been verified yet.
        let groups = self.read_groups(attachment, attach_api).await?;
        if groups.is_none_or(|groups| edit.apply_to(&groups) == groups) {
            return Ok(Some(applied));
        }
        let message = format!(
            "something else undid the change {MAX_ATTEMPTS} times; only one program may set its groups"
        );
        Err(modify_error(ErrorKind::Conflict, attachment, message))
    }

    async fn read_groups(
        &self,
        attachment: &Attachment,
        attach_api: AttachApi,
    ) -> Result<Option<Vec<String>>, CallError> {
        match attach_api {
            AttachApi::NetworkInterface => {
                let interface = self.client.find_interface(&attachment.interface).await?;
                Ok(interface.map(|interface| interface.groups))
            }
            AttachApi::Instance => {
                let id = attachment.instance.to_string();
                let instances = self.client.describe_instances("instance-id", &[id]).await?;
                Ok(instances.instances.into_iter().next().map(|instance| instance.primary.groups))
            }
        }
    }

    async fn modify_groups(
        &self,
        attachment: &Attachment,
        attach_api: AttachApi,
        groups: Vec<String>,
    ) -> Result<(), CallError> {
        match attach_api {
            AttachApi::NetworkInterface => {
                self.client.modify_interface_groups(&attachment.interface, groups).await
            }
            AttachApi::Instance => {
                self.client.modify_instance_groups(attachment.instance.as_str(), groups).await
            }
        }
    }
}

/// Returns the error of a change of the attachment's groups.
fn modify_error(kind: ErrorKind, attachment: &Attachment, message: impl Into<String>) -> ProviderError {
    let object = format!("{} of {}", attachment.interface, attachment.instance);
    ProviderError::new(kind, ApiCall::ModifyNetworkInterfaceAttribute.name(), object, message)
}

/// Returns the error for detaching the last groups of an interface.
fn last_group_error(attachment: &Attachment) -> ProviderError {
    let message = "an interface must have at least one security group, and it has only ours; add the node's \
                   own group again";
    modify_error(ErrorKind::InvalidRequest, attachment, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_changes_only_our_groups_and_keeps_the_order() {
        let ids = |ids: &[&str]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
        let edit = Edit { add: BTreeSet::from(["sg-new".into()]), remove: BTreeSet::from(["sg-old".into()]) };
        assert_eq!(edit.apply_to(&ids(&["sg-z", "sg-old", "sg-a"])), ids(&["sg-z", "sg-a", "sg-new"]));
        assert_eq!(edit.apply_to(&ids(&["sg-new", "sg-z"])), ids(&["sg-new", "sg-z"]), "made already");
    }
}
