//! Desired: what is asked for, as firewall groups. Pure.

mod change_log;
pub mod claims;
pub mod endings;
pub(crate) mod few;
pub mod grouping;
pub mod linger;
pub mod placement;
pub mod snapshot;
pub mod snapshots;
pub(crate) mod unknown;
