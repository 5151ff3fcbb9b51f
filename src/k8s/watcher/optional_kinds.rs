//! Kinds that a cluster may lack: looks up those that are served, and watches them.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::kind::Kind;
use super::kind_watch::watch_kind;
use super::progress::Progress;
use crate::k8s::dns_zone::Zone;
use crate::k8s::host_port_exposure;
use crate::k8s::index::Watch;
use crate::k8s::index::shared_index::SharedIndex;

/// A kind that a cluster may lack, and the only kind of its group that is read.
struct OptionalApi {
    group: &'static str,
    /// The best first
    versions: &'static [&'static str],
    plural: &'static str,
}

/// The groups that can hold Voyager Ingresses, `HostPortExposure`s and external-dns' `DNSEndpoint`s.
const OPTIONAL: [OptionalApi; 4] = [
    OptionalApi { group: "networking.k8s.io", versions: &["v1"], plural: "ingresses" },
    OptionalApi { group: "voyager.appscode.com", versions: &["v1", "v1beta1"], plural: "ingresses" },
    OptionalApi {
        group: host_port_exposure::GROUP,
        versions: host_port_exposure::VERSIONS,
        plural: "hostportexposures",
    },
    OptionalApi { group: EXTERNAL_DNS, versions: &["v1alpha1"], plural: "dnsendpoints" },
];

const EXTERNAL_DNS: &str = "externaldns.k8s.io";

impl OptionalApi {
    fn watch(&self) -> Watch {
        match self.group {
            host_port_exposure::GROUP => Watch::HostPortExposures,
            EXTERNAL_DNS => Watch::DNSEndpoints,
            group => Watch::Ingresses(group.to_owned()),
        }
    }
}

/// Returns the kinds to look up: external-dns' only where hostnames are published.
fn optional_apis(zone: Option<&Zone>) -> impl Iterator<Item = &'static OptionalApi> + use<> {
    let publishes = zone.is_some();
    OPTIONAL.iter().filter(move |api| publishes || api.group != EXTERNAL_DNS)
}

/// The time between two look-ups of the served APIs: a CRD installed later is found within it.
const DISCOVERY_INTERVAL: Duration = Duration::from_mins(2);

/// The time between two look-ups until each API is found or counts as absent.
const UNSETTLED_INTERVAL: Duration = Duration::from_secs(1);

/// The number of look-ups in a row that must miss a group before it counts as absent.
const MIN_MISSES: u32 = 3;

/// The time for which they must have missed a group that is not watched, where its CRD may not be read: every
/// start in a cluster without Voyager takes it then.
const ABSENT_AFTER: Duration = Duration::from_secs(4);

/// The time for which they must have missed a group that is watched: a CRD that is deleted and created again,
/// or an API server that starts behind the same load balancer, must not close the ports of all objects of the
/// kind.
const GONE_AFTER: Duration = Duration::from_secs(30);

