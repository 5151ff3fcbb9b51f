//! The checker: holds what the model clouds let in against what the objects in the model API server ask for,
//! after every event. It shares nothing with the program: no type, no arithmetic, no plan.

pub(crate) mod demand;
mod excuses;
mod ledger;
mod limits;

pub(crate) use excuses::{Excuses, Scope};
pub(crate) use ledger::{Cause, Checker};
pub(crate) use limits::Limits;

use std::fmt;

/// A promise of the design, section 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Promise {
    /// After convergence, a port is open if and only if it is asked for
    Exact,
    /// Nothing opens that was not asked for
    NeverMore,
    /// What is asked for before and after is open throughout, and a closing has a fact
    StaysOpen,
    /// Nothing of others is changed
    OnlyItsOwn,
    /// Nothing is sent by a process that may not be the only one
    OneWriter,
    /// A process that holds its Lease goes on
    KeepsLeading,
    /// Nothing is written, and the cloud not read, while nothing changes
    BoundedCalls,
    /// What somebody else has changed is repaired
    DriftRepairs,
}

/// A broken promise.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) promise: Promise,
    /// Since the start, in milliseconds
    pub(crate) at: u64,
    pub(crate) message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>5}.{:03} s  {:?}: {}", self.at / 1000, self.at % 1000, self.promise, self.message)
    }
}
