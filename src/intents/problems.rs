//! The problems of all intents, of which a namespace has a bounded number: a few hundred objects of a tenant
//! that do not fit together make a problem for each pair.

use std::collections::{BTreeMap, BTreeSet};

use super::request::reject;
use crate::k8s::index::Index;
use crate::k8s::objects::ObjectRef;
use crate::k8s::problem::Problem;
use crate::k8s::reasons;

/// The most problems of a namespace, beside the first that each object has of its own or as an intent.
const MOST_PROBLEMS: usize = 100;

/// Problems, each once, and for each namespace the number of those that are left out.
#[derive(Default)]
pub(super) struct Problems {
    kept: BTreeSet<Problem>,
    namespaces: BTreeMap<String, NamespaceProblems>,
}

#[derive(Default)]
struct NamespaceProblems {
    objects: BTreeSet<ObjectRef>,
    /// Those beside the first of each object
    kept: usize,
    left_out: usize,
}

impl Problems {
    /// Adds a problem to its own object, and to the others that it affects.
    pub(super) fn report(&mut self, problem: &Problem, others: &[&ObjectRef]) {
        self.add(&problem.object, true, || problem.clone());
        for other in others.iter().filter(|other| ***other != problem.object) {
            // The conditions of an intent come from its problems. Of its pods there can be thousands.
            self.add(other, other.kind != "Pod", || problem.to(other));
        }
    }

    /// Adds problems, each to its own object.
    pub(super) fn extend(&mut self, problems: impl IntoIterator<Item = Problem>) {
        for problem in problems {
            self.report(&problem, &[]);
        }
    }

    /// Adds a problem of the object, if it is to have its first, or its namespace has room. It is not built
    /// otherwise.
    fn add(&mut self, object: &ObjectRef, has_first: bool, build: impl FnOnce() -> Problem) {
        // Nodes and namespaces are the administrator's.
        if object.namespace.is_empty() {
            self.kept.insert(build());
            return;
        }
        if !self.namespaces.contains_key(&object.namespace) {
            self.namespaces.insert(object.namespace.clone(), NamespaceProblems::default());
        }
        let Some(namespace) = self.namespaces.get_mut(&object.namespace) else { return };
        if has_first && !namespace.objects.contains(object) {
            namespace.objects.insert(object.clone());
            self.kept.insert(build());
        } else if namespace.kept < MOST_PROBLEMS {
            namespace.kept += usize::from(self.kept.insert(build()));
        } else {
            namespace.left_out += 1;
        }
    }

    /// Returns all problems that are kept. Where some are left out, the namespace has one that says so.
    pub(super) fn into_set(self, index: &Index) -> BTreeSet<Problem> {
        let Self { mut kept, namespaces } = self;
        for (name, problems) in namespaces {
            // A power of two: each text is an Event, and the exact number changes with every pod.
            let Some(power) = problems.left_out.checked_ilog2() else { continue };
            let metadata = index.namespace(&name).map(|namespace| &namespace.metadata);
            let object = ObjectRef {
                api_version: "v1".into(),
                kind: "Namespace".into(),
                namespace: String::new(),
                uid: metadata.and_then(|metadata| metadata.uid.clone()).unwrap_or_default(),
                name,
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
}
