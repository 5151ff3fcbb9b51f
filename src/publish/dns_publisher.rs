//! Publishes hostnames, by the `DNSEndpoint`s that external-dns goes by.

use std::collections::BTreeSet;

use super::dns_records::{self, Change, Hostname, Targets, changes, published, targets};
use super::outcomes::Outcomes;
use super::status_writer::Writer;
use crate::k8s::dns_zone::Zone;
use crate::k8s::index::Index;
use crate::k8s::problem::Problem;

/// What is published.
pub(crate) struct Hostnames {
    /// None where hostnames are not published
    zone: Option<Zone>,
    /// What was written last; none before anything was
    written: Option<Targets>,
}

/// What is to be published.
pub(crate) struct Records {
    changes: Vec<Change>,
    targets: Targets,
}

impl Hostnames {
    pub(crate) const fn new(zone: Option<Zone>) -> Self {
        Self { zone, written: None }
    }

    /// What has to change before anything closes; none if nothing has to.
    pub(crate) fn leaving(&self, index: &Index, outcomes: &Outcomes) -> Option<Records> {
        self.records(index, |before| {
            let kept = dns_records::retracted(before, &targets(index, outcomes, before));
            (kept != *before).then_some(kept)
        })
    }

    /// What has to change; none if nothing is published, or what is cannot be known.
    pub(crate) fn wanted(&self, index: &Index, outcomes: &Outcomes) -> Option<Records> {
        self.records(index, |before| Some(targets(index, outcomes, before)))
    }

    fn records(&self, index: &Index, wanted: impl FnOnce(&Targets) -> Option<Targets>) -> Option<Records> {
        let zone = self.zone.as_ref()?;
        let published = published(index)?;
        let before = self.written.clone().unwrap_or(published);
        let targets = wanted(&before)?;
        Some(Records { changes: changes(index, zone, &before, &targets), targets })
    }

    /// Tells everybody who names a hostname that none can be published.
    pub(crate) fn none(&self, outcomes: &Outcomes) -> BTreeSet<Problem> {
        let why = "DNSEndpoints are not served, or cannot be listed; install external-dns' definition of them, and \
                   deploy/external-dns";
        // Without a zone, that is told as it is.
        self.zone.as_ref().map(|_| dns_records::unpublished(outcomes, |_| true, why)).unwrap_or_default()
    }

    /// Publishes, and returns the hostnames for which that failed.
    pub(crate) async fn publish(&mut self, writer: &Writer, records: Records) -> BTreeSet<Hostname> {
        let Records { changes, targets } = records;
        let mut failed = BTreeSet::new();
        let Some(zone) = &self.zone else { return failed };
        for change in changes {
            if !writer.record(zone, &change).await {
                let hostname = change.hostname().unwrap_or_default().to_owned();
                failed.insert((change.namespace, hostname));
            }
        }
        self.written = Some(targets);
        failed
    }
}
