//! Places unknown demand on the machines of one cloud.

use std::collections::BTreeSet;

use firewall_core::{InstanceId, Unknown};

use super::snapshot::Snapshot;
use crate::intents::unknown::Place;

/// Returns the machines of a cloud that must be known for what is in doubt: those on each of which it is known that
/// traffic may be asked for.
///
/// Where it may be asked for on a machine that is not known, they are also the known ones for which `is_left` is true,
/// because something of an earlier pass may be open there: by its address, for example, a cloud then tells that it is
/// not the unknown one. Where traffic may be asked for anywhere, none is told from the others.
pub(crate) fn machines_in_doubt(
    snapshot: &Snapshot,
    instance: impl Fn(&str) -> Option<Result<InstanceId, String>>,
    is_left: Option<&impl Fn(&InstanceId) -> bool>,
) -> BTreeSet<InstanceId> {
    let instance = |provider_id: &str| instance(provider_id).and_then(Result::ok);
    let mut machines = BTreeSet::new();
    let mut is_elsewhere = false;
    for demand in snapshot.unknown.keys() {
        match &demand.place {
            Place::Machine(provider_id) => machines.extend(instance(provider_id)),
            Place::UnknownMachine => is_elsewhere = true,
            Place::Anywhere => {}
        }
    }
    if let Some(is_left) = is_left.filter(|_| is_elsewhere) {
        let known = snapshot.machines.values().filter_map(|machine| instance(&machine.provider_id));
        machines.extend(known.filter(is_left));
    }
    machines
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
