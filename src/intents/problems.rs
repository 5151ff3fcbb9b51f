//! The problems of all intents, of which a namespace has a bounded number: a few hundred objects of a tenant
//! that do not fit together make a problem for each pair.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rpds::RedBlackTreeMapSync;

use super::request::reject;
use crate::k8s::index::Index;
use crate::k8s::objects::ObjectRef;
use crate::k8s::problem::Problem;
use crate::k8s::reasons;

/// The most problems of a namespace, beside the first that each object has of its own or as an intent.
const MOST_PROBLEMS: usize = 100;

/// The problems that were found together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reports(Vec<Report>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Report {
    problem: Arc<Problem>,
    /// True if the object gets the first of such problems, however many its namespace has: the conditions of
    /// an intent come from its problems
    is_own: bool,
}

impl Reports {
    /// Reports a problem on its own object, and on the others that it affects.
    pub(super) fn report(&mut self, problem: &Problem, others: &[&ObjectRef]) {
        self.report_shared(&Arc::new(problem.clone()));
        for other in others.iter().filter(|other| ***other != problem.object) {
            // Of the pods of an intent there can be thousands.
            self.0.push(Report { problem: Arc::new(problem.to(other)), is_own: other.kind != "Pod" });
        }
    }

    /// Reports a problem, which may be reported elsewhere too, on its own object.
    pub(super) fn report_shared(&mut self, problem: &Arc<Problem>) {
        self.0.push(Report { problem: Arc::clone(problem), is_own: true });
    }

    /// Reports problems, each on its own object.
    pub(super) fn extend(&mut self, problems: impl IntoIterator<Item = Problem>) {
        for problem in problems {
            self.report(&problem, &[]);
        }
    }

    /// Adds the reports of another.
    pub(super) fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Returns true if nothing is reported.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The problems of the cluster, each once, of each namespace a bounded number. A copy shares those of the
/// namespaces in which nothing changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClusterProblems(RedBlackTreeMapSync<String, Arc<BTreeSet<Problem>>>);

impl ClusterProblems {
    /// Returns all problems.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.values().flat_map(|problems| problems.iter())
    }

    /// Returns the problems of the objects of a namespace.
    pub(crate) fn of_namespace(&self, namespace: &str) -> impl Iterator<Item = &Problem> {
        self.0.get(namespace).into_iter().flat_map(|problems| problems.iter())
    }
}

/// Everything that is reported, by the namespace of its object, and what is kept of it.
#[derive(Default)]
pub(super) struct Problems {
    reported: BTreeMap<String, BTreeMap<Arc<Problem>, Count>>,
    /// The namespaces whose kept problems are outdated
    outdated: BTreeSet<String>,
    kept: ClusterProblems,
}

/// How often a problem is reported.
#[derive(Default)]
struct Count {
    all: usize,
    own: usize,
}

impl Problems {
    /// Adds what is reported now.
    pub(super) fn add(&mut self, reports: &Reports) {
        for Report { problem, is_own } in &reports.0 {
            let namespace = self.reported.entry(problem.object.namespace.clone()).or_default();
            let count = namespace.entry(Arc::clone(problem)).or_default();
            let is_new = count.all == 0 || *is_own && count.own == 0;
            count.all += 1;
            count.own += usize::from(*is_own);
            if is_new {
                self.outdated.insert(problem.object.namespace.clone());
            }
        }
    }

    /// Removes what was reported before.
    pub(super) fn remove(&mut self, reports: &Reports) {
        for Report { problem, is_own } in &reports.0 {
            let Some(namespace) = self.reported.get_mut(&problem.object.namespace) else { continue };
            let Some(count) = namespace.get_mut(problem) else { continue };
            count.all = count.all.saturating_sub(1);
            count.own = count.own.saturating_sub(usize::from(*is_own));
            if count.all == 0 || *is_own && count.own == 0 {
                self.outdated.insert(problem.object.namespace.clone());
            }
            if count.all == 0 {
                namespace.remove(problem);
            }
        }
    }

    /// Records that a namespace itself changed, which its problems name. Returns true if it has any.
    pub(super) fn namespace_changed(&mut self, namespace: &str) -> bool {
        self.reported.contains_key(namespace) && self.outdated.insert(namespace.to_owned())
    }

    /// Returns what is kept. Where some are left out, the namespace has one problem that says so.
    pub(super) fn settle(&mut self, index: &Index) -> &ClusterProblems {
        for name in std::mem::take(&mut self.outdated) {
            let kept = self.reported.get(&name).map(|reported| keep(&name, reported, index));
            if let Some(kept) = kept.filter(|kept| !kept.is_empty()) {
                self.kept.0.insert_mut(name, Arc::new(kept));
                continue;
            }
            // Removing what is not there would copy part of the map.
            if self.kept.0.contains_key(&name) {
                self.kept.0.remove_mut(&name);
            }
            self.reported.remove(&name);
        }
        &self.kept
    }
}

/// Returns what is kept of the problems of a namespace, which are in order of their objects.
fn keep(namespace: &str, reported: &BTreeMap<Arc<Problem>, Count>, index: &Index) -> BTreeSet<Problem> {
    // Nodes and namespaces are the administrator's.
    if namespace.is_empty() {
        return reported.keys().map(|problem| (**problem).clone()).collect();
    }
    let mut kept = BTreeSet::new();
    let (mut last_object, mut beside, mut left_out) = (None, 0, 0_usize);
    for (problem, count) in reported {
        if count.own > 0 && last_object != Some(&problem.object) {
            last_object = Some(&problem.object);
        } else if beside < MOST_PROBLEMS {
            beside += 1;
        } else {
            left_out += 1;
            continue;
        }
        kept.insert((**problem).clone());
    }
    // A power of two: each text is an Event, and the exact number changes with every pod.
    if let Some(power) = left_out.checked_ilog2() {
        let metadata = index.namespace(namespace).map(|namespace| &namespace.metadata);
        let object = ObjectRef {
            api_version: "v1".into(),
            kind: "Namespace".into(),
            namespace: String::new(),
            uid: metadata.and_then(|metadata| metadata.uid.clone()).unwrap_or_default(),
            name: namespace.to_owned(),
        };
        let message = format!(
            "its pods and intents have more than {MOST_PROBLEMS} problems; at least {} more are not \
             reported until others are mended",
            1_u64 << power
        );
        kept.insert(*reject(&object, reasons::MORE_PROBLEMS, message));
    }
    kept
}
