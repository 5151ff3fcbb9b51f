//! Order: lays down actions one by one so that every promise holds after each, and says what each waits for.

use std::collections::{BTreeMap, BTreeSet};

use super::interleave::interleave;
use super::split::{Rank, closed_first, rank};
use crate::{Action, Dependency, Effect, InstanceId, Reach, Resource, ResourceSet, Step};

/// The state of the world while steps are being laid down.
pub(crate) struct Order<'a, R: Resource> {
    observed: &'a ResourceSet<R>,
    desired: &'a ResourceSet<R>,
    world: ResourceSet<R>,
    /// How many resources of `world` refer to one
    references: BTreeMap<R::Key, usize>,
    /// What each instance may admit at any time: what it admits now or is asked to admit.
    allowed: BTreeMap<InstanceId, Reach>,
    steps: Vec<Step<R>>,
    /// The last step on a resource
    written: BTreeMap<R::Key, usize>,
    /// Steps since then on what refers to it
    read: BTreeMap<R::Key, Vec<usize>>,
    /// Steps by which something comes to refer to it
    attached: BTreeMap<R::Key, Vec<usize>>,
    /// How many steps there are by which something ceases to
    detached: BTreeMap<R::Key, usize>,
    /// Steps that open what has no references, and how many closings were laid down, by the group served.
    opened: BTreeMap<String, Vec<usize>>,
    closed: BTreeMap<String, usize>,
    /// Steps that open something at an instance, and whether they do so by themselves.
    opened_at: BTreeMap<InstanceId, Vec<(usize, bool)>>,
}

/// Where an action changes something.
struct Affected {
    /// Each instance, with whether the resource lets in more there
    instances: Vec<(InstanceId, bool)>,
    /// Whether there are any, each admits after it all that it did before, and what the resource let in is asked for
    is_redundant: bool,
}

impl<'a, R: Resource> Order<'a, R> {
    pub(crate) fn new(observed: &'a ResourceSet<R>, desired: &'a ResourceSet<R>) -> Self {
        let mut references = BTreeMap::new();
        for key in observed.values().flat_map(Resource::refers_to) {
            *references.entry(key).or_default() += 1;
        }
        Self {
            observed,
            desired,
            world: observed.clone(),
            references,
            allowed: BTreeMap::new(),
            steps: Vec::new(),
            written: BTreeMap::new(),
            read: BTreeMap::new(),
            attached: BTreeMap::new(),
            detached: BTreeMap::new(),
            opened: BTreeMap::new(),
            closed: BTreeMap::new(),
            opened_at: BTreeMap::new(),
        }
    }

    /// Lays down every action that can be, and returns the others. After each rank, what waited is tried
    /// again, so that a closing makes way for the openings that need it and for no more.
    pub(crate) fn schedule_all(&mut self, ranked: BTreeMap<Rank, Vec<Action<R>>>) -> Vec<Action<R>> {
        let mut waiting: Vec<Action<R>> = Vec::new();
        for actions in ranked.into_values() {
            waiting.extend(actions);
            self.schedule_each(&mut waiting);
        }
        // Moves can wait for each other in a circle, as when two groups swap members and change their sources.
        while let Some((position, halves)) =
            waiting.iter().enumerate().find_map(|(position, action)| Some((position, closed_first(action)?)))
        {
            waiting.remove(position);
            waiting.extend(halves);
            self.schedule_each(&mut waiting);
        }
        waiting
    }

    /// The steps laid down, openings and closings alternating.
    pub(crate) fn into_steps(self) -> Vec<Step<R>> {
        interleave(self.steps)
    }

    fn schedule_each(&mut self, waiting: &mut Vec<Action<R>>) {
        loop {
            let before = waiting.len();
            waiting.retain(|action| !self.schedule_if_safe(action));
            if waiting.len() == before {
                break;
            }
        }
    }

    /// Requirements the action if nothing forbids it now.
    fn schedule_if_safe(&mut self, action: &Action<R>) -> bool {
        let key = action.key();
        let fits = self.world.get(&key) == action.before()
            && action
                .after()
                .is_none_or(|to| to.refers_to().iter().all(|other| self.world.contains_key(other)))
            && (action.after().is_some() || !self.is_referred_to(&key));
        if !fits {
            return false;
        }
        let Some(affected) = self.effects_if_safe(action) else { return false };
        self.push_step(action.clone(), effect(action), affected);
        true
    }

