//! What a cluster may serve or not: looks it up, and follows what it finds.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kube::api::ApiResource;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::task::AbortHandle;

use super::follow;
use crate::k8s::dns_zone::Zone;
use crate::k8s::host_port_exposure;
use crate::k8s::index::shared_index::SharedIndex;
use crate::k8s::index::{Object, Watch};
use crate::k8s::objects::Ingress;

/// A kind that a cluster may serve or not, alone in its group as far as we read it.
struct OptionalApi {
    group: &'static str,
    /// The best first
    versions: &'static [&'static str],
    plural: &'static str,
}

/// The groups that can hold Voyager Ingresses, our own kind, and external-dns'.
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

/// What a cluster may serve or not, of which we read something. External-dns' counts only where hostnames are published.
fn optional_apis(zone: Option<&Zone>) -> impl Iterator<Item = &'static OptionalApi> + use<> {
    let publishes = zone.is_some();
    OPTIONAL.iter().filter(move |api| publishes || api.group != EXTERNAL_DNS)
}

/// How often the served APIs are looked up: a CRD installed later is found within this time.
const DISCOVERY_INTERVAL: Duration = Duration::from_mins(2);

/// How often they are looked up until each is known to be served or not.
const UNSETTLED_INTERVAL: Duration = Duration::from_secs(1);

/// How many look-ups in a row must miss a group before it counts as not served.
const MISSES: u32 = 3;

/// For how long they must have missed one that has not been followed. Every start in a cluster without Voyager waits for it.
const ABSENT: Duration = Duration::from_secs(4);

/// For how long they must have missed one that has been followed: a CRD that is deleted and made anew, or an API server
/// that starts behind the same balancer, must not close the ports of everything of the kind.
const GONE: Duration = Duration::from_secs(30);

