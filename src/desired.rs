//! Desired: what is asked for, as firewall groups. Pure.

pub mod claims;
pub mod endings;
pub mod grouping;
pub mod linger;
pub mod snapshot;
pub mod snapshots;
pub(crate) mod unknown;
