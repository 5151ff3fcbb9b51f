//! Client-side token buckets, one for each EC2 action, slightly below EC2's own.
//!
//! EC2 throttles per account, Region and action; a client that is throttled slows everything else in the
//! account down too. Source: "Request throttling for the Amazon EC2 API", Amazon EC2 Developer Guide.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use crate::api_calls::ApiCall;

/// One of EC2's token buckets: calls at once, and calls per second from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    burst: u32,
    per_second: u32,
}

/// The share of EC2's buckets that we use: nine tenths. The rest is for people at the console.
const SHARE_PERCENT: u32 = 90;

/// Returns EC2's bucket for a call.
const fn bucket_of(call: ApiCall) -> Bucket {
    match call {
        // Filtered or paginated non-mutating actions. Ours are both, always.
        ApiCall::DescribeInstances
        | ApiCall::DescribeNetworkInterfaces
        | ApiCall::DescribeSecurityGroupRules
        | ApiCall::DescribeSecurityGroups => Bucket { burst: 100, per_second: 20 },
        ApiCall::ModifyNetworkInterfaceAttribute => Bucket { burst: 100, per_second: 5 },
        ApiCall::CreateTags => Bucket { burst: 100, per_second: 10 },
        ApiCall::AuthorizeSecurityGroupIngress
        | ApiCall::CreateSecurityGroup
        | ApiCall::DeleteSecurityGroup
        | ApiCall::ModifyInstanceAttribute
        | ApiCall::RevokeSecurityGroupEgress
        | ApiCall::RevokeSecurityGroupIngress => Bucket { burst: 50, per_second: 5 },
    }
}

impl Bucket {
    /// Returns our number of calls at once: 90 % of 50 is 45, of 100 is 90.
    const fn our_burst(self) -> u32 {
        self.burst * SHARE_PERCENT / 100
    }

    /// Returns our time between calls after the burst: 90 % of 5 per second is one every 222 ms, of 20 every
    /// 55 ms.
    fn our_interval(self) -> Duration {
        Duration::from_secs(1) * 100 / (self.per_second * SHARE_PERCENT)
    }
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>;

/// The token buckets of one account and Region.
#[derive(Debug)]
pub(crate) struct RateLimits {
    limiters: BTreeMap<ApiCall, Limiter>,
    clock: TokioClock,
}

impl RateLimits {
    /// Returns full buckets.
    pub(crate) fn new() -> Self {
        let clock = TokioClock(Instant::now());
        let limiter = |call| {
            let bucket = bucket_of(call);
            let burst = NonZeroU32::new(bucket.our_burst()).expect("no bucket is smaller than two");
            let quota = Quota::with_period(bucket.our_interval()).expect("no interval is zero");
            RateLimiter::direct_with_clock(quota.allow_burst(burst), clock)
        };
        let limiters = ApiCall::ALL.into_iter().map(|call| (call, limiter(call))).collect();
        Self { limiters, clock }
    }

    /// Waits until the call may be made.
    pub(crate) async fn wait(&self, call: ApiCall) {
        let Some(limiter) = self.limiters.get(&call) else { return };
        while let Err(not_yet) = limiter.check() {
            tokio::time::sleep(not_yet.wait_time_from(self.clock.now())).await;
        }
    }
}

/// Returns the time that a call takes `times` times, if its bucket is full now.
pub(crate) fn expected_duration(call: ApiCall, times: u32) -> Duration {
    let bucket = bucket_of(call);
    bucket.our_interval() * times.saturating_sub(bucket.our_burst())
}

/// Tokio's clock, so that tests on virtual time wait in virtual time.
#[derive(Clone, Copy, Debug)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn burst_passes_at_once_and_the_rest_below_ec2s_rate() {
        let limits = RateLimits::new();
        let start = Instant::now();
        for _ in 0..45 {
            limits.wait(ApiCall::AuthorizeSecurityGroupIngress).await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..9 {
            limits.wait(ApiCall::AuthorizeSecurityGroupIngress).await;
        }
        let waited = start.elapsed();
        assert!(waited >= Duration::from_millis(1990) && waited < Duration::from_millis(2100), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn calls_of_different_actions_do_not_share_a_bucket() {
        let limits = RateLimits::new();
        for _ in 0..45 {
            limits.wait(ApiCall::CreateSecurityGroup).await;
        }
        let start = Instant::now();
        limits.wait(ApiCall::DeleteSecurityGroup).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[test]
    fn attaching_five_thousand_nodes_takes_over_17_minutes() {
        let time = expected_duration(ApiCall::ModifyNetworkInterfaceAttribute, 5000);
        assert!((17..20).contains(&(time.as_secs() / 60)), "{time:?}");
        assert_eq!(expected_duration(ApiCall::ModifyNetworkInterfaceAttribute, 90), Duration::ZERO);
    }
}
