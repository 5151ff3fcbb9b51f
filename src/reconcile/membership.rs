//! The ports of a workload on one node: which resources open them, and whether they do.

use std::collections::{BTreeMap, BTreeSet};

use firewall_model::{FirewallProvider, GroupKey, InstanceId, Rejection, Resource, World};

use super::{Key, Prospect, Reconciler};
use crate::execute::Outcome;
use crate::objects::ObjectRef;

/// The ports of a workload on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Whose pods, and which of their host ports
    pub group: GroupKey,
    /// The node's machine
    pub instance: InstanceId,
    /// What asks for it
    pub intents: BTreeSet<ObjectRef>,
    /// The node
    pub node: ObjectRef,
    /// What binds the ports: pods, or a Service
    pub binders: BTreeSet<ObjectRef>,
    /// The cloud's objects that open the ports, each with the id that the cloud gave it if that is not its name
    pub resources: BTreeMap<String, Option<String>>,
    /// Whether the cloud has confirmed it; if not, why, as reason and message
    pub open: Result<(), (String, String)>,
    /// Whether the cloud has all that it takes, as wanted or otherwise
    pub stands: bool,
    /// Whether this pass has opened it
    pub opened: bool,
}

/// The cloud's objects, as messages and statuses name them.
pub fn with_ids(resources: &BTreeMap<String, Option<String>>) -> impl Iterator<Item = String> {
    resources.iter().map(|(key, id)| match id {
        Some(id) => format!("{key} ({id})"),
        None => key.clone(),
    })
}

impl<P: FirewallProvider> Reconciler<P> {
    /// What the cloud has confirmed, membership by membership. What lingers is bound by nothing and is left out.
    pub(super) fn memberships(&self, prospect: &Prospect<P>, outcomes: &[Outcome]) -> Vec<Membership> {
        let mut world = prospect.observed.clone();
        for (step, _) in prospect
            .plan
            .steps
            .iter()
            .zip(outcomes)
            .filter(|(_, outcome)| matches!(outcome, Outcome::Applied(_)))
        {
            step.action.enact(&mut world);
        }
        let compiled = &prospect.compiled;
        let as_wanted =
            |world: &World<P::Resource>, key: &Key<P>| match (world.get(key), compiled.resources.get(key)) {
                (Some(now), Some(wanted)) => now.same_spec(wanted),
                _ => false,
            };
        let open = |membership: &(GroupKey, InstanceId)| match compiled.memberships.get(membership) {
            None => Err(rejected_as(&compiled.rejections, membership)),
            Some(takes) => match takes.iter().find(|key| !as_wanted(&world, key)) {
                None => Ok(()),
                Some(key) => Err(self.failures.errors.get(key).map_or_else(
                    || ("Pending".to_owned(), format!("{key} is not yet as it should be")),
                    |error| (error.reason().to_owned(), error.to_string()),
                )),
            },
        };
        let grouped = &prospect.grouped;
        let membership = |(membership, binders): (&(GroupKey, InstanceId), &BTreeSet<ObjectRef>)| {
            let (group, instance) = membership;
            let takes = || compiled.memberships.get(membership).into_iter().flatten();
            let open = open(membership);
            Some(Membership {
                group: group.clone(),
                instance: instance.clone(),
                intents: grouped.intents.get(membership).cloned().unwrap_or_default(),
                node: grouped.nodes.get(instance)?.clone(),
                binders: binders.clone(),
                resources: takes().map(|key| (key.to_string(), self.provider.id(key))).collect(),
                stands: takes().next().is_some() && takes().all(|key| world.contains_key(key)),
                opened: open.is_ok() && !takes().all(|key| as_wanted(&prospect.observed, key)),
                open,
            })
        };
        grouped.binders.iter().filter_map(membership).collect()
    }
}

/// Why a membership has been rejected: by itself, or with its whole group.
fn rejected_as(rejections: &[Rejection], (group, instance): &(GroupKey, InstanceId)) -> (String, String) {
    let concerns = |rejection: &&Rejection| {
        rejection.group == *group && rejection.instance.as_ref().is_none_or(|other| other == instance)
    };
    rejections.iter().find(concerns).map_or_else(
        || ("Pending".to_owned(), "the cloud has nothing for it yet".to_owned()),
        |rejection| (rejection.reason.to_owned(), rejection.message.clone()),
    )
}
