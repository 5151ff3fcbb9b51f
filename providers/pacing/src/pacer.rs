//! Calls under limits.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::time::Instant;

use crate::{RETRY_TIMEOUT, Retries, Ticket, TokenBucket};

/// The retries of a call after failures of the cloud or of the network.
const MAX_RETRIES: usize = 3;

/// A limit that a cloud sets on some calls together.
pub trait RateLimit: Copy + Debug + Ord + Send {
    /// Returns the full bucket of `percent` of the limit.
    fn bucket(self, percent: u32) -> TokenBucket;
}

/// The result of an attempt that failed, as far as the next one depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The limit is used up. No call under it can succeed for so long, as far as the cloud says.
    Throttled(Option<Duration>),
    /// The cloud or the network failed: the next attempt may succeed, after so long at least.
    Transient(Duration),
    /// The next attempt would fail too.
    Final,
}

/// An error of one attempt.
pub trait Retryable: Display {
    /// Returns the part of it that decides about the next attempt.
    fn attempt(&self) -> Attempt;
}

/// The reason why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallFailure<E> {
    /// It was not sent, because the cloud has asked for a pause that lasts so much longer.
    Paused(Duration),
    /// The last attempt failed.
    Failed(E),
}

/// The token buckets of one account.
#[derive(Debug)]
pub struct Pacer<L> {
    percent: u32,
    buckets: Mutex<BTreeMap<L, TokenBucket>>,
    start: Instant,
}

impl<L: RateLimit> Pacer<L> {
    /// Returns full buckets of `percent` of the cloud's limits.
    #[must_use]
    pub fn new(percent: u32) -> Self {
        Self { percent, buckets: Mutex::default(), start: Instant::now() }
    }

    /// Makes a call: attempts it when it has its token, and again while `retries` last.
    ///
    /// # Errors
    /// The last attempt's error, or the pause for which the call was not sent.
    pub async fn call<T, E: Retryable, F: Future<Output = Result<T, E>>>(
        &self,
        limit: L,
        retries: &Retries,
        attempt: impl Fn() -> F,
    ) -> Result<T, CallFailure<E>> {
        let mut delays = failure_delays();
        let mut ticket = self.token(limit).await.map_err(CallFailure::Paused)?;
        loop {
            let error = match attempt().await {
                Ok(answer) => {
                    self.with(limit, TokenBucket::succeeded);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            let delay = match error.attempt() {
                Attempt::Throttled(pause) => {
                    self.slow_down(limit, ticket, pause);
                    Some(Duration::ZERO)
                }
                Attempt::Transient(least) => delays.next().map(|delay| delay.max(least)),
                Attempt::Final => None,
            };
            let Some(delay) = delay.and_then(|delay| retries.allow(delay)) else {
                return Err(CallFailure::Failed(error));
            };
            tracing::warn!(%error, ?delay, "a call to the cloud failed, retrying");
            tokio::time::sleep(delay).await;
            ticket = match tokio::time::timeout_at(retries.deadline(), self.token(limit)).await {
                Ok(Ok(ticket)) => ticket,
                Ok(Err(_)) | Err(_) => return Err(CallFailure::Failed(error)),
            };
        }
    }

    /// Returns the time that so many calls take, if their bucket is full now.
    pub fn expected_duration(&self, limit: L, calls: u32) -> Duration {
        limit.bucket(self.percent).time_for(calls)
    }

    /// Waits for a token, in the order in which calls ask: however long that takes, except for a pause that
    /// is longer than retries last.
    ///
    /// # Errors
    /// The pause.
    async fn token(&self, limit: L) -> Result<Ticket, Duration> {
        let ticket = self.with(limit, TokenBucket::take_ticket);
        loop {
            let (pause, wait) =
                self.with(limit, |bucket, now| (bucket.pause(now), bucket.wait_time(ticket, now)));
            if pause > RETRY_TIMEOUT {
                return Err(pause);
            }
            if wait.is_zero() {
                return Ok(ticket);
            }
            tokio::time::sleep(wait).await;
        }
    }

    fn slow_down(&self, limit: L, ticket: Ticket, pause: Option<Duration>) {
        self.with(limit, |bucket, now| {
            bucket.throttled(ticket, now);
            if let Some(pause) = pause {
                bucket.pause_until(now + pause);
            }
        });
    }

    fn with<T>(&self, limit: L, change: impl FnOnce(&mut TokenBucket, Duration) -> T) -> T {
        // No code that holds the lock can leave a bucket half changed.
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        change(buckets.entry(limit).or_insert_with(|| limit.bucket(self.percent)), self.start.elapsed())
    }
}

/// Returns the delays after failures: half a second, doubling, each with up to as much again at random.
fn failure_delays() -> impl Iterator<Item = Duration> + Send {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(500))
        .with_factor(2.0)
        .with_max_times(MAX_RETRIES)
        .with_jitter()
        .build()
}

#[cfg(test)]
mod tests;
