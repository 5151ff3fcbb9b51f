//! Translation between EC2's wire types and this crate's. Pure.

pub(crate) mod error;
pub(crate) mod instance;
pub(crate) mod permission;
