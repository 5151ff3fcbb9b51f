//! As the program's, without the clouds.

mod change_log;
pub(crate) mod endings;
pub(crate) mod few;
pub(crate) mod grouping;
pub(crate) mod linger;
pub(crate) mod placement;
pub(crate) mod snapshot;
pub(crate) mod snapshots;
pub(crate) mod unknown;

/// The cloud in memory claims every machine.
pub(crate) mod claims {
    use std::collections::BTreeSet;

    pub(crate) type CloudName = &'static str;

    pub(crate) fn unclaimed(_: &str, _: &BTreeSet<CloudName>) -> Option<String> {
        None
    }
}
