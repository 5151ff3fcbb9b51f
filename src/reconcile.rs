//! One pass of one cloud: snapshot, observe, plan, check, execute.

pub mod backoff;
pub mod cleanup;
pub mod cloud;
pub mod executor;
mod failures;
mod held_closings;
pub mod in_flight;
mod known_cloud;
mod membership;
pub mod outcome;
pub mod pass;
pub mod reconciler;
pub mod reported_plan;
mod scope;
mod step_log;
mod unsettled;
