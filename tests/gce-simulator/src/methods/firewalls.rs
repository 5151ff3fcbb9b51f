//! The methods of `compute.firewalls`

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Call, list_response, paginate, require_permission};
use crate::error::ApiError;
use crate::firewall::{merge, normalize, parse_network};
use crate::operation::{Effect, Failure, Operation};
use crate::settings::FaultKind;
use crate::state::{State, now};

fn rule_path(call: &Call<'_>, name: &str) -> String {
    format!("projects/{}/global/firewalls/{name}", call.project())
}

pub(super) fn get(state: &State, call: &Call<'_>) -> Result<Value, ApiError> {
    let path = rule_path(call, call.parameter("firewall"));
    require_permission(state, call.project(), "compute.firewalls.get", &path)?;
    find_rule(state, call).cloned()
}

fn find_rule<'a>(state: &'a State, call: &Call<'_>) -> Result<&'a Value, ApiError> {
    let name = call.parameter("firewall");
    let firewalls = &state.project(call.project())?.firewalls;
    let found = firewalls.get(name).or_else(|| firewalls.values().find(|rule| rule["id"] == name));
    found.ok_or_else(|| ApiError::not_found(&rule_path(call, name)))
}

pub(super) fn list(state: &State, call: &Call<'_>) -> Result<Value, ApiError> {
    let project = call.project();
    let path = format!("projects/{project}/global/firewalls");
    require_permission(state, project, "compute.firewalls.list", &format!("projects/{project}"))?;
    let all = state.project(project)?.firewalls.values().cloned().collect();
    let (items, next) = paginate(state, call, all)?;
    Ok(list_response("compute#firewallList", &path, json!(items), next))
}

pub(super) fn insert(state: &mut State, call: &Call<'_>) -> Result<Value, ApiError> {
    let body = call.body.clone().unwrap_or_default();
    let name = body["name"].as_str().unwrap_or_default().to_owned();
    let target = rule_path(call, &name);
    require_permission(state, call.project(), "compute.firewalls.create", &target)?;
    require_network_permission(state, call, &body)?;
    let rule = validate(state, call, &body)?;
    let exists = state.project(call.project())?.firewalls.contains_key(&name);
    if exists || state.find_running(&target).is_some_and(|operation| operation.kind == "insert") {
        return Err(ApiError::new(409, "alreadyExists", format!("The resource '{target}' already exists")));
    }
    // A rule that is visible while its operation runs is among the rules already.
    let is_pending = |operation: &&Operation| {
        let unseen = matches!(operation.effect, Effect::Put(_)) && operation.kind == "insert";
        !operation.done && unseen && operation.project == call.project()
    };
    let count =
        state.project(call.project())?.firewalls.len() + state.operations.iter().filter(is_pending).count();
    let limit = state.settings.firewalls_per_project;
    if count >= limit {
        let message = format!("Quota 'FIREWALLS' exceeded.  Limit: {limit}.0 globally.");
        return Err(ApiError::new(403, "quotaExceeded", message));
    }
    let stored = state.with_output_fields(call.project(), rule);
    start(state, call, "insert", &target, Effect::Put(stored))
}

/// Changes a rule: PATCH merges with the existing one, PUT replaces it.
pub(super) fn change(state: &mut State, call: &Call<'_>) -> Result<Value, ApiError> {
    let target = rule_path(call, call.parameter("firewall"));
    require_permission(state, call.project(), "compute.firewalls.update", &target)?;
    require_no_operation(state, &target)?;
    let old = find_rule(state, call)?.clone();
    require_network_permission(state, call, &old)?;
    let body = call.body.clone().unwrap_or_default();
    if let Some(name) = body["name"].as_str().filter(|name| old["name"] != *name) {
        return Err(ApiError::field("name", name, "The name of a firewall rule cannot be changed."));
    }
    let mut new = body;
    let patches = call.method.name() == "patch";
    if patches {
        let mut merged = old.clone();
        merge(&mut merged, &new);
        new = merged;
    } else {
        new["name"] = old["name"].clone();
    }
    let rule = validate(state, call, &new)?;
    for field in ["network", "direction"] {
        if rule[field] != old[field] {
            let value = rule[field].as_str().unwrap_or_default();
            return Err(ApiError::field(
                field,
                value,
                &format!("The {field} of a firewall rule cannot be changed."),
            ));
        }
    }
    let stored = state.with_output_fields(call.project(), rule);
    start(state, call, if patches { "patch" } else { "update" }, &target, Effect::Put(stored))
}

