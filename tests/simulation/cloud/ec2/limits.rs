//! EC2's limits on calls: a token bucket for each action, as "Request throttling for the Amazon EC2 API" in the
//! EC2 Developer Guide has them.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use tokio::time::Instant;

use super::Ec2;
use crate::fake_ec2::{Failure, Params};

/// The calls that a bucket allows at once, and the calls per second that it allows beside them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) burst: f64,
    pub(crate) per_second: f64,
}

impl Rate {
    const fn new(burst: f64, per_second: f64) -> Self {
        Self { burst, per_second }
    }

    /// Returns the limit of an action; describing without filter and page has one of its own.
    pub(crate) fn of(action: &str, is_unfiltered: bool) -> Self {
        match action {
            _ if action.starts_with("Describe") && is_unfiltered => Self::new(50.0, 10.0),
            _ if action.starts_with("Describe") => Self::new(100.0, 20.0),
            "ModifyNetworkInterfaceAttribute" => Self::new(100.0, 5.0),
            _ => Self::new(50.0, 5.0),
        }
    }

    /// Returns the seconds that so many calls take at least for who may use this part of the limit.
    pub(crate) fn bound(self, calls: usize, share: f64) -> f64 {
        let calls = f64::from(u32::try_from(calls).expect("few calls"));
        (calls - self.burst * share).max(0.0) / (self.per_second * share)
    }
}

/// The buckets of an account.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    /// For each action, the tokens that are left, and when that was so
    buckets: BTreeMap<(String, bool), (f64, Instant)>,
    /// The number of calls that were refused
    pub(crate) refused: usize,
}

impl Limits {
    /// Takes a token; false if there is none.
    fn take(&mut self, action: &str, is_unfiltered: bool, now: Instant) -> bool {
        let rate = Rate::of(action, is_unfiltered);
        let bucket = self.buckets.entry((action.to_owned(), is_unfiltered)).or_insert((rate.burst, now));
        let earned = (now - bucket.1).as_secs_f64() * rate.per_second;
        *bucket = ((bucket.0 + earned).min(rate.burst), now);
        let is_allowed = bucket.0 >= 1.0;
        if is_allowed {
            bucket.0 -= 1.0;
        } else {
            self.refused += 1;
        }
        is_allowed
    }
}

impl Ec2 {
    /// Returns the refusal of a call for which there is no token, where calls are limited.
    pub(super) fn throttle(&self, params: &Params) -> Option<Failure> {
        let mut limits = self.limits.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let is_unfiltered = !params.has("MaxResults") && params.filters().is_empty();
        let action = params.get("Action");
        let is_read = action.starts_with("Describe");
        let is_allowed = limits.take(action, is_read && is_unfiltered, Instant::now());
        (!is_allowed).then(|| Failure::new("RequestLimitExceeded", "Request limit exceeded."))
    }
}
