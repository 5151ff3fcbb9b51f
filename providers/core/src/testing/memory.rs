//! A cloud in memory, as strict as a real one, and its provider, for tests and simulation.
//!
//! Its resources are of the kind that is hardest to plan for: groups with rules, and attachments that make
//! the rules of several groups apply to an instance.

mod resource;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::{
    Action, Applied, ChangesSince, Compiled, Desired, ErrorKind, FirewallProvider, GroupKey, Infeasible,
    InstanceId, Observed, Owner, ProviderError, Requirements, ResourceSet,
};

pub use resource::{MemoryKey, MemoryResource};

/// A cloud in memory: instances, and the resources of all clusters. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct MemoryCloud(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    instances: BTreeSet<InstanceId>,
    /// The instances about which the cloud says nothing for now, with the reason
    unknown: BTreeMap<InstanceId, String>,
    resources: ResourceSet<MemoryResource>,
    faults: VecDeque<Fault>,
    mutations: usize,
    /// True if no change goes ahead for now
    is_held: bool,
    /// Those that wait for that
    waiting: Vec<Waker>,
}

/// The result of a later call that changes something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call goes through.
    None,
    /// The call fails and changes nothing.
    CallFails(ProviderError),
    /// The call takes effect, and its reply is lost.
    ReplyLost(ProviderError),
}

impl MemoryCloud {
    /// Returns a cloud with these instances.
    pub fn new(instances: impl IntoIterator<Item = InstanceId>) -> Self {
        let cloud = Self::default();
        cloud.state().instances.extend(instances);
        cloud
    }

    /// Returns the provider for one cluster.
    #[must_use]
    pub fn provider(&self, cluster: &str) -> MemoryProvider {
        MemoryProvider { cloud: self.clone(), cluster: cluster.to_owned(), rules_per_group: 60 }
    }

    /// Says nothing about an instance for now, for this reason.
    pub fn hide(&self, instance: &InstanceId, reason: &str) {
        self.state().unknown.insert(instance.clone(), reason.to_owned());
    }

    /// Says again what there is to say about every instance.
    pub fn show_all(&self) {
        self.state().unknown.clear();
    }

    /// Queues faults for the next calls that change something, one for each.
    pub fn inject(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.extend(faults);
    }

    /// Removes the faults that are still queued.
    pub fn clear_faults(&self) {
        self.state().faults.clear();
    }

    /// Lets all changes wait that are sent from now on.
    pub fn hold_changes(&self) {
        self.state().is_held = true;
    }

    /// Lets the changes go ahead that wait, and all later ones.
    pub fn release_changes(&self) {
        let mut state = self.state();
        state.is_held = false;
        state.waiting.drain(..).for_each(Waker::wake);
    }

