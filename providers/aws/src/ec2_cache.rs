//! What this process has read from EC2 and need not read again, and what a later answer is held against:
//! group ids by name, permissions, instances that answers left out.
//!
//! It is empty at every start: all of it can be read again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use firewall_core::Absences;
use tokio::time::Instant;

use crate::resource::GroupName;

/// The time within which EC2 lists a new group: one created this recently exists although it is not listed.
const MAX_LISTING_DELAY: Duration = Duration::from_mins(1);

/// The calls by which groups are attached to instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttachApi {
    /// By the interface: `ModifyNetworkInterfaceAttribute`.
    #[default]
    NetworkInterface,
    /// By the instance: `ModifyInstanceAttribute`, where only the policy that Voyager documents is granted.
    Instance,
}

/// The cache of one process.
#[derive(Debug, Default)]
pub(crate) struct Ec2Cache {
    groups: Mutex<BTreeMap<GroupName, CachedGroup>>,
    /// The nodes' own groups that carry the cluster tag, as far as the last answers had them
    node_groups: Mutex<BTreeSet<String>>,
    /// The groups with the cluster's tag that are not ours, which have been told of
    tagged: Mutex<BTreeSet<String>>,
    absences: Mutex<Absences>,
    attach_api: OnceLock<AttachApi>,
    is_egress_denied: AtomicBool,
    is_former_mode_gone: AtomicBool,
}

#[derive(Clone, Debug)]
struct CachedGroup {
    id: String,
    /// The time at which we created it, if it has not been listed since
    created_at: Option<Instant>,
}

impl Ec2Cache {
    /// Records a complete list of our groups.
    pub(crate) fn record_listed(&self, listed: impl IntoIterator<Item = (GroupName, String)>) {
        let mut groups = self.groups();
        groups.retain(|_, group| group.created_at.is_some_and(|at| at.elapsed() < MAX_LISTING_DELAY));
        groups.extend(listed.into_iter().map(|(name, id)| (name, CachedGroup { id, created_at: None })));
    }

    /// Records a group that we created.
    pub(crate) fn record_created(&self, name: &GroupName, id: &str) {
        let group = CachedGroup { id: id.to_owned(), created_at: Some(Instant::now()) };
        self.groups().insert(name.clone(), group);
    }

    /// Returns the groups that were ours, and are not among those of a complete list, by id.
    pub(crate) fn unlisted(&self, listed: &BTreeSet<&str>) -> Vec<String> {
        let groups = self.groups();
        let unlisted = groups.values().filter(|group| !listed.contains(group.id.as_str()));
        unlisted.map(|group| group.id.clone()).collect()
    }

    /// Removes a group that we deleted, or that is not ours any more.
    pub(crate) fn record_deleted(&self, name: &GroupName) {
        self.groups().remove(name);
    }

    /// Returns the id of one of our groups.
    pub(crate) fn group_id(&self, name: &GroupName) -> Option<String> {
        self.groups().get(name).map(|group| group.id.clone())
    }

    /// Returns the names of our groups by id.
    pub(crate) fn group_names(&self) -> BTreeMap<String, GroupName> {
        self.groups().iter().map(|(name, group)| (group.id.clone(), name.clone())).collect()
    }

    /// Records which of the nodes' own groups carry the cluster tag, of those that EC2 described. Returns all
    /// that carry it: an answer that leaves one out says nothing about it.
    pub(crate) fn record_node_groups(
        &self,
        described: impl IntoIterator<Item = (String, bool)>,
    ) -> BTreeSet<String> {
        let mut tagged = lock(&self.node_groups);
        for (id, is_tagged) in described {
            if is_tagged {
                tagged.insert(id)
            } else {
                tagged.remove(&id)
            };
        }
        tagged.clone()
    }

    /// Records a group that has the cluster's tag and is not ours. Returns true if that is new.
    pub(crate) fn record_tagged(&self, id: &str) -> bool {
        lock(&self.tagged).insert(id.to_owned())
    }

    /// Returns the instances that complete answers have left out.
    pub(crate) fn absences(&self) -> MutexGuard<'_, Absences> {
        lock(&self.absences)
    }

    /// Returns the calls by which groups are attached, once they are recorded.
    pub(crate) fn attach_api(&self) -> Option<AttachApi> {
        self.attach_api.get().copied()
    }

    /// Records the calls by which groups are attached.
    pub(crate) fn record_attach_api(&self, attach_api: AttachApi) {
        // A second value can only come from a race with the first, and is the same.
        let _ = self.attach_api.set(attach_api);
    }

    /// Returns true if the permission to revoke egress is known to be missing.
    pub(crate) fn is_egress_denied(&self) -> bool {
        self.is_egress_denied.load(Ordering::Relaxed)
    }

    /// Records that the permission to revoke egress is missing.
    pub(crate) fn record_egress_denied(&self) {
        self.is_egress_denied.store(true, Ordering::Relaxed);
    }

    /// Returns true if a read has found nothing of the other mode.
    pub(crate) fn is_former_mode_gone(&self) -> bool {
        self.is_former_mode_gone.load(Ordering::Relaxed)
    }

    /// Records that a read has found nothing of the other mode.
    pub(crate) fn record_former_mode_gone(&self) {
        self.is_former_mode_gone.store(true, Ordering::Relaxed);
    }

    fn groups(&self) -> MutexGuard<'_, BTreeMap<GroupName, CachedGroup>> {
        lock(&self.groups)
    }
}

/// Locks what no code that holds the lock can leave half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> GroupName {
        GroupName { vpc: "vpc-1".into(), name: name.into() }
    }

    #[tokio::test(start_paused = true)]
    async fn created_group_is_kept_until_it_must_have_been_listed() {
        let cache = Ec2Cache::default();
        cache.record_created(&name("web"), "sg-1");
        cache.record_listed([(name("dns"), "sg-2".into())]);
        assert_eq!(cache.group_id(&name("web")).as_deref(), Some("sg-1"), "listing lags behind creation");
        tokio::time::advance(MAX_LISTING_DELAY).await;
        cache.record_listed([]);
        assert_eq!(cache.group_id(&name("web")), None);
        assert_eq!(cache.group_id(&name("dns")), None, "a group that is listed no more has been deleted");
    }
}
