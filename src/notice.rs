//! Notices: what somebody must know about an object, as a log line and a Kubernetes Event, said once.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use serde::Serialize;

use crate::objects::ObjectRef;

/// Events carry at most 1,024 bytes of text; what is longer is refused by the API server.
const LONGEST_NOTE: usize = 1024;

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

/// Says each notice once, and again only after it had gone.
pub struct Notices {
    recorder: Option<Recorder>,
    said: BTreeSet<Notice>,
}

impl Notices {
    /// Notices that go to the log only.
    #[must_use]
    pub const fn to_log() -> Self {
        Self { recorder: None, said: BTreeSet::new() }
    }

    /// Notices that also become Events on their objects, reported by `instance` (the pod's name).
    #[must_use]
    pub fn to_cluster(client: Client, instance: &str) -> Self {
        let reporter =
            Reporter { controller: "hostport-firewall".to_owned(), instance: Some(instance.to_owned()) };
        Self { recorder: Some(Recorder::new(client, reporter)), said: BTreeSet::new() }
    }

    /// Says what is new among all that holds now.
    pub async fn say(&mut self, now: BTreeSet<Notice>) {
        for notice in now.difference(&self.said) {
            tracing::warn!(object = %notice.object, reason = notice.reason, "{}", notice.message);
            if let Some(recorder) = &self.recorder {
                publish(recorder, notice).await;
            }
        }
        self.said = now;
    }
}

/// An Event that cannot be written is logged and forgotten: it is a courtesy, not a duty.
async fn publish(recorder: &Recorder, notice: &Notice) {
    let object = &notice.object;
    let note = notice.message[..notice.message.floor_char_boundary(LONGEST_NOTE)].to_owned();
    let event = Event {
        type_: EventType::Warning,
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
