//! Intents: the ways by which pods, Services and other objects request that ports of nodes be reachable.
//!
//! Pure: the index goes in, exposures and problems come out. Everything in the index is untrusted. An intent
//! that is not understood opens nothing, for that pod or intent alone, and becomes a problem on the objects
//! that it affects.

mod annotation;
pub mod annotation_keys;
mod collect;
pub mod demand;
mod dependents;
pub mod exposure;
pub mod exposures;
pub mod fingerprint;
mod host_port;
mod host_port_exposure;
mod hostname;
mod node_port;
mod opening;
mod part;
mod port_entry;
pub mod port_owner;
pub(crate) mod problems;
mod reach;
mod request;
mod rules;
mod selections;
mod service_lb;
mod service_ports;
pub mod settings;
pub mod unknown;
mod voyager;
mod workload;

#[cfg(test)]
mod tests;
