//! What this process has learnt from EC2 and need not ask again: ids of names, and what is permitted.
//!
//! It is empty at every start: all of it can be learnt again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::resource::GroupName;

/// How long EC2 may list less than it has: what was created this recently exists although it is not listed.
const LISTED_WITHIN: Duration = Duration::from_mins(1);

/// By which calls groups are attached to instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// By the interface: `ModifyNetworkInterfaceAttribute`.
    #[default]
    Interfaces,
    /// By the instance: `ModifyInstanceAttribute`, where only the policy that Voyager documents is granted.
    Instances,
}

/// Memory of one process.
#[derive(Debug, Default)]
pub(crate) struct Session {
    groups: Mutex<BTreeMap<GroupName, KnownGroup>>,
    dialect: OnceLock<Dialect>,
    egress_denied: AtomicBool,
}

#[derive(Clone, Debug)]
struct KnownGroup {
    id: String,
    /// When we created it, if it has not been listed since
    created: Option<Instant>,
}

impl Session {
    /// Requirements in a complete list of our groups.
    pub(crate) fn listed(&self, listed: impl IntoIterator<Item = (GroupName, String)>) {
        let mut groups = self.groups();
        groups.retain(|_, known| known.created.is_some_and(|created| created.elapsed() < LISTED_WITHIN));
        groups.extend(listed.into_iter().map(|(name, id)| (name, KnownGroup { id, created: None })));
    }

    /// Requirements in a group that we created.
    pub(crate) fn created(&self, name: &GroupName, id: &str) {
        let known = KnownGroup { id: id.to_owned(), created: Some(Instant::now()) };
        self.groups().insert(name.clone(), known);
    }

    /// Forgets a group that is gone.
    pub(crate) fn deleted(&self, name: &GroupName) {
        self.groups().remove(name);
    }

    /// The id of a group of ours.
    pub(crate) fn id(&self, name: &GroupName) -> Option<String> {
        self.groups().get(name).map(|known| known.id.clone())
    }

    /// Our groups by id.
    pub(crate) fn names(&self) -> BTreeMap<String, GroupName> {
        self.groups().iter().map(|(name, known)| (known.id.clone(), name.clone())).collect()
    }

    pub(crate) fn dialect(&self) -> Option<Dialect> {
        self.dialect.get().copied()
    }

    pub(crate) fn learn_dialect(&self, dialect: Dialect) {
        // A second answer can only come from a race with the first, and is the same.
        let _ = self.dialect.set(dialect);
    }

    pub(crate) fn egress_denied(&self) -> bool {
        self.egress_denied.load(Ordering::Relaxed)
    }

    pub(crate) fn learn_egress_denied(&self) {
        self.egress_denied.store(true, Ordering::Relaxed);
    }

    fn groups(&self) -> MutexGuard<'_, BTreeMap<GroupName, KnownGroup>> {
        // No code that holds the lock can leave the map half changed.
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> GroupName {
        GroupName { vpc: "vpc-1".into(), name: name.into() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_created_group_is_known_until_it_must_have_been_listed() {
        let session = Session::default();
        session.created(&name("web"), "sg-1");
        session.listed([(name("dns"), "sg-2".into())]);
        assert_eq!(session.id(&name("web")).as_deref(), Some("sg-1"), "listing lags behind creation");
        tokio::time::advance(LISTED_WITHIN).await;
        session.listed([]);
        assert_eq!(session.id(&name("web")), None);
        assert_eq!(session.id(&name("dns")), None, "what was listed once and is not any more is gone");
    }
}
