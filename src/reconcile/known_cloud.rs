//! What is known of the cloud between passes, so that a change of the cluster costs the reads that it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use firewall_core::{
    Action, ChangesSince, FirewallProvider, Infeasible, InstanceId, MemberRequirements, Observed,
    ProviderError, Resource, ResourceSet,
};
use tokio::time::Instant;

use super::executor::StepOutcome;
use super::in_flight::Changing;
use super::unsettled::{RequirementsAt, Unsettled};
use crate::desired::snapshot::{Machine, Snapshot};

pub(super) type Key<P> = <<P as FirewallProvider>::Resource as Resource>::Key;

pub(super) type ObservedBy<P> =
    Observed<<P as FirewallProvider>::Resource, <P as FirewallProvider>::Inventory>;

/// Holds what a pass leaves: what was read, with every change that the cloud has confirmed since.
///
/// It is not kept where anything is in doubt: a change that failed, or a remark about one. A change under way is
/// recorded when it has ended. Losing it costs reads.
pub(super) struct KnownCloud<P: FirewallProvider> {
    /// The cloud as it is now
    pub(super) observed: ObservedBy<P>,
    /// The time at which it was last read whole
    pub(super) read_at: Instant,
    /// The time after that at which it has to be read whole again
    pub(super) lasts: Duration,
    /// The snapshot of the pass
    pub(super) snapshot: Arc<Snapshot>,
    /// The requirements of all memberships
    pub(super) requirements: RequirementsAt<P::Resource>,
    /// The memberships that could not be had
    pub(super) infeasible: Vec<Infeasible>,
    /// The instances that are members, or were
    pub(super) members: BTreeSet<InstanceId>,
    /// The instances that are members no longer
    pub(super) left: BTreeSet<InstanceId>,
    /// The resources that steps have changed since anything was read
    pub(super) changed: BTreeSet<Key<P>>,
    /// What is not as it should be, beside what is infeasible; none if that may be anything
    pub(super) unsettled: Option<Unsettled<P::Resource>>,
}

impl<P: FirewallProvider> KnownCloud<P> {
    /// Reads the whole cloud.
    pub(super) async fn read(
        provider: &P,
        members: &BTreeSet<InstanceId>,
        snapshot: &Arc<Snapshot>,
    ) -> Result<Self, ProviderError> {
        let read_at = Instant::now();
        Ok(Self {
            observed: provider.observe(members).await?,
            read_at,
            lasts: Duration::ZERO,
            snapshot: Arc::clone(snapshot),
            requirements: BTreeMap::new(),
            infeasible: Vec::new(),
            members: members.clone(),
            left: BTreeSet::new(),
            changed: BTreeSet::new(),
            unsettled: None,
        })
    }

    /// Brings what is known up to date for these members, among others, and, if the whole is meant, for all resources
    /// and no other members. Returns true if somebody else has changed something of that.
    pub(super) async fn follow(
        &mut self,
        provider: &P,
        members: &BTreeSet<InstanceId>,
        is_whole: bool,
    ) -> Result<bool, ProviderError> {
        // Also those that are members again: what they have now is not known.
        let mut left = std::mem::take(&mut self.left);
        if is_whole {
            left.extend(self.members.difference(members).cloned());
        }
        let resources = std::mem::take(&mut self.changed);
        let relied_on = (!is_whole).then(BTreeSet::new);
        let changes = ChangesSince { resources, members: members.clone(), left, relied_on };
        for left in &changes.left {
            self.members.remove(left);
        }
        self.members.extend(members.iter().cloned());
        provider.observe_added(&mut self.observed, &changes).await
    }

    /// Reads resources again that a plan relies on. Returns true if somebody else has changed one.
    pub(super) async fn read_again(
        &mut self,
        provider: &P,
        resources: BTreeSet<Key<P>>,
    ) -> Result<bool, ProviderError> {
        let changes = ChangesSince { relied_on: Some(resources), ..ChangesSince::none() };
        provider.observe_added(&mut self.observed, &changes).await
    }

    /// Returns the time until the cloud has to be read whole again.
    pub(super) fn time_left(&self, now: Instant) -> Duration {
        self.lasts.saturating_sub(now - self.read_at)
    }

    /// Returns true if it still holds for this snapshot's machines: one that is made anew under its id, or has
    /// another address, has to be read. So has one that still counts as a member, when a node names it again.
    pub(super) fn holds_for(&self, provider: &P, snapshot: &Snapshot, now: Instant) -> bool {
        let is_known = |machine: &Machine| {
            let instance = provider.parse_provider_id(&machine.provider_id).and_then(Result::ok);
            instance.is_some_and(|id| self.members.contains(&id) && !self.left.contains(&id))
        };
        let is_same = |node: &String| match (self.snapshot.machines.get(node), snapshot.machines.get(node)) {
            (Some(before), Some(now)) => before == now,
            (None, Some(now)) => !is_known(now),
            (_, None) => true,
        };
        let are_same = match snapshot.changes_since(&self.snapshot) {
            Some(changes) => changes.nodes.iter().all(is_same),
            None => snapshot.machines.keys().all(is_same),
        };
        are_same && !self.time_left(now).is_zero()
    }

