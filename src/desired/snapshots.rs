//! The series of snapshots: each is made from the one before and from what has changed since, and shares the
//! rest with it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};

use super::change_log::SnapshotChanges;
use super::snapshot::{ClusterDemand, Machine, Revision, Snapshot};
use crate::intents::demand::{Demand, Demanded};
use crate::intents::fingerprint::Fingerprints;
use crate::intents::settings::Settings;
use crate::intents::unknown::why_everything_is_unknown;
use crate::k8s::index::{Changes, Index, NamespacedName, Watch};
use crate::k8s::objects::reference::pod_reference;
use crate::k8s::objects::{ObjectRef, has_readiness_gate};

/// Takes snapshots, one after the other.
#[derive(Default)]
pub struct Snapshots {
    index: Index,
    demand: Demand,
    fingerprints: Fingerprints,
    machines: RedBlackTreeMapSync<String, Arc<Machine>>,
    generations: RedBlackTreeMapSync<ObjectRef, i64>,
    pods_with_gate: RedBlackTreeSetSync<ObjectRef>,
    revision: Revision,
    last: Option<Arc<Snapshot>>,
}

impl Snapshots {
    /// Takes a snapshot of an index in which nothing else has changed since the last one. If nothing has
    /// changed at all, that is the last one. `now` is a time on any clock that only moves forward: it tells a
    /// newer snapshot from an older one.
    pub fn take(
        &mut self,
        index: Index,
        changes: &Changes,
        settings: &Settings,
        now: Duration,
    ) -> Arc<Snapshot> {
        let why_everything_is_unknown = why_everything_is_unknown(&index);
        let last = self.last.clone().filter(|last| {
            last.why_everything_is_unknown == why_everything_is_unknown && last.settings == *settings
        });
        if let Some(last) = last.as_ref().filter(|_| changes.named().is_some_and(BTreeSet::is_empty)) {
            return Arc::clone(last);
        }
        let (differs, nodes) = self.update(index, changes, settings);
        let parts = self.demand.take_changed();
        if differs || last.is_none() {
            self.revision.advance(changes.named().map(|_| SnapshotChanges { parts, nodes }));
        }
        let Demanded { exposures, problems, unknown, port_owners } = self.demand.result();
        let (generations, pods_with_gate) = (self.generations.clone(), self.pods_with_gate.clone());
        let revision = self.revision.clone();
        let snapshot = Arc::new(Snapshot {
            demand: ClusterDemand { taken_at: now, exposures, generations, pods_with_gate, revision },
            settings: settings.clone(),
            problems,
            port_owners,
            fingerprints: self.fingerprints.clone(),
            unknown,
            why_everything_is_unknown,
            machines: self.machines.clone(),
        });
        self.last = Some(Arc::clone(&snapshot));
        snapshot
    }

    /// Updates everything that objects decide. Returns true if that can change the plan, and the nodes whose
    /// machine differs.
    fn update(&mut self, index: Index, changes: &Changes, settings: &Settings) -> (bool, BTreeSet<String>) {
        let before = std::mem::replace(&mut self.index, index);
        let any = changes.named().is_none() || self.last.is_none();
        let all = || before.names().chain(self.index.names());
        let all = any.then(|| all().map(|(watch, name)| (watch.clone(), name.clone())).collect());
        let none = BTreeSet::new();
        let names: &BTreeSet<(Watch, NamespacedName)> =
            all.as_ref().or_else(|| changes.named()).unwrap_or(&none);
        let mut differs = self.demand.update(&self.index, names, any, settings);
        let mut nodes = BTreeSet::new();
        for (watch, name) in names {
            differs |= self.fingerprints.update(&before, &self.index, watch, name);
            match watch {
                Watch::Nodes if self.update_machine(name) => _ = nodes.insert(name.1.clone()),
                Watch::Pods => self.update_gate(&before, name),
                Watch::HostPortExposures => self.update_generation(&before, name),
                _ => {}
            }
        }
        (differs || !nodes.is_empty(), nodes)
    }

    fn update_machine(&mut self, (_, name): &NamespacedName) -> bool {
        let now = self.index.node(name).and_then(Machine::of);
        if self.machines.get(name).map(|before| &**before) == now.as_ref() {
            return false;
        }
        match now {
            Some(now) => self.machines.insert_mut(name.clone(), Arc::new(now)),
            None => _ = self.machines.remove_mut(name),
        }
        true
    }

    fn update_gate(&mut self, before: &Index, name: &NamespacedName) {
        let with_gate = |index: &Index| {
            index.pod(&name.0, &name.1).filter(|pod| has_readiness_gate(pod)).map(pod_reference)
        };
        let (before, now) = (with_gate(before), with_gate(&self.index));
        if before != now {
            before.map(|before| self.pods_with_gate.remove_mut(&before));
            if let Some(now) = now {
                self.pods_with_gate.insert_mut(now);
            }
        }
    }

    fn update_generation(&mut self, before: &Index, name: &NamespacedName) {
        let generation = |index: &Index| {
            let exposure = index.host_port_exposure(name)?;
            Some((exposure.reference(), exposure.metadata.generation.unwrap_or_default()))
        };
        let (before, now) = (generation(before), generation(&self.index));
        if before != now {
            before.map(|(before, _)| self.generations.remove_mut(&before));
            if let Some((exposure, generation)) = now {
                self.generations.insert_mut(exposure, generation);
            }
        }
    }
}

impl Snapshot {
    /// Takes a snapshot of the index by itself.
    #[must_use]
    pub fn take(index: &Index, settings: &Settings, now: Duration) -> Self {
        let snapshot = Snapshots::default().take(index.clone(), &Changes::default(), settings, now);
        Arc::unwrap_or_clone(snapshot)
    }
}

#[cfg(test)]
mod tests;
