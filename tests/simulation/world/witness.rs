//! The witness: hears everything, tells the checker, and keeps the trace.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::api::{ApiServer, Write};
use crate::checker::{Cause, Checker, Promise};
use crate::cloud::{Observer, View};
use crate::process::Process;

/// The time after its last renewal at which another may take the Lease, in milliseconds.
const LEASE: u64 = 15_000;

/// Numbers of calls so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Changes sent to the cloud
    pub(super) calls: usize,
    /// Reads of the cloud
    pub(super) reads: usize,
    /// Writes to the API server, but for the Lease
    pub(super) writes: usize,
}

pub(super) struct Witness {
    start: Instant,
    checker: Mutex<Checker>,
    trace: Mutex<Vec<String>>,
    counts: Mutex<Counts>,
    /// The methods of the cloud's API that have been called, and whether they change something
    methods: Mutex<Vec<(String, bool)>>,
    /// When a call of a process last ended that had ended before
    ended_after_its_process: Mutex<Option<u64>>,
    api: ApiServer,
    uses_lease: bool,
}

impl Witness {
    pub(super) fn new(start: Instant, checker: Checker, api: ApiServer, uses_lease: bool) -> Self {
        let (checker, trace, counts) = (Mutex::new(checker), Mutex::default(), Mutex::default());
        let (methods, ended_after_its_process) = (Mutex::default(), Mutex::default());
        Self { start, checker, trace, counts, methods, ended_after_its_process, api, uses_lease }
    }

    /// Returns the time since the start, in milliseconds.
    pub(super) fn now(&self) -> u64 {
        u64::try_from((Instant::now() - self.start).as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn checker(&self) -> MutexGuard<'_, Checker> {
        self.checker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, line: &str) {
        let line = format!("{:>8} {line}", self.now());
        self.trace.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    /// Returns everything so far, with the writes to the API server.
    pub(super) fn trace(&self) -> Vec<String> {
        let mut trace = self.trace.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let text = |write: &Write| format!("write by {}: {:?} {}", write.process, write.kind, write.text);
        trace.extend(self.api.read(|state| state.writes.iter().map(text).collect::<Vec<_>>()));
        trace
    }

    pub(super) fn counts(&self) -> Counts {
        let counts = *self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        Counts { writes: self.api.read(|state| state.writes.len()), ..counts }
    }

    /// Returns when a call of a process last ended that had ended before: the next process may have read the cloud
    /// without its effect.
    pub(super) fn ended_after_its_process(&self) -> Option<u64> {
        *self.ended_after_its_process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the methods that have been called so far, from a position on.
    pub(super) fn methods(&self, from: usize) -> Vec<(String, bool)> {
        self.methods.lock().unwrap_or_else(PoisonError::into_inner)[from..].to_vec()
    }

    /// A process has started, and knows nothing of what was before.
    pub(super) fn process_started(&self) {
        self.api.read(|state| self.checker().demand.process_started(&state.store));
        self.objects_changed();
    }

    /// The objects have changed, or the guardrails.
    pub(super) fn objects_changed(&self) {
        let now = self.now();
        self.api.read(|state| self.checker().objects_changed(&state.store, now));
    }

    /// A process has ended by itself: it may only have done so for the sake of its Lease.
    pub(super) fn has_ended(&self, process: &Process) {
        let (holder, answered) = self.api.read(|state| (state.lease_holder, state.lease_answered));
        if let Some((number, renewed)) = answered
            && holder.is_some_and(|(holder, _)| holder == number)
            && number == process.number
            && renewed.elapsed().as_millis() < u128::from(LEASE / 2)
        {
            let text =
                format!("process {number} ends, and has renewed its Lease {:?} ago", renewed.elapsed());
            let now = self.now();
            self.checker().report(Promise::KeepsLeading, now, text);
        }
    }

    /// Checks that the process is the only one that may write.
    fn check_leadership(&self, process: &Process, call: &str) {
        let now = self.now();
        let fault = match self.api.read(|state| state.lease_holder) {
            Some((number, _)) if number != process.number => format!("process {number} holds the Lease"),
            Some((_, renewed)) => {
                let renewed = u64::try_from((renewed - self.start).as_millis()).unwrap_or(0);
                if now <= renewed + LEASE {
                    return;
                }
                format!("its Lease was renewed {} ms ago", now - renewed)
            }
            None => "nobody holds the Lease".to_owned(),
        };
        let text = format!("process {} sends {call}, and {fault}", process.number);
        self.checker().report(Promise::OneWriter, now, text);
    }
}

impl Observer for Witness {
    fn called(&self, method: &str, changes: bool) {
        let mut methods = self.methods.lock().unwrap_or_else(PoisonError::into_inner);
        methods.push((method.to_owned(), changes));
    }

    fn sent(&self, process: &Process, call: &str) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).calls += 1;
        self.note(&format!("process {} sends {call}", process.number));
        if self.uses_lease {
            self.check_leadership(process, call);
        }
    }

    fn ended(&self, process: &Process, call: &str, outcome: &str) {
        if !process.is_alive() {
            let mut last = self.ended_after_its_process.lock().unwrap_or_else(PoisonError::into_inner);
            *last = Some(self.now());
        }
        self.note(&format!("process {} {outcome}: {call}", process.number));
    }

    fn has_read(&self, process: &Process) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).reads += 1;
        self.note(&format!("process {} has read the cloud", process.number));
    }

    fn changed(&self, view: &dyn Fn() -> View, cause: Cause) {
        let (now, view) = (self.now(), view());
        let mut checker = self.checker();
        checker.cloud_changed(&view.admits, cause, now);
        checker.foreign_is(&view.foreign, cause, now);
    }
}
