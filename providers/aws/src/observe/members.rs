//! The facts about members.

use std::collections::{BTreeMap, BTreeSet};

use firewall_core::InstanceId;
use tokio::time::Instant;

use crate::client::Client;
use crate::ec2_cache::Ec2Cache;
use crate::inventory::InstanceFacts;
use crate::resource::GroupName;
use crate::wire::error::CallError;
use crate::wire::instance::{Described, Instance};

/// What is known about members. One that is in neither part is gone.
pub(super) struct Members {
    /// Those that exist
    pub(super) instances: Vec<Instance>,
    /// Those that may exist, with the reason why that is not known
    pub(super) unknown: BTreeMap<InstanceId, String>,
}

/// Describes members. One that the answer leaves out is asked for once more, and is unknown until an answer at
/// least a minute later leaves it out too.
pub(super) async fn describe_members(
    client: &Client,
    cache: &Ec2Cache,
    members: &BTreeSet<InstanceId>,
) -> Result<Members, CallError> {
    let mut described = describe(client, members).await?;
    let is_new = |id: &&InstanceId| cache.absences().is_new(id);
    let left_out: BTreeSet<InstanceId> = absent(members, &described).filter(is_new).cloned().collect();
    if !left_out.is_empty() {
        let again = describe(client, &left_out).await?;
        described.instances.extend(again.instances);
        described.terminated.extend(again.terminated);
    }
    let absent: BTreeSet<InstanceId> = absent(members, &described).cloned().collect();
    let mut absences = cache.absences();
    absences.retain(|id| absent.contains(id));
    let now = Instant::now().into_std();
    let unknown = absent.into_iter().filter(|id| !absences.record(id, now));
    let reason = "EC2's last answer leaves it out, and one answer can be incomplete";
    let unknown = unknown.map(|id| (id, reason.to_owned())).collect();
    Ok(Members { instances: described.instances, unknown })
}

async fn describe(client: &Client, members: &BTreeSet<InstanceId>) -> Result<Described, CallError> {
    let ids: Vec<String> = members.iter().map(ToString::to_string).collect();
    client.describe_instances("instance-id", &ids).await
}

/// Returns the members that an answer leaves out.
fn absent<'a>(
    members: &'a BTreeSet<InstanceId>,
    described: &Described,
) -> impl Iterator<Item = &'a InstanceId> + use<'a> {
    let existing = described.instances.iter().map(|instance| &instance.id);
    let known: BTreeSet<InstanceId> = existing.chain(&described.terminated).cloned().collect();
    members.iter().filter(move |id| !known.contains(*id))
}

/// Returns the facts about an instance that compiling needs.
pub(super) fn facts(instance: &Instance, own_groups: &BTreeMap<String, GroupName>) -> InstanceFacts {
    let primary = &instance.primary;
    InstanceFacts {
        vpc: primary.vpc.clone(),
        interface: primary.id.clone(),
        foreign_groups: primary.groups.iter().filter(|id| !own_groups.contains_key(*id)).cloned().collect(),
        own_groups: primary.groups.iter().filter_map(|id| own_groups.get(id)).cloned().collect(),
        interface_count: instance.interface_count,
        has_ipv6: primary.has_ipv6,
        managed_by: instance.managed_by.clone(),
        provisioner: instance.provisioner,
    }
}