    /// Records the requirements at some instances, or at all.
    pub(super) fn record_requirements(
        &mut self,
        requirements: MemberRequirements<P::Resource>,
        only: Option<&BTreeSet<InstanceId>>,
    ) {
        match only {
            Some(only) => only.iter().for_each(|instance| drop(self.requirements.remove(instance))),
            None => self.requirements.clear(),
        }
        for ((group, instance), required) in requirements {
            self.requirements.entry(instance).or_default().insert(group, required);
        }
    }

    /// Takes back what a plan took resources for that are being changed.
    pub(super) fn restore(&mut self, changing: Changing<P::Resource>) {
        for (key, as_observed) in changing {
            match as_observed {
                Some(as_observed) => _ = self.observed.resources.insert(key, as_observed),
                None => _ = self.observed.resources.remove(&key),
            }
        }
    }

    /// Records a change that has ended after the pass that began it. Returns false if it was made to something else
    /// than it was planned for, because one before it has failed: what it has left is not known then.
    pub(super) fn record_late(&mut self, action: &Action<P::Resource>) -> bool {
        let now = self.observed.resources.get(&action.key());
        let is_same = |planned: Option<&P::Resource>| match (now, planned) {
            (Some(now), Some(planned)) => now.has_same_spec(planned),
            (now, planned) => now.is_none() && planned.is_none(),
        };
        if !is_same(action.before()) && !is_same(action.after()) {
            return false;
        }
        action.apply_to(&mut self.observed.resources);
        self.changed.insert(action.key());
        true
    }

    /// Records what steps have left of resources: of a part of them, or of all.
    pub(super) fn record_state(
        &mut self,
        before: &ResourceSet<P::Resource>,
        state: ResourceSet<P::Resource>,
        is_part: bool,
    ) {
        let keys = before.keys().chain(state.keys());
        let changed: BTreeSet<Key<P>> =
            keys.filter(|key| before.get(key) != state.get(key)).cloned().collect();
        if is_part {
            for key in &changed {
                match state.get(key) {
                    Some(now) => self.observed.resources.insert(key.clone(), now.clone()),
                    None => self.observed.resources.remove(key),
                };
            }
        } else {
            self.observed.resources = state;
        }
        self.changed.extend(changed);
    }
}

/// Returns true if after this outcome the cloud is as the plan says, or will be. A remark is about something that is
/// not.
pub(super) fn is_certain(outcome: &StepOutcome) -> bool {
    match outcome {
        StepOutcome::Applied(applied) => applied.notes.is_empty(),
        StepOutcome::InFlight | StepOutcome::LeftOut | StepOutcome::Stopped => true,
        StepOutcome::Failed(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use firewall_core::Owner;
    use firewall_core::testing::memory::{MemoryCloud, MemoryKey, MemoryResource};

    use super::*;
    use crate::intents::settings::Settings;
    use crate::k8s::index::Index;

    /// What a machine is attached to.
    fn attached(groups: &[&str]) -> MemoryResource {
        let group = |name: &&str| MemoryKey::Group("c".to_owned(), (*name).to_owned());
        MemoryResource {
            key: MemoryKey::Attachment("c".to_owned(), InstanceId::new("i-0")),
            label: String::new(),
            owner: Owner::Ours,
            rules: BTreeSet::new(),
            groups: groups.iter().map(group).collect(),
        }
    }

    #[tokio::test]
    async fn late_change_of_something_else_than_planned_is_not_recorded() {
        let snapshot = Arc::new(Snapshot::take(&Index::default(), &Settings::default(), Duration::ZERO));
        let swap = Action::Update { from: attached(&["a", "b"]), to: attached(&["b"]) };
        // The change before it, which was to add b, has failed: nothing is left.
        for (there, is_recorded) in [(&["a"][..], false), (&["a", "b"], true), (&["b"], true), (&[], false)] {
            let cloud = MemoryCloud::new([InstanceId::new("i-0")]);
            cloud.put(attached(there));
            let read = KnownCloud::read(&cloud.provider("c"), &BTreeSet::new(), &snapshot).await;
            let mut known = read.expect("it answers");
            assert_eq!(known.record_late(&swap), is_recorded, "{there:?}");
            let now = known.observed.resources.get(&swap.key());
            assert_eq!(now == Some(&attached(&["b"])), is_recorded, "{there:?}");
        }
    }
}
