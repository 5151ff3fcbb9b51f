//! Publishing: what a pass came to, told to people and to the cluster.

pub mod addresses;
pub(crate) mod dns_publisher;
pub mod dns_records;
pub mod events;
pub mod metrics;
pub mod outcomes;
pub(crate) mod publisher;
pub(crate) mod publishers;
pub mod readiness;
pub mod status;
pub(crate) mod status_writer;
pub mod transitions;
