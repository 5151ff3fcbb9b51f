//! Compute Engine's limits on calls.
//!
//! Google counts the calls of a project by the minute, in quota groups of which each has 1,500, and refuses
//! the rest of the minute's. Source: "Rate quotas" in the Compute Engine documentation.

use std::time::{Duration, SystemTime};

use firewall_pacing::{RateLimit, TokenBucket};

use crate::api_calls::ApiCall;

/// The calls of one minute that a bucket allows at once, and the calls per second that it allows beside them:
/// 300 + 60 × 20 are the 1,500 of a minute.
const BURST: u32 = 300;
const PER_SECOND: u32 = 20;

/// One of Google's quota groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum QuotaGroup {
    /// Changes of global resources
    GlobalMutations,
    /// Changes of a zone's resources
    ZonalMutations,
    /// Reads of one resource
    Reads,
    /// Lists
    Lists,
    /// Lists over all zones
    AggregatedLists,
}

impl QuotaGroup {
    /// Returns the group that a call is counted in.
    pub(crate) const fn of(call: ApiCall) -> Self {
        match call {
            ApiCall::FirewallsDelete
            | ApiCall::FirewallsInsert
            | ApiCall::FirewallsPatch
            | ApiCall::FirewallsUpdate => Self::GlobalMutations,
            ApiCall::InstancesSetTags => Self::ZonalMutations,
            ApiCall::FirewallsGet | ApiCall::InstancesGet | ApiCall::NetworksGet => Self::Reads,
            ApiCall::FirewallsList | ApiCall::InstancesList => Self::Lists,
            ApiCall::InstancesAggregatedList => Self::AggregatedLists,
        }
    }
}

impl RateLimit for QuotaGroup {
    fn bucket(self, percent: u32) -> TokenBucket {
        TokenBucket::new(BURST, PER_SECOND, percent)
    }
}

/// Returns the time from `now` until the next minute begins, when used up quotas are full again.
pub(crate) fn time_to_refill(now: SystemTime) -> Duration {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Duration::from_secs(60 - now.as_secs() % 60)
}
