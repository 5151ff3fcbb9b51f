//! The time in which calls may be tried again.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use tokio::time::Instant;

/// The time after the first failure of a step after which none of its calls is tried again. A later pass does
/// that, and by then knows more.
pub const RETRY_TIMEOUT: Duration = Duration::from_secs(15);

/// The time for retries that some calls share: those of one step of a plan. Clones share it too.
#[derive(Clone, Debug, Default)]
pub struct Retries(Arc<OnceLock<Instant>>);

impl Retries {
    /// Returns the time after which nothing is tried again. It is fixed by the first failure.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        *self.0.get_or_init(|| Instant::now() + RETRY_TIMEOUT)
    }

    /// Returns the delay, if it ends in time.
    #[must_use]
    pub fn allow(&self, delay: Duration) -> Option<Duration> {
        (Instant::now() + delay <= self.deadline()).then_some(delay)
    }

    /// Makes more attempts, with these delays, while the result is an error that `is_pending`.
    ///
    /// # Errors
    /// The last attempt's error.
    pub async fn poll<T, E, F: Future<Output = Result<T, E>>>(
        &self,
        delays: ExponentialBuilder,
        is_pending: impl Fn(&E) -> bool,
        attempt: impl FnMut() -> F,
    ) -> Result<T, E> {
        let in_time = |_: &E, delay: Option<Duration>| self.allow(delay?);
        attempt.retry(delays).when(is_pending).adjust(in_time).await
    }
}
