//! The fence: the right to change something, which ends by itself unless its holder moves its end forward.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use thiserror::Error;

/// The right to change something. Whoever writes asks it right before each request, so that nothing is sent
/// after the right has ended, whatever the program computed meanwhile. Clones share the same end.
#[derive(Clone, Debug)]
pub struct Fence(Option<Arc<End>>);

#[derive(Debug)]
struct End {
    epoch: Instant,
    /// Milliseconds after the epoch; 0 while closed
    open_for: AtomicU64,
}

/// The fence was closed before a request was sent, or before its answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("this replica may not write any more, because its lease may have passed to another")]
pub struct Fenced;

impl Fence {
    /// Returns a fence that is always open: for a process that nothing else competes with.
    #[must_use]
    pub const fn always_open() -> Self {
        Self(None)
    }

    /// Returns a closed fence. `now` is any moment before those at which it will be asked.
    #[must_use]
    pub fn closed(now: Instant) -> Self {
        Self(Some(Arc::new(End { epoch: now, open_for: AtomicU64::new(0) })))
    }

    /// Opens the fence until then, and not longer.
    pub fn open_until(&self, end: Instant) {
        if let Self(Some(fence)) = self {
            fence.open_for.store(millis(end.saturating_duration_since(fence.epoch)), Ordering::Release);
        }
    }

    /// Closes the fence.
    pub fn close(&self) {
        if let Self(Some(fence)) = self {
            fence.open_for.store(0, Ordering::Release);
        }
    }

    /// Returns true if something may be sent now.
    #[must_use]
    pub fn allows(&self, now: Instant) -> bool {
        self.0.as_ref().is_none_or(|fence| {
            // Without a fraction, both: a millisecond that has begun may not be used to its end.
            millis(now.saturating_duration_since(fence.epoch)) < fence.open_for.load(Ordering::Acquire)
        })
    }

    /// Makes a call that changes something. The fence is asked before each of its steps: a call that waits
    /// for credentials, for a connection or for another try of its own sends nothing any more.
    ///
    /// # Errors
    /// If the fence is closed before the call has ended. It may have taken effect.
    pub async fn guard<T>(
        &self,
        now: impl Fn() -> Instant + Send,
        call: impl Future<Output = T> + Send,
    ) -> Result<T, Fenced> {
        let mut call = pin!(call);
        poll_fn(|context| {
            if self.allows(now()) { call.as_mut().poll(context).map(Ok) } else { Poll::Ready(Err(Fenced)) }
        })
        .await
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures::executor::block_on;

    use super::*;

    #[test]
    fn fence_is_open_until_its_end() {
        let start = Instant::now();
        let second = |second| start + Duration::from_secs(second);
        let fence = Fence::closed(start);
        assert!(!fence.allows(start) && !fence.allows(second(1)), "nobody has opened it");
        fence.open_until(second(10));
        let shared = fence.clone();
        assert!(shared.allows(start) && shared.allows(second(9)) && !shared.allows(second(10)));
        fence.open_until(second(12));
        assert!(shared.allows(second(11)) && !shared.allows(second(12)));
        fence.close();
        assert!(!shared.allows(second(11)));
        assert!(Fence::always_open().allows(second(1000)));
    }

    #[test]
    fn guarded_call_ends_at_its_next_step_after_the_end() {
        let (start, steps) = (Instant::now(), Cell::new(0));
        let (fence, clock) = (Fence::closed(start), AtomicU64::new(0));
        fence.open_until(start + Duration::from_millis(2));
        let now = || start + Duration::from_millis(clock.load(Ordering::Relaxed));
        // Each step takes a millisecond.
        let call = || {
            poll_fn(|context| {
                clock.fetch_add(1, Ordering::Relaxed);
                context.waker().wake_by_ref();
                if clock.load(Ordering::Relaxed) < 4 { Poll::Pending } else { Poll::Ready(()) }
            })
        };
        assert_eq!(block_on(fence.guard(now, call())), Err(Fenced));
        assert_eq!(clock.load(Ordering::Relaxed), 2, "a step after the end");
        fence.open_until(start + Duration::from_secs(1));
        assert_eq!(block_on(fence.guard(now, call())), Ok(()));
        steps.set(clock.load(Ordering::Relaxed));
        fence.close();
        assert_eq!(block_on(fence.guard(now, call())), Err(Fenced));
        assert_eq!(clock.load(Ordering::Relaxed), steps.get(), "nothing of it has begun");
    }
}
