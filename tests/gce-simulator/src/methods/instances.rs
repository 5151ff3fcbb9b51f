//! The methods of `compute.instances`

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::firewalls::{new_operation, slow_operation_delay};
use super::{Call, list_response, paginate, require_permission};
use crate::error::ApiError;
use crate::firewall::is_name;
use crate::instance::{Instance, encode_fingerprint};
use crate::operation::Effect;
use crate::settings::FaultKind;
use crate::state::{State, fingerprint_mismatch};

fn instance_path(call: &Call<'_>) -> String {
    format!(
        "projects/{}/zones/{}/instances/{}",
        call.project(),
        call.parameter("zone"),
        call.parameter("instance")
    )
}

fn require_known_zone(state: &State, call: &Call<'_>) -> Result<(), ApiError> {
    let zone = call.parameter("zone");
    let is_unknown = matches!(&call.fault, Some(FaultKind::UnknownZone(unknown)) if unknown == zone);
    if !is_unknown && state.project(call.project())?.zones.contains(zone) {
        return Ok(());
    }
    Err(ApiError::invalid(format!("Invalid value for field 'zone': '{zone}'. Unknown zone.")))
}

pub(super) fn get(state: &mut State, call: &Call<'_>) -> Result<Value, ApiError> {
    require_permission(state, call.project(), "compute.instances.get", &instance_path(call))?;
    require_known_zone(state, call)?;
    let key = (call.parameter("zone").to_owned(), call.parameter("instance").to_owned());
    let found = state.project(call.project())?.instances.get(&key);
    let (instance, id, fingerprint) = found.ok_or_else(|| ApiError::not_found(&instance_path(call)))?;
    let shown = instance.to_json(*id, *fingerprint);
    if let Some(FaultKind::AddTag(tag)) = &call.fault {
        let add = |instance: &mut Instance| _ = instance.tags.insert(tag.clone());
        state.change_instance(call.project(), &key.0, &key.1, add);
    }
    Ok(shown)
}

pub(super) fn list(state: &State, call: &Call<'_>) -> Result<Value, ApiError> {
    let (project, zone) = (call.project(), call.parameter("zone"));
    require_permission(state, project, "compute.instances.list", &format!("projects/{project}"))?;
    require_known_zone(state, call)?;
    let instances = shown(state, call)?.filter(|(instance, ..)| instance.zone == zone);
    let all = instances.map(|(instance, id, fingerprint)| instance.to_json(*id, *fingerprint)).collect();
    let (items, next) = paginate(state, call, all)?;
    let path = format!("projects/{project}/zones/{zone}/instances");
    Ok(list_response("compute#instanceList", &path, json!(items), next))
}

/// Lists instances by zone; a zone without any on this page has a warning.
pub(super) fn aggregated_list(state: &State, call: &Call<'_>) -> Result<Value, ApiError> {
    let project = call.project();
    require_permission(state, project, "compute.instances.list", &format!("projects/{project}"))?;
    let known = state.project(project)?;
    let unreachable = match &call.fault {
        Some(FaultKind::Unreachable(zone)) => zone.as_str(),
        _ => "",
    };
    let reachable = shown(state, call)?.filter(|(instance, ..)| instance.zone != unreachable);
    let all = reachable.map(|(instance, id, fingerprint)| instance.to_json(*id, *fingerprint));
    let (items, next) = paginate(state, call, all.collect())?;
    let mut scopes: BTreeMap<String, Value> = BTreeMap::new();
    for zone in &known.zones {
        let scope = format!("zones/{zone}");
        let own: Vec<&Value> = items
            .iter()
            .filter(|item| item["zone"].as_str().is_some_and(|url| url.ends_with(&format!("/{scope}"))))
            .collect();
        let shown = match own.is_empty() {
            _ if zone == unreachable => scope_warning(&scope, "UNREACHABLE", "could not be reached"),
            true => scope_warning(&scope, "NO_RESULTS_ON_PAGE", "has no results on this page"),
            false => json!({ "instances": own }),
        };
        scopes.insert(scope, shown);
    }
    let path = format!("projects/{project}/aggregated/instances");
    Ok(list_response("compute#instanceAggregatedList", &path, json!(scopes), next))
}

/// Returns the project's instances, without the one that a fault leaves out.
fn shown<'a>(
    state: &'a State,
    call: &'a Call<'_>,
) -> Result<impl Iterator<Item = &'a (Instance, u64, u64)>, ApiError> {
    let is_left_out = |instance: &Instance| match &call.fault {
        Some(FaultKind::LeaveOut(name)) => instance.name == *name,
        _ => false,
    };
    let instances = state.project(call.project())?.instances.values();
    Ok(instances.filter(move |(instance, ..)| !is_left_out(instance)))
}

fn scope_warning(scope: &str, code: &str, message: &str) -> Value {
    json!({ "warning": {
        "code": code,
        "message": format!("Scope '{scope}' {message}."),
        "data": [{ "key": "scope", "value": scope }],
    } })
}

pub(super) fn set_tags(state: &mut State, call: &Call<'_>) -> Result<Value, ApiError> {
    let (zone, instance) = (call.parameter("zone").to_owned(), call.parameter("instance").to_owned());
    let path = instance_path(call);
    require_permission(state, call.project(), "compute.instances.setTags", &path)?;
    require_known_zone(state, call)?;
    let found = state.project(call.project())?.instances.get(&(zone.clone(), instance.clone()));
    let &(_, id, current) = found.ok_or_else(|| ApiError::not_found(&path))?;
    if state.find_running(&path).is_some() {
        return Err(ApiError::new(400, "resourceNotReady", format!("The resource '{path}' is not ready")));
    }
    let body = call.body.clone().unwrap_or_default();
    let items: Vec<&str> = body["items"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let tags: BTreeSet<String> = items.iter().map(|tag| (*tag).to_owned()).collect();
    if tags.len() > state.settings.tags_per_instance {
        return Err(ApiError::invalid(format!(
            "Too many tags: at most {}.",
            state.settings.tags_per_instance
        )));
    }
    if let Some(tag) = items.iter().find(|tag| !is_name(tag)) {
        return Err(ApiError::invalid(format!("Invalid value for field 'tags.items': '{tag}'.")));
    }
    let fingerprint = body["fingerprint"].as_str().unwrap_or_default().replace('+', "-").replace('/', "_");
    if encode_fingerprint(current) != fingerprint && !state.settings.fingerprint_conflict_in_operation {
        return Err(fingerprint_mismatch());
    }
    let effect = Effect::Tags { zone: zone.clone(), instance, tags, fingerprint };
    let operation = new_operation(call, Some(&zone), "setTags", &path, id, effect);
    Ok(state.start(operation, call.request_id()?, slow_operation_delay(call)))
}
