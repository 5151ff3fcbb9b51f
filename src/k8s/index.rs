//! The index: the cluster's objects as far as they decide about ports, and the gaps in them.
//!
//! It is fed per watched kind by the `watcher`: `reset` with a complete list, `apply` and `delete` with
//! single events, `mark_unreadable` with objects that do not have their kind's fields, `mark_incomplete` when
//! a watch breaks, `mark_resumed` when it goes on; the objects of a broken watch stay, so that nothing looks
//! deleted. Kinds that a cluster may lack come and go by `expect_kind` and `drop_kind`. With `--manifests` the
//! [`manifests`](super::manifests) feed it instead: `replace` swaps the whole index for one that was read
//! from files. [`shared_index`] shares it and wakes its readers.
//!
//! Of each kind it holds the slim objects of [`objects`](super::objects), by namespace and name:
//!
//! | kind | held | used for |
//! | --- | --- | --- |
//! | Pod | with a host port, an annotation of ours or the readiness gate | intents, port owners, readiness |
//! | Node | all | the machine, its addresses, its labels |
//! | Namespace | all | labels, for guardrails |
//! | Service | with node ports or an annotation of ours | intents, port owners |
//! | `EndpointSlice` | all but those of headless Services | nodes that serve a `Local` Service |
//! | Ingress | all, per API group | intents of Voyager's pods and Services |
//! | `HostPortExposure` | all, with statuses | intents; statuses are compared before they are written |
//! | `DNSEndpoint` | this controller's own | compared before they are written |
//!
//! The kinds link by these fields:
//!
//! ```text
//! Pod ───────────────── spec.nodeName ────────────────▶ Node ── spec.providerID ──▶ machine of a cloud
//! EndpointSlice ─────── label service-name ───────────▶ Service
//! EndpointSlice ─────── endpoints[].nodeName ─────────▶ Node
//! HostPortExposure ──── spec.podSelector ─────────────▶ Pod
//! HostPortExposure ──── spec.nodeSelector ────────────▶ Node
//! Pod, Service ──────── Voyager's origin labels ──────▶ Ingress
//! Pod of k3s ────────── labels svcname, svcnamespace ─▶ Service
//! Pod, Service, … ───── metadata.namespace ───────────▶ Namespace
//! ```

mod changes;
pub(crate) mod difference;
mod lookup;
mod object;
pub mod shared_index;
mod watch;

use std::collections::BTreeMap;

use rpds::RedBlackTreeMapSync;

use super::objects::Service;
use super::problem::Problem;

pub use changes::Changes;
pub use object::{NamespacedName, Object};
pub use watch::Watch;

/// The gap of a cluster without a Node.
pub(super) const NO_NODE: &str = "the cluster lists no Node, so nothing is known of it; does the kubeconfig name \
                                  another cluster, or may this user not list nodes?";

/// Objects by name. A copy shares all of them with the original until one of the two changes.
type ByName<T> = RedBlackTreeMapSync<NamespacedName, T>;

/// Holds the cluster's objects by watch, and what is missing of them.
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// By watch, because `networking.k8s.io` and `voyager.appscode.com` can hold Ingresses of the same name.
    objects: BTreeMap<Watch, ByName<Object>>,
    /// The problem of each object that cannot be read.
    unreadable: BTreeMap<Watch, ByName<Problem>>,
    /// The `HostPortExposure`s that cannot be read any more, as they were when they could
    last_readable: ByName<Object>,
    /// Per expected watch: `None` once it has been listed since its last break, else what is missing.
    gaps: BTreeMap<Watch, Option<String>>,
    /// What has changed since somebody last asked
    changes: Changes,
}

impl PartialEq for Index {
    fn eq(&self, other: &Self) -> bool {
        (&self.objects, &self.unreadable, &self.gaps) == (&other.objects, &other.unreadable, &other.gaps)
    }
}

impl Index {
    /// Returns an empty index that is complete once each of these has been listed.
    pub fn expecting(watches: impl IntoIterator<Item = Watch>) -> Self {
        let mut index = Self::default();
        for watch in watches {
            index.expect_kind(watch);
        }
        index
    }

    /// Returns a copy that shares everything with this index: it costs the same however much is held.
    fn view(&self) -> Self {
        let (objects, unreadable) = (self.objects.clone(), self.unreadable.clone());
        let last_readable = self.last_readable.clone();
        Self { objects, unreadable, last_readable, gaps: self.gaps.clone(), changes: Changes::default() }
    }

