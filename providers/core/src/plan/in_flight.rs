//! The changes that are under way while a plan is made: nobody knows yet whether the cloud has made them.

use std::collections::BTreeSet;

use crate::{Resource, ResourceSet};

/// Holds what must not be changed beside changes under way.
///
/// Each of them may be made before, while or after anything else is done. So their own resources stay as
/// they are; so does what they refer to, because they could attach it where nobody asks for more, or where
/// somebody relies on it; and nothing comes to refer to one, because it could let in more there.
#[derive(Clone, Debug)]
pub struct InFlight<K> {
    changing: BTreeSet<K>,
    referred: BTreeSet<K>,
}

impl<K: Ord + Clone> InFlight<K> {
    /// Returns that nothing is under way.
    #[must_use]
    pub const fn none() -> Self {
        Self { changing: BTreeSet::new(), referred: BTreeSet::new() }
    }

    /// Takes these changes for under way, each a resource before and after, and lowers `observed` to what is open
    /// whether they have been made or not: nothing may close because another resource is taken to let the same
    /// in.
    pub fn settle<'a, R: Resource<Key = K> + 'a>(
        changes: impl IntoIterator<Item = (Option<&'a R>, Option<&'a R>)>,
        observed: &mut ResourceSet<R>,
    ) -> Self {
        let mut in_flight = Self::none();
        for (before, after) in changes {
            let Some(key) = before.or(after).map(Resource::key) else { continue };
            let states = before.into_iter().chain(after);
            in_flight.referred.extend(states.flat_map(Resource::refers_to));
            match find_certain(before, after, observed.get(&key)) {
                Some(certain) => _ = observed.insert(key.clone(), certain),
                // What others refer to is not taken from under them: it is only read late.
                None if observed.referrers(&key).next().is_none() => _ = observed.remove(&key),
                None => {}
            }
            in_flight.changing.insert(key);
        }
        in_flight
    }

    /// Returns true if a change of the resource is under way.
    fn is_changing(&self, key: &K) -> bool {
        self.changing.contains(key)
    }

    /// Returns true if the resource must stay as it is now.
    pub(super) fn holds(&self, key: &K) -> bool {
        self.is_changing(key) || self.referred.contains(key)
    }

    /// Returns the resources that must stay as they are now.
    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.changing.union(&self.referred)
    }

    /// Returns those of a resource's references that it must not get now.
    pub(super) fn references_to_leave_out<R: Resource<Key = K>>(
        &self,
        observed: Option<&R>,
        goal: &R,
    ) -> BTreeSet<K> {
        if self.changing.is_empty() {
            return BTreeSet::new();
        }
        let before = observed.map(Resource::refers_to).unwrap_or_default();
        let added = goal.refers_to().into_iter().filter(|other| !before.contains(other));
        added.filter(|other| self.is_changing(other)).collect()
    }
}

/// Returns what of a resource is there whether its change has been made or not; `None` if that is nothing.
fn find_certain<R: Resource>(before: Option<&R>, after: Option<&R>, observed: Option<&R>) -> Option<R> {
    observed?.intersection(&before?.intersection(after?)?)
}
