//! Support for the tests of providers: a cloud in memory, and the suite that every provider passes.

pub mod conformance;
pub mod memory;