    /// Returns what has changed since this was last called.
    fn take_changes(&mut self) -> Changes {
        self.changes.take()
    }

    /// Expects another kind: the index is incomplete until it has been listed. Returns whether it was
    /// unexpected so far.
    pub(super) fn expect_kind(&mut self, watch: Watch) -> bool {
        let is_new = !self.gaps.contains_key(&watch);
        if is_new {
            self.set_gap(watch, Some("not listed yet".to_owned()));
        }
        is_new
    }

    /// Drops a kind that is no longer served, with its objects. Returns whether anything changed.
    pub(crate) fn drop_kind(&mut self, watch: &Watch) -> bool {
        let was_expected = self.gaps.remove(watch).is_some();
        let had_objects = self.objects.remove(watch).is_some_and(|objects| !objects.is_empty());
        let had_unreadable = self.unreadable.remove(watch).is_some();
        if *watch == Watch::HostPortExposures {
            self.last_readable = ByName::default();
        }
        let is_changed = was_expected || had_objects || had_unreadable;
        // One that is not there is found not to be there every minute, and everything would be computed anew.
        if is_changed {
            self.changes.mark_all();
        }
        is_changed
    }

    /// Replaces all objects of a kind by a complete list. Returns whether anything changed.
    pub fn reset(&mut self, watch: Watch, objects: Vec<Object>) -> bool {
        let objects = objects.into_iter().filter(Object::is_relevant).map(Object::normalized);
        let listed: BTreeMap<NamespacedName, Object> =
            objects.map(|object| (object.name(), object)).collect();
        let unreadable = self.unreadable.remove(&watch).unwrap_or_default();
        if watch == Watch::HostPortExposures {
            // What went with the list before, and has not been marked since, is gone.
            let last = self.last_readable.iter().filter(|(name, _)| unreadable.contains_key(*name));
            self.last_readable = last.map(|(name, object)| (name.clone(), object.clone())).collect();
        }
        let mut changed: Vec<NamespacedName> = unreadable.keys().cloned().collect();
        let held = self.objects.entry(watch.clone()).or_default();
        let gone = held.iter().filter(|(name, _)| !listed.contains_key(*name));
        for (name, object) in gone.map(|(name, object)| (name.clone(), object.clone())).collect::<Vec<_>>() {
            held.remove_mut(&name);
            // One that can no longer be read is marked after the list.
            if watch == Watch::HostPortExposures {
                self.last_readable.insert_mut(name.clone(), object);
            }
            changed.push(name);
        }
        for (name, object) in listed {
            if held.get(&name) != Some(&object) {
                held.insert_mut(name.clone(), object);
                changed.push(name);
            }
        }
        let is_changed = !changed.is_empty();
        for name in changed {
            self.changes.mark(&watch, name);
        }
        self.set_gap(watch, None) || is_changed
    }

    /// Records what is missing of a kind. Returns whether that changed.
    fn set_gap(&mut self, watch: Watch, gap: Option<String>) -> bool {
        if self.gaps.get(&watch) == Some(&gap) {
            return false;
        }
        if watch.decides_by_gap() {
            self.changes.mark_all();
        }
        self.gaps.insert(watch, gap);
        true
    }

    /// Adds or changes one object. Returns whether that can affect a plan.
    pub fn apply(&mut self, watch: &Watch, object: Object) -> bool {
        let object = object.normalized();
        if !object.is_relevant() {
            return self.delete(watch, &object.name());
        }
        let affects_plan = self.affects_plan(&object);
        let name = object.name();
        let was_unreadable = self.clear_unreadable(watch, &name);
        let objects = self.objects.entry(watch.clone()).or_default();
        let current = objects.get(&name);
        if current == Some(&object) {
            return was_unreadable;
        }
        let differs = current.is_none_or(|current| current.without_status() != object.without_status());
        objects.insert_mut(name.clone(), object);
        self.changes.mark(watch, name);
        differs && affects_plan || was_unreadable
    }

    /// Removes one object. Returns whether that can affect a plan.
    pub fn delete(&mut self, watch: &Watch, name: &NamespacedName) -> bool {
        let was_unreadable = self.clear_unreadable(watch, name);
        let affects_plan = self.objects.get(watch).and_then(|objects| objects.get(name));
        let affects_plan = affects_plan.is_some_and(|object| self.affects_plan(object));
        if remove(self.objects.get_mut(watch), name) {
            self.changes.mark(watch, name.clone());
        }
        affects_plan || was_unreadable
    }

