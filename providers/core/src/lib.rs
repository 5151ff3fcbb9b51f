//! The words of hostport-firewall as types, and the pure path from desired and observed resources to a
//! checked plan.
//!
//! *Architecture invariant:* this crate depends on no async runtime, no Kubernetes client and no cloud SDK.
//! It reads no clock and does no I/O: everything that decides what is opened or closed can be tested, and
//! simulated, with plain values.

mod capacity;
mod group;
mod plan;
mod provider;
mod resource;
mod rule;
#[cfg(feature = "testing")]
pub mod testing;

pub use capacity::{Incumbency, select_within_capacity};
pub use group::{Completeness, Desired, FirewallGroup, GroupKey, InstanceId, Workload, digest};
pub use plan::check::{Promise, Violation, check};
pub use plan::diff::{Change, Diff, diff};
pub use plan::planner::plan;
pub use plan::{
    Action, Dependency, Effect, Limits, OpenPort, Plan, PlanInput, Policy, Step, Withheld, WithheldReason,
    find_closings,
};
pub use provider::{Applied, ErrorKind, FirewallProvider, Observed, ProviderError, Retry};
pub use resource::{
    Compiled, Infeasible, MemberRequirements, Owner, Reach, Requirements, Resource, ResourceSet,
};
pub use rule::ingress_rule::IngressRule;
pub use rule::port::{PortError, PortRange, Protocol};
pub use rule::rule_set::RuleSet;
