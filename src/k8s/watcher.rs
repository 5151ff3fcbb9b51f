//! Follows the Kubernetes API: keeps the index true to the cluster, and says when it is not.

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
use super::index::{Name, Object, Watch};
use super::objects::ObjectRef;
use super::problem::{Problem, Verdict};

/// What has to be listed before anything is complete: what a cluster may not serve too, until discovery has said that
/// it does not.
pub fn expected(zone: Option<&Zone>) -> impl Iterator<Item = Watch> {
    Watch::ALWAYS.into_iter().chain(optional_kinds::watches(zone))
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
        optional_kinds::cluster(client.clone(), &index, zone),
    );
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
        let (mut listed, mut unreadable) = (Vec::new(), Vec::new());
        let mut events = std::pin::pin!(watcher(api.clone(), config.clone()));
        let broken = loop {
            let event = match events.try_next().await {
                Ok(Some(event)) => event,
                Ok(None) => break "the stream ended".to_owned(),
                Err(error) => break causes(&error),
            };
            match event {
                Event::Init => {
                    listed.clear();
                    unreadable.clear();
                }
                Event::InitApply(guard) => match parsed(&watch, guard) {
                    Ok(kind) => listed.push(object(kind)),
                    Err(one) => unreadable.push(one),
                },
                Event::InitDone => {
                    let (listed, unreadable) = (take(&mut listed), take(&mut unreadable));
                    tracing::debug!(%watch, objects = listed.len(), "listed");
                    index.update(|index| {
                        let changed = index.reset(watch.clone(), listed);
                        let refused =
                            unreadable.into_iter().map(|one| index.mark_unreadable(&watch, one.0, one.1));
                        refused.fold(changed, |changed, refused| changed | refused)
                    });
                    delay = delays.build();
                }
                Event::Apply(guard) => {
                    let read = parsed(&watch, guard);
                    index.update(|index| match read {
                        Ok(kind) => index.apply(&watch, object(kind)),
                        Err(one) => index.mark_unreadable(&watch, one.0, one.1),
                    });
                }
                Event::Delete(guard) => index.update(|index| index.delete(&watch, &name(&guard))),
            }
        };
        tracing::warn!(%watch, "the watch broke and will be listed again: {broken}");
        index.update(|index| index.mark_incomplete(watch.clone(), broken));
        tokio::time::sleep(delay.next().unwrap_or(Duration::from_secs(30))).await;
    }
}

/// An object that cannot be read, and what to say of it.
type Unreadable = (Name, Problem);

/// The object; one that cannot be read must not blind the controller to all others of its kind.
fn parsed<K: Resource>(watch: &Watch, guard: DeserializeGuard<K>) -> Result<K, Box<Unreadable>> {
    /// Serde's text can repeat a value, whatever its length.
    const LONGEST: usize = 200;
    let name = name(&guard);
    guard.0.map_err(|InvalidObject { mut error, metadata }| {
        error.truncate(error.floor_char_boundary(LONGEST));
        let (api_version, kind) = watch.kind();
        let object = ObjectRef {
            api_version,
            kind: kind.into(),
            namespace: name.0.clone(),
            name: name.1.clone(),
            uid: metadata.uid.unwrap_or_default(),
        };
        let message = format!("it cannot be read, so nothing of it is opened: {error}");
        let reason = "Unreadable".to_owned();
        Box::new((name, Problem { object, verdict: Verdict::Refused, reason, message }))
    })
}

fn name<K: Resource>(object: &K) -> Name {
    let metadata = object.meta();
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
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
