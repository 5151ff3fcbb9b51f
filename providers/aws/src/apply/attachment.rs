//! Puts our groups on instances' primary interfaces and takes them off, keeping all others.

use std::collections::BTreeSet;

use firewall_core::{Applied, ErrorKind, ProviderError};

use super::Context;
use crate::observe;
use crate::resource::{Attachment, GroupName};
use crate::session::Dialect;
use crate::wire::error::CallError;

/// EC2 replaces the whole list of groups and has no compare-and-swap: a writer that read before us and wrote
/// after us undoes our change. So read again after writing, and try again this many times.
const ROUNDS: usize = 4;

/// What to change in an interface's list of groups.
struct Edit {
    add: BTreeSet<String>,
    remove: BTreeSet<String>,
}

impl Edit {
    /// The list with the change, in its order; equal if it is made already.
    fn of(&self, groups: &[String]) -> Vec<String> {
        let kept = groups.iter().filter(|id| !self.remove.contains(*id));
        let added = self.add.iter().filter(|id| !groups.contains(id));
        kept.chain(added).cloned().collect()
    }
}

impl Context<'_> {
    pub(super) async fn attach(
        &self,
        from: Option<&Attachment>,
        to: &Attachment,
    ) -> Result<Applied, ProviderError> {
        let nothing = BTreeSet::new();
        let before = from.map_or(&nothing, |from| &from.groups);
        let add =
            (&to.groups - before).iter().map(|name| self.attachable(name, to)).collect::<Result<_, _>>()?;
        let edit = Edit { add, remove: self.known(&(before - &to.groups)) };
        match self.edit(to, &edit).await? {
            Some(applied) => Ok(applied),
            None => Err(ProviderError::new(
                ErrorKind::NotFound,
                "ModifyNetworkInterfaceAttribute",
                format!("{} of {}", to.interface, to.instance),
                "the interface is gone; the instance is probably being terminated",
            )),
        }
    }

    pub(super) async fn detach(&self, from: &Attachment) -> Result<Applied, ProviderError> {
        let edit = Edit { add: BTreeSet::new(), remove: self.known(&from.groups) };
        Ok(self.edit(from, &edit).await?.unwrap_or_default())
    }

    fn attachable(&self, name: &GroupName, to: &Attachment) -> Result<String, ProviderError> {
        self.session.id(name).ok_or_else(|| {
            ProviderError::new(
                ErrorKind::NotFound,
                "ModifyNetworkInterfaceAttribute",
                format!("{} of {}", to.interface, to.instance),
                format!("security group {name} does not exist; it has to be created first"),
            )
        })
    }

    /// The ids of groups; one that is gone is on no interface either.
    fn known(&self, names: &BTreeSet<GroupName>) -> BTreeSet<String> {
        names.iter().filter_map(|name| self.session.id(name)).collect()
    }

    /// Makes the change and looks whether it lasts; `None` if there is nothing to change it on.
    async fn edit(&self, attachment: &Attachment, edit: &Edit) -> Result<Option<Applied>, ProviderError> {
        let dialect = observe::dialect(self.client, self.session).await?;
        let applied = Applied { ids: vec![attachment.interface.clone()], ..Applied::default() };
        for _ in 0..ROUNDS {
            let Some(groups) = self.groups_now(attachment, dialect).await? else { return Ok(None) };
            let wanted = edit.of(&groups);
            if wanted == groups {
                return Ok(Some(applied));
            }
            if wanted.is_empty() {
                return Err(only_ours(attachment));
            }
            self.set_groups(attachment, dialect, wanted).await?;
        }
        // The last write has not been looked at yet.
        let groups = self.groups_now(attachment, dialect).await?;
        if groups.is_none_or(|groups| edit.of(&groups) == groups) {
            return Ok(Some(applied));
        }
        Err(ProviderError::new(
            ErrorKind::Conflict,
            "ModifyNetworkInterfaceAttribute",
            format!("{} of {}", attachment.interface, attachment.instance),
            format!("something else undid the change {ROUNDS} times; only one program may set its groups"),
        ))
    }

    async fn groups_now(
        &self,
        attachment: &Attachment,
        dialect: Dialect,
    ) -> Result<Option<Vec<String>>, CallError> {
        match dialect {
            Dialect::Interfaces => {
                Ok(self.client.interface(&attachment.interface).await?.map(|interface| interface.groups))
            }
            Dialect::Instances => {
                let machines =
                    self.client.instances("instance-id", &[attachment.instance.to_string()]).await?;
                Ok(machines.into_iter().next().map(|machine| machine.primary.groups))
            }
        }
    }

    async fn set_groups(
        &self,
        attachment: &Attachment,
        dialect: Dialect,
        groups: Vec<String>,
    ) -> Result<(), CallError> {
        match dialect {
            Dialect::Interfaces => self.client.set_interface_groups(&attachment.interface, groups).await,
            Dialect::Instances => self.client.set_instance_groups(attachment.instance.as_str(), groups).await,
        }
    }
}

fn only_ours(attachment: &Attachment) -> ProviderError {
    ProviderError::new(
        ErrorKind::InvalidRequest,
        "ModifyNetworkInterfaceAttribute",
        format!("{} of {}", attachment.interface, attachment.instance),
        "an interface must have at least one security group, and it has only ours; add the node's own group \
                  again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_groups_change_and_the_order_of_the_others_stays() {
        let ids = |ids: &[&str]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
        let edit = Edit { add: BTreeSet::from(["sg-new".into()]), remove: BTreeSet::from(["sg-old".into()]) };
        assert_eq!(edit.of(&ids(&["sg-z", "sg-old", "sg-a"])), ids(&["sg-z", "sg-a", "sg-new"]));
        assert_eq!(edit.of(&ids(&["sg-new", "sg-z"])), ids(&["sg-new", "sg-z"]), "made already");
    }
}
