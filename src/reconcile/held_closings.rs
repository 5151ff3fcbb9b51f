//! The mass closes that are held, port by port, and since when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use firewall_core::{Closings, Limits, OpenPort, Plan, Resource, WithheldReason};
use tokio::time::Instant;

/// Holds the open ports that a held mass close would close, by namespace, each since when.
///
/// Pods come and go meanwhile: a closing that was added since does not begin the hold anew.
#[derive(Debug, Default)]
pub(super) struct HeldClosings(BTreeMap<(String, OpenPort), Instant>);

impl HeldClosings {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns the namespaces whose held closings have been held for long enough.
    pub(super) fn released(
        &self,
        closings: &BTreeMap<String, Closings>,
        (limits, hold): (&Limits, Duration),
        now: Instant,
    ) -> BTreeSet<String> {
        let is_released = |(namespace, closings): &(&String, &Closings)| {
            let since = |port: &&OpenPort| self.0.get(&((*namespace).clone(), (*port).clone()));
            let is_old = |port: &&OpenPort| since(port).is_some_and(|since| now - *since >= hold);
            let (old, young): (Vec<_>, Vec<_>) = closings.closing.iter().partition(is_old);
            let (old, young) = (limits.count(old), limits.count(young));
            old > 0 && !limits.is_mass_close(closings.open.saturating_sub(old), young)
        };
        let released = closings.iter().filter(is_released);
        released.map(|(namespace, _)| namespace.clone()).collect()
    }

    /// Holds the closings of these namespaces and no others, from now on if not already.
    pub(super) fn hold<R: Resource>(
        &mut self,
        closings: &BTreeMap<String, Closings>,
        plan: &Plan<R>,
        released: &BTreeSet<String>,
        now: Instant,
    ) {
        let mut held: BTreeSet<&String> = released.iter().collect();
        for withheld in &plan.withheld {
            match &withheld.reason {
                WithheldReason::MassClose { namespace: Some(namespace), .. } => _ = held.insert(namespace),
                WithheldReason::MassClose { namespace: None, .. } => held.extend(closings.keys()),
                _ => {}
            }
        }
        let ports = closings.iter().filter(|(namespace, _)| held.contains(namespace));
        let ports = ports.flat_map(|(namespace, closings)| {
            closings.closing.iter().map(|port| (namespace.clone(), port.clone()))
        });
        let before = std::mem::take(&mut self.0);
        self.0 = ports
            .map(|port| (before.get(&port).copied().unwrap_or(now), port))
            .map(|(since, port)| (port, since))
            .collect();
    }

    /// Returns the time until more of the held closings have been held for long enough.
    pub(super) fn ends(&self, hold: Duration, now: Instant) -> Duration {
        let left = self.0.values().map(|since| hold.saturating_sub(now - *since));
        // Where that is all of it, the next plan goes ahead.
        left.filter(|left| !left.is_zero()).min().unwrap_or_default()
    }
}

/// Returns true if the plan holds a mass close.
pub(super) fn is_held<R: Resource>(plan: &Plan<R>) -> bool {
    plan.withheld.iter().any(|withheld| matches!(withheld.reason, WithheldReason::MassClose { .. }))
}
