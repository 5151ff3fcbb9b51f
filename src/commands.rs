//! Commands that run once and end.

pub mod cleanup;
pub mod plan;
pub mod report;
