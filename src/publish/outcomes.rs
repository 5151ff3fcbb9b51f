//! Outcomes: what the clouds have made of everything that is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::intents::exposure::Exposure;
use crate::k8s::objects::ObjectRef;
use crate::k8s::problem::Problem;
use crate::reconcile::outcome::Membership;

/// What the clouds have made of everything that is asked for.
#[derive(Clone, Debug, Default)]
pub struct Outcomes {
    /// What is wrong, and with what
    pub problems: BTreeSet<Problem>,
    /// Whether ports are open, on every node of an active cloud
    pub memberships: Vec<Membership>,
    /// All that is asked for
    pub asked: Arc<[Exposure]>,
    /// The generation of each `HostPortExposure` that this is about
    pub generations: BTreeMap<ObjectRef, i64>,
    /// The pods that declare the readiness gate and that this is about
    pub pods_with_gate: Arc<BTreeSet<ObjectRef>>,
    /// Whether there is a cloud that cannot be observed
    pub unknown: bool,
}