    /// Enacts the action, or undoes it if it would let in what is neither open now nor wanted.
    fn effects_if_safe(&mut self, action: &Action<R>) -> Option<Affected> {
        let resources = || action.before().into_iter().chain(action.after());
        let instances: BTreeSet<InstanceId> =
            resources().flat_map(|resource| resource.instances(&self.world)).collect();
        let opens = effect(action) == Effect::Open;
        let before = if opens { None } else { self.asked_for(&self.own(action.before()), &instances) };
        action.apply_to(&mut self.world);
        let after: Vec<Reach> = instances.iter().map(|instance| self.world.reach(instance)).collect();
        if !self.allow(&instances, &after) {
            match action.before() {
                Some(resource) => self.world.insert(resource.key(), resource.clone()),
                None => self.world.remove(&action.key()),
            };
            return None;
        }
        let is_redundant = before
            .is_some_and(|before| after.iter().zip(&before).all(|(after, before)| after.covers(before)));
        let grows = self.grows(action, &instances);
        Some(Affected { instances: instances.into_iter().zip(grows).collect(), is_redundant })
    }

    /// For each instance, whether the resource lets in more there. What others refer to does so wherever they are.
    fn grows(&self, action: &Action<R>, instances: &BTreeSet<InstanceId>) -> Vec<bool> {
        if effect(action) == Effect::Close || self.is_referred_to(&action.key()) {
            return vec![effect(action) == Effect::Open; instances.len()];
        }
        let (before, after) = (self.own(action.before()), self.own(action.after()));
        let grows = |instance| !before.reach(instance).covers(&after.reach(instance));
        instances.iter().map(grows).collect()
    }

    fn is_referred_to(&self, key: &R::Key) -> bool {
        self.references.get(key).is_some_and(|count| *count > 0)
    }

    /// Whether each instance may admit this.
    fn allow(&mut self, instances: &BTreeSet<InstanceId>, reaches: &[Reach]) -> bool {
        instances.iter().zip(reaches).all(|(instance, reach)| {
            let allowed = self.allowed.entry(instance.clone()).or_insert_with_key(|instance| {
                self.observed.reach(instance).union(&self.desired.reach(instance))
            });
            allowed.covers(reach)
        })
    }

    /// What each instance admits now, if there are any and what a resource lets in there by `own` is asked for. Most that
    /// closes lets in something that nobody asks for, which the first instance tells: looking at all would be slow.
    fn asked_for(&self, own: &ResourceSet<R>, instances: &BTreeSet<InstanceId>) -> Option<Vec<Reach>> {
        let asked_for = !instances.is_empty() && self.desired.admits(own, instances);
        asked_for.then(|| instances.iter().map(|instance| self.world.reach(instance)).collect())
    }

    /// A resource with what it needs to let anything in: what it refers to, and what refers to it.
    fn own(&self, resource: Option<&R>) -> ResourceSet<R> {
        let Some(resource) = resource else { return ResourceSet::<R>::new() };
        let key = resource.key();
        let mut own: ResourceSet<R> =
            resource.refers_to().into_iter().filter_map(|other| self.world.get(&other).cloned()).collect();
        if self.is_referred_to(&key) {
            let refers = self.world.iter().filter(|(_, other)| other.refers_to().contains(&key));
            own.extend(refers.map(|(_, resource)| resource.clone()));
        }
        own.insert(key, resource.clone());
        own
    }

    fn push_step(&mut self, action: Action<R>, effect: Effect, affected: Affected) {
        let position = self.steps.len();
        let key = action.key();
        let references = |resource: Option<&R>| resource.map(Resource::refers_to).unwrap_or_default();
        let (left, joined) = (references(action.before()), references(action.after()));
        let mut after = self.dependencies(&key, effect, matches!(action, Action::Delete(_)), &left, &joined);
        let standalone = left.is_empty() && joined.is_empty();
        if standalone {
            self.depend_on_openings(&action, effect, position, &mut after);
        }
        self.depend_on_replacements(affected, effect, position, standalone, &mut after);
        let after = after.into_iter().map(|(step, must_succeed)| Dependency { step, must_succeed }).collect();
        for other in &joined {
            *self.references.entry(other.clone()).or_default() += 1;
        }
        for other in &left {
            self.references.entry(other.clone()).and_modify(|count| *count -= 1);
        }
        for other in left.union(&joined) {
            self.read.entry(other.clone()).or_default().push(position);
        }
        for other in joined.difference(&left) {
            self.attached.entry(other.clone()).or_default().push(position);
        }
        self.written.insert(key.clone(), position);
        self.read.remove(&key);
        let reason = self.reason(&action, effect, &left, &joined);
        self.steps.push(Step { action, effect, reason, depends_on: after });
    }

