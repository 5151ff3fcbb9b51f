//! A world: an API server, a cloud, and the processes of the controller, on virtual time.

mod events;
mod measured;
mod replicas;
mod witness;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use firewall_gce::Mode;
use hostport_firewall::intents::settings::Settings;
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep_until};

use crate::api::{ApiServer, Kind};
use crate::checker::{Checker, Limits, Promise, Scope, Violation};
use crate::clock;
use crate::cloud::ec2::Ec2;
use crate::cloud::gce::Gce;
use crate::cloud::memory::SimulatedCloud;
use crate::cloud::{ModelCloud, Size};
use crate::history::{CloudKind, Event, History};
use crate::landscape::WORKLOADS;
use crate::mutants::Mutant;
use crate::objects;
use events::Ending;
pub(crate) use measured::{Calls, Mark};
use replicas::Replica;
use witness::Witness;

/// How long a membership outlives its pod, and how often the cloud is compared, in milliseconds.
pub(crate) const LINGER: u64 = 30_000;
pub(crate) const RESYNC: u64 = 300_000;

/// The time for which a mass close is held.
pub(crate) const HOLD: u64 = 1_800_000;

/// The time between two looks at the clock, while things happen and while nothing does.
const TICK: u64 = 1_000;
const QUIET_TICK: u64 = 30_000;

/// The time after which nothing follows any more where everything has converged: statuses, Events, retries.
const SETTLED: u64 = 70_000;

/// The time that a controller takes to begin: lists, and the look-up of kinds that are not installed.
const START: u64 = 20_000;

/// The result of a run.
pub(crate) struct Outcome {
    pub(crate) violations: Vec<Violation>,
    /// Everything that happened, a line each
    pub(crate) trace: Vec<String>,
    /// The number of comparisons that the checker has made
    pub(crate) checks: u64,
}

impl Outcome {
    pub(crate) fn broken(&self) -> Vec<Promise> {
        self.violations.iter().map(|violation| violation.promise).collect()
    }
}

/// Runs a history to its end.
pub(crate) fn run(history: &History, mutant: Option<Mutant>) -> Outcome {
    on_virtual_time(history.seed, async {
        let mut world = World::new(history.clone(), mutant, Size::SMALL);
        world.play().await;
        world.outcome()
    })
}

/// Runs something on virtual time.
pub(crate) fn on_virtual_time<T>(seed: u64, run: impl Future<Output = T>) -> T {
    // All jitter comes from this thread's generator.
    fastrand::seed(seed);
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    LocalSet::new().block_on(&runtime.expect("a runtime"), async {
        clock::set(seed);
        run.await
    })
}

pub(crate) struct World {
    history: History,
    mutant: Option<Mutant>,
    start: Instant,
    api: ApiServer,
    cloud: Box<dyn ModelCloud>,
    witness: Arc<Witness>,
    settings: watch::Sender<Settings>,
    replicas: Vec<Replica>,
    /// What ends, and when
    endings: BTreeMap<(u64, usize), Ending>,
    processes: usize,
}

impl World {
    fn new(history: History, mutant: Option<Mutant>, size: Size) -> Self {
        let seed = history.seed;
        let cloud: Box<dyn ModelCloud> = match history.setup.cloud {
            CloudKind::Memory => Box::new(SimulatedCloud::new(seed)),
            CloudKind::Ec2 => Box::new(Ec2::new(seed, false, size)),
            CloudKind::Ec2Shared => Box::new(Ec2::new(seed, true, size)),
            CloudKind::Gce => Box::new(Gce::new(seed, Mode::Destination, size)),
            CloudKind::GceTags => Box::new(Gce::new(seed, Mode::Tags, size)),
        };
        Self::over(cloud, history, mutant)
    }

    /// Returns the world of a cloud.
    fn over(cloud: Box<dyn ModelCloud>, history: History, mutant: Option<Mutant>) -> Self {
        let (api, start) = (ApiServer::new(), Instant::now());
        let mut checker = Checker::new(Limits::new(history.setup.linger, RESYNC), !history.setup.open_only);
        checker.demand.groups_are_shared = history.setup.cloud == CloudKind::Ec2Shared;
        // A controller that must have the Lease is held to it also where a bug keeps it from asking.
        let uses_lease = history.setup.has_lease;
        let witness = Arc::new(Witness::new(start, checker, api.clone(), uses_lease));
        cloud.observe_with(Arc::clone(&witness) as _);
        let settings = watch::Sender::new(Settings::default());
        let (replicas, endings) = (Vec::new(), BTreeMap::new());
        Self { history, mutant, start, api, cloud, witness, settings, replicas, endings, processes: 0 }
    }

    fn now(&self) -> u64 {
        self.witness.now()
    }

