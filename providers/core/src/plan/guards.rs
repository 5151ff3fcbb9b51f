//! The closing guards: nothing closes on partial knowledge, against the policy, or in a mass that is held.

use std::collections::BTreeSet;

use crate::{
    Completeness, OpenPort, PlanInput, Policy, PortRange, Protocol, Resource, ResourceSet, WithheldReason,
};

/// Returns the reason why no plan that ends in `goal` may close anything; `None` if closing is allowed.
pub(super) fn why_closing_is_blocked<R: Resource>(
    input: &PlanInput<'_, R>,
    goal: &ResourceSet<R>,
) -> Option<WithheldReason> {
    if let Completeness::Partial(gaps) = input.completeness {
        return Some(WithheldReason::IncompleteState(gaps.clone()));
    }
    if input.policy != Policy::Sync {
        return Some(WithheldReason::Policy);
    }
    let (open, closing) = find_closings(input.observed, goal);
    let closing = closing.len();
    let is_held = input.limits.is_mass_close(open, closing) && !input.limits.mass_close_released;
    is_held.then_some(WithheldReason::MassClose { closing, open })
}

/// Returns the number of open ports in `observed`, and those of them that are not open in `goal`.
///
/// A port range counts once per instance, from whichever sources it is open: narrowing its sources closes
/// nothing here.
#[must_use]
pub fn find_closings<R: Resource>(
    observed: &ResourceSet<R>,
    goal: &ResourceSet<R>,
) -> (usize, BTreeSet<OpenPort>) {
    let mut instances = BTreeSet::new();
    for resource in observed.values() {
        instances.extend(resource.instances(observed));
    }
    let (mut open, mut closing) = (0, BTreeSet::new());
    for instance in instances {
        let ports = |set: &ResourceSet<R>| -> BTreeSet<_> {
            set.reach(&instance).rules.iter().map(|rule| (rule.protocol, rule.ports)).collect()
        };
        let (before, after) = (ports(observed), ports(goal));
        open += before.len();
        let stays_open = |(protocol, range): &(Protocol, PortRange)| {
            after.iter().any(|(other, ports)| other == protocol && ports.covers(*range))
        };
        let closed = before.into_iter().filter(|ports| !stays_open(ports));
        closing.extend(closed.map(|(protocol, ports)| (instance.clone(), protocol, ports)));
    }
    (open, closing)
}
