//! The Compute Engine API's own words: firewall rules, instances and errors as the client library has them.

pub(crate) mod error;
pub(crate) mod firewall;
pub(crate) mod instance;
