//! Builders for this crate's unit tests.

use firewall_core::{Compiled, GroupKey, InstanceId};

use crate::resource::AwsResource;

/// Returns the id of an instance.
pub(crate) fn id(text: &str) -> InstanceId {
    InstanceId::new(text)
}

/// Returns the reasons of what is infeasible, in order.
pub(crate) fn reasons(compiled: &Compiled<AwsResource>) -> Vec<&'static str> {
    compiled.infeasible.iter().map(|infeasible| infeasible.reason).collect()
}

/// Returns the groups of what is infeasible, in order.
pub(crate) fn infeasible_groups(compiled: &Compiled<AwsResource>) -> Vec<&GroupKey> {
    compiled.infeasible.iter().map(|infeasible| &infeasible.group).collect()
}
