//! Excuses: for how long, and for which ports, the world gives the program a reason to be late. Never a
//! reason to open what is not asked for, or to close what is.

use crate::landscape::{Probes, WORKLOADS, probes_of};

/// The ports that a fault concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    All,
    /// Of all workloads those that are asked for and not open
    Openings,
    Workload(usize),
    /// Of a workload those that are asked for and not open
    OpeningsOf(usize),
    /// All ports of one machine
    Machine(String),
}

#[derive(Clone, Debug)]
struct Excuse {
    scope: Scope,
    from: u64,
    until: u64,
}

/// All excuses of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Excuses {
    late: Vec<Excuse>,
    /// Times in which controllers cannot see the cluster as it is
    blind: Vec<(u64, u64)>,
}

impl Excuses {
    /// Excuses what is late in this time.
    pub(crate) fn late(&mut self, scope: Scope, from: u64, until: u64) {
        self.late.push(Excuse { scope, from, until });
    }

    /// Notes that controllers cannot see the cluster as it is in this time.
    pub(crate) fn blind(&mut self, from: u64, until: u64) {
        self.blind.push((from, until));
    }

    /// Returns the time from which on a port must not be late, of one that is asked for or one that is not.
    pub(crate) fn end(&self, machine: &str, probe: u32, is_asked: bool, now: u64) -> u64 {
        let bit: Probes = 1 << probe;
        let is_of = |workload: usize| probes_of(&WORKLOADS[workload]) & bit != 0;
        let concerns = |scope: &Scope| match scope {
            Scope::All => true,
            Scope::Openings => is_asked,
            Scope::Workload(workload) => is_of(*workload),
            Scope::OpeningsOf(workload) => is_asked && is_of(*workload),
            Scope::Machine(own) => own == machine,
        };
        let begun = self.late.iter().filter(|excuse| excuse.from <= now && concerns(&excuse.scope));
        begun.map(|excuse| excuse.until).max().unwrap_or(0)
    }

    /// Returns the earliest time of which a controller may still believe what it saw then.
    pub(crate) fn horizon(&self, now: u64, staleness: u64) -> u64 {
        let mut horizon = now.saturating_sub(staleness);
        // Times that overlap are one.
        for _ in 0..=self.blind.len() {
            let since = self.blind.iter().filter(|(from, until)| *from <= now && *until >= horizon);
            let since = since.map(|(from, _)| from.saturating_sub(staleness)).min();
            horizon = since.map_or(horizon, |since| since.min(horizon));
        }
        horizon
    }

    /// Returns the time from which on controllers see the cluster as it is.
    pub(crate) fn blind_until(&self) -> u64 {
        self.blind.iter().map(|(_, until)| *until).max().unwrap_or(0)
    }

    /// Returns the end of the last excuse.
    pub(crate) fn last(&self) -> u64 {
        self.late.iter().map(|excuse| excuse.until).max().unwrap_or(0).max(self.blind_until())
    }
}
