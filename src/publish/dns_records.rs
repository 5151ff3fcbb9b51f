//! DNS: the addresses that hostnames should have, and the `DNSEndpoint`s that ask external-dns for them.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::addresses::{AddressResolver, Reachability, client_addresses};
use super::outcomes::Outcomes;
use crate::k8s::dns_zone::Zone;
use crate::k8s::index::{Index, NamespacedName};
use crate::k8s::objects::{DNSEndpoint, DNSEndpointSpec, ObjectRef};
use crate::k8s::problem::{Problem, Verdict};
use crate::k8s::reasons::NOT_PUBLISHED;

/// A namespace, and a hostname that an intent in it names.
pub(super) type Hostname = (String, String);

/// The addresses of hostnames. A hostname without any is not published.
pub(super) type Targets = BTreeMap<Hostname, BTreeSet<IpAddr>>;

/// Returns the published addresses as the index has them; none while they are unknown.
pub(super) fn read_published(index: &Index) -> Option<Targets> {
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

/// Computes the addresses to publish. Those that may be reachable or not stay if they are among the `current`
/// ones.
pub(super) fn desired_targets(index: &Index, outcomes: &Outcomes, current: &Targets) -> Targets {
    let resolver = AddressResolver::new(index, outcomes);
    let mut targets = Targets::new();
    for exposure in outcomes.exposures.iter() {
        let Some(hostname) = &exposure.hostname else { continue };
        let key = (exposure.intent.namespace.clone(), hostname.clone());
        let mut addresses = client_addresses(index, exposure);
        match resolver.reachability(exposure) {
            Reachability::Yes => {}
            Reachability::No => continue,
            Reachability::Unknown => {
                let current = current.get(&key);
                addresses.retain(|address| current.is_some_and(|current| current.contains(address)));
            }
        }
        targets.entry(key).or_default().extend(addresses);
    }
    targets.retain(|_, addresses| !addresses.is_empty());
    targets
}

/// Returns a problem for each intent whose hostname cannot be published, of those that `is_affected` selects.
pub(super) fn report_unpublished(
    outcomes: &Outcomes,
    is_affected: impl Fn(&Hostname) -> bool,
    cause: &str,
) -> BTreeSet<Problem> {
    let named = outcomes.exposures.iter().filter_map(|exposure| {
        let hostname = exposure.hostname.clone()?;
        Some((&exposure.intent, (exposure.intent.namespace.clone(), hostname)))
    });
    let affected = named.filter(|(_, hostname)| is_affected(hostname));
    let problem = |(intent, (_, hostname)): (&ObjectRef, Hostname)| Problem {
        object: intent.clone(),
        verdict: Verdict::Failed,
        reason: NOT_PUBLISHED.to_owned(),
        message: format!("{hostname} is not published: {cause}"),
    };
    affected.map(problem).collect()
}

/// Removes the addresses from `current` that are not desired, and adds none.
pub(super) fn retract(current: &Targets, desired: &Targets) -> Targets {
    let kept = current.iter().filter_map(|(key, addresses)| {
        let kept: BTreeSet<IpAddr> = addresses.intersection(desired.get(key)?).copied().collect();
        (!kept.is_empty()).then(|| (key.clone(), kept))
    });
    kept.collect()
}

/// A `DNSEndpoint` to create, change or delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EndpointChange {
    /// Its namespace
    pub(super) namespace: String,
    /// Its name
    pub(super) name: String,
    /// Its new spec; none to delete it
    pub(super) spec: Option<DNSEndpointSpec>,
}

impl EndpointChange {
    /// Returns the hostname that is published; none if the `DNSEndpoint` is deleted.
    pub(super) fn hostname(&self) -> Option<&str> {
        self.spec.iter().flat_map(|spec| &spec.endpoints).map(|record| record.dns_name.as_str()).next()
    }

    /// Describes the published addresses for the log.
    pub(super) fn describe_targets(&self) -> String {
        let targets = self.spec.iter().flat_map(|spec| &spec.endpoints).flat_map(|record| &record.targets);
        let targets: Vec<&str> = targets.map(String::as_str).collect();
        if targets.is_empty() { "no address any more".to_owned() } else { targets.join(", ") }
    }
}

/// Computes the changes after which the desired addresses are published. `written` are those written last:
/// the index may not have them yet.
pub(super) fn diff_endpoints(
    index: &Index,
    zone: &Zone,
    written: &Targets,
    desired: &Targets,
) -> Vec<EndpointChange> {
    let key = |(namespace, hostname): &Hostname| (namespace.clone(), zone.name(hostname));
    let observed: BTreeMap<NamespacedName, &DNSEndpointSpec> = index
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
    let mut specs: BTreeMap<NamespacedName, Option<DNSEndpointSpec>> = BTreeMap::new();
    specs.extend(observed.keys().cloned().chain(written.keys().map(key)).map(|deleted| (deleted, None)));
    for (hostname, addresses) in desired {
        let spec = zone.spec(&hostname.1, addresses);
        let is_same =
            observed.get(&key(hostname)) == Some(&&spec) && written.get(hostname) == Some(addresses);
        if is_same {
            specs.remove(&key(hostname));
        } else {
            specs.insert(key(hostname), Some(spec));
        }
    }
    specs.into_iter().map(|((namespace, name), spec)| EndpointChange { namespace, name, spec }).collect()
}

#[cfg(test)]
mod tests;
