//! Instances and their tags.

use std::collections::BTreeMap;

use firewall_core::InstanceId;
use google_cloud_compute_v1::model::{Instance, Tags};
use google_cloud_gax::options::RequestOptionsBuilder;
use google_cloud_gax::paginator::{ItemPaginator, Paginator};

use super::{Client, PAGE, finished, found, request_id};
use crate::api_calls::ApiCall;
use crate::provider_id::Location;
use crate::wire::error::CallError;
use crate::wire::instance;

/// Up to so many instances of a zone are asked for by name; for more, all of the zone are read. A name has up to 63
/// characters, and a URL should stay under 8,000.
const NAMES: usize = 100;

impl Client {
    /// The instances of one zone with these names, as far as they exist.
    pub(crate) async fn instances(
        &self,
        zone: &str,
        names: &[&str],
    ) -> Result<BTreeMap<InstanceId, Instance>, CallError> {
        let mut request =
            self.instances.list().set_project(&self.project).set_zone(zone).set_max_results(PAGE);
        if names.len() <= NAMES {
            request = request.set_filter(format!("name eq \"({})\"", names.join("|")));
        }
        let object = format!("projects/{}/zones/{zone}", self.project);
        let (mut instances, mut items) = (BTreeMap::new(), request.by_item());
        while let Some(next) = items.next().await {
            // A zone that does not exist has no instances; nodes' providerIDs can say anything.
            let Some(next) = found(ApiCall::InstancesList, &object, next)? else {
                return Ok(BTreeMap::new());
            };
            self.keep(&mut instances, next);
        }
        Ok(instances)
    }

    /// All instances of the project.
    pub(crate) async fn all_instances(&self) -> Result<BTreeMap<InstanceId, Instance>, CallError> {
        let request = self.instances.aggregated_list().set_project(&self.project).set_max_results(PAGE);
        let object = format!("projects/{}", self.project);
        let (mut instances, mut pages) = (BTreeMap::new(), request.by_page());
        while let Some(page) = pages.next().await {
            let page =
                page.map_err(|error| CallError::new(ApiCall::InstancesAggregatedList, &object, &error))?;
            for found in page.items.into_values().flat_map(|scope| scope.instances) {
                self.keep(&mut instances, found);
            }
        }
        Ok(instances)
    }

    fn keep(&self, instances: &mut BTreeMap<InstanceId, Instance>, found: Instance) {
        if let Some(id) = instance::id(&found, &self.project) {
            instances.insert(InstanceId::new(id), found);
        }
    }

    /// One instance, if it is there.
    pub(crate) async fn find_instance(&self, id: &InstanceId) -> Result<Option<Instance>, CallError> {
        let Some(Location { project, zone, name }) = Location::parse(id.as_str()) else { return Ok(None) };
        let request = self.instances.get().set_project(project).set_zone(zone).set_instance(name);
        found(ApiCall::InstancesGet, id.as_str(), request.send().await)
    }

    /// Replaces all tags of an instance that still has those that were read.
    pub(crate) async fn set_tags(&self, id: &InstanceId, tags: Tags) -> Result<(), CallError> {
        let Some(Location { project, zone, name }) = Location::parse(id.as_str()) else { return Ok(()) };
        let request = self.instances.set_tags().set_project(project).set_zone(zone).set_instance(name);
        let request = request.set_body(tags).set_request_id(request_id()).with_idempotency(true);
        finished(ApiCall::InstancesSetTags, id.as_str(), request.poller()).await
    }
}