/// The groups that look-ups miss.
#[derive(Default)]
struct MissingApis(BTreeMap<&'static str, MissingApi>);

struct MissingApi {
    /// The time of the first look-up that missed it
    since: Instant,
    /// The number of look-ups in a row that missed it
    misses: u32,
    /// True once these are enough for it to count as absent
    is_confirmed: bool,
}

impl MissingApis {
    /// Records that a look-up has missed the group.
    fn record_miss(&mut self, group: &'static str, is_watched: bool, now: Instant) {
        let first = MissingApi { since: now, misses: 0, is_confirmed: false };
        let missing = self.0.entry(group).or_insert(first);
        missing.misses = missing.misses.saturating_add(1);
        let required = if is_watched { GONE_AFTER } else { ABSENT_AFTER };
        missing.is_confirmed |= missing.misses >= MIN_MISSES && now.duration_since(missing.since) >= required;
    }

    /// Records that a group is known to be absent.
    fn confirm(&mut self, group: &'static str) {
        if let Some(missing) = self.0.get_mut(group) {
            missing.is_confirmed = true;
        }
    }

    /// Records that a look-up has failed: a group that does not count as absent yet has to be missed anew.
    fn record_error(&mut self, group: &str) {
        self.0.retain(|missed, missing| *missed != group || missing.is_confirmed);
    }

    /// Records that a look-up has found the group.
    fn record_found(&mut self, group: &str) {
        self.0.remove(group);
    }

    /// Returns true if the last look-up missed the group, confirmed or not.
    fn is_missed(&self, group: &str) -> bool {
        self.0.contains_key(group)
    }

    /// Returns true if the group counts as absent.
    fn is_absent(&self, group: &str) -> bool {
        self.0.get(group).is_some_and(|missing| missing.is_confirmed)
    }
}

/// Returns the watches of the kinds that a cluster may lack.
pub(super) fn optional_watches(zone: Option<&Zone>) -> impl Iterator<Item = Watch> {
    optional_apis(zone).map(OptionalApi::watch)
}

/// Keeps one watch per served kind, forever.
pub(super) async fn watch_optional_kinds(
    client: Client,
    index: &SharedIndex,
    zone: Option<Zone>,
    progress: &Progress,
) {
    let mut watched: BTreeMap<&str, (&str, AbortOnDrop)> = BTreeMap::new();
    let mut missing = MissingApis::default();
    loop {
        for optional in optional_apis(zone.as_ref()) {
            let group = optional.group;
            match look_up(&client, optional).await {
                Ok(LookUp::Served(version)) => {
                    missing.record_found(group);
                    if watched.get(group).is_none_or(|(current, _)| *current != version) {
                        index.update(|index| index.expect_kind(optional.watch()));
                        let (client, index, progress) = (client.clone(), index.clone(), progress.clone());
                        let kind = kind(optional, version, zone.as_ref());
                        let task =
                            tokio::spawn(async move { watch_kind(client, kind, &index, &progress).await });
                        watched.insert(group, (version, AbortOnDrop(task.abort_handle())));
                    }
                }
                Ok(found) => {
                    let is_watched = watched.contains_key(group);
                    missing.record_miss(group, is_watched, Instant::now());
                    if found == LookUp::Absent && !is_watched {
                        missing.confirm(group);
                    }
                    if missing.is_absent(group) {
                        watched.remove(group);
                        index.update(|index| index.drop_kind(&optional.watch()));
                    }
                }
                Err(error) => {
                    let gap = format!("looking up the served APIs failed: {error}");
                    tracing::warn!(api = group, "{gap}");
                    missing.record_error(group);
                    if !watched.contains_key(group) && !missing.is_absent(group) {
                        index.update(|index| index.mark_incomplete(optional.watch(), gap));
                    }
                }
            }
        }
        let is_settled =
            |group| missing.is_absent(group) || watched.contains_key(group) && !missing.is_missed(group);
        let all_settled = optional_apis(zone.as_ref()).all(|optional| is_settled(optional.group));
        tokio::time::sleep(if all_settled { DISCOVERY_INTERVAL } else { UNSETTLED_INTERVAL }).await;
    }
}

/// Returns the kind to watch, in the version that is served.
fn kind(optional: &OptionalApi, version: &str, zone: Option<&Zone>) -> Kind {
    let kind = Kind::new(optional.watch()).version(format!("{}/{version}", optional.group));
    match zone {
        Some(zone) if optional.group == EXTERNAL_DNS => kind.labels(&zone.selector()),
        _ => kind,
    }
}

/// The answer of a look-up.
#[derive(Debug, PartialEq, Eq)]
enum LookUp {
    /// The best version of it
    Served(&'static str),
    /// It is not served, and nothing defines it
    Absent,
    /// It is not served, which may be because the API server has only just started
    Missed,
}

/// Looks up the best served version of a kind.
///
/// It requests each version by its path, and not the list of all groups: a starting API server lists its own
/// groups before those of CRDs without any sign of it, but answers an unknown path with 503 until it has read
/// all CRDs. It serves them moments later. So a kind that is not served is absent only if its CRD, read from
/// etcd, does not exist either; without the permission to read it, [`ABSENT_AFTER`] has to pass.
/// `system:discovery` permits the requests of paths.
async fn look_up(client: &Client, optional: &OptionalApi) -> Result<LookUp, kube::Error> {
    let OptionalApi { group, versions, plural } = optional;
    for version in *versions {
        let resources = match client.list_api_group_resources(&format!("{group}/{version}")).await {
            Ok(resources) => resources,
            Err(kube::Error::Api(status)) if status.code == 404 => continue,
            Err(error) => return Err(error),
        };
        if resources.resources.iter().any(|resource| resource.name == *plural) {
            return Ok(LookUp::Served(version));
        }
    }
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    match definitions.get_metadata(&format!("{plural}.{group}")).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(LookUp::Absent),
        Ok(_) | Err(_) => Ok(LookUp::Missed),
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the second from which a group counts as absent that look-ups miss at these seconds.
    fn absent_from(is_watched: bool, seconds: &[u64]) -> Option<u64> {
        let (start, mut missing) = (Instant::now(), MissingApis::default());
        seconds.iter().copied().find(|second| {
            missing.record_miss("a", is_watched, start + Duration::from_secs(*second));
            assert!(missing.is_missed("a") && !missing.is_missed("b") && !missing.is_absent("b"));
            missing.is_absent("a")
        })
    }

    #[test]
    fn group_is_absent_after_enough_misses_and_time() {
        assert_eq!(absent_from(false, &[0, 1, 2, 3, 4, 5]), Some(4));
        assert_eq!(absent_from(false, &[0, 9, 10]), Some(10), "two look-ups are too few");
        assert_eq!(absent_from(true, &[0, 1, 2, 3, 4, 29, 30, 31]), Some(30));
        assert_eq!(absent_from(true, &[0, 120]), None);
    }

    #[test]
    fn failed_or_successful_look_up_restarts_the_count() {
        let now = Instant::now();
        let at = |second| now + Duration::from_secs(second);
        let mut missing = MissingApis::default();
        for second in [0, 1, 2] {
            missing.record_miss("a", false, at(second));
        }
        missing.record_error("a");
        for second in [5, 6, 7, 9] {
            assert!(!missing.is_absent("a"), "{second}");
            missing.record_miss("a", false, at(second));
        }
        assert!(missing.is_absent("a"));
        missing.record_error("a");
        assert!(missing.is_absent("a"), "a failure does not unconfirm it");
        missing.record_found("a");
        missing.record_miss("a", true, at(100));
        assert!(!missing.is_absent("a"));
    }
}
