//! Every method of the Compute Engine API that this crate can call, and the permissions that each mode needs.
//!
//! Every call goes through the client, which takes an [`ApiCall`]: a method that is not listed here cannot be
//! called, so the lists here are what the custom roles in `iam/` must grant.

use std::fmt;

use crate::config::Mode;

/// A method of the Compute Engine API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ApiCall {
    /// Deletes a rule.
    FirewallsDelete,
    /// Reads a rule.
    FirewallsGet,
    /// Creates a rule.
    FirewallsInsert,
    /// Reads all rules.
    FirewallsList,
    /// Changes some fields of a rule.
    FirewallsPatch,
    /// Replaces all fields of a rule.
    FirewallsUpdate,
    /// Reads all instances of a project.
    InstancesAggregatedList,
    /// Reads an instance.
    InstancesGet,
    /// Reads the instances of a zone.
    InstancesList,
    /// Replaces the tags of an instance.
    InstancesSetTags,
    /// Reads a network.
    NetworksGet,
}

use ApiCall::{
    FirewallsDelete, FirewallsGet, FirewallsInsert, FirewallsList, FirewallsPatch, FirewallsUpdate,
    InstancesAggregatedList, InstancesGet, InstancesList, InstancesSetTags, NetworksGet,
};

impl ApiCall {
    /// Returns the call's name: the id of the method in Google's discovery document.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            FirewallsDelete => "compute.firewalls.delete",
            FirewallsGet => "compute.firewalls.get",
            FirewallsInsert => "compute.firewalls.insert",
            FirewallsList => "compute.firewalls.list",
            FirewallsPatch => "compute.firewalls.patch",
            FirewallsUpdate => "compute.firewalls.update",
            InstancesAggregatedList => "compute.instances.aggregatedList",
            InstancesGet => "compute.instances.get",
            InstancesList => "compute.instances.list",
            InstancesSetTags => "compute.instances.setTags",
            NetworksGet => "compute.networks.get",
        }
    }

    /// Returns the permissions that the call needs, first the one that is named like it. Reading the state of
    /// its operation needs one more.
    #[must_use]
    pub const fn permissions(self) -> &'static [&'static str] {
        match self {
            FirewallsDelete => {
                &["compute.firewalls.delete", "compute.networks.updatePolicy", "compute.globalOperations.get"]
            }
            FirewallsGet => &["compute.firewalls.get"],
            FirewallsInsert => {
                &["compute.firewalls.create", "compute.networks.updatePolicy", "compute.globalOperations.get"]
            }
            FirewallsList => &["compute.firewalls.list"],
            FirewallsPatch | FirewallsUpdate => {
                &["compute.firewalls.update", "compute.networks.updatePolicy", "compute.globalOperations.get"]
            }
            InstancesAggregatedList | InstancesList => &["compute.instances.list"],
            InstancesGet => &["compute.instances.get"],
            InstancesSetTags => &["compute.instances.setTags", "compute.zoneOperations.get"],
            NetworksGet => &["compute.networks.get"],
        }
    }

    /// Returns the calls on rules and networks, which are in the network's project.
    #[must_use]
    pub const fn of_rules() -> &'static [Self] {
        &[
            FirewallsDelete,
            FirewallsGet,
            FirewallsInsert,
            FirewallsList,
            FirewallsPatch,
            FirewallsUpdate,
            NetworksGet,
        ]
    }

    /// Returns the calls on instances, which are in the instances' project.
    #[must_use]
    pub const fn of_instances(mode: Mode) -> &'static [Self] {
        match mode {
            Mode::Destination => &[InstancesList],
            Mode::Tags => &[InstancesAggregatedList, InstancesGet, InstancesList, InstancesSetTags],
        }
    }
}

impl fmt::Display for ApiCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
