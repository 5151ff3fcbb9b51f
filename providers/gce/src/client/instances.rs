//! Calls on instances and their network tags.

use std::collections::BTreeMap;

use firewall_core::InstanceId;
use google_cloud_compute_v1::model::{Instance, Tags};
use google_cloud_gax::options::RequestOptionsBuilder;

use super::{Client, PAGE_SIZE, PollTransient, new_request_id, none_if_not_found};
use crate::api_calls::ApiCall;
use crate::provider_id::Location;
use crate::wire::error::CallError;
use crate::wire::instance;

/// Most instances of a zone that are listed by name; for more, all instances of the zone are listed. A name
/// has up to 63 characters, and a URL should stay under 8,000.
const MAX_NAMES_IN_FILTER: usize = 100;

impl Client {
    /// Returns the instances of one zone with these names, as far as they exist. May return others of the
    /// zone too.
    pub(crate) async fn list_instances(
        &self,
        zone: &str,
        names: &[&str],
    ) -> Result<BTreeMap<InstanceId, Instance>, CallError> {
        let mut request =
            self.instances.list().set_project(&self.project).set_zone(zone).set_max_results(PAGE_SIZE);
        if names.len() <= MAX_NAMES_IN_FILTER {
            request = request.set_filter(format!("name eq \"({})\"", names.join("|")));
        }
        let object = format!("projects/{}/zones/{zone}", self.project);
        let (mut instances, mut token) = (BTreeMap::new(), String::new());
        loop {
            let request = || request.clone().set_page_token(&token).send();
            let page = self.call(ApiCall::InstancesList, &object, request).await;
            // A zone that does not exist has no instances. Nodes' providerIDs can name any zone.
            let Some(page) = none_if_not_found(page)? else { return Ok(BTreeMap::new()) };
            page.items.into_iter().for_each(|instance| self.add_instance(&mut instances, instance));
            token = page.next_page_token.unwrap_or_default();
            if token.is_empty() {
                return Ok(instances);
            }
        }
    }

    /// Returns all instances of the project.
    pub(crate) async fn list_all_instances(&self) -> Result<BTreeMap<InstanceId, Instance>, CallError> {
        let request = self.instances.aggregated_list().set_project(&self.project).set_max_results(PAGE_SIZE);
        let object = format!("projects/{}", self.project);
        let (mut instances, mut token) = (BTreeMap::new(), String::new());
        loop {
            let request = || request.clone().set_page_token(&token).send();
            let page = self.call(ApiCall::InstancesAggregatedList, &object, request).await?;
            for instance in page.items.into_values().flat_map(|scope| scope.instances) {
                self.add_instance(&mut instances, instance);
            }
            token = page.next_page_token.unwrap_or_default();
            if token.is_empty() {
                return Ok(instances);
            }
        }
    }

    fn add_instance(&self, instances: &mut BTreeMap<InstanceId, Instance>, instance: Instance) {
        if let Some(id) = instance::id(&instance, &self.project) {
            instances.insert(InstanceId::new(id), instance);
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