    /// Records an object that exists but cannot be read: it opens nothing, what it may have opened stays open,
    /// and it gets this problem. Returns whether anything changed.
    pub(crate) fn mark_unreadable(&mut self, watch: &Watch, name: NamespacedName, problem: Problem) -> bool {
        let last = self.objects.get(watch).and_then(|objects| objects.get(&name));
        if let Some(last) = last.filter(|_| *watch == Watch::HostPortExposures) {
            self.last_readable.insert_mut(name.clone(), last.clone());
        }
        let was_readable = remove(self.objects.get_mut(watch), &name);
        let unreadable = self.unreadable.entry(watch.clone()).or_default();
        if unreadable.get(&name) == Some(&problem) {
            return was_readable;
        }
        unreadable.insert_mut(name.clone(), problem);
        self.changes.mark(watch, name);
        true
    }

    /// Forgets that an object could not be read. Returns whether it had been recorded.
    fn clear_unreadable(&mut self, watch: &Watch, name: &NamespacedName) -> bool {
        let was_unreadable = remove(self.unreadable.get_mut(watch), name);
        if *watch == Watch::HostPortExposures {
            self.last_readable.remove_mut(name);
        }
        if was_unreadable {
            self.changes.mark(watch, name.clone());
        }
        was_unreadable
    }

    /// Returns true if a change of the object can change a plan. Endpoints change with every pod of the
    /// cluster, and only those of Services with the policy `Local` decide about ports. `DNSEndpoint`s are
    /// written by this controller.
    fn affects_plan(&self, object: &Object) -> bool {
        match object {
            Object::DNSEndpoint(_) => false,
            Object::EndpointSlice(slice) => {
                let (namespace, _) = object.name();
                let service = slice.service().and_then(|name| self.service(&namespace, name));
                service.is_some_and(Service::is_local)
            }
            _ => true,
        }
    }

    /// Records that a watch broke: its objects stay, but may no longer be all. Returns whether anything
    /// changed.
    pub fn mark_incomplete(&mut self, watch: Watch, reason: String) -> bool {
        self.set_gap(watch, Some(reason))
    }

    /// Records that a broken watch goes on from where it broke: nothing is missing any more. Returns whether
    /// anything changed.
    pub(crate) fn mark_resumed(&mut self, watch: &Watch) -> bool {
        self.gaps.contains_key(watch) && self.set_gap(watch.clone(), None)
    }

    /// Replaces everything by another index. Returns whether anything changed.
    pub(super) fn replace(&mut self, other: Self) -> bool {
        let changed = *self != other;
        *self = Self { changes: Changes::default(), ..other };
        changed
    }

    /// Returns what is missing: the expected kinds that have not been listed since their watches last broke.
    #[must_use]
    pub fn gaps(&self) -> Vec<String> {
        // No port depends on DNS.
        let relevant = self.gaps.keys().filter(|watch| **watch != Watch::DNSEndpoints);
        relevant.filter_map(|watch| self.missing(watch)).collect()
    }

    /// Returns true if Nodes are listed, and there is none. Then the cluster is not known: its answer may
    /// leave out what is not permitted, or come from another cluster.
    #[must_use]
    pub fn lists_no_node(&self) -> bool {
        self.gaps.get(&Watch::Nodes) == Some(&None) && self.nodes().next().is_none()
    }

    /// Returns true if every expected kind is listed now, and at least one is expected.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        !self.gaps.is_empty() && self.gaps().is_empty()
    }

    /// Returns true if pods and nodes are listed now: without them nothing can be opened, without any other
    /// kind something can.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        let is_listed = |watch| self.gaps.contains_key(watch) && self.missing(watch).is_none();
        [Watch::Pods, Watch::Nodes].iter().all(is_listed)
    }

    /// Returns what is missing of a kind; none if it is not expected, or has been listed since its watch last
    /// broke.
    #[must_use]
    pub fn missing(&self, watch: &Watch) -> Option<String> {
        let gap = self.gaps.get(watch)?.as_deref();
        let gap = gap.or_else(|| (*watch == Watch::Nodes && self.lists_no_node()).then_some(NO_NODE));
        gap.map(|gap| format!("{watch}: {gap}"))
    }
}

/// Removes an object. Returns whether it was there; if not, nothing is copied.
fn remove<T>(objects: Option<&mut ByName<T>>, name: &NamespacedName) -> bool {
    objects.is_some_and(|objects| objects.contains_key(name) && objects.remove_mut(name))
}

#[cfg(test)]
mod tests;
