//! What goes wrong between a controller and the API server.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Kind;

/// The faults of the moment.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Nothing is answered
    pub(crate) is_silent: bool,
    /// The kinds that can be neither listed nor watched, with the status code
    pub(crate) unlistable: BTreeMap<Kind, u16>,
    /// The look-up of the APIs fails
    pub(crate) is_undiscoverable: bool,
    /// Kinds whose definition is not installed
    pub(crate) absent: BTreeSet<Kind>,
    /// Watches are told of each change so much later
    pub(crate) lag: Duration,
    /// The number of times that all watches of a kind have been broken
    pub(super) breaks: BTreeMap<Kind, u64>,
    /// Watches of a kind cannot begin before this version: 410
    pub(super) oldest: BTreeMap<Kind, u64>,
    /// So many of the next writes of the Lease meet a conflict
    pub(crate) lease_conflicts: u32,
    /// So many of the next writes of the Lease take effect and are not answered
    pub(crate) lost_lease_answers: u32,
    /// So much after its effect is a write of the Lease answered
    pub(crate) lease_delay: Duration,
    /// So much after its effect is a write of anything else answered
    pub(crate) write_delay: Duration,
}

impl Faults {
    /// Breaks all watches of a kind.
    pub(crate) fn break_watches(&mut self, kind: Kind) {
        *self.breaks.entry(kind).or_default() += 1;
    }

    /// Forgets the history of a kind before a version: watches break, and cannot go on from where they were.
    pub(crate) fn compact(&mut self, kind: Kind, version: u64) {
        self.oldest.insert(kind, version);
        self.break_watches(kind);
    }
}
