//! As the program's, for one cloud.

pub(crate) mod backoff;
pub(crate) mod executor;
mod failures;
mod held_closings;
pub(crate) mod in_flight;
mod known_cloud;
mod membership;
pub(crate) mod outcome;
pub(crate) mod pass;
pub(crate) mod reconciler;
mod scope;
mod step_log;
mod unsettled;
