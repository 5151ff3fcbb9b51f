//! Operations, which mutating calls start, and which have their effect when they end.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::error::ApiError;
use crate::firewall::API;

/// The effect that an operation has when it ends
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    /// A rule is created or replaced
    Put(Value),
    /// The rule of this name is removed
    Remove(String),
    /// An instance gets these tags, if its fingerprint is still this one
    Tags { zone: String, instance: String, tags: BTreeSet<String>, fingerprint: String },
    /// No effect: it happened at once, or the operation fails
    None,
}

/// The error of a failed operation
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self { status: error.status, code: error.code(), message: error.message }
    }
}

/// One operation
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) id: u64,
    pub(crate) project: String,
    /// `None` for a global one
    pub(crate) zone: Option<String>,
    /// `insert`, `patch`, …
    pub(crate) kind: String,
    /// The path of the resource that it changes, below the API
    pub(crate) target: String,
    pub(crate) target_id: u64,
    pub(crate) effect: Effect,
    pub(crate) failure: Option<Failure>,
    pub(crate) inserted: String,
    pub(crate) ended: Option<String>,
    pub(crate) ends: Instant,
    pub(crate) done: bool,
}

impl Operation {
    /// Returns the operation's name.
    pub(crate) fn name(&self) -> String {
        format!("operation-{:013}-{:x}", self.id, self.id)
    }

    /// Returns the operation as the API shows it.
    pub(crate) fn to_json(&self) -> Value {
        let scope = self.zone.as_ref().map_or_else(|| "global".to_owned(), |zone| format!("zones/{zone}"));
        let link = format!("{API}/projects/{}/{scope}/operations/{}", self.project, self.name());
        let mut shown = json!({
            "kind": "compute#operation",
            "id": self.id.to_string(),
            "name": self.name(),
            "operationType": self.kind,
            "targetLink": format!("{API}/{}", self.target),
            "targetId": self.target_id.to_string(),
            "status": if self.done { "DONE" } else { "RUNNING" },
            "user": "simulator@developer.gserviceaccount.com",
            "progress": if self.done { 100 } else { 0 },
            "insertTime": self.inserted,
            "startTime": self.inserted,
            "selfLink": link,
        });
        if let Some(zone) = &self.zone {
            shown["zone"] = json!(format!("{API}/projects/{}/zones/{zone}", self.project));
        }
        if let Some(Failure { status, code, message }) = self.failure.as_ref().filter(|_| self.done) {
            shown["error"] = json!({ "errors": [{ "code": code, "message": message }] });
            shown["httpErrorStatusCode"] = json!(status);
            shown["httpErrorMessage"] = json!(code.replace('_', " "));
        }
        if let Some(ended) = &self.ended {
            shown["endTime"] = json!(ended);
        }
        shown
    }
}
