//! The cluster's side: objects, the index that holds them, and the watchers and files that feed it.

pub(crate) mod connect;
pub(crate) mod dns_zone;
pub(crate) mod file_watcher;
pub mod first_list;
pub mod host_port_exposure;
pub mod index;
pub mod manifests;
pub(crate) mod names;
pub mod objects;
pub mod plain_text;
pub mod problem;
pub mod reasons;
pub(crate) mod watcher;
