//! Watches the Kubernetes API: keeps the index equal to the cluster, and marks it incomplete while it may not
//! be.

mod optional_kinds;

use std::fmt::Debug;
use std::mem::take;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures::TryStreamExt;
use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::dns_zone::Zone;
use super::index::shared_index::SharedIndex;
use super::index::{NamespacedName, Object, Watch};
use super::objects::ObjectRef;
use super::problem::{Problem, Verdict};
use super::reasons::UNREADABLE;

/// The longest time between the break of a watch and the next attempt.
const RETRY: Duration = Duration::from_secs(30);

/// Returns the watches that have to be listed before the index is complete. Kinds that a cluster may lack are
/// among them, until discovery has found that they are not served.
pub(crate) fn expected_watches(zone: Option<&Zone>) -> impl Iterator<Item = Watch> {
    Watch::ALWAYS.into_iter().chain(optional_kinds::optional_watches(zone))
}

/// Watches the kinds that every cluster serves, and those of the others that this one does, forever.
///
/// With a zone, the `DNSEndpoint`s of that zone too.
pub(crate) async fn watch_cluster(client: Client, index: SharedIndex, zone: Option<Zone>) {
    let all = watcher::Config::default;
    // A pod without a node binds no port yet, a finished one none any more.
    let pods = all().fields("spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed");
    // A headless Service has no ports on nodes.
    let slices = all().labels("kubernetes.io/service-name,!service.kubernetes.io/headless");
    tokio::join!(
        watch_kind(Api::all(client.clone()), pods, Watch::Pods, Object::Pod, &index),
        watch_kind(Api::all(client.clone()), all(), Watch::Nodes, Object::Node, &index),
        watch_kind(Api::all(client.clone()), all(), Watch::Namespaces, Object::Namespace, &index),
        watch_kind(Api::all(client.clone()), all(), Watch::Services, Object::Service, &index),
        watch_kind(Api::all(client.clone()), slices, Watch::EndpointSlices, Object::EndpointSlice, &index),
        optional_kinds::watch_optional_kinds(client.clone(), &index, zone),
    );
}

/// Watches one kind forever. When the watch breaks, the index is incomplete until everything has been listed
/// again.
async fn watch_kind<K>(
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
        .with_max_delay(RETRY)
        .with_jitter()
        .without_max_times();
    let mut delay = delays.build();
    loop {
        let (mut listed, mut unreadable) = (Vec::new(), Vec::new());
        let mut events = std::pin::pin!(watcher(api.clone(), config.clone()));
        let failure = loop {
            let event = match events.try_next().await {
                Ok(Some(event)) => event,
                Ok(None) => break "the stream ended".to_owned(),
                Err(error) => break error_with_causes(&error),
            };
            match event {
                Event::Init => {
                    listed.clear();
                    unreadable.clear();
                }
                Event::InitApply(guard) => match parse_object(&watch, guard) {
                    Ok(kind) => listed.push(object(kind)),
                    Err(one) => unreadable.push(one),
                },
                Event::InitDone => {
                    let (listed, unreadable) = (take(&mut listed), take(&mut unreadable));
                    tracing::debug!(%watch, objects = listed.len(), "listed");
                    index.update(|index| {
                        let mut changed = index.reset(watch.clone(), listed);
                        for one in unreadable {
                            changed |= index.mark_unreadable(&watch, one.0, one.1);
                        }
                        changed
                    });
                    delay = delays.build();
                }
                Event::Apply(guard) => {
                    let parsed = parse_object(&watch, guard);
                    index.update(|index| match parsed {
                        Ok(kind) => index.apply(&watch, object(kind)),
                        Err(one) => index.mark_unreadable(&watch, one.0, one.1),
                    });
                }
                Event::Delete(guard) => index.update(|index| index.delete(&watch, &name_of(&guard))),
            }
        };
        tracing::warn!(%watch, "the watch broke and will be listed again: {failure}");
        index.update(|index| index.mark_incomplete(watch.clone(), failure));
        tokio::time::sleep(delay.next().unwrap_or(RETRY)).await;
    }
}

/// An object that cannot be read, with its problem.
type Unreadable = (NamespacedName, Problem);

/// Returns the object, or its problem: one object that cannot be read must not hide all others of its kind.
fn parse_object<K: Resource>(watch: &Watch, guard: DeserializeGuard<K>) -> Result<K, Box<Unreadable>> {
    /// In bytes. Serde's text can repeat a value of any length.
    const MAX_ERROR_LENGTH: usize = 200;
    let name = name_of(&guard);
    guard.0.map_err(|InvalidObject { mut error, metadata }| {
        error.truncate(error.floor_char_boundary(MAX_ERROR_LENGTH));
        let (api_version, kind) = watch.kind();
        let object = ObjectRef {
            api_version,
            kind: kind.into(),
            namespace: name.0.clone(),
            name: name.1.clone(),
            uid: metadata.uid.unwrap_or_default(),
        };
        let message = format!("it cannot be read, so none of its ports is opened: {error}");
        Box::new((name, Problem::new(object, Verdict::Rejected, UNREADABLE, message)))
    })
}

fn name_of<K: Resource>(object: &K) -> NamespacedName {
    let metadata = object.meta();
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

/// Returns the error's text with those of all its causes: kube's own text names the phase, only the causes
/// the fault.
fn error_with_causes(error: &dyn std::error::Error) -> String {
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
