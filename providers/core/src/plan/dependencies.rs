//! The steps that each step waits for.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Action, Dependency, Effect, InstanceId, Resource};

/// A step that is about to be added to the plan.
pub(super) struct NewStep<'a, R: Resource> {
    /// Its position in the plan
    pub(super) position: usize,
    /// The change that it makes
    pub(super) action: &'a Action<R>,
    /// The direction of the change
    pub(super) effect: Effect,
    /// The resources that it referred to before
    pub(super) references_before: &'a BTreeSet<R::Key>,
    /// The resources that it refers to afterwards
    pub(super) references_after: &'a BTreeSet<R::Key>,
    /// The instances whose reach depends on the resource, and whether it lets in more there
    pub(super) opens_at: &'a BTreeMap<InstanceId, bool>,
    /// The instances where the step closes something that is desired, and that earlier steps let in
    pub(super) replaced_at: &'a BTreeSet<InstanceId>,
}

impl<R: Resource> NewStep<'_, R> {
    /// Returns true if the resource applies without any other.
    fn is_standalone(&self) -> bool {
        self.references_before.is_empty() && self.references_after.is_empty()
    }

    /// Returns the firewall groups that the resource serves before and after; one that it serves at both
    /// times is there twice.
    fn groups(&self) -> impl Iterator<Item = String> {
        self.action.before().into_iter().chain(self.action.after()).flat_map(Resource::serves)
    }
}

/// The positions of earlier steps, by each relation that can make a later step wait for them.
#[derive(Clone)]
pub(super) struct DependencyTracker<K> {
    /// All steps on a resource: one can fail and a later one go ahead
    changed: BTreeMap<K, Vec<(usize, Effect)>>,
    /// Steps on resources that refer to it
    used: BTreeMap<K, Vec<usize>>,
    /// Steps by which something comes to refer to a resource
    attached: BTreeMap<K, Vec<usize>>,
    /// Number of steps by which something ceases to refer to a resource
    detached: BTreeMap<K, usize>,
    /// Opening steps on standalone resources, by the group that they serve
    opened: BTreeMap<String, Vec<usize>>,
    /// Number of closing steps on standalone resources, by the group that they serve
    closed: BTreeMap<String, usize>,
    /// Steps that open something on an instance, and whether their resource is standalone
    opened_at: BTreeMap<InstanceId, Vec<(usize, bool)>>,
}

impl<K: Clone + Ord> DependencyTracker<K> {
    pub(super) const fn new() -> Self {
        Self {
            changed: BTreeMap::new(),
            used: BTreeMap::new(),
            attached: BTreeMap::new(),
            detached: BTreeMap::new(),
            opened: BTreeMap::new(),
            closed: BTreeMap::new(),
            opened_at: BTreeMap::new(),
        }
    }

    /// Records a step, and returns the earlier steps that it waits for, in the order of their positions.
    pub(super) fn record<R: Resource<Key = K>>(&mut self, step: &NewStep<'_, R>) -> Vec<Dependency> {
        let mut depends_on = self.depend_on_changes(step);
        self.depend_on_attachments(step, &mut depends_on);
        if step.is_standalone() {
            self.depend_on_openings(step, &mut depends_on);
        }
        self.depend_on_replacements(step, &mut depends_on);
        self.record_change(step);
        let pairs = depends_on.into_iter();
        pairs.map(|(step, must_succeed)| Dependency { step, must_succeed }).collect()
    }

    /// Returns the earlier steps on the same resources. An opening, and a deletion, must find them done; any
    /// other closing only lets them go first, and goes ahead even if they failed.
    fn depend_on_changes<R: Resource<Key = K>>(&self, step: &NewStep<'_, R>) -> BTreeMap<usize, bool> {
        let key = step.action.key();
        let users = self.used.get(&key).into_iter().flatten().copied();
        let references = step.references_before.union(step.references_after).chain([&key]);
        let changes = references.filter_map(|other| self.changed.get(other)).flatten();
        let changes = changes.map(|(position, _)| *position);
        let is_deletion = matches!(step.action, Action::Delete(_));
        let must_succeed = step.effect == Effect::Open
            || is_deletion && step.references_before.is_empty()
            || !step.replaced_at.is_empty();
        let earlier = users.chain(changes);
        let mut depends_on: BTreeMap<usize, bool> =
            earlier.map(|position| (position, must_succeed)).collect();
        // What could not be closed must not be opened to others, nor be taken for closed.
        let own = self.changed.get(&key).into_iter().flatten();
        let closings = own.filter(|(_, effect)| *effect == Effect::Close);
        depends_on.extend(closings.map(|(position, _)| (*position, true)));
        depends_on
    }

    /// Lets attachments go before detachments: the k-th detachment of a group waits for its k-th attachment,
    /// so that a group that moves is open on its new instance before it closes on the old one.
    fn depend_on_attachments<R: Resource<Key = K>>(
        &mut self,
        step: &NewStep<'_, R>,
        depends_on: &mut BTreeMap<usize, bool>,
    ) {
        for other in step.references_before.difference(step.references_after) {
            let count = self.detached.entry(other.clone()).or_default();
            let attachment =
                self.attached.get(other).and_then(|positions| positions.get(*count).or(positions.last()));
            if let Some(&position) = attachment {
                depends_on.entry(position).or_insert(false);
            }
            *count += 1;
        }
    }

    /// Lets openings go before closings where a group is spread over several standalone resources: the k-th
    /// closing waits for the k-th opening, so that traffic that moves from one resource to another is open in
    /// the new one before it closes in the old one.
    fn depend_on_openings<R: Resource<Key = K>>(
        &mut self,
        step: &NewStep<'_, R>,
        depends_on: &mut BTreeMap<usize, bool>,
    ) {
        for group in step.groups() {
            if step.effect == Effect::Open {
                self.opened.entry(group).or_default().push(step.position);
                continue;
            }
            let count = self.closed.entry(group.clone()).or_default();
            let opening =
                self.opened.get(&group).and_then(|positions| positions.get(*count).or(positions.last()));
            if let Some(&position) = opening {
                depends_on.entry(position).or_insert(false);
            }
            *count += 1;
        }
    }

    /// Lets replacements go before closings. A closing that takes what is desired must find the openings on its
    /// instances done, because they let it in now; another standalone one only lets the standalone openings go
    /// first.
    fn depend_on_replacements<R: Resource<Key = K>>(
        &mut self,
        step: &NewStep<'_, R>,
        depends_on: &mut BTreeMap<usize, bool>,
    ) {
        let is_standalone = step.is_standalone();
        for opened in step.replaced_at.iter().filter_map(|instance| self.opened_at.get(instance)) {
            depends_on.extend(opened.iter().map(|(position, _)| (*position, true)));
        }
        for (instance, opens) in step.opens_at {
            let opened = self.opened_at.entry(instance.clone()).or_default();
            if step.effect == Effect::Open {
                opened.extend(opens.then_some((step.position, is_standalone)));
            } else if is_standalone {
                for (position, _) in opened.iter().filter(|(_, is_standalone)| *is_standalone) {
                    depends_on.entry(*position).or_insert(false);
                }
            }
        }
    }

    fn record_change<R: Resource<Key = K>>(&mut self, step: &NewStep<'_, R>) {
        for other in step.references_before.union(step.references_after) {
            self.used.entry(other.clone()).or_default().push(step.position);
        }
        for other in step.references_after.difference(step.references_before) {
            self.attached.entry(other.clone()).or_default().push(step.position);
        }
        self.changed.entry(step.action.key()).or_default().push((step.position, step.effect));
    }
}
