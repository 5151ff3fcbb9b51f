//! The words of hostport-firewall as types, and the pure path from desired and observed resources to a
//! checked plan.
//!
//! *Architecture invariant:* this crate depends on no async runtime, no Kubernetes client and no cloud SDK.
//! It reads no clock and does no I/O: everything that decides what is opened or closed can be tested, and
//! simulated, with plain values.

mod check;
pub mod conformance;
mod diff;
mod group;
pub mod memory;
mod order;
mod plan;
mod planner;
mod port;
mod provider;
mod resource;
mod room;
mod rule;
mod ruleset;

pub use check::{Promise, Violation, check};
pub use diff::{Change, Diff, diff};
pub use group::{Completeness, Desired, FirewallGroup, GroupKey, InstanceId, Workload, digest};
pub use plan::{
    Action, Dependency, Effect, Limits, Open, Plan, PlanInput, Policy, Step, Waiting, Withheld, closings,
};
pub use planner::plan;
pub use port::{PortError, PortRange, Protocol};
pub use provider::{Applied, FirewallProvider, Observed, ProviderError, Retry};
pub use resource::{Compiled, Memberships, Owner, Reach, Rejection, Resource, Takes, World};
pub use room::{Standing, housed};
pub use rule::IngressRule;
pub use ruleset::RuleSet;
