//! Counts of the objects with a problem, as the metric reports them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use prometheus_client::encoding::EncodeLabelSet;

use crate::k8s::objects::ObjectRef;
use crate::k8s::problem::Problem;

/// The labels of the metric of problems.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct ProblemLabels {
    pub(super) verdict: String,
    pub(super) reason: String,
    /// The kind of the object
    pub(super) kind: String,
}

/// The numbers of objects that have a problem now.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProblemCounts {
    /// Increases with every report: of two counts, the one with the higher revision is the newer
    pub(super) revision: u64,
    /// An object with several problems of the same labels counts once
    pub(super) objects: BTreeMap<ProblemLabels, usize>,
}

impl ProblemCounts {
    /// Counts the objects of these problems.
    pub(super) fn new<'a>(revision: u64, problems: impl IntoIterator<Item = &'a Problem>) -> Self {
        let mut objects: BTreeMap<ProblemLabels, BTreeSet<&ObjectRef>> = BTreeMap::new();
        for problem in problems {
            let labels = ProblemLabels {
                verdict: problem.verdict.to_string(),
                reason: problem.reason.clone(),
                kind: problem.object.kind.to_string(),
            };
            objects.entry(labels).or_default().insert(&problem.object);
        }
        let objects = objects.into_iter().map(|(labels, objects)| (labels, objects.len())).collect();
        Self { revision, objects }
    }
}
