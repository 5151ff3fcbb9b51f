//! Everything there is in the simulated cloud, and how operations change it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cloud::Request;
use crate::error::ApiError;
use crate::firewall::API;
use crate::machine::{Machine, encoded};
use crate::operation::{Effect, Failure, Operation};
use crate::settings::{Fault, FaultKind, Settings};

/// The cloud's state.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) settings: Settings,
    pub(crate) projects: BTreeMap<String, Project>,
    pub(crate) operations: Vec<Operation>,
    /// Operations by project and request id
    pub(crate) asked: BTreeMap<(String, String), u64>,
    pub(crate) permissions: Permissions,
    pub(crate) faults: Vec<Fault>,
    pub(crate) requests: Vec<Request>,
    pub(crate) violations: Vec<String>,
    last_id: u64,
}

/// One project.
#[derive(Default)]
pub(crate) struct Project {
    pub(crate) networks: BTreeSet<String>,
    pub(crate) zones: BTreeSet<String>,
    /// Rules by name, as the API shows them
    pub(crate) firewalls: BTreeMap<String, Value>,
    /// Instances by zone and name, each with its id and its tags' fingerprint
    pub(crate) machines: BTreeMap<(String, String), (Machine, u64, u64)>,
}

/// Who may do what; everything, unless something was taken away.
#[derive(Default)]
pub(crate) struct Permissions {
    denied: BTreeSet<(String, String)>,
    only: BTreeMap<String, BTreeSet<String>>,
}

impl Permissions {
    pub(crate) fn deny(&mut self, project: &str, permission: &str) {
        self.denied.insert((project.to_owned(), permission.to_owned()));
    }

    pub(crate) fn grant_only(&mut self, project: &str, permissions: &[&str]) {
        let permissions = permissions.iter().map(|permission| (*permission).to_owned()).collect();
        self.only.insert(project.to_owned(), permissions);
    }

    pub(crate) fn allow(&self, project: &str, permission: &str) -> bool {
        let denied = |project: &str| self.denied.contains(&(project.to_owned(), permission.to_owned()));
        let granted = self.only.get(project).or_else(|| self.only.get("*"));
        !denied(project) && !denied("*") && granted.is_none_or(|granted| granted.contains(permission))
    }
}

impl State {
    pub(crate) fn id(&mut self) -> u64 {
        self.last_id += 1;
        4_000_000_000_000_000_000 + self.last_id
    }

    pub(crate) fn project(&self, project: &str) -> Result<&Project, ApiError> {
        self.projects.get(project).ok_or_else(|| ApiError::not_found(&format!("projects/{project}")))
    }

    /// Changes an instance behind everybody's back.
    pub(crate) fn change_instance(
        &mut self,
        project: &str,
        zone: &str,
        name: &str,
        change: impl FnOnce(&mut Machine),
    ) {
        let fresh = self.id();
        let machines = self.projects.get_mut(project).map(|project| &mut project.machines);
        if let Some((machine, _, fingerprint)) =
            machines.and_then(|machines| machines.get_mut(&(zone.to_owned(), name.to_owned())))
        {
            let tags = machine.tags.clone();
            change(machine);
            if machine.tags != tags {
                *fingerprint = fresh;
            }
        }
    }

    /// The fault that is due for a method, if there is one. Only what changes something has an operation to fail.
    pub(crate) fn fault(&mut self, method: &str, mutating: bool) -> Option<FaultKind> {
        let fits = |kind: &FaultKind| match kind {
            FaultKind::OperationError { .. } | FaultKind::SlowOperation(_) => mutating,
            FaultKind::AddTag(_) => method == "compute.instances.get",
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

    /// Ends the operations whose time has come, in the order in which they end.
    pub(crate) fn settle(&mut self) {
        let now = Instant::now();
        let mut due: Vec<usize> = (0..self.operations.len())
            .filter(|&position| !self.operations[position].done && self.operations[position].ends <= now)
            .collect();
        due.sort_by_key(|&position| self.operations[position].ends);
        for position in due {
            let operation = self.operations[position].clone();
            let failure = match operation.failure {
                Some(failure) => Some(failure),
                None => self.enact(&operation.project, operation.effect).err().map(Failure::from),
            };
            let operation = &mut self.operations[position];
            operation.failure = failure;
            operation.ended = Some(crate::state::now());
            operation.done = true;
        }
    }

    /// Makes an effect true.
    pub(crate) fn enact(&mut self, project: &str, effect: Effect) -> Result<(), ApiError> {
        let fresh = self.id();
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
                let machine = project.machines.get_mut(&(zone, instance.clone()));
                let (machine, _, current) = machine.ok_or_else(|| ApiError::not_found(&instance))?;
                if encoded(*current) != fingerprint {
                    return Err(outdated());
                }
                machine.tags = tags;
                *current = fresh;
            }
        }
        Ok(())
    }

    /// Starts an operation, or finds the one that the same request has started before.
    pub(crate) fn start(
        &mut self,
        mut operation: Operation,
        request_id: Option<&String>,
        slow: Option<Duration>,
    ) -> Value {
        operation.id = self.id();
        operation.ends = Instant::now() + slow.unwrap_or(self.settings.operation_delay);
        if let Some(request_id) = request_id {
            self.asked.insert((operation.project.clone(), request_id.clone()), operation.id);
        }
        if self.settings.visible_while_pending && operation.failure.is_none() && operation.kind == "insert" {
            // The rule shows already; that the operation has not ended shows in what it refuses.
            _ = self
                .enact(&operation.project.clone(), std::mem::replace(&mut operation.effect, Effect::None));
        }
        let id = operation.id;
        self.operations.push(operation);
        self.settle();
        self.operation(id).map(Operation::shown).unwrap_or_default()
    }

    pub(crate) fn operation(&self, id: u64) -> Option<&Operation> {
        self.operations.iter().find(|operation| operation.id == id)
    }

    /// Whether an operation on this path is under way, and of which kind.
    pub(crate) fn under_way(&self, target: &str) -> Option<&Operation> {
        self.operations.iter().find(|operation| !operation.done && operation.target == target)
    }

    /// The rule as it is shown once it is stored.
    pub(crate) fn stored(&mut self, project: &str, mut firewall: Value) -> Value {
        let name = firewall["name"].as_str().unwrap_or_default().to_owned();
        let old = self.projects.get(project).and_then(|project| project.firewalls.get(&name));
        let kept = old.map(|old| (old["id"].clone(), old["creationTimestamp"].clone()));
        let (id, created) = kept.unwrap_or_else(|| (json!(self.id().to_string()), json!(now())));
        firewall["id"] = id;
        firewall["creationTimestamp"] = created;
        firewall["kind"] = json!("compute#firewall");
        firewall["selfLink"] = json!(format!("{API}/projects/{project}/global/firewalls/{name}"));
        firewall
    }
}

/// The answer to an old fingerprint.
pub(crate) fn outdated() -> ApiError {
    ApiError::new(412, "conditionNotMet", "Supplied fingerprint does not match current metadata fingerprint.")
}

/// Now, as Google writes it.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}
