//! Publishes hostnames, by the `DNSEndpoint`s that external-dns reads.

use std::collections::BTreeSet;

use super::dns_records::{self, EndpointChange, Hostname, Targets};
use super::outcomes::Outcomes;
use super::status_writer::StatusWriter;
use super::touched::Concerned;
use crate::k8s::dns_zone::Zone;
use crate::k8s::index::Index;
use crate::k8s::problem::Problem;

/// Publishes hostnames, and holds the addresses that it has written last.
pub(super) struct DnsPublisher {
    /// None where hostnames are not published
    zone: Option<Zone>,
    /// None before the first write
    written: Option<Targets>,
}

/// Changes of `DNSEndpoint`s, and the addresses that are published after them.
pub(super) struct DnsUpdate {
    changes: Vec<EndpointChange>,
    targets: Targets,
}

impl DnsPublisher {
    pub(super) const fn new(zone: Option<Zone>) -> Self {
        Self { zone, written: None }
    }

    /// Returns true if hostnames are published.
    pub(super) const fn is_enabled(&self) -> bool {
        self.zone.is_some()
    }

    /// Returns what outcomes have to cover so that statuses and gates of these objects can be told, and hostnames:
    /// these need all.
    pub(super) fn narrow<'a>(&self, only: Option<&'a Concerned>) -> Option<&'a Concerned> {
        only.filter(|_| !self.is_enabled())
    }

    /// Plans the removal of the addresses whose ports are about to close; none if there is no such address.
    pub(super) fn plan_retraction(&self, index: &Index, outcomes: &Outcomes) -> Option<DnsUpdate> {
        self.plan(index, |current| {
            let desired = dns_records::desired_targets(index, outcomes, current);
            let kept = dns_records::retract(current, &desired);
            (kept != *current).then_some(kept)
        })
    }

    /// Plans the changes to the desired addresses; none if hostnames are not published, or the published ones
    /// are unknown.
    pub(super) fn plan_update(&self, index: &Index, outcomes: &Outcomes) -> Option<DnsUpdate> {
        self.plan(index, |current| Some(dns_records::desired_targets(index, outcomes, current)))
    }

    fn plan(&self, index: &Index, desire: impl FnOnce(&Targets) -> Option<Targets>) -> Option<DnsUpdate> {
        let zone = self.zone.as_ref()?;
        let published = dns_records::read_published(index)?;
        let current = self.written.clone().unwrap_or(published);
        let targets = desire(&current)?;
        Some(DnsUpdate { changes: dns_records::diff_endpoints(index, zone, &current, &targets), targets })
    }

    /// Returns a problem for each intent with a hostname if none can be published, although that is enabled.
    pub(super) fn report_unavailable(&self, outcomes: &Outcomes) -> BTreeSet<Problem> {
        let cause = "DNSEndpoints are not served, or cannot be listed; install external-dns' definition of them, and \
                     deploy/external-dns";
        // Without a zone, the intents are reported when they are collected.
        self.zone
            .as_ref()
            .map(|_| dns_records::report_unpublished(outcomes, |_| true, cause))
            .unwrap_or_default()
    }

    /// Writes an update while it `goes_on`. Returns the hostnames for which that failed.
    pub(super) async fn write(
        &mut self,
        writer: &StatusWriter,
        update: DnsUpdate,
        goes_on: &(dyn Fn() -> bool + Sync),
    ) -> BTreeSet<Hostname> {
        let DnsUpdate { changes, targets } = update;
        let mut failed = BTreeSet::new();
        let Some(zone) = &self.zone else { return failed };
        // Until all of it is written, both may be published: whichever is to be removed is.
        let written = self.written.get_or_insert_default();
        for (hostname, addresses) in &targets {
            written.entry(hostname.clone()).or_default().extend(addresses);
        }
        for change in changes {
            if !goes_on() {
                return failed;
            }
            if !writer.write_dns_endpoint(zone, &change).await {
                let hostname = change.hostname().unwrap_or_default().to_owned();
                failed.insert((change.namespace, hostname));
            }
        }
        self.written = Some(targets);
        failed
    }
}
