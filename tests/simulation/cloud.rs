//! Model clouds.

pub(crate) mod ec2;
pub(crate) mod faults;
pub(crate) mod gce;
pub(crate) mod memory;

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard};

use firewall_core::Fence;
use hostport_firewall::reconcile::cloud::CloudReconciler;
use hostport_firewall::reconcile::pass::Options;

use crate::checker::Cause;
use crate::landscape::{MACHINES, Probes};
use crate::mutants::Mutant;
use crate::process::Process;
use faults::Faults;

/// The name of the cluster in the cloud.
pub(crate) const CLUSTER: &str = "ours";

/// The size of a model cloud, and of its answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) machines: usize,
    /// The most destination ranges of one of our rules of Compute Engine
    pub(crate) ranges_per_rule: usize,
    /// A page holds as many objects as are asked for, and not two
    pub(crate) has_full_pages: bool,
}

impl Size {
    /// So small that pages follow each other, and rules are split, in short histories too.
    pub(crate) const SMALL: Self = Self { machines: MACHINES, ranges_per_rule: 2, has_full_pages: false };

    /// Returns so many machines in a cloud of the size that clouds have.
    pub(crate) const fn real(machines: usize) -> Self {
        Self { machines, ranges_per_rule: 250, has_full_pages: true }
    }
}

/// A change that somebody else makes to what is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tampering {
    RuleAdded,
    RuleRemoved,
    /// A machine is a member no more: a group is detached, an address or a tag is removed
    MemberRemoved,
}

/// A cloud, with the provider that the controller has for it.
pub(crate) trait ModelCloud {
    /// Tells this observer of everything from now on.
    fn observe_with(&self, observer: SharedObserver);

    /// Returns the controller's part for this cloud, for one process.
    fn reconciler(
        &self,
        process: &Process,
        cluster: &str,
        options: Options,
        fence: &Fence,
        mutant: Option<Mutant>,
    ) -> Box<dyn CloudReconciler>;

    /// Returns the faults of the moment.
    fn faults(&self) -> MutexGuard<'_, Faults>;

    /// Lets so many reads miss what has just changed.
    fn begin_stale_reads(&self, reads: u32);

    /// Lets somebody else change what is ours, at a machine if that is where it is.
    fn tamper(&self, machine: usize, how: Tampering);

    /// Lets a machine come back under its name with another address; false if machines have none here.
    fn replace_machine(&self, machine: usize) -> bool;

    /// Returns everything of this cluster as text, without what the cloud assigns.
    fn resources(&self) -> Vec<String>;

    /// Returns the providerID of a machine.
    fn provider_id(&self, machine: usize) -> String;
}

/// Hears of everything that happens in a model cloud.
pub(crate) trait Observer: Send + Sync {
    /// A method of a real cloud's API is called; polls of an operation are not told.
    fn called(&self, method: &str, changes: bool);

    /// A process has sent a call that changes something.
    fn sent(&self, process: &Process, call: &str);

    /// A call has ended, by its effect.
    fn ended(&self, process: &Process, call: &str, outcome: &str);

    /// The cloud has been read.
    fn has_read(&self, process: &Process);

    /// The cloud has changed.
    fn changed(&self, view: &dyn Fn() -> View, cause: Cause);
}

/// Everything that the checker sees of a cloud.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// What each machine lets in because of this cluster, by the providerID
    pub(crate) admits: BTreeMap<String, Probes>,
    /// Everything of others, as text
    pub(crate) foreign: Vec<String>,
}

/// An observer that can be shared.
pub(crate) type SharedObserver = Arc<dyn Observer>;
