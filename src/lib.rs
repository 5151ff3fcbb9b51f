//! The controller: from the Kubernetes API, or manifest files, to a cloud whose firewall follows it.
//!
//! Data flows one way: [`watch`] or [`manifests`] feed the [`index`]; [`exposures`] and [`grouping`] turn it into
//! firewall groups; [`reconcile`] has a provider compile them, plans, checks and has [`execute`] carry the plan
//! out; [`notice`] and [`report`] tell about it.

// The futures of the clouds' SDKs nest deeper than the default allows.
#![recursion_limit = "256"]

pub mod addresses;
pub mod announce;
pub mod backoff;
pub mod cleanup;
pub mod cli;
pub mod controller;
pub mod dns;
pub mod execute;
pub mod exposures;
mod files;
pub mod grouping;
pub mod guardrails;
pub mod host_port_exposure;
pub mod index;
pub mod lease;
pub mod linger;
pub mod manifests;
pub mod metrics;
pub mod notice;
pub mod objects;
pub mod providers;
pub mod readiness;
pub mod reconcile;
pub mod report;
pub mod status;
pub mod watch;
