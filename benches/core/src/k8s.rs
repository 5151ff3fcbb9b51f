//! As the program's, without what reads a cluster.

pub(crate) mod host_port_exposure;
pub(crate) mod index;
pub(crate) mod names;
pub(crate) mod objects;
pub(crate) mod plain_text;
pub(crate) mod problem;
pub(crate) mod reasons;
