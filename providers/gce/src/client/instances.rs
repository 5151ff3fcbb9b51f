//! Calls on instances and their network tags.

use firewall_core::InstanceId;
use firewall_pacing::{Attempt, Retryable};
use google_cloud_compute_v1::model::instance_list::warning as list_warning;
use google_cloud_compute_v1::model::instances_scoped_list::warning as scope_warning;
use google_cloud_compute_v1::model::{Instance, Tags};
use google_cloud_gax::options::RequestOptionsBuilder;
use reqwest::header::{HeaderName, HeaderValue};

use super::{Client, MAX_NAMES_IN_FILTER, PAGE_SIZE, PollTransient, new_request_id, none_if_not_found};
use crate::api_calls::ApiCall;
use crate::instance_cache::{Answer, UnreadZone};
use crate::provider_id::Location;
use crate::wire::error::CallError;
use crate::wire::instance;

/// The header that selects the fields of an answer, and the fields that are used. Without it an instance comes
/// with its metadata, which is tens of kilobytes on GKE.
const FIELD_MASK: HeaderName = HeaderName::from_static("x-goog-fieldmask");
const INSTANCE_FIELDS: &str = "items(name,zone,tags,networkInterfaces(network,networkIP,ipv6Address,\
    ipv6AccessConfigs)),nextPageToken,warning";

/// Returns the reason for a zone that Google cannot reach itself.
fn unreachable(zone: &str) -> UnreadZone {
    UnreadZone::NoAnswer(format!("Compute Engine cannot reach zone {zone} (UNREACHABLE)"))
}

impl Client {
    /// Returns the instances of one zone with these names, as far as they exist. May return others of the
    /// zone too. That the zone does not answer is part of the answer. `prefix` is the prefix of the cluster's tags.
    pub(crate) async fn list_instances(
        &self,
        zone: &str,
        names: &[&str],
        prefix: &str,
    ) -> Result<Answer, CallError> {
        let mut request = self
            .instances
            .list()
            .set_project(&self.project)
            .set_zone(zone)
            .set_max_results(PAGE_SIZE)
            .with_custom_header(FIELD_MASK, HeaderValue::from_static(INSTANCE_FIELDS));
        if names.len() <= MAX_NAMES_IN_FILTER {
            request = request.set_filter(format!("name eq \"({})\"", names.join("|")));
        }
        let object = format!("projects/{}/zones/{zone}", self.project);
        let unread = |reason| Answer { unread: [(zone.to_owned(), reason)].into(), ..Answer::default() };
        let (mut answer, mut token) = (Answer::default(), String::new());
        loop {
            let request = || request.clone().set_page_token(&token).send();
            let page = match self.call(ApiCall::InstancesList, &object, request).await {
                Ok(page) => page,
                Err(error) if error.is_not_found() => {
                    return Ok(unread(UnreadZone::NotFound(error.to_string())));
                }
                Err(error) if error.attempt() != Attempt::Final => {
                    return Ok(unread(UnreadZone::NoAnswer(error.to_string())));
                }
                Err(error) => return Err(error),
            };
            if page.warning.and_then(|warning| warning.code) == Some(list_warning::Code::Unreachable) {
                return Ok(unread(unreachable(zone)));
            }
            page.items.into_iter().for_each(|instance| self.add_facts(&mut answer, &instance, prefix));
            token = page.next_page_token.unwrap_or_default();
            if token.is_empty() {
                return Ok(answer);
            }
        }
    }

    /// Returns all instances of the project, without those of the zones that cannot be reached. `prefix` is the prefix
    /// of the cluster's tags.
    pub(crate) async fn list_all_instances(&self, prefix: &str) -> Result<Answer, CallError> {
        let request = self.instances.aggregated_list().set_project(&self.project).set_max_results(PAGE_SIZE);
        let object = format!("projects/{}", self.project);
        let (mut answer, mut token) = (Answer::default(), String::new());
        loop {
            let request = || request.clone().set_page_token(&token).send();
            let page = self.call(ApiCall::InstancesAggregatedList, &object, request).await?;
            let mut unread = page.unreachables;
            for (scope, list) in page.items {
                let code = list.warning.and_then(|warning| warning.code);
                unread.extend((code == Some(scope_warning::Code::Unreachable)).then_some(scope));
                list.instances
                    .into_iter()
                    .for_each(|instance| self.add_facts(&mut answer, &instance, prefix));
            }
            // A scope is written as `zones/NAME`, alone or at the end of a URL.
            let zones = unread.iter().filter_map(|scope| scope.rsplit('/').next());
            answer.unread.extend(zones.map(|zone| (zone.to_owned(), unreachable(zone))));
            token = page.next_page_token.unwrap_or_default();
            if token.is_empty() {
                return Ok(answer);
            }
        }
    }

    /// Adds what is needed of an instance: the whole of thousands takes tens of megabytes.
    fn add_facts(&self, answer: &mut Answer, instance: &Instance, prefix: &str) {
        if let Some(id) = instance::id(instance, &self.project) {
            answer.instances.insert(InstanceId::new(id), instance::facts(instance, prefix));
        }
    }

    /// Returns the instance, if it exists.
    pub(crate) async fn find_instance(&self, id: &InstanceId) -> Result<Option<Instance>, CallError> {
        let Some(Location { project, zone, name }) = Location::parse(id.as_str()) else { return Ok(None) };
        let request = self.instances.get().set_project(project).set_zone(zone).set_instance(name);
        let found = self.call(ApiCall::InstancesGet, id.as_str(), || request.clone().send());
        none_if_not_found(found.await)
    }

    /// Replaces all tags of an instance, unless they have changed since their fingerprint was read.
    pub(crate) async fn set_tags(&self, id: &InstanceId, tags: Tags) -> Result<(), CallError> {
        let Some(Location { project, zone, name }) = Location::parse(id.as_str()) else { return Ok(()) };
        let request = self.instances.set_tags().set_project(project).set_zone(zone).set_instance(name);
        let request = request.set_body(tags).set_request_id(new_request_id()).with_idempotency(true);
        let poller =
            |policy: PollTransient| request.clone().with_polling_error_policy(policy.limited()).poller();
        self.mutate(ApiCall::InstancesSetTags, id.as_str(), poller).await
    }
}
