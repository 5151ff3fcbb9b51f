//! The state of the simulated cloud, and how operations change it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cloud::Request;
use crate::error::ApiError;
use crate::firewall::API;
use crate::instance::{Instance, encode_fingerprint};
use crate::operation::{Effect, Failure, Operation};
use crate::settings::{Fault, FaultKind, Settings};

/// The cloud's state
#[derive(Default)]
pub(crate) struct State {
    pub(crate) settings: Settings,
    pub(crate) projects: BTreeMap<String, Project>,
    pub(crate) operations: Vec<Operation>,
    /// Ids of operations, by project and request id
    pub(crate) operations_by_request: BTreeMap<(String, String), u64>,
    pub(crate) permissions: Permissions,
    pub(crate) faults: Vec<Fault>,
    pub(crate) requests: Vec<Request>,
    pub(crate) violations: Vec<String>,
    last_id: u64,
}

/// One project
#[derive(Default)]
pub(crate) struct Project {
    pub(crate) networks: BTreeSet<String>,
    pub(crate) zones: BTreeSet<String>,
    /// Rules by name, as the API shows them
    pub(crate) firewalls: BTreeMap<String, Value>,
    /// Instances by zone and name, each with its id and its tags' fingerprint
    pub(crate) instances: BTreeMap<(String, String), (Instance, u64, u64)>,
}

/// The permissions of callers: all, except those that a test has revoked.
#[derive(Default)]
pub(crate) struct Permissions {
    denied: BTreeSet<(String, String)>,
    only: BTreeMap<String, BTreeSet<String>>,
}

impl Permissions {
    /// Revokes a permission in a project, or in all projects with `*`.
    pub(crate) fn deny(&mut self, project: &str, permission: &str) {
        self.denied.insert((project.to_owned(), permission.to_owned()));
    }

    /// Grants these permissions and no others in a project, or in all projects with `*`.
    pub(crate) fn grant_only(&mut self, project: &str, permissions: &[&str]) {
        let permissions = permissions.iter().map(|permission| (*permission).to_owned()).collect();
        self.only.insert(project.to_owned(), permissions);
    }

    /// Returns true if a permission is granted in a project.
    pub(crate) fn is_granted(&self, project: &str, permission: &str) -> bool {
        let denied = |project: &str| self.denied.contains(&(project.to_owned(), permission.to_owned()));
        let granted = self.only.get(project).or_else(|| self.only.get("*"));
        !denied(project) && !denied("*") && granted.is_none_or(|granted| granted.contains(permission))
    }
}

