//! Client-side token buckets, one for each EC2 action, just under EC2's own.
//!
//! EC2 throttles per account, Region and action; whoever runs into it slows everything else in the account
//! down too. Source: "Request throttling for the Amazon EC2 API", Amazon EC2 Developer Guide.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use crate::action::Ec2Action;

/// A bucket of EC2's: how many calls at once, and how many per second from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    burst: u32,
    per_second: u32,
}

/// Nine tenths of EC2's own buckets are ours; the rest is for people at the console.
const SHARE_PERCENT: u32 = 90;

/// EC2's bucket for an action.
const fn bucket(action: Ec2Action) -> Bucket {
    match action {
        // Filtered or paginated non-mutating actions. Ours are both, always.
        Ec2Action::DescribeInstances
        | Ec2Action::DescribeNetworkInterfaces
        | Ec2Action::DescribeSecurityGroupRules
        | Ec2Action::DescribeSecurityGroups => Bucket { burst: 100, per_second: 20 },
        Ec2Action::ModifyNetworkInterfaceAttribute => Bucket { burst: 100, per_second: 5 },
        Ec2Action::CreateTags => Bucket { burst: 100, per_second: 10 },
        Ec2Action::AuthorizeSecurityGroupIngress
        | Ec2Action::CreateSecurityGroup
        | Ec2Action::DeleteSecurityGroup
        | Ec2Action::ModifyInstanceAttribute
        | Ec2Action::RevokeSecurityGroupEgress
        | Ec2Action::RevokeSecurityGroupIngress => Bucket { burst: 50, per_second: 5 },
    }
}

impl Bucket {
    /// Calls at once: 90 % of 50 is 45, of 100 is 90.
    const fn our_burst(self) -> u32 {
        self.burst * SHARE_PERCENT / 100
    }

    /// Time between calls once the burst is spent: 90 % of 5 per second is one every 222 ms, of 20 every 55 ms.
    fn our_interval(self) -> Duration {
        Duration::from_secs(1) * 100 / (self.per_second * SHARE_PERCENT)
    }
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>;

/// The buckets of one account and Region.
#[derive(Debug)]
pub(crate) struct Pace {
    limiters: BTreeMap<Ec2Action, Limiter>,
    clock: TokioClock,
}

impl Pace {
    pub(crate) fn new() -> Self {
        let clock = TokioClock(Instant::now());
        let limiter = |action| {
            let bucket = bucket(action);
            let burst = NonZeroU32::new(bucket.our_burst()).expect("no bucket is smaller than two");
            let quota = Quota::with_period(bucket.our_interval()).expect("no interval is zero");
            RateLimiter::direct_with_clock(quota.allow_burst(burst), clock)
        };
        let limiters = Ec2Action::ALL.into_iter().map(|action| (action, limiter(action))).collect();
        Self { limiters, clock }
    }

    /// Waits until the action may be called.
    pub(crate) async fn wait(&self, action: Ec2Action) {
        let Some(limiter) = self.limiters.get(&action) else { return };
        while let Err(not_yet) = limiter.check() {
            tokio::time::sleep(not_yet.wait_time_from(self.clock.now())).await;
        }
    }
}

/// How long `calls` calls of the action take, if the bucket is full now.
pub(crate) fn expected(action: Ec2Action, calls: u32) -> Duration {
    let bucket = bucket(action);
    bucket.our_interval() * calls.saturating_sub(bucket.our_burst())
}

/// Tokio's clock, so that tests on virtual time see virtual waiting.
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
    async fn a_burst_goes_at_once_and_the_rest_just_under_ec2s_rate() {
        let pace = Pace::new();
        let start = Instant::now();
        for _ in 0..45 {
            pace.wait(Ec2Action::AuthorizeSecurityGroupIngress).await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..9 {
            pace.wait(Ec2Action::AuthorizeSecurityGroupIngress).await;
        }
        let waited = start.elapsed();
        assert!(waited >= Duration::from_millis(1990) && waited < Duration::from_millis(2100), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn actions_do_not_wait_for_each_other() {
        let pace = Pace::new();
        for _ in 0..45 {
            pace.wait(Ec2Action::CreateSecurityGroup).await;
        }
        let start = Instant::now();
        pace.wait(Ec2Action::DeleteSecurityGroup).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[test]
    fn attaching_five_thousand_nodes_takes_a_good_quarter_of_an_hour() {
        let time = expected(Ec2Action::ModifyNetworkInterfaceAttribute, 5000);
        assert!((17..20).contains(&(time.as_secs() / 60)), "{time:?}");
        assert_eq!(expected(Ec2Action::ModifyNetworkInterfaceAttribute, 90), Duration::ZERO);
    }
}
