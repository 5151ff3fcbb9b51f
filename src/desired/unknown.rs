//! Places unknown demand on the machines of one cloud.

use std::collections::BTreeSet;

use firewall_core::{InstanceId, Unknown};

use super::snapshot::Snapshot;
use crate::intents::unknown::Place;

/// Returns the machines of a cloud for each of which it is known that traffic may be asked for there. Where it may be
/// asked for anywhere, none is told from the others.
pub(crate) fn machines_in_doubt(
    snapshot: &Snapshot,
    instance: impl Fn(&str) -> Option<Result<InstanceId, String>>,
) -> impl Iterator<Item = InstanceId> {
    snapshot.unknown.keys().filter_map(move |demand| match &demand.place {
        Place::Machine(provider_id) => instance(provider_id)?.ok(),
        Place::UnknownMachine | Place::Anywhere => None,
    })
}

/// Returns the traffic that may be asked for on a cloud. `instance` reads a providerID as
/// [`FirewallProvider::parse_provider_id`](firewall_core::FirewallProvider::parse_provider_id) does.
pub(crate) fn place_unknown(
    snapshot: &Snapshot,
    instance: impl Fn(&str) -> Option<Result<InstanceId, String>>,
) -> Unknown {
    let mut unknown = Unknown::everything(snapshot.why_everything_is_unknown.iter().cloned());
    let instance = |provider_id: &str| instance(provider_id).and_then(Result::ok);
    let machines: BTreeSet<InstanceId> =
        snapshot.machines.values().filter_map(|machine| instance(&machine.provider_id)).collect();
    for demand in snapshot.unknown.keys() {
        let rules = &demand.rules;
        let missing = demand.missing.as_str();
        match &demand.place {
            Place::Machine(provider_id) => {
                if let Some(instance) = instance(provider_id) {
                    unknown.add_at(&instance, rules, missing);
                }
            }
            Place::UnknownMachine => unknown.add_elsewhere(rules, missing),
            Place::Anywhere => {
                unknown.add_elsewhere(rules, missing);
                for machine in &machines {
                    unknown.add_at(machine, rules, missing);
                }
            }
        }
    }
    for machine in machines {
        unknown.locate(machine);
    }
    unknown
}
