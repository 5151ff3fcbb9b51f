//! The change log: what differs between the snapshots of a series, so that nobody has to compare them.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::intents::exposures::PartKey;

/// Most parts that are remembered. Who is further behind looks at everything.
const MOST_PARTS: usize = 4096;

/// What differs between two snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SnapshotChanges {
    /// The parts of the demand whose exposures differ
    pub parts: BTreeSet<PartKey>,
    /// The nodes with another machine, with none, or with one now
    pub nodes: BTreeSet<String>,
}

impl SnapshotChanges {
    fn count(&self) -> usize {
        self.parts.len() + self.nodes.len()
    }
}

/// The changes of the last snapshots, the oldest first. A copy shares them.
#[derive(Clone, Debug, Default)]
pub(super) struct ChangeLog {
    entries: VecDeque<Arc<Entry>>,
    count: usize,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    changes: SnapshotChanges,
}

impl ChangeLog {
    /// Records what the snapshot of this number changes; `None` is that anything may differ.
    pub(super) fn record(&mut self, number: u64, changes: Option<SnapshotChanges>) {
        let Some(changes) = changes else { return *self = Self::default() };
        self.count += changes.count() + 1;
        self.entries.push_back(Arc::new(Entry { number, changes }));
        while self.count > MOST_PARTS {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.count -= oldest.changes.count() + 1;
        }
    }

    /// Returns the changes since the snapshot of this number; `None` if that is forgotten.
    pub(super) fn since(&self, number: u64, now: u64) -> Option<SnapshotChanges> {
        let mut since = SnapshotChanges::default();
        if number == now {
            return Some(since);
        }
        let first = self.entries.iter().position(|entry| entry.number == number + 1)?;
        for entry in self.entries.range(first..) {
            since.parts.extend(entry.changes.parts.iter().cloned());
            since.nodes.extend(entry.changes.nodes.iter().cloned());
        }
        Some(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(parts: impl IntoIterator<Item = usize>) -> SnapshotChanges {
        let part = |number| PartKey::Pod((String::new(), format!("p{number}")));
        let parts = parts.into_iter().map(part).collect();
        SnapshotChanges { parts, nodes: BTreeSet::new() }
    }

    #[test]
    fn changes_since_a_snapshot_are_those_of_all_after_it() {
        let mut log = ChangeLog::default();
        for number in 1..=3 {
            log.record(number, Some(changes([usize::try_from(number).expect("a few")])));
        }
        assert_eq!(log.since(3, 3), Some(changes([])));
        assert_eq!(log.since(1, 3), Some(changes([2, 3])));
        assert_eq!(log.since(0, 3), Some(changes([1, 2, 3])));
        log.record(4, None);
        assert_eq!(log.since(3, 4), None, "anything may differ");
        assert_eq!(log.since(4, 4), Some(changes([])));
    }

    #[test]
    fn log_forgets_the_oldest() {
        let mut log = ChangeLog::default();
        log.record(1, Some(changes([1])));
        log.record(2, Some(changes(0..MOST_PARTS - 2)));
        assert_eq!(log.since(0, 2), None);
        assert!(log.since(1, 2).is_some());
    }
}
