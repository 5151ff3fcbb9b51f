//! The part of the Compute Engine API that hostport-firewall touches, over real HTTP, as strict as Google's.
//!
//! The form of every request and answer comes from Google's own discovery document. Limits, conflicts and
//! permissions, which it does not contain, follow Google's documentation; the README lists where that is not
//! certain.

mod admits;
mod cloud;
mod discovery;
mod error;
mod fields;
mod filter;
mod firewall;
mod instance;
mod metadata;
mod methods;
mod operation;
mod schema;
mod server;
mod settings;
mod state;
mod steering;

pub use admits::Admitted;
pub use cloud::{Cloud, Request};
pub use instance::{Instance, Interface};
pub use server::Simulator;
pub use settings::{Fault, FaultKind, Settings};
