//! Progress: the number of objects that have been read of each kind.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::k8s::index::Watch;

/// The objects that lists have read so far, shared by the watches and who waits for them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Arc<Mutex<BTreeMap<Watch, Count>>>);

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    /// By the present list
    present: usize,
    /// By the one that came furthest: a list that begins anew is no progress before it comes further
    most: usize,
}

impl Progress {
    /// Records that a list begins.
    pub(in crate::k8s) fn begin(&self, watch: &Watch) {
        self.update(watch, |count| count.present = 0);
    }

    /// Records that it has read more objects.
    pub(in crate::k8s) fn add(&self, watch: &Watch, objects: usize) {
        self.update(watch, |count| {
            count.present += objects;
            count.most = count.most.max(count.present);
        });
    }

    /// Returns a number that grows with every progress.
    pub(crate) fn total(&self) -> usize {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.values().map(|count| count.most).sum()
    }

    fn update(&self, watch: &Watch, change: impl FnOnce(&mut Count)) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(counts.entry(watch.clone()).or_default());
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kinds: Vec<String> =
            counts.iter().map(|(watch, count)| format!("{} {watch}", count.most)).collect();
        f.write_str(&kinds.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_that_begins_anew_is_no_progress() {
        let progress = Progress::default();
        progress.begin(&Watch::Pods);
        progress.add(&Watch::Pods, 500);
        progress.add(&Watch::Nodes, 3);
        assert_eq!((progress.total(), progress.to_string().as_str()), (503, "500 pods, 3 nodes"));
        progress.begin(&Watch::Pods);
        progress.add(&Watch::Pods, 400);
        assert_eq!(progress.total(), 503);
        progress.add(&Watch::Pods, 200);
        assert_eq!(progress.total(), 603);
    }
}
