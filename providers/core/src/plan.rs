//! The plan: the ordered steps that turn observed into desired, each with its reason, and what has to wait.

mod attainable;
pub(crate) mod check;
pub(crate) mod diff;
mod guards;
mod interleave;
mod order;
pub(crate) mod planner;
mod split;

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use crate::{Completeness, InstanceId, PortRange, Protocol, Resource, ResourceSet};

/// One change of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<R> {
    /// It is absent.
    Create(R),
    /// It has another spec.
    Update {
        /// As it is
        from: R,
        /// As it should be
        to: R,
    },
    /// It is not wanted any more.
    Delete(R),
}

impl<R: Resource> Action<R> {
    /// The resource before, if it existed.
    #[must_use]
    pub const fn before(&self) -> Option<&R> {
        match self {
            Self::Create(_) => None,
            Self::Update { from, .. } | Self::Delete(from) => Some(from),
        }
    }

    /// The resource after, if it will exist.
    #[must_use]
    pub const fn after(&self) -> Option<&R> {
        match self {
            Self::Create(to) | Self::Update { to, .. } => Some(to),
            Self::Delete(_) => None,
        }
    }

    /// The key of the resource.
    #[must_use]
    pub fn key(&self) -> R::Key {
        match self {
            Self::Create(resource) | Self::Update { to: resource, .. } | Self::Delete(resource) => {
                resource.key()
            }
        }
    }

    /// Carries the action out on `world`, as the cloud would.
    pub fn apply_to(&self, world: &mut ResourceSet<R>) {
        match self.after() {
            Some(resource) => world.insert(resource.key(), resource.clone()),
            None => world.remove(&self.key()),
        };
    }

    /// The verb, for people and machines.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Update { .. } => "update",
            Self::Delete(_) => "delete",
        }
    }
}

/// Whether a step lets more in or less.
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
    /// Whether the step must be left out if that one failed. If not, it goes ahead as soon as that one ended:
    /// what must be closed is closed even where what should have been opened before it could not be.
    pub must_succeed: bool,
}

/// One action with its place and its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step<R> {
    /// What to do
    pub action: Action<R>,
    /// Whether it opens or closes
    pub effect: Effect,
    /// Why, for people
    pub reason: String,
    /// What it waits for; every position is lower than its own
    pub depends_on: Vec<Dependency>,
}

/// Why something that differs is not being changed now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WithheldReason {
    /// Knowledge is partial, and it would close something.
    IncompleteState(Vec<String>),
    /// The policy does not allow it.
    Policy,
    /// The plan would close too large a share of what is open.
    MassClose {
        /// Memberships that would close
        closing: usize,
        /// Memberships that are open
        open: usize,
    },
    /// It failed before and is tried again later.
    Backoff,
    /// The key is taken by something that is not ours.
    Foreign,
    /// It would let in what nobody asked for, or break a reference, until something else has happened.
    BlockedByOrder,
    /// The cloud's limits leave no room for the old and the new at once, or no one resource can express both, and
    /// closing has to wait.
    CapacityExceeded,
}

impl WithheldReason {
    /// Every [`word`](Self::word).
    pub const ALL: [&str; 7] = [
        "incomplete-state",
        "policy",
        "mass-close",
        "backoff",
        "foreign",
        "blocked-by-order",
        "capacity-exceeded",
    ];

    /// One word, stable for machines.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::IncompleteState(_) => "incomplete-state",
            Self::Policy => "policy",
            Self::MassClose { .. } => "mass-close",
            Self::Backoff => "backoff",
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
                write!(f, "nothing is closed while knowledge is partial: {}", gaps.join("; "))
            }
            Self::Policy => f.write_str("the policy does not allow it"),
            Self::MassClose { closing, open } => write!(
                f,
                "it would close {closing} of {open} open memberships, more than the limit; release it with \
                 --release-mass-close, or wait until its hold has passed"
            ),
            Self::Backoff => f.write_str("it failed before and will be tried again"),
            Self::Foreign => f.write_str("the name is taken by something that this cluster does not own"),
            Self::BlockedByOrder => f.write_str("something else has to happen first"),
            Self::CapacityExceeded => {
                f.write_str("it cannot hold the old and the new at once, and closing has to wait")
            }
        }
    }
}

/// A difference that stays for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withheld<R: Resource> {
    /// The resource
    pub key: R::Key,
    /// Why it stays
    pub reason: WithheldReason,
}

/// The ordered steps, and what is left undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan<R: Resource> {
    /// The steps; each may wait only for steps before it
    pub steps: Vec<Step<R>>,
    /// What differs and stays, with the reason
    pub withheld: Vec<Withheld<R>>,
}

/// Which changes may be made at all: a function from plan to plan, chosen by the administrator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Open and close.
    #[default]
    Sync,
    /// Open, never close.
    OpenOnly,
    /// Change nothing, report what would change.
    Observe,
}

/// How much may close at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A plan that closes more than this share of the open memberships, in percent, is held…
    pub mass_close_percent: usize,
    /// …if it closes at least this many.
    pub mass_close_least: usize,
    /// Whether a held plan may go ahead.
    pub mass_close_released: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { mass_close_percent: 50, mass_close_least: 10, mass_close_released: false }
    }
}

impl Limits {
    /// Whether so much of what is open is too much to close at once.
    #[must_use]
    pub const fn is_mass_close(&self, open: usize, closing: usize) -> bool {
        closing >= self.mass_close_least && closing * 100 > open * self.mass_close_percent
    }
}

/// All that a plan is made of.
#[derive(Clone, Copy, Debug)]
pub struct PlanInput<'a, R: Resource> {
    /// The resources as they should be
    pub desired: &'a ResourceSet<R>,
    /// The resources as they are
    pub observed: &'a ResourceSet<R>,
    /// Whether what is absent from `desired` is known to be unwanted
    pub completeness: &'a Completeness,
    /// What the administrator allows
    pub policy: Policy,
    /// How much may close at once
    pub limits: Limits,
    /// What failed to open, or to close, and must not be tried again yet
    pub backoff: &'a BTreeSet<(R::Key, Effect)>,
}

/// Ports that are open at an instance.
pub type OpenPort = (InstanceId, Protocol, PortRange);

/// All that is open in `world`, and what of it is not in `then`.
#[must_use]
pub fn find_closings<R: Resource>(
    world: &ResourceSet<R>,
    then: &ResourceSet<R>,
) -> (usize, BTreeSet<OpenPort>) {
    let mut instances = BTreeSet::new();
    for resource in world.values() {
        instances.extend(resource.instances(world));
    }
    let (mut open, mut closing) = (0, BTreeSet::new());
    for instance in instances {
        let ports = |world: &ResourceSet<R>| -> BTreeSet<_> {
            world.reach(&instance).rules.iter().map(|rule| (rule.protocol, rule.ports)).collect()
        };
        let (now, later) = (ports(world), ports(then));
        open += now.len();
        let stays = |(protocol, range): &(Protocol, PortRange)| {
            later.iter().any(|(other, ports)| other == protocol && ports.covers(*range))
        };
        let gone = now.into_iter().filter(|ports| !stays(ports));
        closing.extend(gone.map(|(protocol, ports)| (instance.clone(), protocol, ports)));
    }
    (open, closing)
}
