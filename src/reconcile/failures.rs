//! What the cloud refused: remembered, left alone for a while, and told.

use std::collections::BTreeMap;

use firewall_model::{ProviderError, Resource, Step};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::execute::Outcome;
use crate::notice::{Notice, Verdict};
use crate::objects::ObjectRef;

/// What has failed, and how long it is left alone.
pub(super) struct Failures<K> {
    pub(super) backoff: Backoff<K>,
    pub(super) errors: BTreeMap<K, ProviderError>,
}

impl<K: Ord + Clone + std::fmt::Display> Failures<K> {
    pub(super) fn none() -> Self {
        Self { backoff: Backoff::default(), errors: BTreeMap::new() }
    }

    /// Logs what became of a step, and remembers what failed.
    pub(super) fn learn<R: Resource<Key = K>>(&mut self, step: &Step<R>, outcome: &Outcome) {
        let (key, verb) = (step.action.key(), step.action.verb());
        match outcome {
            Outcome::Applied(applied) => {
                self.backoff.worked(&key);
                self.errors.remove(&key);
                tracing::info!(resource = %key, ids = applied.ids.join(" "), "{verb}: {}", step.why);
                for note in &applied.notes {
                    tracing::warn!(resource = %key, "{note}");
                }
            }
            Outcome::Failed(error) => {
                tracing::warn!(resource = %key, reason = error.reason(), "{verb}: {error}");
                // What nobody asks for any more has no object to put an Event on.
                if let ProviderError::Denied { instead: Some(command), .. } = error {
                    tracing::warn!(resource = %key, "somebody with the permission can run: {command}");
                }
                self.backoff.failed(key.clone(), error, Instant::now());
                self.errors.insert(key, error.clone());
            }
            Outcome::LeftOut | Outcome::Stopped => {}
        }
    }

    /// Forgets what failed with resources that are not known any more.
    pub(super) fn retain(&mut self, known: impl Fn(&K) -> bool) {
        self.backoff.retain(&known);
        self.errors.retain(|key, _| known(key));
    }
}

/// What failed, and the command that somebody else can run instead, if there is one: apart, so that it can be copied.
pub(super) fn failed(object: &ObjectRef, error: &ProviderError) -> Vec<Notice> {
    let notice = |reason: &str, message| Notice {
        object: object.clone(),
        verdict: Verdict::Failed,
        reason: reason.to_owned(),
        message,
    };
    let mut notices = vec![notice(error.reason(), error.to_string())];
    if let ProviderError::Denied { instead: Some(command), .. } = error {
        notices
            .push(notice("ManualChangeRequired", format!("somebody with the permission can run: {command}")));
    }
    notices
}
