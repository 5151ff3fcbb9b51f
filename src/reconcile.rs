//! One pass of one cloud: snapshot, observe, plan, check, execute.

pub mod backoff;
pub mod executor;
mod failures;
mod membership;
pub mod outcome;
pub mod pass;
pub mod reconciler;
mod step_log;
