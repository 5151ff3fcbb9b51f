//! The ledger: what has been asked for and what has been open, port by port, over time.

use std::collections::{BTreeMap, BTreeSet};

use super::demand::{Asked, Demand, FormerMachines, machine_of};
use super::{Excuses, Limits, Promise, Violation};
use serde_json::Value;
use tokio::time::Instant;

use crate::api::{Kind, Name, Store, name_of};
use crate::landscape::{Probes, describe, probes};

/// The cause of a change of the cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A call of the controller that took so many milliseconds: nobody can take back what is under way
    Controller(u64),
    /// Somebody else
    Other,
    /// A machine is another one, as the cluster says too
    Machine,
}

impl Cause {
    /// Returns that a call of the controller is the cause, which it began then.
    pub(crate) fn of_call(begun: Instant) -> Self {
        Self::Controller(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

/// The past of one machine.
#[derive(Clone, Debug, Default)]
struct Machine {
    asked: Probes,
    kept: Probes,
    tolerated: Probes,
    open: Probes,
    /// For each port, when it was last asked for
    last_asked: BTreeMap<u32, u64>,
    /// For each port, when it was last free to close
    last_free: BTreeMap<u32, u64>,
    /// For each port, since when it is as it should not be
    wrong_since: BTreeMap<u32, u64>,
    /// Ports that others have changed, and until when that may stay
    tampered: BTreeMap<u32, u64>,
}

/// The time at which what is still there was there last.
const STILL_THERE: u64 = u64::MAX;

/// Checks one run.
pub(crate) struct Checker {
    pub(crate) demand: Demand,
    pub(crate) excuses: Excuses,
    pub(crate) violations: Vec<Violation>,
    /// The number of comparisons
    pub(crate) checks: u64,
    limits: Limits,
    /// False if the administrator has forbidden to close anything
    may_close: bool,
    machines: BTreeMap<String, Machine>,
    /// The pods of a moment ago, and when each was there last
    pods: BTreeMap<Name, (Value, u64)>,
    /// The machines of the nodes, with those of a moment ago
    nodes: FormerMachines,
    foreign: Option<Vec<String>>,
    reported: BTreeSet<(Promise, String, u32)>,
}

impl Checker {
    pub(crate) fn new(limits: Limits, may_close: bool) -> Self {
        Self {
            demand: Demand::default(),
            excuses: Excuses::default(),
            violations: Vec::new(),
            checks: 0,
            limits,
            may_close,
            machines: BTreeMap::new(),
            pods: BTreeMap::new(),
            nodes: FormerMachines::new(),
            foreign: None,
            reported: BTreeSet::new(),
        }
    }

    pub(crate) fn report(&mut self, promise: Promise, at: u64, message: String) {
        self.violations.push(Violation { promise, at, message });
    }

    /// The objects, or the administrator's guardrails, have changed.
    pub(crate) fn objects_changed(&mut self, store: &Store, now: u64) {
        self.note_asked_of_the_gone(store, now);
        let Asked { wanted: asked, kept, tolerated } =
            self.demand.evaluate(store, [], &FormerMachines::new());
        let names: BTreeSet<String> = asked
            .keys()
            .chain(kept.keys())
            .chain(tolerated.keys())
            .chain(self.machines.keys())
            .cloned()
            .collect();
        for name in names {
            let of = |all: &BTreeMap<String, Probes>| all.get(&name).copied().unwrap_or_default();
            // Where nothing may close, nothing is ever free to.
            let ever_kept =
                if self.may_close { 0 } else { self.machines.get(&name).map_or(0, |one| one.kept) };
            let (asked, kept, tolerated) = (of(&asked), of(&kept) | ever_kept, of(&tolerated));
            let machine = self.machines.entry(name).or_default();
            for probe in ones(machine.asked & !asked) {
                machine.last_asked.insert(probe, now);
            }
            for probe in ones(!machine.kept & kept & all()) {
                machine.last_free.insert(probe, now);
            }
            (machine.asked, machine.kept, machine.tolerated) = (asked, kept, tolerated);
            machine.note_wrong(now);
        }
        self.checks += 1;
    }

    /// Notes what pods and nodes that went a moment ago would ask for now: a controller may hear of the intent
    /// that was written since, or of a pod, and not yet of these, or of the node's other machine.
    fn note_asked_of_the_gone(&mut self, store: &Store, now: u64) {
        // What was there after the last change was there until this one.
        let all = self
            .pods
            .values_mut()
            .map(|(_, seen)| seen)
            .chain(self.nodes.values_mut().flat_map(BTreeMap::values_mut));
        all.filter(|seen| **seen == STILL_THERE).for_each(|seen| *seen = now);
        for pod in store.all(Kind::Pods) {
            self.pods.insert(name_of(pod), (pod.clone(), STILL_THERE));
        }
        let horizon = self.excuses.horizon(now, self.limits.staleness);
        self.pods.retain(|_, (_, seen)| *seen >= horizon);
        for (node, machine) in store.all(Kind::Nodes).filter_map(machine_of) {
            self.nodes.entry(node).or_default().insert(machine, STILL_THERE);
        }
        for machines in self.nodes.values_mut() {
            machines.retain(|_, seen| *seen >= horizon);
        }
        self.nodes.retain(|_, machines| !machines.is_empty());
        let is_gone = |(namespace, name): &Name| store.get(Kind::Pods, namespace, name).is_none();
        let gone = self.pods.iter().filter(|(name, _)| is_gone(name)).map(|(_, (pod, _))| pod);
        for (machine, asked) in self.demand.evaluate(store, gone, &self.nodes).wanted {
            let machine = self.machines.entry(machine).or_default();
            machine.last_asked.extend(ones(asked & !machine.asked).map(|probe| (probe, now)));
        }
    }

    /// The cloud lets in something else than before.
    pub(crate) fn cloud_changed(&mut self, admits: &BTreeMap<String, Probes>, cause: Cause, now: u64) {
        let began = if let Cause::Controller(took) = cause { now.saturating_sub(took) } else { now };
        let horizon = |at| self.excuses.horizon(at, self.limits.staleness);
        let horizon = horizon(began).min(horizon(now));
        let names: BTreeSet<String> = admits.keys().chain(self.machines.keys()).cloned().collect();
        for name in names {
            let open = admits.get(&name).copied().unwrap_or_default();
            let machine = self.machines.entry(name.clone()).or_default();
            let (opened, closed) = (open & !machine.open, machine.open & !open);
            machine.open = open;
            let is_old =
                |times: &BTreeMap<u32, u64>, probe: u32| times.get(&probe).is_none_or(|at| *at < horizon);
            let never_asked =
                ones(opened & !machine.asked).filter(|probe| is_old(&machine.last_asked, *probe));
            let never_asked = set(never_asked);
            let not_free = ones(closed & machine.kept).filter(|probe| is_old(&machine.last_free, *probe));
            let not_free = set(not_free);
            match cause {
                Cause::Machine => {}
                Cause::Other => {
                    let until = now + self.limits.drift;
                    machine.tampered.extend(ones(opened | closed).map(|probe| (probe, until)));
                }
                Cause::Controller(_) => {
                    if never_asked != 0 {
                        let text =
                            format!("{name} opens what nobody has asked for: {}", describe(never_asked));
                        self.violations.push(Violation {
                            promise: Promise::NeverMore,
                            at: now,
                            message: text,
                        });
                    }
                    if not_free != 0 {
                        let text =
                            format!("{name} closes what is asked for or unknown: {}", describe(not_free));
                        self.violations.push(Violation {
                            promise: Promise::StaysOpen,
                            at: now,
                            message: text,
                        });
                    }
                }
            }
            self.machines.entry(name).or_default().note_wrong(now);
        }
        self.checks += 1;
    }

    /// Others' objects must be as they were.
    pub(crate) fn foreign_is(&mut self, foreign: &[String], cause: Cause, now: u64) {
        let before = self.foreign.replace(foreign.to_vec());
        if matches!(cause, Cause::Controller(_)) && before.as_ref().is_some_and(|before| before != foreign) {
            let text = format!("others' objects were {:?} and are {foreign:?}", before.unwrap_or_default());
            self.report(Promise::OnlyItsOwn, now, text);
        }
    }

    /// Time has passed: nothing may be late.
    pub(crate) fn time_passed(&mut self, now: u64) {
        let mut late = Vec::new();
        for (name, machine) in &self.machines {
            for (&probe, &since) in &machine.wrong_since {
                let is_asked = machine.asked >> probe & 1 == 1;
                let limit = if is_asked { self.limits.open } else { self.limits.close };
                let excused = self.excuses.end(name, probe, is_asked, now);
                let (tampered, promise) = match machine.tampered.get(&probe) {
                    Some(until) if *until > since => (*until, Promise::DriftRepairs),
                    _ => (0, Promise::Exact),
                };
                if now > since.max(excused) + limit && now > tampered {
                    late.push((promise, name.clone(), probe, is_asked, since));
                }
            }
        }
        for (promise, name, probe, is_asked, since) in late {
            if self.reported.insert((promise, name.clone(), probe)) {
                let state = if is_asked { "is asked for and not open" } else { "is open and not asked for" };
                let text = format!("{name}: {} {state}, since {} ms", describe(1 << probe), since);
                self.report(promise, now, text);
            }
        }
        self.checks += 1;
    }

    /// Returns true if everything is as it should be.
    pub(crate) fn has_converged(&self) -> bool {
        self.machines.values().all(|machine| machine.wrong_since.is_empty())
    }
}

impl Machine {
    /// Notes since when each port is as it should not be.
    fn note_wrong(&mut self, now: u64) {
        let wrong = self.asked & !self.open | self.open & !self.kept & !self.tolerated;
        self.wrong_since.retain(|probe, _| wrong >> probe & 1 == 1);
        for probe in ones(wrong) {
            self.wrong_since.entry(probe).or_insert(now);
        }
    }
}

fn all() -> Probes {
    (1 << probes().len()) - 1
}

fn ones(set: Probes) -> impl Iterator<Item = u32> {
    (0..Probes::BITS).filter(move |bit| set >> bit & 1 == 1)
}

fn set(probes: impl Iterator<Item = u32>) -> Probes {
    probes.fold(0, |set, probe| set | 1 << probe)
}
