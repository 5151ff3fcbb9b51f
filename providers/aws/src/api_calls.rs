//! The calls of the EC2 API that this crate can make, and the ones that each mode needs.
//!
//! All calls go through [`Client::call`](crate::client), which takes one of these: a call that is not in this
//! list cannot be made, so the lists here are what the policies in `iam/` must grant.

use std::fmt;

/// A call of the EC2 API, which EC2 names an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ApiCall {
    /// Adds ingress rules to a group.
    AuthorizeSecurityGroupIngress,
    /// Creates a group.
    CreateSecurityGroup,
    /// Never called, but checked by EC2 when a group or a rule is created with tags.
    CreateTags,
    /// Deletes a group.
    DeleteSecurityGroup,
    /// Reads instances.
    DescribeInstances,
    /// Reads network interfaces.
    DescribeNetworkInterfaces,
    /// Reads the rules of groups with their ids and tags.
    DescribeSecurityGroupRules,
    /// Reads groups.
    DescribeSecurityGroups,
    /// Replaces the groups of an instance that has a single interface.
    ModifyInstanceAttribute,
    /// Replaces the groups of an interface.
    ModifyNetworkInterfaceAttribute,
    /// Removes egress rules from a group.
    RevokeSecurityGroupEgress,
    /// Removes ingress rules from a group.
    RevokeSecurityGroupIngress,
}

use ApiCall::{
    AuthorizeSecurityGroupIngress, CreateSecurityGroup, CreateTags, DeleteSecurityGroup, DescribeInstances,
    DescribeNetworkInterfaces, DescribeSecurityGroupRules, DescribeSecurityGroups, ModifyInstanceAttribute,
    ModifyNetworkInterfaceAttribute, RevokeSecurityGroupEgress, RevokeSecurityGroupIngress,
};

impl ApiCall {
    /// Every call.
    pub const ALL: [Self; 12] = [
        AuthorizeSecurityGroupIngress,
        CreateSecurityGroup,
        CreateTags,
        DeleteSecurityGroup,
        DescribeInstances,
        DescribeNetworkInterfaces,
        DescribeSecurityGroupRules,
        DescribeSecurityGroups,
        ModifyInstanceAttribute,
        ModifyNetworkInterfaceAttribute,
        RevokeSecurityGroupEgress,
        RevokeSecurityGroupIngress,
    ];

    /// The calls of mode `attach`.
    pub const ATTACH: [Self; 10] = [
        AuthorizeSecurityGroupIngress,
        CreateSecurityGroup,
        CreateTags,
        DeleteSecurityGroup,
        DescribeInstances,
        DescribeNetworkInterfaces,
        DescribeSecurityGroups,
        ModifyNetworkInterfaceAttribute,
        RevokeSecurityGroupEgress,
        RevokeSecurityGroupIngress,
    ];

    /// The calls of mode `shared`.
    pub const SHARED: [Self; 6] = [
        AuthorizeSecurityGroupIngress,
        CreateTags,
        DescribeInstances,
        DescribeSecurityGroupRules,
        DescribeSecurityGroups,
        RevokeSecurityGroupIngress,
    ];

    /// The calls of mode `attach` where only the policy that Voyager documents is granted.
    pub const VOYAGER: [Self; 8] = [
        AuthorizeSecurityGroupIngress,
        CreateSecurityGroup,
        CreateTags,
        DeleteSecurityGroup,
        DescribeInstances,
        DescribeSecurityGroups,
        ModifyInstanceAttribute,
        RevokeSecurityGroupIngress,
    ];

    /// Returns the name in the API, without the service.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            AuthorizeSecurityGroupIngress => "AuthorizeSecurityGroupIngress",
            CreateSecurityGroup => "CreateSecurityGroup",
            CreateTags => "CreateTags",
            DeleteSecurityGroup => "DeleteSecurityGroup",
            DescribeInstances => "DescribeInstances",
            DescribeNetworkInterfaces => "DescribeNetworkInterfaces",
            DescribeSecurityGroupRules => "DescribeSecurityGroupRules",
            DescribeSecurityGroups => "DescribeSecurityGroups",
            ModifyInstanceAttribute => "ModifyInstanceAttribute",
            ModifyNetworkInterfaceAttribute => "ModifyNetworkInterfaceAttribute",
            RevokeSecurityGroupEgress => "RevokeSecurityGroupEgress",
            RevokeSecurityGroupIngress => "RevokeSecurityGroupIngress",
        }
    }

    /// Returns true if the call changes something.
    #[must_use]
    pub const fn is_mutating(self) -> bool {
        !matches!(
            self,
            DescribeInstances
                | DescribeNetworkInterfaces
                | DescribeSecurityGroupRules
                | DescribeSecurityGroups
        )
    }

    /// Returns the permission that allows the call, as IAM policies write it.
    #[must_use]
    pub fn permission(self) -> String {
        format!("ec2:{self}")
    }
}

impl fmt::Display for ApiCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_call_is_needed_by_a_mode() {
        let needed: BTreeSet<_> =
            ApiCall::ATTACH.into_iter().chain(ApiCall::SHARED).chain(ApiCall::VOYAGER).collect();
        assert_eq!(needed, BTreeSet::from(ApiCall::ALL));
    }

    #[test]
    fn every_call_but_a_description_is_mutating() {
        for call in ApiCall::ALL {
            assert_eq!(call.is_mutating(), !call.name().starts_with("Describe"), "{call}");
        }
    }
}
