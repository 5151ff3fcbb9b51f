//! Puts our tags on instances and takes them off, keeping all others.

use std::collections::BTreeSet;

use firewall_core::{Applied, ErrorKind, InstanceId, ProviderError};
use google_cloud_compute_v1::model::Tags;

use super::Context;
use crate::api_calls::ApiCall;
use crate::wire;

/// Somebody who changes the tags between our reading and our writing makes the fingerprint outdated. Read again,
/// this many times.
const MAX_ATTEMPTS: usize = 5;

impl Context<'_> {
    /// Adds what `to` has and `from` has not, and removes the reverse.
    pub(super) async fn retag(
        &self,
        instance: &InstanceId,
        from: &BTreeSet<String>,
        to: &BTreeSet<String>,
    ) -> Result<Applied, ProviderError> {
        let (add, remove) = (to - from, from - to);
        let applied = Applied { ids: vec![instance.to_string()], ..Applied::default() };
        for _ in 0..MAX_ATTEMPTS {
            let Some(found) = self.client.find_instance(instance).await? else {
                return if add.is_empty() { Ok(applied) } else { Err(gone(instance)) };
            };
            let now: BTreeSet<String> = wire::instance::tags(&found).cloned().collect();
            let wanted: BTreeSet<String> = now.difference(&remove).chain(&add).cloned().collect();
            if wanted == now {
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
        Err(ProviderError::new(
            ErrorKind::Conflict,
            ApiCall::InstancesSetTags.to_string(),
            instance.to_string(),
            format!("something else changed its tags {MAX_ATTEMPTS} times in between"),
        ))
    }
}

fn gone(instance: &InstanceId) -> ProviderError {
    ProviderError::new(
        ErrorKind::NotFound,
        ApiCall::InstancesSetTags.to_string(),
        instance.to_string(),
        "the instance has been deleted",
    )
}
