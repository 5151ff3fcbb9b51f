//! The plan: the ordered steps that turn observed into desired resources, each with its reason, and the
//! changes that are withheld.

mod attainable;
pub(crate) mod check;
mod dependencies;
pub(crate) mod diff;
mod endings;
pub(crate) mod guards;
pub(crate) mod in_flight;
mod interleave;
mod order;
pub(crate) mod planner;
mod retain;
mod split;
mod substitute;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::{
    GroupKey, GroupLabel, InFlight, InstanceId, PortRange, Protocol, Resource, ResourceSet, Unknown,
};

/// One change of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<R> {
    /// Creates a resource that is absent.
    Create(R),
    /// Gives a resource another spec.
    Update {
        /// The resource as it is
        from: R,
        /// The resource as it should be
        to: R,
    },
    /// Deletes a resource that is no longer desired.
    Delete(R),
}

impl<R: Resource> Action<R> {
    /// Returns the resource before the action, if it existed.
    #[must_use]
    pub const fn before(&self) -> Option<&R> {
        match self {
            Self::Create(_) => None,
            Self::Update { from, .. } | Self::Delete(from) => Some(from),
        }
    }

    /// Returns the resource after the action, if it will exist.
    #[must_use]
    pub const fn after(&self) -> Option<&R> {
        match self {
            Self::Create(to) | Self::Update { to, .. } => Some(to),
            Self::Delete(_) => None,
        }
    }

    /// Returns the key of the resource.
    #[must_use]
    pub fn key(&self) -> R::Key {
        match self {
            Self::Create(resource) | Self::Update { to: resource, .. } | Self::Delete(resource) => {
                resource.key()
            }
        }
    }

    /// Changes `resources` as the cloud would.
    pub fn apply_to(&self, resources: &mut ResourceSet<R>) {
        match self.after() {
            Some(resource) => resources.insert(resource.key(), resource.clone()),
            None => resources.remove(&self.key()),
        };
    }

    /// Returns the verb, for people and machines.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Update { .. } => "update",
            Self::Delete(_) => "delete",
        }
    }
}

/// The direction of a step: it lets in more, or less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// The resource lets in something that it did not, by itself or once something else attaches it.
    Open,
    /// The resource lets in less.
    Close,
}

/// An earlier step that a step waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dependency {
    /// Position in the plan
    pub step: usize,
    /// True if the step must be left out when that one failed. If false, the step goes ahead as soon as that
    /// one ended: a port that must be closed is closed even where the opening before it failed.
    pub must_succeed: bool,
}

/// One action with its reason and the steps it waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step<R> {
    /// The change to make
    pub action: Action<R>,
    /// The direction of the change
    pub effect: Effect,
    /// The reason, for people
    pub reason: String,
    /// The steps it waits for; every position is lower than its own
    pub depends_on: Vec<Dependency>,
}

/// The reason why a difference is not being changed now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WithheldReason {
    /// The change would close what may still be asked for: this is not known.
    IncompleteState(Vec<String>),
    /// The policy does not allow the change.
    Policy,
    /// The plan would close too large a share of the open ports.
    MassClose {
        /// The namespace whose ports would close; none if it is the cluster as a whole
        namespace: Option<String>,
        /// Open ports that would close
        closing: usize,
        /// Ports that are open, counted per instance
        open: usize,
    },
    /// The change failed before and is tried again later.
    Backoff,
    /// Another change of the resource, or one that refers to it, is under way.
    InFlight,
    /// The key belongs to a resource of another owner.
    Foreign,
    /// The change would let in what was not asked for, or break a reference, until another change is made.
    BlockedByOrder,
    /// The cloud's limits cannot hold the old and the new state at once, or no single resource can express
    /// both, and closing has to wait.
    CapacityExceeded,
}

impl WithheldReason {
    /// Every value of [`as_str`](Self::as_str).
    pub const ALL: [&str; 8] = [
        "incomplete-state",
        "policy",
        "mass-close",
        "backoff",
        "in-flight",
        "foreign",
        "blocked-by-order",
        "capacity-exceeded",
    ];

    /// Returns the reason in one word, stable for machines.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::IncompleteState(_) => "incomplete-state",
            Self::Policy => "policy",
            Self::MassClose { .. } => "mass-close",
            Self::Backoff => "backoff",
            Self::InFlight => "in-flight",
            Self::Foreign => "foreign",
            Self::BlockedByOrder => "blocked-by-order",
            Self::CapacityExceeded => "capacity-exceeded",
        }
    }
}
impl fmt::Display for WithheldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IncompleteState(gaps) => {
                write!(f, "what may still be asked for is not closed: {}", gaps.join("; "))
            }
            Self::Policy => f.write_str("the policy does not allow it"),
            Self::MassClose { namespace, closing, open } => {
                let of = namespace.as_ref().map_or_else(
                    || "of the cluster".to_owned(),
                    |namespace| format!("of namespace {namespace}"),
                );
                write!(
                    f,
                    "it would close {closing} of {open} open ports {of}, more than the limit; release it with \
                     --release-mass-close, or wait until its hold has passed"
                )
            }
            Self::Backoff => f.write_str("it failed before and will be tried again"),
            Self::InFlight => f.write_str("a call that concerns it has not been answered yet"),
            Self::Foreign => f.write_str("the name belongs to a resource that this cluster does not own"),
            Self::BlockedByOrder => f.write_str("another change has to be made first"),
            Self::CapacityExceeded => f.write_str(
                "the cloud's limits cannot hold the old and the new at once, and closing has to wait",
            ),
        }
    }
}

