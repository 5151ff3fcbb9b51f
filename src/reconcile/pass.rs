//! One pass of one cloud: what it is planned from, and what it came to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use firewall_core::{
    Compiled, FirewallProvider, GroupKey, InstanceId, Limits, Plan, Policy, Resource, ResourceSet,
};
use tokio::sync::watch;

use super::outcome::Membership;
use crate::desired::claims::Provider;
use crate::desired::grouping::Grouped;
use crate::desired::snapshot::Snapshot;
use crate::intents::settings::Settings;
use crate::k8s::problem::Problem;

pub(super) type Key<P> = <<P as FirewallProvider>::Resource as Resource>::Key;

/// What the administrator decides about reconciling.
#[derive(Clone, Debug)]
pub struct Options {
    /// Defaults and guardrails for intents, as they are now
    pub settings: watch::Receiver<Settings>,
    /// What may be changed at all
    pub policy: Policy,
    /// How much may close at once
    pub limits: Limits,
    /// How long a mass close is held
    pub mass_close_hold: Duration,
    /// How long a membership outlives its pod
    pub linger: Duration,
    /// The providers of this run: a node of none of them is told so
    pub active: BTreeSet<Provider>,
}

/// What is wanted and what is there: all that a plan is made of, and what to tell about it.
pub struct PlannedPass<P: FirewallProvider> {
    /// What the groups compile to
    pub compiled: Compiled<P::Resource>,
    /// The cloud as it is
    pub observed: ResourceSet<P::Resource>,
    /// The groups, with the Kubernetes objects behind them
    pub grouped: Grouped,
    /// The plan
    pub plan: Plan<P::Resource>,
    /// Positions of the steps that the check refuses
    pub refused: BTreeSet<usize>,
    /// What somebody must know
    pub notices: BTreeSet<Problem>,
    /// What it all follows from
    pub snapshot: Arc<Snapshot>,
    pub(super) linger_ends: Option<Duration>,
}

/// What a pass came to.
#[derive(Debug)]
pub struct Pass {
    /// What somebody must know
    pub notices: BTreeSet<Problem>,
    /// When the next pass is due although nothing changes
    pub again: Option<Duration>,
    /// Steps that the cloud accepted
    pub applied: usize,
    /// Steps that failed or were left out
    pub undone: usize,
    /// Every pod's ports on every node of this cloud, and whether they are open
    pub memberships: Vec<Membership>,
    /// The cloud's objects that differ from what is wanted and stay: failed, left out or withheld
    pub unsettled: BTreeSet<String>,
    /// How many of the cloud's objects are withheld, by [`WithheldReason::word`]
    pub withheld: BTreeMap<&'static str, usize>,
    /// All that stays open on this cloud, what lingers too
    pub standing: BTreeSet<(GroupKey, InstanceId)>,
    /// What it all follows from
    pub snapshot: Arc<Snapshot>,
}
