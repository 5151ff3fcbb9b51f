//! A model of the Kubernetes API server, in process: `kube::Client` sends it the same HTTP requests as to a
//! real one. It lists in pages, watches with bookmarks and resource versions, refuses with 404, 409, 410 and
//! 422, and has the faults of [`faults::Faults`].

pub(crate) mod faults;
mod request;
mod server;
pub(crate) mod store;
mod watches;

pub(crate) use faults::Faults;
pub(crate) use server::{ApiServer, Write};
pub(crate) use store::{Kind, Name, Store, name_of};