    /// Waits while changes are held.
    async fn pass_hold(&self) {
        poll_fn(|context| {
            let mut state = self.state();
            if state.is_held {
                state.waiting.push(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Returns the number of changes that the cloud has accepted.
    #[must_use]
    pub fn mutations(&self) -> usize {
        self.state().mutations
    }

    /// Returns everything in the cloud, of all clusters.
    #[must_use]
    pub fn resources(&self) -> ResourceSet<MemoryResource> {
        self.state().resources.clone()
    }

    /// Changes a resource, if it exists, without the provider.
    pub fn tamper_with(&self, key: &MemoryKey, change: impl FnOnce(&mut MemoryResource)) {
        self.state().resources.change(key, change);
    }

    /// Creates or replaces a resource without the provider.
    pub fn put(&self, resource: MemoryResource) {
        self.state().resources.extend([resource]);
    }

    /// Removes a resource without the provider.
    pub fn remove(&self, key: &MemoryKey) {
        self.state().resources.remove(key);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A test that panicked while holding the lock has failed already.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The instances of the cloud in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryInventory {
    /// Those that exist
    pub instances: BTreeSet<InstanceId>,
    /// Those about which the cloud says nothing for now, with the reason
    pub unknown: BTreeMap<InstanceId, String>,
}

impl From<BTreeSet<InstanceId>> for MemoryInventory {
    fn from(instances: BTreeSet<InstanceId>) -> Self {
        Self { instances, unknown: BTreeMap::new() }
    }
}

impl MemoryInventory {
    /// Returns the member as infeasible, if it is not known to exist.
    fn infeasible(&self, group: &GroupKey, instance: &InstanceId) -> Option<Infeasible> {
        if let Some(reason) = self.unknown.get(instance) {
            let message = format!("instance {instance} is unknown: {reason}");
            return Some(Infeasible::of_member(group, instance, "InstanceUnknown", message));
        }
        let message = || format!("instance {instance} does not exist");
        let exists = self.instances.contains(instance);
        (!exists).then(|| Infeasible::of_member(group, instance, "InstanceNotFound", message()).ending())
    }
}

/// The provider of the cloud in memory, for one cluster.
#[derive(Clone, Debug)]
pub struct MemoryProvider {
    cloud: MemoryCloud,
    cluster: String,
    rules_per_group: usize,
}

impl MemoryProvider {
    fn group_key(&self, digest: String) -> MemoryKey {
        MemoryKey::Group(self.cluster.clone(), digest)
    }

    fn is_ours(&self, key: &MemoryKey) -> bool {
        let (MemoryKey::Group(cluster, _) | MemoryKey::Attachment(cluster, _)) = key;
        *cluster == self.cluster
    }
}

impl FirewallProvider for MemoryProvider {
    type Resource = MemoryResource;
    type Inventory = MemoryInventory;

    fn name(&self) -> &'static str {
        "memory"
    }

    fn parse_provider_id(&self, provider_id: &str) -> Option<Result<InstanceId, String>> {
        let id = provider_id.strip_prefix("memory://")?;
        Some(if id.is_empty() {
            Err(format!("{provider_id:?} names no instance"))
        } else {
            Ok(InstanceId::new(id))
        })
    }

    fn provider_id_prefixes(&self) -> Vec<String> {
        vec!["memory://".to_owned()]
    }

    fn compile(&self, desired: &Desired, inventory: &MemoryInventory) -> Compiled<MemoryResource> {
        let mut compiled = Compiled {
            resources: ResourceSet::<MemoryResource>::new(),
            requirements: BTreeMap::new(),
            infeasible: Vec::new(),
            unknown: desired.unknown.clone(),
        };
        let mut attached: BTreeMap<InstanceId, BTreeSet<MemoryKey>> = BTreeMap::new();
        for (key, group) in &desired.groups {
            if group.rules.len() > self.rules_per_group {
                let message = format!("it has {} rules, {} fit", group.rules.len(), self.rules_per_group);
                compiled.infeasible.push(Infeasible::of_group(key, "TooManyRules", message));
                continue;
            }
            let mut present = Vec::new();
            for instance in &group.members {
                match inventory.infeasible(key, instance) {
                    Some(infeasible) => compiled.infeasible.push(infeasible),
                    None => present.push(instance),
                }
            }
            if present.is_empty() {
                continue;
            }
            let name = self.group_key(key.digest());
            for instance in present {
                let attachment = MemoryKey::Attachment(self.cluster.clone(), instance.clone());
                let requirements = Requirements {
                    resources: BTreeSet::from([name.clone(), attachment.clone()]),
                    reachable_at: BTreeSet::from([instance.clone()]),
                };
                compiled.requirements.insert((key.clone(), instance.clone()), requirements);
                attached.entry(instance.clone()).or_default().insert(name.clone());
            }
            let rules = group.rules.rules().clone();
            let resource = MemoryResource {
                key: name.clone(),
                label: key.to_string(),
                owner: Owner::Ours,
                rules,
                groups: BTreeSet::new(),
            };
            compiled.resources.insert(name, resource);
        }
        compiled.resources.extend(attached.into_iter().map(|(instance, groups)| MemoryResource {
            key: MemoryKey::Attachment(self.cluster.clone(), instance),
            label: String::new(),
            owner: Owner::Ours,
            rules: BTreeSet::new(),
            groups,
        }));
        compiled.keeping_infeasible(desired)
    }

    async fn observe(
        &self,
        members: &BTreeSet<InstanceId>,
    ) -> Result<Observed<MemoryResource, MemoryInventory>, ProviderError> {
        let state = self.cloud.state();
        let ours = state.resources.iter().filter(|(key, _)| self.is_ours(key));
        let resources = ours.map(|(_, resource)| resource.clone()).collect();
        let mut unknown = state.unknown.clone();
        unknown.retain(|instance, _| members.contains(instance));
        let inventory = MemoryInventory { instances: state.instances.clone(), unknown: unknown.clone() };
        Ok(Observed { resources, inventory, unknown_instances: unknown })
    }

    async fn observe_added(
        &self,
        known: &mut Observed<MemoryResource, MemoryInventory>,
        changes: &ChangesSince<MemoryKey>,
    ) -> Result<bool, ProviderError> {
        let state = self.cloud.state();
        let is_meant = |key: &MemoryKey| changes.relied_on.as_ref().is_none_or(|keys| keys.contains(key));
        let is_group = |key: &MemoryKey| matches!(key, MemoryKey::Group(..)) && is_meant(key);
        let groups = state.resources.iter().filter(|(key, _)| is_group(key) && self.is_ours(key));
        let groups = groups.map(|(_, group)| group.clone()).collect();
        let mut differences = known.resources.take_over(groups, is_group);
        let inventory = &mut known.inventory;
        inventory.instances.retain(|instance| !changes.left.contains(instance));
        let added = changes.members.iter().filter(|member| !inventory.instances.contains(*member));
        let added: Vec<InstanceId> = added.cloned().collect();
        for member in &added {
            let key = MemoryKey::Attachment(self.cluster.clone(), member.clone());
            known.resources.take_over_one(&key, state.resources.get(&key).cloned(), &mut differences);
        }
        let found = added.iter().filter(|member| state.instances.contains(*member));
        inventory.instances.extend(found.cloned());
        let unknown = |member: InstanceId| state.unknown.get_key_value(&member).map(clone_pair);
        inventory.unknown = added.into_iter().filter_map(unknown).collect();
        known.unknown_instances.clone_from(&inventory.unknown);
        Ok(differences.is_surprise)
    }

    fn rules_name_members(&self) -> bool {
        false
    }

    fn find_affected(
        &self,
        instances: &BTreeSet<InstanceId>,
        _: &MemoryInventory,
    ) -> Option<BTreeSet<InstanceId>> {
        Some(instances.clone())
    }

    fn cloud_id(&self, _: &MemoryKey) -> Option<String> {
        None
    }

    fn estimate_duration(&self, _changes: usize) -> Duration {
        Duration::ZERO
    }

    async fn apply(&self, action: &Action<MemoryResource>) -> Result<Applied, ProviderError> {
        self.cloud.pass_hold().await;
        let mut state = self.cloud.state();
        match state.faults.pop_front().unwrap_or(Fault::None) {
            Fault::None => state.accept(action),
            Fault::CallFails(error) => Err(error),
            Fault::ReplyLost(error) => state.accept(action).and(Err(error)),
        }
    }
}

fn clone_pair<K: Clone, V: Clone>((key, value): (&K, &V)) -> (K, V) {
    (key.clone(), value.clone())
}

impl State {
    /// Fails where a real cloud does; else changes the resource by difference, so that doing it twice does no
    /// harm.
    fn accept(&mut self, action: &Action<MemoryResource>) -> Result<Applied, ProviderError> {
        let key = action.key();
        let object = key.to_string();
        let call = action.verb().to_owned();
        let Some(to) = action.after() else {
            if self.resources.referrers(&key).next().is_some() {
                return Err(ProviderError::new(ErrorKind::InUse, call, object, "it is attached"));
            }
            self.resources.remove(&key);
            self.mutations += 1;
            return Ok(Applied::default());
        };
        if let Some(missing) = to.groups.iter().find(|group| !self.resources.contains_key(group)) {
            return Err(ProviderError::new(
                ErrorKind::NotFound,
                call,
                object,
                format!("{missing} does not exist"),
            ));
        }
        let empty = MemoryResource { rules: BTreeSet::new(), groups: BTreeSet::new(), ..to.clone() };
        let from = action.before().unwrap_or(&empty);
        let mut changed = self.resources.remove(&key).unwrap_or_else(|| empty.clone());
        changed.rules = &(&changed.rules - &(&from.rules - &to.rules)) | &(&to.rules - &from.rules);
        changed.groups = &(&changed.groups - &(&from.groups - &to.groups)) | &(&to.groups - &from.groups);
        self.resources.insert(key, changed);
        self.mutations += 1;
        Ok(Applied::default())
    }
}
