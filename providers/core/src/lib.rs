//! Decides which firewall changes are made and in which order: types for a cloud's firewall, rule
//! arithmetic, and the pure path from desired and observed resources to a checked plan.
//!
//! The way through: a provider [compiles](FirewallProvider::compile) firewall groups to [resources](Resource)
//! and [observes](FirewallProvider::observe) those that exist; [`plan`] turns the difference into ordered
//! [steps](Step), each of which only opens or only closes; [`check`] replays them by code of its own; the
//! provider [applies](FirewallProvider::apply) them one by one.
//!
//! *Architecture invariant:* this crate depends on no async runtime, no Kubernetes client and no cloud SDK.
//! It reads no clock and does no I/O: everything that decides what is opened or closed can be tested, and
//! simulated, with plain values.

mod absences;
mod capacity;
mod fence;
mod group;
mod infeasible;
mod instance;
mod plan;
mod provider;
mod resource;
mod rule;
#[cfg(feature = "testing")]
pub mod testing;
mod unknown;

pub use absences::{Absences, GONE_AFTER};
pub use capacity::{Incumbency, select_within_capacity};
pub use fence::{Fence, Fenced};
pub use group::{Desired, FirewallGroup, GroupKey, GroupLabel, Workload, digest};
pub use infeasible::Infeasible;
pub use instance::InstanceId;
pub use plan::check::{Promise, Violation, check};
pub use plan::diff::{Change, Diff, diff};
pub use plan::guards::{Closings, find_closings, may_be_mass_close};
pub use plan::in_flight::InFlight;
pub use plan::planner::plan;
pub use plan::{
    Action, Dependency, Effect, Limits, OpenPort, Plan, PlanInput, Policy, Step, Withheld, WithheldReason,
};
pub use provider::{Applied, ChangesSince, ErrorKind, FirewallProvider, Observed, ProviderError, Retry};
pub use resource::{
    Compiled, Differences, MAX_SUBSTITUTES, MemberRequirements, Owner, Reach, Requirements, Resource,
    ResourceSet,
};
pub use rule::ingress_rule::IngressRule;
pub use rule::port::{PortError, PortRange, Protocol};
pub use rule::rule_set::RuleSet;
pub use unknown::{Doubt, Unknown};
