//! Translation from and to the types of Google's client library: firewall rules, instances and errors.

pub(crate) mod error;
pub(crate) mod firewall;
pub(crate) mod instance;