impl State {
    /// Returns a new id of a resource.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        4_000_000_000_000_000_000 + self.last_id
    }

    /// Returns a project, or the error that it was not found.
    pub(crate) fn project(&self, project: &str) -> Result<&Project, ApiError> {
        self.projects.get(project).ok_or_else(|| ApiError::not_found(&format!("projects/{project}")))
    }

    /// Changes an instance directly, and its fingerprint if its tags change.
    pub(crate) fn change_instance(
        &mut self,
        project: &str,
        zone: &str,
        name: &str,
        change: impl FnOnce(&mut Instance),
    ) {
        let fresh = self.next_id();
        let instances = self.projects.get_mut(project).map(|project| &mut project.instances);
        if let Some((instance, _, fingerprint)) =
            instances.and_then(|instances| instances.get_mut(&(zone.to_owned(), name.to_owned())))
        {
            let tags = instance.tags.clone();
            change(instance);
            if instance.tags != tags {
                *fingerprint = fresh;
            }
        }
    }

    /// Returns the next fault for a call and counts it as happened. Only a mutating method has an operation
    /// to fail. `text` is the call's path and filter, for faults of one zone or instance.
    pub(crate) fn take_fault(&mut self, method: &str, mutating: bool, text: &str) -> Option<FaultKind> {
        let fits = |kind: &FaultKind| match kind {
            FaultKind::OperationError { .. } | FaultKind::SlowOperation(_) => mutating,
            FaultKind::AddTag(_) => method == "compute.instances.get",
            FaultKind::LeaveOut(name) => {
                let is_named = method == "compute.instances.list" && text.contains(name.as_str());
                is_named || method == "compute.instances.aggregatedList"
            }
            FaultKind::UnknownZone(zone) => {
                method == "compute.instances.list" && text.contains(&format!("/zones/{zone}/"))
            }
            FaultKind::Unreachable(_) => method == "compute.instances.aggregatedList",
            FaultKind::Latency(_) | FaultKind::Error { .. } | FaultKind::DropResponse => true,
        };
        let due = |fault: &Fault| {
            fault.times > 0 && (fault.method == method || fault.method == "*") && fits(&fault.kind)
        };
        let position = self.faults.iter().position(due)?;
        self.faults[position].times -= 1;
        let kind = self.faults[position].kind.clone();
        self.faults.retain(|fault| fault.times > 0);
        Some(kind)
    }

    /// Finishes the operations that are due, in the order of their ends.
    pub(crate) fn finish_due_operations(&mut self) {
        let now = Instant::now();
        let mut due: Vec<usize> = (0..self.operations.len())
            .filter(|&position| !self.operations[position].done && self.operations[position].ends <= now)
            .collect();
        due.sort_by_key(|&position| self.operations[position].ends);
        for position in due {
            let operation = self.operations[position].clone();
            let failure = match operation.failure {
                Some(failure) => Some(failure),
                None => self.apply_effect(&operation.project, operation.effect).err().map(Failure::from),
            };
            let operation = &mut self.operations[position];
            operation.failure = failure;
            operation.ended = Some(crate::state::now());
            operation.done = true;
        }
    }

    /// Applies the effect of an operation.
    pub(crate) fn apply_effect(&mut self, project: &str, effect: Effect) -> Result<(), ApiError> {
        let fresh = self.next_id();
        let project = self.projects.entry(project.to_owned()).or_default();
        match effect {
            Effect::None => {}
            Effect::Put(firewall) => {
                _ = project
                    .firewalls
                    .insert(firewall["name"].as_str().unwrap_or_default().to_owned(), firewall);
            }
            Effect::Remove(name) => _ = project.firewalls.remove(&name),
            Effect::Tags { zone, instance, tags, fingerprint } => {
                let found = project.instances.get_mut(&(zone, instance.clone()));
                let (target, _, current) = found.ok_or_else(|| ApiError::not_found(&instance))?;
                if encode_fingerprint(*current) != fingerprint {
                    return Err(fingerprint_mismatch());
                }
                target.tags = tags;
                *current = fresh;
            }
        }
        Ok(())
    }

    /// Starts an operation, and returns it as the API shows it.
    pub(crate) fn start(
        &mut self,
        mut operation: Operation,
        request_id: Option<&String>,
        slow: Option<Duration>,
    ) -> Value {
        operation.id = self.next_id();
        operation.ends = Instant::now() + slow.unwrap_or(self.settings.operation_delay);
        if let Some(request_id) = request_id {
            self.operations_by_request.insert((operation.project.clone(), request_id.clone()), operation.id);
        }
        if self.settings.visible_while_pending && operation.failure.is_none() && operation.kind == "insert" {
            // The rule is visible at once; until the operation ends, changes of the rule are refused.
            _ = self.apply_effect(
                &operation.project.clone(),
                std::mem::replace(&mut operation.effect, Effect::None),
            );
        }
        let id = operation.id;
        self.operations.push(operation);
        self.finish_due_operations();
        self.operation(id).map(Operation::to_json).unwrap_or_default()
    }

    /// Returns the operation with this id.
    pub(crate) fn operation(&self, id: u64) -> Option<&Operation> {
        self.operations.iter().find(|operation| operation.id == id)
    }

    /// Returns the running operation on this path, if there is one.
    pub(crate) fn find_running(&self, target: &str) -> Option<&Operation> {
        self.operations.iter().find(|operation| !operation.done && operation.target == target)
    }

    /// Returns the rule with the fields that only the service writes.
    pub(crate) fn with_output_fields(&mut self, project: &str, mut firewall: Value) -> Value {
        let name = firewall["name"].as_str().unwrap_or_default().to_owned();
        let old = self.projects.get(project).and_then(|project| project.firewalls.get(&name));
        let kept = old.map(|old| (old["id"].clone(), old["creationTimestamp"].clone()));
        let (id, created) = kept.unwrap_or_else(|| (json!(self.next_id().to_string()), json!(now())));
        firewall["id"] = id;
        firewall["creationTimestamp"] = created;
        firewall["kind"] = json!("compute#firewall");
        firewall["selfLink"] = json!(format!("{API}/projects/{project}/global/firewalls/{name}"));
        firewall
    }
}

/// Returns the error for an outdated fingerprint.
pub(crate) fn fingerprint_mismatch() -> ApiError {
    ApiError::new(412, "conditionNotMet", "Supplied fingerprint does not match current metadata fingerprint.")
}

/// Returns the current time as Google writes it.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}
