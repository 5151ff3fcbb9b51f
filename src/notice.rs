//! Notices: what somebody must know about an object, as a log line and a Kubernetes Event, said once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use serde::Serialize;
use tokio::sync::Mutex;

use crate::objects::ObjectRef;

/// Events carry at most 1,024 bytes of text; what is longer is refused by the API server.
const LONGEST_NOTE: usize = 1024;

/// How a text that is too long for an Event ends.
const CUT: &str = "… (cut; in full in the controller's log)";

/// Something wrong with one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Notice {
    /// The object it concerns
    pub object: ObjectRef,
    /// One word in `CamelCase`
    pub reason: String,
    /// What is wrong and what to do about it
    pub message: String,
}

/// Says each notice once, and again only after it had gone. Clones speak with one voice.
#[derive(Clone)]
pub struct Notices(Arc<Mutex<Said>>);

struct Said {
    recorder: Option<Recorder>,
    /// What holds, by who found it: two clouds can find the same
    by_source: BTreeMap<&'static str, BTreeSet<Notice>>,
}

impl Notices {
    /// Notices that go to the log only.
    #[must_use]
    pub fn to_log() -> Self {
        Self::new(None)
    }

    /// Notices that also become Events on their objects, reported by `instance` (the pod's name).
    #[must_use]
    pub fn to_cluster(client: Client, instance: &str) -> Self {
        let reporter =
            Reporter { controller: "hostport-firewall".to_owned(), instance: Some(instance.to_owned()) };
        Self::new(Some(Recorder::new(client, reporter)))
    }

    fn new(recorder: Option<Recorder>) -> Self {
        Self(Arc::new(Mutex::new(Said { recorder, by_source: BTreeMap::new() })))
    }

    /// Says what is new among all that `source` finds to hold now.
    pub async fn say(&self, source: &'static str, now: BTreeSet<Notice>) {
        // Held while Events are written, so that no two say the same at once.
        let mut said = self.0.lock().await;
        for notice in &now {
            if said.by_source.values().any(|said| said.contains(notice)) {
                continue;
            }
            tracing::warn!(object = %notice.object, reason = notice.reason, "{}", notice.message);
            if let Some(recorder) = &said.recorder {
                publish(recorder, notice, EventType::Warning).await;
            }
        }
        said.by_source.insert(source, now);
    }

    /// Says what has just happened: each time it does.
    pub async fn announce(&self, happened: Vec<Notice>) {
        let said = self.0.lock().await;
        let Some(recorder) = &said.recorder else { return };
        for notice in &happened {
            publish(recorder, notice, EventType::Normal).await;
        }
    }
}

/// An Event that cannot be written is logged and forgotten: it is a courtesy, not a duty.
async fn publish(recorder: &Recorder, notice: &Notice, kind: EventType) {
    let object = &notice.object;
    let mut note = notice.message.clone();
    if note.len() > LONGEST_NOTE {
        note.truncate(note.floor_char_boundary(LONGEST_NOTE - CUT.len()));
        note += CUT;
    }
    let event = Event {
        type_: kind,
        reason: notice.reason.clone(),
        note: Some(note),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    let reference = ObjectReference {
        api_version: Some(object.api_version.to_string()),
        kind: Some(object.kind.to_string()),
        name: Some(object.name.clone()),
        namespace: Some(object.namespace.clone()).filter(|namespace| !namespace.is_empty()),
        uid: Some(object.uid.clone()).filter(|uid| !uid.is_empty()),
        ..ObjectReference::default()
    };
    if let Err(error) = recorder.publish(&event, &reference).await {
        tracing::warn!(object = %object, "cannot write an Event: {error}");
    }
}
