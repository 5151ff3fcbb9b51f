//! One pass of one cloud: the plan with everything it was made from, and the result of executing it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use firewall_core::{
    Compiled, Effect, FirewallProvider, GroupKey, InstanceId, Limits, Plan, Policy, ResourceSet,
};

use super::in_flight::Changing;
use super::known_cloud::{Key, KnownCloud};
use super::outcome::Membership;
use crate::desired::claims::CloudName;
use crate::desired::endings::Endings;
use crate::desired::grouping::Grouped;
use crate::desired::snapshot::Snapshot;
use crate::k8s::problem::Problem;

/// The administrator's choices for reconciling.
#[derive(Clone, Debug)]
pub struct Options {
    /// The changes that may be made at all
    pub policy: Policy,
    /// The share of the open ports that may close at once
    pub limits: Limits,
    /// Time that a mass close is held before it goes ahead
    pub mass_close_hold: Duration,
    /// Time that a membership outlives its pod
    pub linger: Duration,
    /// Time after which the cloud is read whole again; zero reads it whole in each pass
    pub resync: Duration,
    /// The clouds of this run: a node that belongs to none of them gets a problem
    pub active: BTreeSet<CloudName>,
}

impl Default for Options {
    /// Nothing lingers, a mass close is held for ever, and each pass reads the whole cloud.
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            limits: Limits::default(),
            mass_close_hold: Duration::MAX,
            linger: Duration::ZERO,
            resync: Duration::ZERO,
            active: BTreeSet::new(),
        }
    }
}

/// A plan, with the desired and observed state it was computed from.
pub struct PlannedPass<P: FirewallProvider> {
    /// The resources that the groups compile to
    pub compiled: Compiled<P::Resource>,
    /// The resources that the cloud has, in scope
    pub observed: ResourceSet<P::Resource>,
    /// The groups, with the Kubernetes objects behind them
    pub grouped: Grouped,
    /// The plan
    pub plan: Plan<P::Resource>,
    /// Positions of the steps that violate a promise and are never executed
    pub violations: BTreeSet<usize>,
    /// Everything wrong with objects of the cluster, beside what the snapshot says
    pub(super) own_problems: BTreeSet<Problem>,
    /// The snapshot that all of it follows from
    pub snapshot: Arc<Snapshot>,
    /// The instances that the pass is about; none if it is about all
    pub scope: Option<BTreeSet<InstanceId>>,
    /// What is known of the cloud; without the resources where the pass is about all
    pub(super) known: KnownCloud<P>,
    /// The changes that had failed and were not to be tried again yet
    pub(super) backoff: BTreeSet<(Key<P>, Effect)>,
    /// The resources that were being changed when the cloud was read
    pub(super) in_flight: Changing<P::Resource>,
    /// The resources that have been changed since an earlier pass, which left the change under way
    pub(super) changed_late: BTreeSet<Key<P>>,
    pub(super) linger_ends: Option<Duration>,
}

/// The result of a pass.
#[derive(Debug)]
pub struct Pass {
    /// Everything wrong with objects of the cluster, beside what the snapshot says
    pub own_problems: BTreeSet<Problem>,
    /// The next pass, if one is due although nothing changes
    pub next: Option<NextPass>,
    /// Number of steps that the cloud accepted
    pub applied: usize,
    /// Number of steps that failed, were left out, or have not ended yet
    pub not_applied: usize,
    /// The instances that the pass was about, outside of which nothing has changed; none if it was about all
    pub scope: Option<BTreeSet<InstanceId>>,
    /// The ports of every port owner on every node in scope, and whether they are open
    pub memberships: Vec<Arc<Membership>>,
    /// The cloud's objects that differ from the desired ones and stay: failed, left out or withheld
    pub differing: BTreeSet<String>,
    /// Number of withheld resources by [`WithheldReason::as_str`](firewall_core::WithheldReason::as_str)
    pub withheld: BTreeMap<&'static str, usize>,
    /// Every membership in scope that is open or lingers
    pub still_open: BTreeSet<(GroupKey, InstanceId)>,
    /// The fact that ended each membership of which a resource was left
    pub endings: Endings,
    /// The snapshot that all of it follows from
    pub snapshot: Arc<Snapshot>,
}

impl<P: FirewallProvider> PlannedPass<P> {
    /// Returns everything wrong with objects of the cluster.
    #[must_use]
    pub fn problems(&self) -> BTreeSet<Problem> {
        join_problems(&self.snapshot, &self.own_problems)
    }
}

impl Pass {
    /// Returns everything wrong with objects of the cluster.
    #[must_use]
    pub fn problems(&self) -> BTreeSet<Problem> {
        join_problems(&self.snapshot, &self.own_problems)
    }
}

fn join_problems(snapshot: &Snapshot, own: &BTreeSet<Problem>) -> BTreeSet<Problem> {
    snapshot.problems.iter().chain(own).cloned().collect()
}

/// A pass that is due although the cluster does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NextPass {
    /// Time until then
    pub after: Duration,
    /// The reason for it
    pub reason: WakeReason,
}

impl NextPass {
    /// Returns a pass that is due at once.
    #[must_use]
    pub const fn at_once(reason: WakeReason) -> Self {
        Self { after: Duration::ZERO, reason }
    }
}

/// The reason why a pass begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WakeReason {
    /// The controller has just started, and everything has been listed once.
    Started,
    /// The cluster, or the administrator's settings, changed in a way that can change the plan.
    PlanChanged,
    /// The cloud is compared with the cluster now and then although nothing changed.
    Resync,
    /// A change failed, and what does not need it is planned around it.
    ChangeFailed,
    /// A change takes long, and what does not need it is planned around it.
    ChangeSlow,
    /// A change that an earlier pass left under way has ended.
    ChangeEnded,
    /// The burst of changes that a pass was planned for has changed the plan before anything was done.
    Overtaken,
    /// A resource that failed may be tried again.
    RetryDue,
    /// A membership has outlived its pod for long enough.
    LingerEnded,
    /// A mass close has been held for long enough.
    HoldEnded,
    /// The cloud had no capacity for something, or did not list its instance.
    CapacityRecheck,
    /// The cloud could not be observed.
    ObserveRetry,
    /// The pass before was ended early, so that what is new is planned together with what is left.
    Interrupted,
}

impl WakeReason {
    /// Returns the reason as logs have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::PlanChanged => "plan-changed",
            Self::Resync => "resync",
            Self::ChangeFailed => "change-failed",
            Self::ChangeSlow => "change-slow",
            Self::ChangeEnded => "change-ended",
            Self::Overtaken => "overtaken",
            Self::RetryDue => "retry-due",
            Self::LingerEnded => "linger-ended",
            Self::HoldEnded => "hold-ended",
            Self::CapacityRecheck => "capacity-recheck",
            Self::ObserveRetry => "observe-retry",
            Self::Interrupted => "interrupted",
        }
    }
}