pub(super) fn delete(state: &mut State, call: &Call<'_>) -> Result<Value, ApiError> {
    let target = rule_path(call, call.parameter("firewall"));
    require_permission(state, call.project(), "compute.firewalls.delete", &target)?;
    require_no_operation(state, &target)?;
    let old = find_rule(state, call)?.clone();
    require_network_permission(state, call, &old)?;
    let name = old["name"].as_str().unwrap_or_default().to_owned();
    start(state, call, "delete", &target, Effect::Remove(name))
}

fn validate(state: &State, call: &Call<'_>, firewall: &Value) -> Result<Value, ApiError> {
    let project = call.project();
    normalize(firewall, project, &state.project(project)?.networks, &state.settings)
}

/// Requires the permission to change the network's policy, as every change of a rule does.
fn require_network_permission(state: &State, call: &Call<'_>, firewall: &Value) -> Result<(), ApiError> {
    let text = firewall["network"].as_str().unwrap_or("global/networks/default");
    let Some((project, name)) = parse_network(text, call.project()) else { return Ok(()) };
    let path = format!("projects/{project}/global/networks/{name}");
    require_permission(state, &project, "compute.networks.updatePolicy", &path)
}

fn require_no_operation(state: &State, target: &str) -> Result<(), ApiError> {
    match state.find_running(target) {
        None => Ok(()),
        Some(_) => {
            Err(ApiError::new(400, "resourceNotReady", format!("The resource '{target}' is not ready")))
        }
    }
}

/// Starts an operation, and returns it as the API shows it.
fn start(
    state: &mut State,
    call: &Call<'_>,
    kind: &str,
    target: &str,
    effect: Effect,
) -> Result<Value, ApiError> {
    let id = match &effect {
        Effect::Put(rule) => rule["id"].as_str().and_then(|id| id.parse().ok()).unwrap_or_default(),
        _ => 0,
    };
    let operation = new_operation(call, None, kind, target, id, effect);
    Ok(state.start(operation, call.request_id()?, slow_operation_delay(call)))
}

/// Returns an operation as a call starts it.
pub(super) fn new_operation(
    call: &Call<'_>,
    zone: Option<&str>,
    kind: &str,
    target: &str,
    target_id: u64,
    effect: Effect,
) -> Operation {
    let failure = match &call.fault {
        Some(FaultKind::OperationError { status, code, message }) => {
            Some(Failure { status: *status, code: code.clone(), message: message.clone() })
        }
        _ => None,
    };
    Operation {
        id: 0,
        project: call.project().to_owned(),
        zone: zone.map(ToOwned::to_owned),
        kind: kind.to_owned(),
        target: target.to_owned(),
        target_id,
        effect,
        failure,
        inserted: now(),
        ended: None,
        ends: Instant::now(),
        done: false,
    }
}

/// Returns the duration that a fault sets for the operation.
pub(super) fn slow_operation_delay(call: &Call<'_>) -> Option<std::time::Duration> {
    match call.fault {
        Some(FaultKind::SlowOperation(duration)) => Some(duration),
        _ => None,
    }
}

pub(super) fn test_permissions(state: &State, call: &Call<'_>) -> Result<Value, ApiError> {
    let asked =
        call.body.as_ref().and_then(|body| body["permissions"].as_array()).cloned().unwrap_or_default();
    let mut granted = Vec::new();
    for permission in asked.iter().filter_map(Value::as_str) {
        if !permission.starts_with("compute.firewalls.") {
            let message = format!("Permission {permission} is not valid for this resource.");
            return Err(ApiError::invalid(message));
        }
        if state.permissions.is_granted(call.project(), permission) {
            granted.push(permission);
        }
    }
    Ok(if granted.is_empty() { json!({}) } else { json!({ "permissions": granted }) })
}