/// The groups that look-ups miss.
#[derive(Default)]
struct MissingApis(BTreeMap<&'static str, MissingApi>);

struct MissingApi {
    since: Instant,
    look_ups: u32,
    believed: bool,
}

impl MissingApis {
    /// A look-up has missed it.
    fn record_miss(&mut self, group: &'static str, followed: bool, now: Instant) {
        let new = MissingApi { since: now, look_ups: 0, believed: false };
        let absence = self.0.entry(group).or_insert(new);
        absence.look_ups = absence.look_ups.saturating_add(1);
        let long = if followed { GONE } else { ABSENT };
        absence.believed |= absence.look_ups >= MISSES && now.duration_since(absence.since) >= long;
    }

    /// A look-up has failed: nothing is known any more of what was not believed yet.
    fn record_error(&mut self, group: &str) {
        self.0.retain(|missed, absence| *missed != group || absence.believed);
    }

    fn record_found(&mut self, group: &str) {
        self.0.remove(group);
    }

    /// Whether it is missed, be that believed or not.
    fn is_missed(&self, group: &str) -> bool {
        self.0.contains_key(group)
    }

    /// Whether it counts as not served.
    fn is_absent(&self, group: &str) -> bool {
        self.0.get(group).is_some_and(|absence| absence.believed)
    }
}

/// The watches of what a cluster may serve or not.
pub(super) fn watches(zone: Option<&Zone>) -> impl Iterator<Item = Watch> {
    optional_apis(zone).map(OptionalApi::watch)
}

/// Keeps one watch per kind that is served, for ever.
pub(super) async fn cluster(client: Client, index: &SharedIndex, zone: Option<Zone>) {
    let mut followed: BTreeMap<&str, (ApiResource, AbortOnDrop)> = BTreeMap::new();
    let mut missing = MissingApis::default();
    loop {
        for wanted in optional_apis(zone.as_ref()) {
            let group = wanted.group;
            match served(&client, wanted).await {
                Ok(Some(api)) => {
                    missing.record_found(group);
                    if followed.get(group).is_none_or(|(current, _)| *current != api) {
                        let task = tokio::spawn(follow_served(
                            client.clone(),
                            api.clone(),
                            index.clone(),
                            zone.clone(),
                        ));
                        followed.insert(group, (api, AbortOnDrop(task.abort_handle())));
                    }
                }
                Ok(None) => {
                    missing.record_miss(group, followed.contains_key(group), Instant::now());
                    if missing.is_absent(group) {
                        followed.remove(group);
                        index.update(|index| index.drop_kind(&wanted.watch()));
                    }
                }
                Err(error) => {
                    let gap = format!("looking up the served APIs failed: {error}");
                    tracing::warn!(api = group, "{gap}");
                    missing.record_error(group);
                    if !followed.contains_key(group) && !missing.is_absent(group) {
                        index.update(|index| index.mark_incomplete(wanted.watch(), gap));
                    }
                }
            }
        }
        let known =
            |group| missing.is_absent(group) || followed.contains_key(group) && !missing.is_missed(group);
        let settled = optional_apis(zone.as_ref()).all(|wanted| known(wanted.group));
        tokio::time::sleep(if settled { DISCOVERY_INTERVAL } else { UNSETTLED_INTERVAL }).await;
    }
}

async fn follow_served(client: Client, api: ApiResource, index: SharedIndex, zone: Option<Zone>) {
    let config = watcher::Config::default();
    match (api.group.as_str(), zone) {
        (host_port_exposure::GROUP, _) => {
            index.update(|index| index.expect_kind(Watch::HostPortExposures));
            let object = |exposure| Object::HostPortExposure(Box::new(exposure));
            follow(Api::all(client), config, Watch::HostPortExposures, object, &index).await;
        }
        (EXTERNAL_DNS, Some(zone)) => {
            index.update(|index| index.expect_kind(Watch::DNSEndpoints));
            let own = config.labels(&zone.selector());
            follow(Api::all(client), own, Watch::DNSEndpoints, Object::DNSEndpoint, &index).await;
        }
        _ => follow_ingresses(client, api, index).await,
    }
}

async fn follow_ingresses(client: Client, api: ApiResource, index: SharedIndex) {
    let watch = Watch::Ingresses(api.group.clone());
    index.update(|index| index.expect_kind(watch.clone()));
    let version = api.api_version.clone();
    let object = move |mut ingress: Ingress| {
        ingress.api_version = Some(version.clone());
        Object::Ingress(ingress)
    };
    follow(Api::all_with(client, &api), watcher::Config::default(), watch, object, &index).await;
}

/// The best served version of a kind; `None` if the cluster serves none.
///
/// It asks for each version by its path, and not for the list of all groups: an API server that starts lists its own groups
/// before those of CRDs, without a word, while a path that it does not know it answers with 503 until it has read all CRDs.
/// Moments later it serves them; that is what [`ABSENT`] is for. `system:discovery` allows both alike.
async fn served(client: &Client, wanted: &OptionalApi) -> Result<Option<ApiResource>, kube::Error> {
    let OptionalApi { group, versions, plural } = wanted;
    for version in *versions {
        let resources = match client.list_api_group_resources(&format!("{group}/{version}")).await {
            Ok(resources) => resources,
            Err(kube::Error::Api(status)) if status.code == 404 => continue,
            Err(error) => return Err(error),
        };
        if let Some(resource) = resources.resources.iter().find(|resource| resource.name == *plural) {
            return Ok(Some(ApiResource {
                group: (*group).to_owned(),
                version: (*version).to_owned(),
                api_version: format!("{group}/{version}"),
                kind: resource.kind.clone(),
                plural: resource.name.clone(),
            }));
        }
    }
    Ok(None)
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

    /// Since when a group is believed not to be served that is missed at these seconds.
    fn believed_at(followed: bool, seconds: &[u64]) -> Option<u64> {
        let (start, mut missing) = (Instant::now(), MissingApis::default());
        seconds.iter().copied().find(|second| {
            missing.record_miss("a", followed, start + Duration::from_secs(*second));
            assert!(missing.is_missed("a") && !missing.is_missed("b") && !missing.is_absent("b"));
            missing.is_absent("a")
        })
    }

    #[test]
    fn a_group_counts_as_not_served_once_look_ups_in_a_row_have_missed_it_for_long_enough() {
        assert_eq!(believed_at(false, &[0, 1, 2, 3, 4, 5]), Some(4));
        assert_eq!(believed_at(false, &[0, 9, 10]), Some(10), "two look-ups are too few");
        assert_eq!(believed_at(true, &[0, 1, 2, 3, 4, 29, 30, 31]), Some(30));
        assert_eq!(believed_at(true, &[0, 120]), None);
    }

    #[test]
    fn a_look_up_that_fails_or_finds_it_begins_again() {
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
        assert!(missing.is_absent("a"), "a failure says nothing of what is known");
        missing.record_found("a");
        missing.record_miss("a", true, at(100));
        assert!(!missing.is_absent("a"));
    }
}
