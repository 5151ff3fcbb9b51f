//! How long the program may take. Generous, because it is the order that counts, not the speed: but a port
//! that waits for something that is none of its business exceeds them.

/// Limits, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// A controller may act upon what has been true at some time within so long: it hears of changes, waits
    /// for the end of a burst, reads the cloud and calls it
    pub(crate) staleness: u64,
    /// What is asked for is open after this long
    pub(crate) open: u64,
    /// What has ended is closed after this long
    pub(crate) close: u64,
    /// What others have changed is repaired after this long
    pub(crate) drift: u64,
}

impl Limits {
    /// Returns the limits of a controller with this linger and resync.
    pub(crate) const fn new(linger: u64, resync: u64) -> Self {
        Self { staleness: 20_000, open: 30_000, close: linger + 30_000, drift: resync + 30_000 }
    }
}
