//! The time of day, on virtual time: a thread's own, as runs beside each other each have their own time.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

thread_local! {
    /// An instant, and the time of day then
    static SET: Cell<Option<(Instant, SystemTime)>> = const { Cell::new(None) };
}

/// Sets the clock, so many seconds after the beginning of a minute.
pub(crate) fn set(second: u64) {
    let minute = Duration::from_hours(500_000);
    SET.set(Some((Instant::now(), SystemTime::UNIX_EPOCH + minute + Duration::from_secs(second % 60))));
}

/// Returns the time of day.
pub(crate) fn now() -> SystemTime {
    let (then, time) = SET.get().expect("the clock is set before a world is made");
    time + then.elapsed()
}

/// Lets the time of day be another one, as where somebody corrects a clock.
pub(crate) fn jump(seconds: i64) {
    let by = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 { now() - by } else { now() + by };
    SET.set(Some((Instant::now(), time)));
}
