//! What a provider cannot or must not bring about, with the reason.

use crate::{GroupKey, InstanceId};

/// A part of the desired state that the provider cannot or must not bring about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Infeasible {
    /// The firewall group concerned
    pub group: GroupKey,
    /// The instance, if only one of the group's is concerned
    pub instance: Option<InstanceId>,
    /// One word in `CamelCase`, stable for machines: `UntaggedNodeGroup`, `TooManyRules`, …
    pub reason: &'static str,
    /// The cause and the remedy
    pub message: String,
    /// True if it is a fact that nothing can be asked for there: the machine is gone, or is not this cluster's to
    /// serve. If false, what is open stays open.
    pub ends: bool,
    /// True if only another configuration can change that: then the cloud is not read again for it
    pub lasts: bool,
}

impl Infeasible {
    /// Returns the report on a whole group.
    #[must_use]
    pub fn of_group(group: &GroupKey, reason: &'static str, message: String) -> Self {
        Self { group: group.clone(), instance: None, reason, message, ends: false, lasts: false }
    }

    /// Returns the report on one member of a group.
    #[must_use]
    pub fn of_member(group: &GroupKey, instance: &InstanceId, reason: &'static str, message: String) -> Self {
        Self { instance: Some(instance.clone()), ..Self::of_group(group, reason, message) }
    }

    /// Returns the report as one that no change of the cloud can end.
    #[must_use]
    pub fn lasting(self) -> Self {
        Self { lasts: true, ..self }
    }

    /// Returns the report as a fact that ends the demand.
    #[must_use]
    pub fn ending(self) -> Self {
        Self { ends: true, ..self }
    }
}
