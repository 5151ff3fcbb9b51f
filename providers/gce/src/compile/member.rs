//! Which interface of a member the rules apply to, and why a member can have none.

use firewall_core::InstanceId;

use crate::config::{GceConfig, TAGS_PER_INSTANCE};
use crate::inventory::{InstanceFacts, Interface, Inventory};
use crate::provider_id::Location;

/// The reason and message.
pub(super) type Reason = (&'static str, String);

/// The interface in the configured network; without one, the first interface.
pub(super) fn interface<'a>(
    instance: &InstanceId,
    inventory: &'a Inventory,
    config: &GceConfig,
) -> Result<&'a Interface, Reason> {
    let project = Location::parse(instance.as_str()).map_or("", |location| location.project);
    if project != config.project {
        return Err(other_project(instance, project, config));
    }
    if let Some(network) = &inventory.missing_network {
        let message = format!("{network} does not exist; correct --gce-network or --gce-network-project");
        return Err(("NetworkNotFound", message));
    }
    let Some(facts) = inventory.instances.get(instance) else { return Err(not_found(instance)) };
    // What does not parse has been refused when the provider was made.
    let Some(chosen) = config.chosen_network().ok().flatten() else {
        return first_interface(instance, facts, config);
    };
    facts.interfaces.iter().find(|interface| interface.network == chosen).ok_or_else(|| {
        let networks: Vec<String> =
            facts.interfaces.iter().map(|interface| interface.network.to_string()).collect();
        let message = format!(
            "instance {instance} has no interface in {chosen}, only in {}; correct --gce-network, or leave it out to \
             use each instance's first interface",
            networks.join(", ")
        );
        ("NotInNetwork", message)
    })
}

fn first_interface<'a>(
    instance: &InstanceId,
    facts: &'a InstanceFacts,
    config: &GceConfig,
) -> Result<&'a Interface, Reason> {
    let Some(first) = facts.interfaces.first() else {
        return Err(("NotInNetwork", format!("instance {instance} has no network interface")));
    };
    let network = &first.network;
    if network.project == config.rule_project() {
        return Ok(first);
    }
    let message = format!(
        "{network} of instance {instance} belongs to project {host}, and rules are made in project {own}; if {host} \
         shares it (Shared VPC), set --gce-network-project {host}",
        host = network.project,
        own = config.rule_project()
    );
    Err(("NetworkInOtherProject", message))
}

fn other_project(instance: &InstanceId, project: &str, config: &GceConfig) -> Reason {
    let message = format!(
        "instance {instance} is in project {project}, and this controller opens ports only in project {own}; run \
         another one with --gce-project {project} and a cluster name of its own, or correct --gce-project",
        own = config.project
    );
    ("OtherProject", message)
}

fn not_found(instance: &InstanceId) -> Reason {
    let message = format!(
        "instance {instance} does not exist; if it should, check that the node's providerID names its project, zone \
         and name"
    );
    ("InstanceNotFound", message)
}

pub(super) fn too_many_tags(instance: &InstanceId, others: usize) -> Reason {
    let message = format!(
        "instance {instance} can have {TAGS_PER_INSTANCE} tags, and {others} of them are somebody else's; remove tags that nobody \
         needs, or use --gce-mode destination, which needs none"
    );
    ("TooManyTags", message)
}

/// The in-tree cloud provider takes the longest tag that an instance's name begins with for the tag of all
/// nodes, where node tags are not configured. Source: `computeHostTags` in kubernetes/cloud-provider-gcp.
pub(super) fn name_begins_with(instance: &InstanceId, tag: &str) -> bool {
    Location::parse(instance.as_str()).is_some_and(|location| location.name.starts_with(tag))
}

pub(super) fn name_prefix_conflict(instance: &InstanceId, tag: &str) -> Reason {
    let message = format!(
        "the name of instance {instance} begins with tag {tag}, which the cloud provider of Kubernetes would take for \
         the tag of all nodes; rename the instance, or use --gce-mode destination"
    );
    ("NameBeginsWithTag", message)
}
