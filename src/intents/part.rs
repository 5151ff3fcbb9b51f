//! A part of the demand: what is found of one port owner, or of one object that is wrong by itself.

use std::collections::BTreeSet;

use super::exposure::Exposure;
use super::problems::Reports;
use super::unknown::UnknownDemand;

/// What is asked for by one part of the demand, or may be, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) exposures: Vec<Exposure>,
    pub(super) problems: Reports,
    pub(super) unknown: BTreeSet<UnknownDemand>,
}

impl Part {
    /// Returns true if there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.exposures.is_empty() && self.problems.is_empty() && self.unknown.is_empty()
    }

    /// Adds what another part holds.
    pub(super) fn append(&mut self, other: Self) {
        self.exposures.extend(other.exposures);
        self.problems.append(other.problems);
        self.unknown.extend(other.unknown);
    }
}
