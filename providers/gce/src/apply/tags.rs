//! Adds this cluster's network tags to instances and removes them, and keeps all others.

use std::collections::BTreeSet;

use firewall_core::{Applied, ErrorKind, InstanceId, ProviderError};
use google_cloud_compute_v1::model::Tags;

use super::Context;
use crate::api_calls::ApiCall;
use crate::wire;

/// Most attempts to change the tags of an instance. A concurrent change makes the fingerprint outdated: then
/// the tags are read again.
const MAX_ATTEMPTS: usize = 5;

impl Context<'_> {
    /// Adds the tags that only `to` has, and removes those that only `from` has.
    pub(super) async fn change_tags(
        &self,
        instance: &InstanceId,
        from: &BTreeSet<String>,
        to: &BTreeSet<String>,
    ) -> Result<Applied, ProviderError> {
        let (add, remove) = (to - from, from - to);
        let applied = Applied { ids: vec![instance.to_string()], ..Applied::default() };
        for _ in 0..MAX_ATTEMPTS {
            let Some(found) = self.client.find_instance(instance).await? else {
                return if add.is_empty() { Ok(applied) } else { Err(instance_deleted(instance)) };
            };
            let current: BTreeSet<String> = wire::instance::tags(&found).cloned().collect();
            let wanted: BTreeSet<String> = current.difference(&remove).chain(&add).cloned().collect();
            if wanted == current {
                return Ok(applied);
            }
            let fingerprint = found.tags.and_then(|tags| tags.fingerprint).unwrap_or_default();
            let tags = Tags::new().set_fingerprint(fingerprint).set_items(wanted);
            match self.client.set_tags(instance, tags).await {
                Ok(()) => return Ok(applied),
                Err(error) if error.is_outdated() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(concurrent_modification(instance))
    }
}

fn concurrent_modification(instance: &InstanceId) -> ProviderError {
    let message = format!(
        "its tags were changed concurrently {MAX_ATTEMPTS} times; something else keeps changing them"
    );
    set_tags_error(ErrorKind::Conflict, instance, message)
}

fn instance_deleted(instance: &InstanceId) -> ProviderError {
    set_tags_error(ErrorKind::NotFound, instance, "the instance has been deleted")
}

fn set_tags_error(kind: ErrorKind, instance: &InstanceId, message: impl Into<String>) -> ProviderError {
    ProviderError::new(kind, ApiCall::InstancesSetTags.name(), instance.as_str(), message)
}
