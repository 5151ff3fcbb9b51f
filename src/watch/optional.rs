//! What a cluster may serve or not: looks it up, and follows what it finds.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::api::ApiResource;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::task::AbortHandle;

use super::{SharedIndex, follow};
use crate::dns::Zone;
use crate::host_port_exposure;
use crate::index::{Object, Watch};
use crate::objects::Ingress;

/// A kind that a cluster may serve or not, alone in its group as far as we read it.
struct OptionalApi {
    group: &'static str,
    /// The best first
    versions: &'static [&'static str],
    plural: &'static str,
}

/// The groups that can hold Voyager Ingresses, our own kind, and external-dns', which comes last: it counts only where
/// hostnames are published.
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

/// What a cluster may serve or not, of which we read something.
fn optional_apis(zone: Option<&Zone>) -> &'static [OptionalApi] {
    if zone.is_some() { &OPTIONAL } else { &OPTIONAL[..OPTIONAL.len() - 1] }
}

/// How often the served APIs are looked up: a CRD installed later is found within this time.
const DISCOVERY_INTERVAL: Duration = Duration::from_mins(2);

/// How often they are looked up until each is known to be served or not.
const UNSETTLED_INTERVAL: Duration = Duration::from_secs(1);

/// How many look-ups in a row must miss a group before it counts as not served. An API server that starts lists
/// its own groups before those of CRDs: believing the first answer would close every Ingress's ports.
const MISSES: u32 = 3;

/// How many look-ups in a row have missed each group.
#[derive(Default)]
struct Absences(BTreeMap<&'static str, u32>);

impl Absences {
    fn again(&mut self, group: &'static str) {
        let count = self.0.entry(group).or_default();
        *count = count.saturating_add(1);
    }

    fn end(&mut self, group: &str) {
        self.0.remove(group);
    }

    /// Whether it counts as not served. A look-up that fails changes nothing about that.
    fn believed(&self, group: &str) -> bool {
        self.0.get(group).is_some_and(|count| *count >= MISSES)
    }
}

/// The watches of what a cluster may serve or not.
pub(super) fn watches(zone: Option<&Zone>) -> impl Iterator<Item = Watch> {
    optional_apis(zone).iter().map(OptionalApi::watch)
}

/// Keeps one watch per kind that is served, for ever.
pub(super) async fn cluster(client: Client, index: &SharedIndex, zone: Option<Zone>) {
    let mut followed: BTreeMap<&str, (ApiResource, AbortOnDrop)> = BTreeMap::new();
    let mut absences = Absences::default();
    loop {
        for wanted in optional_apis(zone.as_ref()) {
            let group = wanted.group;
            match served(&client, wanted).await {
                Ok(Some(api)) => {
                    absences.end(group);
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
                    absences.again(group);
                    if absences.believed(group) {
                        followed.remove(group);
                        index.update(|index| index.forget(&wanted.watch()));
                    }
                }
                Err(error) => {
                    let gap = format!("looking up the served APIs failed: {error}");
                    tracing::warn!(api = group, "{gap}");
                    if !followed.contains_key(group) && !absences.believed(group) {
                        index.update(|index| index.broken(wanted.watch(), gap));
                    }
                }
            }
        }
        let known = |group| followed.contains_key(group) || absences.believed(group);
        let settled = optional_apis(zone.as_ref()).iter().all(|wanted| known(wanted.group));
        tokio::time::sleep(if settled { DISCOVERY_INTERVAL } else { UNSETTLED_INTERVAL }).await;
    }
}

async fn follow_served(client: Client, api: ApiResource, index: SharedIndex, zone: Option<Zone>) {
    let config = watcher::Config::default();
    match (api.group.as_str(), zone) {
        (host_port_exposure::GROUP, _) => {
            index.update(|index| index.expect(Watch::HostPortExposures));
            let object = |exposure| Object::HostPortExposure(Box::new(exposure));
            follow(Api::all(client), config, Watch::HostPortExposures, object, &index).await;
        }
        (EXTERNAL_DNS, Some(zone)) => {
            index.update(|index| index.expect(Watch::DNSEndpoints));
            let own = config.labels(&zone.selector());
            follow(Api::all(client), own, Watch::DNSEndpoints, Object::DNSEndpoint, &index).await;
        }
        _ => follow_ingresses(client, api, index).await,
    }
}

async fn follow_ingresses(client: Client, api: ApiResource, index: SharedIndex) {
    let watch = Watch::Ingresses(api.group.clone());
    index.update(|index| index.expect(watch.clone()));
    let version = api.api_version.clone();
    let object = move |mut ingress: Ingress| {
        ingress.api_version = Some(version.clone());
        Object::Ingress(ingress)
    };
    follow(Api::all_with(client, &api), watcher::Config::default(), watch, object, &index).await;
}

/// The best served version of a kind; `None` if the cluster serves none.
async fn served(client: &Client, wanted: &OptionalApi) -> Result<Option<ApiResource>, kube::Error> {
    let OptionalApi { group, versions, plural } = wanted;
    let groups = client.list_api_groups().await?;
    let Some(found) = groups.groups.into_iter().find(|candidate| candidate.name == *group) else {
        return Ok(None);
    };
    for version in versions.iter().filter(|wanted| found.versions.iter().any(|v| v.version == **wanted)) {
        let resources = client.list_api_group_resources(&format!("{group}/{version}")).await?;
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

    #[test]
    fn a_group_counts_as_not_served_from_its_third_absence_in_a_row_on() {
        let mut absences = Absences::default();
        let seen: Vec<bool> = (0..5)
            .map(|_| {
                absences.again("a");
                absences.believed("a")
            })
            .collect();
        assert_eq!(seen, [false, false, true, true, true]);
        absences.end("a");
        absences.again("a");
        assert!(!absences.believed("a") && !absences.believed("b"));
    }
}
