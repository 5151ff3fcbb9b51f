//! Backoff: per key, growing, with jitter.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use firewall_core::ProviderError;
use tokio::time::Instant;

/// Holds the keys that failed, each with the time at which it may be tried again.
#[derive(Debug)]
pub struct Backoff<K> {
    failing: BTreeMap<K, (ExponentialBackoff, Instant)>,
}

impl<K: Ord + Clone> Default for Backoff<K> {
    fn default() -> Self {
        Self { failing: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Backoff<K> {
    /// It failed: wait longer than last time, within what the error allows.
    pub fn failed(&mut self, key: K, error: &ProviderError, now: Instant) {
        let (shortest, longest) = error.kind.retry().delays();
        let delays = self.failing.remove(&key).map_or_else(
            || {
                ExponentialBuilder::default()
                    .with_min_delay(shortest)
                    .with_max_delay(longest)
                    .with_jitter()
                    .without_max_times()
                    .build()
            },
            |(delays, _)| delays,
        );
        let mut delays = delays;
        let delay = delays.next().unwrap_or(longest);
        self.failing.insert(key, (delays, now + delay));
    }

    /// It worked.
    pub fn worked(&mut self, key: &K) {
        self.failing.remove(key);
    }

    /// Returns the keys that must not be tried at `now`.
    #[must_use]
    pub fn waiting(&self, now: Instant) -> BTreeSet<K> {
        self.failing.iter().filter(|(_, (_, until))| *until > now).map(|(key, _)| key.clone()).collect()
    }

    /// Returns true if nothing that failed is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.failing.is_empty()
    }

    /// Returns true if the key failed, and nobody has forgotten it.
    #[must_use]
    pub fn has(&self, key: &K) -> bool {
        self.failing.contains_key(key)
    }

    /// Returns the time until the first key may be tried again that could not be at `planned`.
    #[must_use]
    pub fn next(&self, planned: Instant, now: Instant) -> Option<Duration> {
        let waiting = self.failing.values().map(|(_, until)| *until).filter(|until| *until > planned);
        waiting.map(|until| until.saturating_duration_since(now)).min()
    }

    /// Forgets what nobody asks about any more.
    pub fn retain(&mut self, mut known: impl FnMut(&K) -> bool) {
        self.failing.retain(|key, _| known(key));
    }
}

#[cfg(test)]
mod tests {
    use firewall_core::ErrorKind;

    use super::*;

    fn error() -> ProviderError {
        ProviderError::new(ErrorKind::Unavailable, "x", "x", "x")
    }

    #[tokio::test(start_paused = true)]
    async fn repeated_failure_waits_longer_and_success_resets_it() {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        backoff.failed("a", &error(), now);
        let first = backoff.next(now, now).unwrap();
        backoff.failed("a", &error(), now);
        backoff.failed("a", &error(), now);
        assert!(backoff.next(now, now).unwrap() > first);
        assert_eq!(backoff.waiting(now), BTreeSet::from(["a"]));
        backoff.worked(&"a");
        assert_eq!(backoff.waiting(now), BTreeSet::new());
    }
}
