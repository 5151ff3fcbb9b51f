//! The simulated cloud as a test sees it: what there is, what is allowed, what goes wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::Value;

use crate::admits::{Admitted, admitted};
use crate::firewall::normalized;
use crate::machine::Machine;
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
    /// Whether the method changes something
    pub mutating: bool,
    /// Who called
    pub user_agent: String,
}

/// A simulated cloud. Clones share one state.
#[derive(Clone, Default)]
pub struct Cloud(Arc<Mutex<State>>);

impl Cloud {
    /// Everything, as it is now.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // A test that panicked while holding the lock has failed already.
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.settle();
        state
    }

    /// Adds a network, and its project if need be.
    pub fn add_network(&self, project: &str, name: &str) {
        let mut state = self.state();
        state.projects.entry(project.to_owned()).or_default().networks.insert(name.to_owned());
    }

    /// Adds an instance, and its project and zone if need be.
    pub fn add_instance(&self, machine: Machine) {
        let mut state = self.state();
        let (id, fingerprint) = (state.id(), state.id());
        let project = state.projects.entry(machine.project.clone()).or_default();
        project.zones.insert(machine.zone.clone());
        let key = (machine.zone.clone(), machine.name.clone());
        project.machines.insert(key, (machine, id, fingerprint));
    }

    /// Removes an instance.
    pub fn remove_instance(&self, project: &str, zone: &str, name: &str) {
        if let Some(project) = self.state().projects.get_mut(project) {
            project.machines.remove(&(zone.to_owned(), name.to_owned()));
        }
    }

    /// Sets an instance's status: `RUNNING`, `TERMINATED`, …
    pub fn set_status(&self, project: &str, zone: &str, name: &str, status: &str) {
        self.state().change_instance(project, zone, name, |machine| status.clone_into(&mut machine.status));
    }

    /// Sets an instance's tags behind everybody's back.
    pub fn set_tags(&self, project: &str, zone: &str, name: &str, tags: BTreeSet<String>) {
        self.state().change_instance(project, zone, name, |machine| machine.tags = tags);
    }

    /// An instance's tags; none if it does not exist.
    #[must_use]
    pub fn tags(&self, project: &str, zone: &str, name: &str) -> BTreeSet<String> {
        let state = self.state();
        let machines = state.projects.get(project).map(|project| &project.machines);
        let found = machines.and_then(|machines| machines.get(&(zone.to_owned(), name.to_owned())));
        found.map(|(machine, ..)| machine.tags.clone()).unwrap_or_default()
    }

    /// A project's rules by name, as the API shows them.
    #[must_use]
    pub fn firewalls(&self, project: &str) -> BTreeMap<String, Value> {
        self.state().projects.get(project).map(|project| project.firewalls.clone()).unwrap_or_default()
    }

    /// Makes or replaces a rule behind everybody's back.
    ///
    /// # Errors
    /// If Google would refuse the rule; the text says why.
    pub fn put_firewall(&self, project: &str, firewall: &Value) -> Result<(), String> {
        let mut state = self.state();
        let networks =
            state.projects.get(project).map(|project| project.networks.clone()).unwrap_or_default();
        let rule =
            normalized(firewall, project, &networks, &state.settings).map_err(|error| error.message)?;
        let stored = state.stored(project, rule);
        state.enact(project, Effect::Put(stored)).map_err(|error| error.message)
    }

    /// Removes a rule behind everybody's back.
    pub fn remove_firewall(&self, project: &str, name: &str) {
        if let Some(project) = self.state().projects.get_mut(project) {
            project.firewalls.remove(name);
        }
    }

    /// Everything that the rules let in to an instance, by whichever project the rules are in.
    #[must_use]
    pub fn admits(&self, project: &str, zone: &str, name: &str) -> Vec<Admitted> {
        let state = self.state();
        let machines = state.projects.get(project).map(|project| &project.machines);
        let found = machines.and_then(|machines| machines.get(&(zone.to_owned(), name.to_owned())));
        let Some((machine, ..)) = found else { return Vec::new() };
        let firewalls: Vec<&Value> =
            state.projects.values().flat_map(|project| project.firewalls.values()).collect();
        admitted(machine, &firewalls)
    }

    /// Changes the settings.
    pub fn configure(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.state().settings);
    }

    /// Takes a permission away in a project, or with `*` in all.
    pub fn deny(&self, project: &str, permission: &str) {
        self.state().permissions.deny(project, permission);
    }

    /// Grants these permissions in a project, or with `*` in all, and no others.
    pub fn grant_only(&self, project: &str, permissions: &[&str]) {
        self.state().permissions.grant_only(project, permissions);
    }

    /// Grants everything, as at the start.
    pub fn grant_all(&self) {
        self.state().permissions = Permissions::default();
    }

    /// Lets something go wrong.
    pub fn inject(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Forgets the faults that have not happened.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// The calls so far, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    /// Forgets the calls so far.
    pub fn clear_requests(&self) {
        self.state().requests.clear();
    }

    /// Answers of the simulator's own that Google's document does not allow: defects.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }
}
