//! Selects the interface of a member that rules apply to, and explains why a member has none.

use firewall_core::InstanceId;

use crate::config::{GceConfig, TAGS_PER_INSTANCE};
use crate::inventory::{InstanceFacts, Interface, Inventory};
use crate::provider_id::Location;
use crate::reasons;

/// The reason for which a member is infeasible, and the message for it.
pub(super) type ReasonAndMessage = (&'static str, String);

/// Returns the member's interface in the configured network; without a configured network, its first
/// interface.
pub(super) fn select_interface<'a>(
    instance: &InstanceId,
    inventory: &'a Inventory,
    config: &GceConfig,
) -> Result<&'a Interface, ReasonAndMessage> {
    let project = Location::parse(instance.as_str()).map_or("", |location| location.project);
    if project != config.project {
        return Err(other_project(instance, project, config));
    }
    if let Some(network) = &inventory.missing_network {
        let message = format!("{network} does not exist; correct --gce-network or --gce-network-project");
        return Err((reasons::NETWORK_NOT_FOUND, message));
    }
    let Some(facts) = inventory.instances.get(instance) else {
        return Err(unknown(instance, inventory).unwrap_or_else(|| instance_not_found(instance)));
    };
    // A text that does not parse was rejected when the provider was created.
    let Some(network) = config.configured_network().ok().flatten() else {
        return select_first_interface(instance, facts, config);
    };
    facts.interfaces.iter().find(|interface| interface.network == network).ok_or_else(|| {
        let networks: Vec<String> =
            facts.interfaces.iter().map(|interface| interface.network.to_string()).collect();
        let message = format!(
            "instance {instance} has no interface in {network}, only in {}; correct --gce-network, or leave it out to \
             use each instance's first interface",
            networks.join(", ")
        );
        (reasons::NOT_IN_NETWORK, message)
    })
}

fn select_first_interface<'a>(
    instance: &InstanceId,
    facts: &'a InstanceFacts,
    config: &GceConfig,
) -> Result<&'a Interface, ReasonAndMessage> {
    let Some(first) = facts.interfaces.first() else {
        return Err((reasons::NOT_IN_NETWORK, format!("instance {instance} has no network interface")));
    };
    let network = &first.network;
    if network.project == config.rule_project() {
        return Ok(first);
    }
    let message = format!(
        "{network} of instance {instance} belongs to project {host}, and rules are created in project {own}; if {host} \
         shares it (Shared VPC), set --gce-network-project {host}",
        host = network.project,
        own = config.rule_project()
    );
    Err((reasons::NETWORK_IN_OTHER_PROJECT, message))
}

fn other_project(instance: &InstanceId, project: &str, config: &GceConfig) -> ReasonAndMessage {
    let message = format!(
        "instance {instance} is in project {project}, and this controller opens ports only in project {own}; run \
         another one with --gce-project {project} and a cluster name of its own, or correct --gce-project",
        own = config.project
    );
    (reasons::OTHER_PROJECT, message)
}

/// Returns why the member is unknown, if it is.
pub(super) fn unknown(instance: &InstanceId, inventory: &Inventory) -> Option<ReasonAndMessage> {
    let reason = inventory.unknown_instances.get(instance)?;
    Some((reasons::INSTANCE_UNKNOWN, format!("instance {instance} is unknown for now: {reason}")))
}

fn instance_not_found(instance: &InstanceId) -> ReasonAndMessage {
    let message = format!(
        "instance {instance} does not exist; if it should, check that the node's providerID names its project, zone \
         and name"
    );
    (reasons::INSTANCE_NOT_FOUND, message)
}

pub(super) fn too_many_tags(instance: &InstanceId, foreign_tags: usize) -> ReasonAndMessage {
    let message = format!(
        "instance {instance} can have {TAGS_PER_INSTANCE} network tags, and {foreign_tags} of its tags are not this \
         cluster's; remove tags that are not needed, or use --gce-mode destination, which needs none"
    );
    (reasons::TOO_MANY_TAGS, message)
}

/// Returns true if the tag is a prefix of the instance's name. Where node tags are not configured,
/// Kubernetes' cloud provider takes the longest tag that is a prefix of an instance's name for the tag of all
/// nodes. Source: `computeHostTags` in kubernetes/cloud-provider-gcp.
pub(super) fn has_name_prefix(instance: &InstanceId, tag: &str) -> bool {
    Location::parse(instance.as_str()).is_some_and(|location| location.name.starts_with(tag))
}

pub(super) fn name_prefix_conflict(instance: &InstanceId, tag: &str) -> ReasonAndMessage {
    let message = format!(
        "the name of instance {instance} begins with tag {tag}, which the cloud provider of Kubernetes would take for \
         the tag of all nodes; rename the instance, or use --gce-mode destination"
    );
    (reasons::NAME_BEGINS_WITH_TAG, message)
}
