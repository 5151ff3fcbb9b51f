//! EC2's limits on calls.
//!
//! EC2 throttles per account, Region and action; a client that is throttled slows everything else in the
//! account down too. Source: "Request throttling for the Amazon EC2 API", Amazon EC2 Developer Guide.

use firewall_pacing::{RateLimit, TokenBucket};

use crate::api_calls::ApiCall;

/// One of EC2's token buckets. Calls that describe objects by their ids alone have another one than those
/// that filter or page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ec2Limit {
    pub(crate) call: ApiCall,
    is_by_id: bool,
}

impl Ec2Limit {
    /// Returns the limit of a call that changes something, filters or pages.
    pub(crate) const fn of(call: ApiCall) -> Self {
        Self { call, is_by_id: false }
    }

    /// Returns the limit of a call that describes objects by their ids alone.
    pub(crate) const fn of_ids(call: ApiCall) -> Self {
        Self { call, is_by_id: true }
    }

    /// Returns EC2's limit: calls at once, and calls per second from then on.
    const fn size(self) -> (u32, u32) {
        match self.call {
            ApiCall::DescribeInstances
            | ApiCall::DescribeNetworkInterfaces
            | ApiCall::DescribeSecurityGroupRules
            | ApiCall::DescribeSecurityGroups => {
                if self.is_by_id {
                    (50, 10)
                } else {
                    (100, 20)
                }
            }
            ApiCall::ModifyNetworkInterfaceAttribute => (100, 5),
            ApiCall::CreateTags => (100, 10),
            ApiCall::AuthorizeSecurityGroupIngress
            | ApiCall::CreateSecurityGroup
            | ApiCall::DeleteSecurityGroup
            | ApiCall::ModifyInstanceAttribute
            | ApiCall::RevokeSecurityGroupEgress
            | ApiCall::RevokeSecurityGroupIngress => (50, 5),
        }
    }
}

impl RateLimit for Ec2Limit {
    fn bucket(self, percent: u32) -> TokenBucket {
        let (burst, per_second) = self.size();
        TokenBucket::new(burst, per_second, percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_the_rate_attaches_five_thousand_nodes_in_33_minutes() {
        let bucket = Ec2Limit::of(ApiCall::ModifyNetworkInterfaceAttribute).bucket(50);
        assert_eq!(bucket.time_for(5000).as_secs() / 60, 33);
        assert_eq!(bucket.time_for(50).as_secs(), 0);
    }
}
