//! The part of the Compute Engine API that hostport-firewall touches, over real HTTP, as strict as Google's.
//!
//! What every request and answer may be comes from Google's own discovery document; what is beyond it (limits,
//! conflicts, permissions) follows Google's documentation, and the README says where that leaves room for doubt.

mod admin;
mod admits;
mod cloud;
mod discovery;
mod error;
mod fields;
mod filter;
mod firewall;
mod machine;
mod metadata;
mod methods;
mod operation;
mod schema;
mod server;
mod settings;
mod state;

pub use admits::Admitted;
pub use cloud::{Cloud, Request};
pub use machine::{Interface, Machine};
pub use server::Simulator;
pub use settings::{Fault, FaultKind, Settings};
