//! Translation between EC2's wire types and this crate's, all of it pure.

pub(crate) mod error;
pub(crate) mod machine;
pub(crate) mod permission;
pub(crate) mod tag;