/// A difference that stays for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withheld<R: Resource> {
    /// The resource
    pub key: R::Key,
    /// The reason why it stays
    pub reason: WithheldReason,
}

/// The ordered steps, and the changes that are not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan<R: Resource> {
    /// The steps; each may wait only for steps before it
    pub steps: Vec<Step<R>>,
    /// The differences that stay, with the reason
    pub withheld: Vec<Withheld<R>>,
}

impl<R: Resource> Plan<R> {
    /// Returns the resources that the plan takes for what they are in `observed`: those that it changes, and those
    /// that it makes others refer to.
    #[must_use]
    pub fn relied_on(&self, observed: &ResourceSet<R>) -> BTreeSet<R::Key> {
        let of_step = |step: &Step<R>| {
            let [before, after] = [step.action.before(), step.action.after()]
                .map(|resource| resource.map(Resource::refers_to).unwrap_or_default());
            after.difference(&before).cloned().chain([step.action.key()]).collect::<Vec<_>>()
        };
        self.steps.iter().flat_map(of_step).filter(|key| observed.contains_key(key)).collect()
    }
}

/// The changes that the administrator allows: a function from goal to goal, where a goal is the state that a
/// plan may end in (`apply_policy` in `planner.rs`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Open and close: the goal as it is.
    #[default]
    Sync,
    /// Open, never close: the goal, with everything that is open.
    OpenOnly,
    /// Change nothing, report what would change: the observed state.
    Observe,
}

/// The limits on closing much at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Closing more than this share of the open ports of a namespace at once, in percent, is held…
    pub mass_close_percent: usize,
    /// …if at least this many would close.
    pub mass_close_least: usize,
    /// True if whatever is held may go ahead.
    pub mass_close_released: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { mass_close_percent: 50, mass_close_least: 10, mass_close_released: false }
    }
}

impl Limits {
    /// Share of the open ports of the cluster, in percent, above which all closings are held: the namespaces
    /// of a cluster do not all end at once.
    const CLUSTER_PERCENT: usize = 90;

    /// Returns true if closing so many of so many open ports of the whole cluster is too much at once.
    #[must_use]
    pub const fn is_mass_close_of_cluster(&self, open: usize, closing: usize) -> bool {
        let percent = if self.mass_close_percent > Self::CLUSTER_PERCENT {
            self.mass_close_percent
        } else {
            Self::CLUSTER_PERCENT
        };
        closing >= self.mass_close_least && closing * 100 > open * percent
    }

    /// Returns what a number of ports of a firewall group on one instance counts for: less than half of what a mass has
    /// at least. A media server that ends closes ten thousand ports, and is one workload on one node, which can be two
    /// instances to a cloud: an address of each family.
    #[must_use]
    pub fn weigh(&self, group: &GroupLabel, ports: usize) -> usize {
        // What no group is known to have can be of many.
        if group.ports.is_empty() {
            ports
        } else {
            ports.min((self.mass_close_least.saturating_sub(1) / 2).max(1))
        }
    }

    /// Returns what ports count for together.
    #[must_use]
    pub fn count<'a>(&self, ports: impl IntoIterator<Item = &'a OpenPort>) -> usize {
        let mut by_group: BTreeMap<(&InstanceId, &GroupLabel), usize> = BTreeMap::new();
        for (instance, group, _, range) in ports {
            *by_group.entry((instance, group)).or_default() += range.count();
        }
        by_group.into_iter().map(|((_, group), ports)| self.weigh(group, ports)).sum()
    }

    /// Returns true if closing so many of so many open ports of one namespace is too much at once.
    #[must_use]
    pub const fn is_mass_close(&self, open: usize, closing: usize) -> bool {
        closing >= self.mass_close_least && closing * 100 > open * self.mass_close_percent
    }
}

/// Everything that a plan is computed from.
#[derive(Clone, Copy, Debug)]
pub struct PlanInput<'a, R: Resource> {
    /// The resources as they should be
    pub desired: &'a ResourceSet<R>,
    /// The resources as they are
    pub observed: &'a ResourceSet<R>,
    /// The traffic that may be asked for beside `desired`
    pub unknown: &'a Unknown,
    /// The changes that the administrator allows
    pub policy: Policy,
    /// The limits on closing much at once
    pub limits: Limits,
    /// The namespaces whose mass close has been held for long enough
    pub released: &'a BTreeSet<String>,
    /// The fact that ended what is no longer desired, by firewall group and instance
    pub endings: &'a BTreeMap<(GroupKey, InstanceId), String>,
    /// The resources that failed to open, or to close, and must not be tried again yet
    pub backoff: &'a BTreeSet<(R::Key, Effect)>,
    /// The changes that are under way; `observed` has been [settled](InFlight::settle) for them
    pub in_flight: &'a InFlight<R::Key>,
}

/// A port range that is open on an instance for a firewall group, from whichever sources.
pub type OpenPort = (InstanceId, Arc<GroupLabel>, Protocol, PortRange);
