//! The simulated cloud as a test uses it: its resources, permissions and faults.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::Value;

use crate::admits::{Admitted, list_admitted};
use crate::firewall::normalize;
use crate::instance::Instance;
use crate::operation::Effect;
use crate::settings::{Fault, Settings};
use crate::state::{Permissions, State};

/// A call that the API has answered, or would have if the connection had not been cut.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// The method's id, for example `compute.firewalls.patch`; empty if there is none
    pub method: String,
    /// The HTTP method
    pub verb: String,
    /// The path
    pub path: String,
    /// The parameters of the query
    pub query: BTreeMap<String, String>,
    /// The body
    pub body: Option<Value>,
    /// The HTTP status of the answer
    pub status: u16,
    /// True if the method changes something
    pub mutating: bool,
    /// The header `User-Agent`
    pub user_agent: String,
    /// The time of its arrival, in microseconds since 1970
    pub received_us: i64,
    /// The time of the answer, in microseconds since 1970
    pub answered_us: i64,
}

/// A simulated cloud. Clones share one state.
#[derive(Clone, Default)]
pub struct Cloud(Arc<Mutex<State>>);

impl Cloud {
    /// Returns the state, with every operation that is due finished.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // A test that panicked while holding the lock has failed already.
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.finish_due_operations();
        state
    }

    /// Adds a network, and its project if need be.
    pub fn add_network(&self, project: &str, name: &str) {
        let mut state = self.state();
        state.projects.entry(project.to_owned()).or_default().networks.insert(name.to_owned());
    }

    /// Adds an instance, and its project and zone if need be.
    pub fn add_instance(&self, instance: Instance) {
        let mut state = self.state();
        let (id, fingerprint) = (state.next_id(), state.next_id());
        let project = state.projects.entry(instance.project.clone()).or_default();
        project.zones.insert(instance.zone.clone());
        let key = (instance.zone.clone(), instance.name.clone());
        project.instances.insert(key, (instance, id, fingerprint));
    }

    /// Removes an instance.
    pub fn remove_instance(&self, project: &str, zone: &str, name: &str) {
        if let Some(project) = self.state().projects.get_mut(project) {
            project.instances.remove(&(zone.to_owned(), name.to_owned()));
        }
    }

    /// Sets an instance's status: `RUNNING`, `TERMINATED`, …
    pub fn set_status(&self, project: &str, zone: &str, name: &str, status: &str) {
        self.state().change_instance(project, zone, name, |instance| status.clone_into(&mut instance.status));
    }

    /// Sets an instance's tags directly, without a call of the API.
    pub fn set_tags(&self, project: &str, zone: &str, name: &str, tags: BTreeSet<String>) {
        self.state().change_instance(project, zone, name, |instance| instance.tags = tags);
    }

    /// Returns an instance's tags; none if it does not exist.
    #[must_use]
    pub fn tags(&self, project: &str, zone: &str, name: &str) -> BTreeSet<String> {
        let state = self.state();
        let instances = state.projects.get(project).map(|project| &project.instances);
        let found = instances.and_then(|instances| instances.get(&(zone.to_owned(), name.to_owned())));
        found.map(|(instance, ..)| instance.tags.clone()).unwrap_or_default()
    }

    /// Returns a project's rules by name, as the API shows them.
    #[must_use]
    pub fn firewalls(&self, project: &str) -> BTreeMap<String, Value> {
        self.state().projects.get(project).map(|project| project.firewalls.clone()).unwrap_or_default()
    }

    /// Creates or replaces a rule directly, without a call of the API.
    ///
    /// # Errors
    /// Returns the reason if Google would refuse the rule.
    pub fn put_firewall(&self, project: &str, firewall: &Value) -> Result<(), String> {
        let mut state = self.state();
        let networks =
            state.projects.get(project).map(|project| project.networks.clone()).unwrap_or_default();
        let rule = normalize(firewall, project, &networks, &state.settings).map_err(|error| error.message)?;
        let stored = state.with_output_fields(project, rule);
        state.apply_effect(project, Effect::Put(stored)).map_err(|error| error.message)
    }

    /// Removes a rule directly, without a call of the API.
    pub fn remove_firewall(&self, project: &str, name: &str) {
        if let Some(project) = self.state().projects.get_mut(project) {
            project.firewalls.remove(name);
        }
    }

    /// Returns the traffic that the rules let in to an instance, whichever project the rules are in.
    #[must_use]
    pub fn admits(&self, project: &str, zone: &str, name: &str) -> Vec<Admitted> {
        let state = self.state();
        let instances = state.projects.get(project).map(|project| &project.instances);
        let found = instances.and_then(|instances| instances.get(&(zone.to_owned(), name.to_owned())));
        let Some((instance, ..)) = found else { return Vec::new() };
        let firewalls: Vec<&Value> =
            state.projects.values().flat_map(|project| project.firewalls.values()).collect();
        list_admitted(instance, &firewalls)
    }

    /// Changes the settings.
    pub fn configure(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.state().settings);
    }

    /// Revokes a permission in a project, or in all projects with `*`.
    pub fn deny(&self, project: &str, permission: &str) {
        self.state().permissions.deny(project, permission);
    }

    /// Grants these permissions and no others in a project, or in all projects with `*`.
    pub fn grant_only(&self, project: &str, permissions: &[&str]) {
        self.state().permissions.grant_only(project, permissions);
    }

    /// Grants every permission, as at the start.
    pub fn grant_all(&self) {
        self.state().permissions = Permissions::default();
    }

    /// Injects a fault into the next calls of a method.
    pub fn inject(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Removes the faults that have not happened.
    pub fn clear_faults(&self) {
        self.state().faults.clear();
    }

    /// Returns the calls so far, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    /// Removes the calls so far.
    pub fn clear_requests(&self) {
        self.state().requests.clear();
    }

    /// Returns the simulator's own answers that Google's document does not allow; each is a defect.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }
}
