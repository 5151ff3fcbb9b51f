//! Every EC2 action that this crate can call, and which of them each way of working needs.
//!
//! All calls go through [`Client::call`](crate::client), which takes one of these: an action that is not in
//! this list cannot be called, so the lists here are what the policies in `iam/` must grant.

use std::fmt;

/// An action of the EC2 API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ec2Action {
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

use Ec2Action::{
    AuthorizeSecurityGroupIngress, CreateSecurityGroup, CreateTags, DeleteSecurityGroup, DescribeInstances,
    DescribeNetworkInterfaces, DescribeSecurityGroupRules, DescribeSecurityGroups, ModifyInstanceAttribute,
    ModifyNetworkInterfaceAttribute, RevokeSecurityGroupEgress, RevokeSecurityGroupIngress,
};

impl Ec2Action {
    /// All of them.
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

    /// What mode `attach` needs.
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

    /// What mode `shared` needs.
    pub const SHARED: [Self; 6] = [
        AuthorizeSecurityGroupIngress,
        CreateTags,
        DescribeInstances,
        DescribeSecurityGroupRules,
        DescribeSecurityGroups,
        RevokeSecurityGroupIngress,
    ];

    /// What mode `attach` uses of the policy that Voyager documents.
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

    /// The action's name in the API, without the service.
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

    /// The permission that allows it, as IAM policies write it.
    #[must_use]
    pub fn permission(self) -> String {
        format!("ec2:{self}")
    }
}

impl fmt::Display for Ec2Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_action_is_needed_by_some_way_of_working() {
        let needed: BTreeSet<_> =
            Ec2Action::ATTACH.into_iter().chain(Ec2Action::SHARED).chain(Ec2Action::VOYAGER).collect();
        assert_eq!(needed, BTreeSet::from(Ec2Action::ALL));
    }
}
