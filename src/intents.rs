//! Exposures: which ports of which nodes may be reached, from where, and because of which intent.
//!
//! Pure: the index goes in, exposures and notices come out. Everything in the index is untrusted. What cannot be
//! understood opens nothing, for that pod or intent alone, and is said on the objects it concerns.

mod annotation;
pub mod annotation_keys;
pub mod collect;
pub mod exposure;
pub mod fingerprint;
mod host_port;
mod host_port_exposure;
mod hostname;
mod node_port;
pub mod port_owner;
mod request;
mod rules;
mod service_lb;
mod service_ports;
pub mod settings;
mod voyager;
mod workload;

#[cfg(test)]
mod tests;
