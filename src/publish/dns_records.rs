//! DNS: the addresses that hostnames should have, and the `DNSEndpoint`s that ask external-dns for them. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::addresses::{AddressResolver, Reachability, client_addresses};
use super::outcomes::Outcomes;
use crate::k8s::dns_zone::Zone;
use crate::k8s::index::Index;
use crate::k8s::objects::{DNSEndpoint, DNSEndpointSpec, ObjectRef};
use crate::k8s::problem::{Problem, Verdict};

/// A hostname in a namespace.
pub type Hostname = (String, String);

/// The addresses of hostnames. A hostname without any is not published.
pub type Targets = BTreeMap<Hostname, BTreeSet<IpAddr>>;

/// What is published, as the index has it; none while that is not known.
#[must_use]
pub fn published(index: &Index) -> Option<Targets> {
    let mut published = Targets::new();
    for endpoint in index.dns_endpoints()? {
        let namespace = endpoint.metadata.namespace.clone().unwrap_or_default();
        for record in &endpoint.spec.endpoints {
            let addresses = published.entry((namespace.clone(), record.dns_name.clone())).or_default();
            addresses.extend(record.targets.iter().filter_map(|target| target.parse::<IpAddr>().ok()));
        }
    }
    Some(published)
}

/// What should be published; `before` is what has been.
#[must_use]
pub fn targets(index: &Index, outcomes: &Outcomes, before: &Targets) -> Targets {
    let servers = AddressResolver::new(index, outcomes);
    let mut targets = Targets::new();
    for exposure in outcomes.asked.iter() {
        let Some(hostname) = &exposure.hostname else { continue };
        let key = (exposure.intent.namespace.clone(), hostname.clone());
        let mut addresses = client_addresses(index, exposure);
        match servers.reachability(exposure) {
            Reachability::Yes => {}
            Reachability::No => continue,
            Reachability::Unknown => {
                let before = before.get(&key);
                addresses.retain(|address| before.is_some_and(|before| before.contains(address)));
            }
        }
        targets.entry(key).or_default().extend(addresses);
    }
    targets.retain(|_, addresses| !addresses.is_empty());
    targets
}

/// Tells everybody whose hostname cannot be published why.
#[must_use]
pub fn unpublished(outcomes: &Outcomes, which: impl Fn(&Hostname) -> bool, why: &str) -> BTreeSet<Problem> {
    let named = outcomes.asked.iter().filter_map(|exposure| {
        let hostname = exposure.hostname.clone()?;
        Some((&exposure.intent, (exposure.intent.namespace.clone(), hostname)))
    });
    let named = named.filter(|(_, hostname)| which(hostname));
    let notice = |(intent, (_, hostname)): (&ObjectRef, Hostname)| Problem {
        object: intent.clone(),
        verdict: Verdict::Failed,
        reason: "NotPublished".to_owned(),
        message: format!("{hostname} is not published: {why}"),
    };
    named.map(notice).collect()
}

/// What is left of `before` without what has to leave.
#[must_use]
pub fn retracted(before: &Targets, wanted: &Targets) -> Targets {
    let kept = before.iter().filter_map(|(key, addresses)| {
        let kept: BTreeSet<IpAddr> = addresses.intersection(wanted.get(key)?).copied().collect();
        (!kept.is_empty()).then(|| (key.clone(), kept))
    });
    kept.collect()
}

/// A `DNSEndpoint` that has to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its namespace
    pub namespace: String,
    /// Its name
    pub name: String,
    /// What it should say; none if it should be gone
    pub spec: Option<DNSEndpointSpec>,
}

impl Change {
    /// The hostname that is published; none if it should be gone.
    #[must_use]
    pub fn hostname(&self) -> Option<&str> {
        self.spec.iter().flat_map(|spec| &spec.endpoints).map(|record| record.dns_name.as_str()).next()
    }

    /// What is published, for people.
    #[must_use]
    pub fn shown(&self) -> String {
        let targets = self.spec.iter().flat_map(|spec| &spec.endpoints).flat_map(|record| &record.targets);
        let targets: Vec<&str> = targets.map(String::as_str).collect();
        if targets.is_empty() { "nothing any more".to_owned() } else { targets.join(", ") }
    }
}

/// What has to change so that `wanted` is published. `written` is what was written last: the index may not show it yet.
#[must_use]
pub fn changes(index: &Index, zone: &Zone, written: &Targets, wanted: &Targets) -> Vec<Change> {
    let key = |(namespace, hostname): &Hostname| (namespace.clone(), zone.name(hostname));
    let there: BTreeMap<(String, String), &DNSEndpointSpec> = index
        .dns_endpoints()
        .into_iter()
        .flatten()
        .map(|DNSEndpoint { metadata, spec }| {
            (
                (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default()),
                spec,
            )
        })
        .collect();
    let mut specs: BTreeMap<(String, String), Option<DNSEndpointSpec>> = BTreeMap::new();
    specs.extend(there.keys().cloned().chain(written.keys().map(key)).map(|gone| (gone, None)));
    for (hostname, addresses) in wanted {
        let spec = zone.spec(&hostname.1, addresses);
        let same = there.get(&key(hostname)) == Some(&&spec) && written.get(hostname) == Some(addresses);
        if same {
            specs.remove(&key(hostname));
        } else {
            specs.insert(key(hostname), Some(spec));
        }
    }
    specs.into_iter().map(|((namespace, name), spec)| Change { namespace, name, spec }).collect()
}

#[cfg(test)]
mod tests;