    /// An opening, and a deletion, must find all that was done before on the same resources. Any other
    /// closing only lets what was to open before it go first, and goes ahead even if that failed.
    fn dependencies(
        &mut self,
        key: &R::Key,
        effect: Effect,
        deletes: bool,
        left: &BTreeSet<R::Key>,
        joined: &BTreeSet<R::Key>,
    ) -> BTreeMap<usize, bool> {
        let earlier = self.read.get(key).into_iter().flatten();
        let earlier =
            earlier.chain(left.union(joined).chain([key]).filter_map(|other| self.written.get(other)));
        let must_succeed = effect == Effect::Open || deletes && left.is_empty();
        let mut after: BTreeMap<usize, bool> = earlier.map(|&step| (step, must_succeed)).collect();
        // Whoever relies on the last change of a resource relies on all: that must not hide a closing that failed.
        if let Some(&step) = self.written.get(key).filter(|step| self.steps[**step].effect == Effect::Close) {
            after.insert(step, true);
        }
        // The k-th detachment of a group lets the group's k-th attachment go first: what moves is open at its
        // new affected before it closes at the old one.
        for other in left.difference(joined) {
            let count = self.detached.entry(other.clone()).or_default();
            let moves = self.attached.get(other).and_then(|steps| steps.get(*count).or(steps.last()));
            if let Some(&step) = moves {
                after.entry(step).or_insert(false);
            }
            *count += 1;
        }
        after
    }

    /// Where a group is spread over several resources that apply by themselves, what moves from one to another is
    /// open in the new before it closes in the old: the k-th closing lets the k-th opening go first.
    fn depend_on_openings(
        &mut self,
        action: &Action<R>,
        effect: Effect,
        position: usize,
        after: &mut BTreeMap<usize, bool>,
    ) {
        for group in action.before().into_iter().chain(action.after()).flat_map(Resource::serves) {
            if effect == Effect::Open {
                self.opened.entry(group).or_default().push(position);
                continue;
            }
            let count = self.closed.entry(group.clone()).or_default();
            let opened = self.opened.get(&group).and_then(|steps| steps.get(*count).or(steps.last()));
            if let Some(&step) = opened {
                after.entry(step).or_insert(false);
            }
            *count += 1;
        }
    }

    /// A closing after which as much is let in as before only makes room: it must find what has taken its affected. One that
    /// closes something lets what opens there by itself go first, because that may take the affected of a part of it.
    fn depend_on_replacements(
        &mut self,
        affected: Affected,
        effect: Effect,
        position: usize,
        standalone: bool,
        after: &mut BTreeMap<usize, bool>,
    ) {
        for (instance, grows) in affected.instances {
            let opened = self.opened_at.entry(instance).or_default();
            if effect == Effect::Open {
                opened.extend(grows.then_some((position, standalone)));
            } else if affected.is_redundant {
                after.extend(opened.iter().map(|(step, _)| (*step, true)));
            } else if standalone {
                for (step, _) in opened.iter().filter(|(_, standalone)| *standalone) {
                    after.entry(*step).or_insert(false);
                }
            }
        }
    }

    fn reason(
        &self,
        action: &Action<R>,
        effect: Effect,
        left: &BTreeSet<R::Key>,
        joined: &BTreeSet<R::Key>,
    ) -> String {
        let mut groups: BTreeSet<String> =
            action.before().into_iter().chain(action.after()).flat_map(Resource::serves).collect();
        let changed = match effect {
            Effect::Open => joined.difference(left),
            Effect::Close => left.difference(joined),
        };
        for key in changed {
            let resource = self.world.get(key).or_else(|| self.observed.get(key));
            groups.extend(resource.map(Resource::serves).unwrap_or_default());
        }
        let groups = groups.into_iter().collect::<Vec<_>>().join("; ");
        match effect {
            // Left behind by something that is gone itself.
            Effect::Close if groups.is_empty() => "no longer asked for".to_owned(),
            Effect::Open => format!("asked for by {groups}"),
            Effect::Close => format!("no longer asked for by {groups}"),
        }
    }
}

/// What an action does to the resource itself: a group that has no members yet opens, too, when it widens,
/// because whoever joins it later relies on what went before.
fn effect<R: Resource>(action: &Action<R>) -> Effect {
    match action {
        Action::Create(_) => Effect::Open,
        Action::Update { from, to } if rank(from, to) < Rank::Narrow => Effect::Open,
        Action::Update { .. } | Action::Delete(_) => Effect::Close,
    }
}
