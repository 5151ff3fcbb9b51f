//! Watches: streams of the changes of a kind.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures::stream::unfold;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::Kind;
use super::request::Selector;
use super::server::Shared;
use super::store::Change;
use crate::process::Process;

/// The time after which a watch that is quiet hears of the version.
const BOOKMARK: Duration = Duration::from_mins(1);

/// One watch of one client.
pub(super) struct Watch {
    pub(super) shared: Arc<Shared>,
    pub(super) process: Process,
    pub(super) kind: Kind,
    pub(super) namespace: Option<String>,
    pub(super) selector: Selector,
    /// The version up to which it has been told
    pub(super) version: u64,
    /// The number of breaks before it began
    pub(super) breaks: u64,
    pub(super) ends: Instant,
    pub(super) wants_bookmarks: bool,
    pub(super) changes: watch::Receiver<u64>,
}

impl Watch {
    /// Returns the body of the answer.
    pub(super) fn body(self) -> Body {
        Body::from_stream(unfold(Some(self), |watch| async move {
            let mut watch = watch?;
            let (chunk, goes_on) = watch.next().await?;
            Some((Ok::<_, Infallible>(chunk), goes_on.then_some(watch)))
        }))
    }

    /// Returns the next part of the answer, and false if it is the last; none if the watch has broken.
    async fn next(&mut self) -> Option<(Bytes, bool)> {
        loop {
            self.process.pause_if_dead().await;
            let (chunk, lag, is_broken) = self.read();
            if is_broken {
                return None;
            }
            if let Some(chunk) = chunk {
                sleep(lag).await;
                self.process.pause_if_dead().await;
                return Some((chunk, true));
            }
            tokio::select! {
                biased;
                changed = self.changes.changed() => changed.ok()?,
                () = sleep_until(self.ends) => return self.wants_bookmarks.then(|| (self.bookmark(), false)),
                () = sleep(BOOKMARK), if self.wants_bookmarks => return Some((self.bookmark(), true)),
            }
        }
    }

    /// Reads what has changed.
    fn read(&mut self) -> (Option<Bytes>, Duration, bool) {
        let state = self.shared.lock();
        let faults = &state.faults;
        if faults.breaks.get(&self.kind).copied().unwrap_or_default() != self.breaks {
            return (None, faults.lag, true);
        }
        let mut lines = String::new();
        for change in state.store.changes_since(self.kind, self.version) {
            if let Some((kind, object)) = self.event(change) {
                lines += &json!({ "type": kind, "object": object }).to_string();
                lines.push('\n');
            }
        }
        self.version = state.store.version();
        ((!lines.is_empty()).then(|| lines.into()), faults.lag, false)
    }

    /// Returns the event by which this watch is told of a change, if it is.
    fn event(&self, change: &Change) -> Option<(&'static str, Value)> {
        let selected = |object: &Option<Value>| {
            object.as_ref().is_some_and(|object| {
                let namespace = object["metadata"]["namespace"].as_str();
                self.selector.selects(object)
                    && self.namespace.as_deref().is_none_or(|own| namespace == Some(own))
            })
        };
        match (selected(&change.before), selected(&change.after)) {
            (false, true) => Some(("ADDED", change.after.clone()?)),
            (true, true) => Some(("MODIFIED", change.after.clone()?)),
            (true, false) => {
                let mut gone = change.after.clone().or_else(|| change.before.clone())?;
                gone["metadata"]["resourceVersion"] = json!(change.version.to_string());
                Some(("DELETED", gone))
            }
            (false, false) => None,
        }
    }

    fn bookmark(&self) -> Bytes {
        let object = json!({
            "apiVersion": self.kind.api_version(),
            "kind": self.kind.names().3,
            "metadata": { "resourceVersion": self.version.to_string() },
        });
        format!("{}\n", json!({ "type": "BOOKMARK", "object": object })).into()
    }
}
