//! Follows the Kubernetes API: keeps the index true to the cluster, and says when it is not.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures::TryStreamExt;
use kube::api::ApiResource;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::dns::Zone;
use crate::host_port_exposure;
use crate::index::{Index, Object, Watch};
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

/// The index, shared by the watches that feed it and the loops that read it. Each clone sees every change once.
#[derive(Clone)]
pub struct SharedIndex {
    shared: Arc<(Mutex<Index>, watch::Sender<()>)>,
    seen: watch::Receiver<()>,
}

impl SharedIndex {
    /// Wraps an index.
    #[must_use]
    pub fn new(index: Index) -> Self {
        let (changes, seen) = watch::channel(());
        Self { shared: Arc::new((Mutex::new(index), changes)), seen }
    }

    /// The index; hold the guard briefly, every watch waits for it.
    pub fn read(&self) -> MutexGuard<'_, Index> {
        // A panic while the lock was held has aborted that watch, and its content is no worse than before.
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the index, and wakes the readers if `change` says that something changed.
    pub fn update(&self, change: impl FnOnce(&mut Index) -> bool) {
        if change(&mut self.read()) {
            self.shared.1.send_replace(());
        }
    }

    /// Waits for a change that this clone has not seen.
    pub async fn changed(&mut self) {
        // It fails only once nothing can change the index any more, and `self` itself can.
        _ = self.seen.changed().await;
    }
}

/// What has to be listed before anything is complete: what a cluster may not serve too, until discovery has said that
/// it does not.
pub fn expected(zone: Option<&Zone>) -> impl Iterator<Item = Watch> {
    Watch::ALWAYS.into_iter().chain(optional_apis(zone).iter().map(OptionalApi::watch))
}

/// Watches what every cluster serves and whichever of the other kinds this one does, for ever.
///
/// With a zone, our own `DNSEndpoint`s too.
pub async fn cluster(client: Client, index: SharedIndex, zone: Option<Zone>) {
    let all = watcher::Config::default;
    // A pod without a node binds nothing, a finished one nothing any more.
    let pods = all().fields("spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed");
    // A headless Service has no ports on nodes.
    let slices = all().labels("kubernetes.io/service-name,!service.kubernetes.io/headless");
    tokio::join!(
        follow(Api::all(client.clone()), pods, Watch::Pods, Object::Pod, &index),
        follow(Api::all(client.clone()), all(), Watch::Nodes, Object::Node, &index),
        follow(Api::all(client.clone()), all(), Watch::Namespaces, Object::Namespace, &index),
        follow(Api::all(client.clone()), all(), Watch::Services, Object::Service, &index),
        follow(Api::all(client.clone()), slices, Watch::EndpointSlices, Object::EndpointSlice, &index),
        optional(client.clone(), &index, zone),
    );
}

/// Keeps one watch per kind that is served.
async fn optional(client: Client, index: &SharedIndex, zone: Option<Zone>) {
    let mut followed: BTreeMap<&str, (ApiResource, AbortOnDrop)> = BTreeMap::new();
    let mut misses: BTreeMap<&str, u32> = BTreeMap::new();
    loop {
        for wanted in optional_apis(zone.as_ref()) {
            let group = wanted.group;
            match served(&client, wanted).await {
                Ok(Some(api)) => {
                    misses.remove(group);
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
                    let count = misses.entry(group).or_default();
                    *count += 1;
                    if *count == MISSES {
                        followed.remove(group);
                        index.update(|index| index.forget(&wanted.watch()));
                    }
                }
                Err(error) => {
                    let gap = format!("looking up the served APIs failed: {error}");
                    tracing::warn!(api = group, "{gap}");
                    if !followed.contains_key(group) {
                        index.update(|index| index.broken(wanted.watch(), gap));
                    }
                }
            }
        }
        let known =
            |group| followed.contains_key(group) || misses.get(group).is_some_and(|count| *count >= MISSES);
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

/// Follows one kind for ever. Whatever breaks the watch marks its knowledge as partial, until everything has
/// been listed again.
async fn follow<K>(
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
    watch: Watch,
    object: impl Fn(K) -> Object,
    index: &SharedIndex,
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    K::DynamicType: Clone,
{
    let delays = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(Duration::from_secs(30))
        .with_jitter()
        .without_max_times();
    let mut delay = delays.build();
    loop {
        let mut listed = Vec::new();
        let mut events = std::pin::pin!(watcher(api.clone(), config.clone()));
        let broken = loop {
            let event = match events.try_next().await {
                Ok(Some(event)) => event,
                Ok(None) => break "the stream ended".to_owned(),
                Err(error) => break causes(&error),
            };
            match event {
                Event::Init => listed.clear(),
                Event::InitApply(guard) => listed.extend(parsed(&watch, guard).map(&object)),
                Event::InitDone => {
                    let listed = std::mem::take(&mut listed);
                    tracing::debug!(%watch, objects = listed.len(), "listed");
                    index.update(|index| index.reset(watch.clone(), listed));
                    delay = delays.build();
                }
                Event::Apply(guard) => {
                    if let Some(kind) = parsed(&watch, guard) {
                        index.update(|index| index.apply(&watch, object(kind)));
                    }
                }
                Event::Delete(guard) => {
                    if let Some(kind) = parsed(&watch, guard) {
                        index.update(|index| index.delete(&watch, &object(kind)));
                    }
                }
            }
        };
        tracing::warn!(%watch, "the watch broke and will be listed again: {broken}");
        index.update(|index| index.broken(watch.clone(), broken));
        tokio::time::sleep(delay.next().unwrap_or(Duration::from_secs(30))).await;
    }
}

/// An object that does not parse is skipped: it must not blind the controller to all others of its kind.
fn parsed<K: Resource>(watch: &Watch, guard: DeserializeGuard<K>) -> Option<K> {
    match guard.0 {
        Ok(object) => Some(object),
        Err(invalid) => {
            let namespace = invalid.metadata.namespace.as_deref().unwrap_or("");
            let name = invalid.metadata.name.as_deref().unwrap_or("");
            tracing::warn!(%watch, namespace, name, "ignored, because it cannot be read: {}", invalid.error);
            None
        }
    }
}

/// The error with all its causes: kube's own text names the phase, only the cause says what is wrong.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Waits until the index has been complete once.
pub async fn synced(index: &SharedIndex) {
    while !index.read().is_synced() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
