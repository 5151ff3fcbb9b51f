//! What a pass knows of the cluster: one look at the index, from which everything else follows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use firewall_core::Completeness;
use tokio::time::Instant;

use crate::intents::collect::{Found, exposures};
use crate::intents::exposure::Exposure;
use crate::intents::fingerprint::{Intents, intents};
use crate::intents::port_owner::{Binding, binding};
use crate::intents::settings::Settings;
use crate::k8s::index::Index;
use crate::k8s::objects::reference::pod_reference;
use crate::k8s::objects::{ObjectRef, declares};
use crate::k8s::problem::Notice;

/// What the cluster asked for when it was looked at, on whichever cloud.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// When that was
    pub at: Option<Instant>,
    /// Ports on nodes
    pub exposures: Arc<[Exposure]>,
    /// The generation of each `HostPortExposure`
    pub generations: Arc<BTreeMap<ObjectRef, i64>>,
    /// The pods that declare the readiness gate
    pub gated: Arc<BTreeSet<ObjectRef>>,
}

/// What one look at the cluster has found.
#[derive(Debug)]
pub struct Cluster {
    /// All that is asked for
    pub asked: Asked,
    settings: Settings,
    pub(crate) problems: BTreeSet<Notice>,
    pub(crate) binding: Binding,
    pub(crate) intents: Intents,
    pub(crate) completeness: Completeness,
}

impl Cluster {
    /// Looks at the cluster. Nothing else may wait for the index longer than this takes.
    #[must_use]
    pub fn read(index: &Index, settings: &Settings) -> Self {
        let Found { exposures, problems } = exposures(index, settings);
        let generations = index
            .host_port_exposures()
            .map(|exposure| (exposure.reference(), exposure.metadata.generation.unwrap_or_default()));
        let generations: BTreeMap<_, _> = generations.collect();
        let asked = Asked {
            at: Some(Instant::now()),
            exposures: exposures.into(),
            generations: generations.into(),
            gated: gated(index).into(),
        };
        let (binding, intents, completeness) = (binding(index), intents(index), index.completeness());
        let settings = settings.clone();
        Self { asked, settings, problems, binding, intents, completeness }
    }

    /// Whether a plan, or what is said of it, can be another than before. Which pods are ready only matters to statuses,
    /// readiness gates and hostnames.
    #[must_use]
    pub fn is_news_after(&self, before: &Self) -> bool {
        self.asked.exposures != before.asked.exposures
            || self.settings != before.settings
            || self.problems != before.problems
            || self.intents != before.intents
            || self.completeness != before.completeness
            || !self.binding.binds_the_same(&before.binding)
    }
}

/// The pods that declare the gate.
#[must_use]
pub(crate) fn gated(index: &Index) -> BTreeSet<ObjectRef> {
    index.pods().filter(|pod| declares(pod)).map(pod_reference).collect()
}
