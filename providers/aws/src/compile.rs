//! Compiles firewall groups to security groups and attachments, or to shared rules, within EC2's limits.
//! Pure.

mod attach;
mod former_mode;
mod shared;

pub(crate) use shared::find_sharing;

use firewall_core::{Compiled, Desired, GroupKey, Infeasible, InstanceId};

use crate::config::{AwsConfig, Mode};
use crate::inventory::Inventory;
use crate::reasons;
use crate::resource::AwsResource;

/// Compiles for the configured mode.
pub(crate) fn compile(desired: &Desired, inventory: &Inventory, config: &AwsConfig) -> Compiled<AwsResource> {
    match &config.mode {
        Mode::Attach => attach::compile(desired, inventory, config),
        Mode::Shared(_) => shared::compile(desired, inventory, config),
    }
}

/// Returns the member as infeasible because there are no facts about its instance: it does not exist, or is
/// unknown.
fn without_facts(group: &GroupKey, instance: &InstanceId, inventory: &Inventory) -> Infeasible {
    if let Some(reason) = inventory.unknown_instances.get(instance) {
        let message = format!("instance {instance} is unknown for now: {reason}");
        return Infeasible::of_member(group, instance, reasons::INSTANCE_UNKNOWN, message);
    }
    let message = format!(
        "instance {instance} does not exist in this account and Region, or is being terminated; if it should \
         be found, check the Region and the account of the AWS credentials"
    );
    Infeasible::of_member(group, instance, reasons::INSTANCE_NOT_FOUND, message).ending()
}

/// Returns the group, or its member, as infeasible because `subject` exceeds the rules of one security group.
fn too_many_rules(
    group: &GroupKey,
    instance: Option<&InstanceId>,
    subject: &str,
    limit: usize,
) -> Infeasible {
    let message = format!(
        "{subject} would need more than the {limit} IPv4 or IPv6 rules that fit into one security group; use \
         fewer source ranges or port ranges, or raise the VPC quota \"Inbound or outbound rules per security \
         group\" (L-0EA8095F) and --aws-rules-per-group"
    );
    Infeasible {
        instance: instance.cloned(),
        ..Infeasible::of_group(group, reasons::TOO_MANY_RULES, message)
    }
}