    /// Prepares the cluster and the checker.
    fn prepare(&self) {
        let setup = self.history.setup;
        for name in ["shop", "games", "operators"] {
            self.api.change(|state| state.store.put(Kind::Namespaces, objects::namespace(name)));
        }
        if !setup.serves_all_kinds {
            self.api.change(|state| state.faults.absent.insert(Kind::KubernetesIngresses));
        }
        if let Some(kind) = setup.broken_kind {
            self.api.change(|state| state.faults.unlistable.insert(kind, 500));
        }
        self.witness.checker().excuses.late(Scope::All, 0, START);
        if setup.holds_mass_close {
            // What goes at once is held; of the first workload's namespace it is never so much.
            let held =
                WORKLOADS.iter().enumerate().filter(|(_, one)| one.namespace != WORKLOADS[0].namespace);
            for (workload, _) in held {
                self.witness.checker().excuses.late(Scope::Workload(workload), 0, HOLD + RESYNC);
            }
        }
    }

    async fn play(&mut self) {
        self.prepare();
        let events = self.history.events.clone();
        let (at_start, later): (Vec<_>, Vec<_>) = events.into_iter().partition(|(at, _)| *at == 0);
        for (_, event) in at_start {
            self.apply(&event);
        }
        self.start_all();
        for (at, event) in later {
            self.run_until(at, TICK).await;
            self.apply(&event);
        }
        self.settle().await;
        self.stay_quiet().await;
    }

    /// Lets time pass.
    async fn run_until(&mut self, at: u64, tick: u64) {
        loop {
            let ending = self.endings.keys().next().map(|(at, _)| *at);
            let next = ending.unwrap_or(u64::MAX).min(self.now() / tick * tick + tick).min(at);
            sleep_until(self.start + Duration::from_millis(next)).await;
            self.end_due();
            self.tend_replicas();
            let now = self.now();
            self.witness.checker().time_passed(now);
            if now >= at {
                return;
            }
        }
    }

    /// Lets time pass until everything has converged and stays so, or nothing excuses any more that it has
    /// not.
    async fn settle(&mut self) {
        let limits = Limits::new(self.history.setup.linger, RESYNC);
        let longest = limits.close.max(limits.open).max(limits.drift);
        let last_event = self.history.events.last().map_or(0, |(at, _)| *at);
        // What somebody changed in the cloud is seen when that is read again, also where nobody asks for it; so
        // it is with what a stale answer makes of it.
        let resyncs = |event: &Event| match event {
            Event::Tampered { .. } | Event::RuleLost { .. } | Event::MemberLost { .. } => Some(1),
            Event::StaleReads { reads } => Some(u64::from(*reads)),
            _ => None,
        };
        let seen = self.history.events.iter().filter_map(|(at, event)| Some(at + resyncs(event)? * RESYNC));
        let tampered = seen.max();
        let tampered = tampered.unwrap_or_default();
        let mut converged_since = None;
        loop {
            let ended_late = self.witness.ended_after_its_process().map(|at| at + RESYNC);
            let tampered = tampered.max(ended_late.unwrap_or_default());
            let last = self.witness.checker().excuses.last().max(last_event);
            let is_settled = self.witness.checker().has_converged() && self.endings.is_empty();
            converged_since = if is_settled { converged_since.or_else(|| Some(self.now())) } else { None };
            let sees_again = self.witness.checker().excuses.blind_until();
            let has_settled = converged_since
                .is_some_and(|since| self.now() >= since.max(sees_again).max(tampered) + SETTLED);
            if has_settled || self.now() > (last + longest).max(tampered + SETTLED) {
                break;
            }
            self.run_until(self.now() + 5_000, TICK).await;
        }
        if !self.witness.checker().has_converged() {
            let now = self.now();
            self.witness.checker().report(Promise::Exact, now, "it has not converged in the end".to_owned());
        }
    }

    /// Lets time pass in which nothing happens: nothing may be written, and the cloud is read at a resync.
    async fn stay_quiet(&mut self) {
        let before = self.witness.counts();
        // Replicas that look at their Lease every two seconds make a long time expensive.
        let lasts = if self.history.setup.has_lease { RESYNC / 5 } else { RESYNC };
        self.run_until(self.now() + lasts, QUIET_TICK).await;
        let after = self.witness.counts();
        let controllers = 1 + usize::from(self.history.setup.has_second_project);
        let reads = after.reads - before.reads;
        let (calls, writes) = (after.calls - before.calls, after.writes - before.writes);
        if calls > 0 || writes > 0 || reads > 2 * controllers {
            let last = self.api.read(|state| state.writes.iter().rev().take(3).cloned().collect::<Vec<_>>());
            let text =
                format!("while nothing changed: {calls} calls, {reads} reads, {writes} writes, as {last:?}");
            let now = self.now();
            self.witness.checker().report(Promise::BoundedCalls, now, text);
        }
    }

    pub(crate) fn outcome(self) -> Outcome {
        for replica in &self.replicas {
            replica.end();
        }
        let mut checker = self.witness.checker();
        let (violations, checks) = (std::mem::take(&mut checker.violations), checker.checks);
        drop(checker);
        Outcome { violations, checks, trace: self.witness.trace() }
    }
}
