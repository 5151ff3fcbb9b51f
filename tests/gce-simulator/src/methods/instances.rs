//! Instances and their tags.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::firewalls::{begun, slow};
use super::{Call, answer, needs, page};
use crate::error::ApiError;
use crate::firewall::is_name;
use crate::machine::{Machine, encoded};
use crate::operation::Effect;
use crate::settings::FaultKind;
use crate::state::{State, outdated};

fn path(call: &Call<'_>) -> String {
    format!(
        "projects/{}/zones/{}/instances/{}",
        call.project(),
        call.parameter("zone"),
        call.parameter("instance")
    )
}

fn in_known_zone(state: &State, call: &Call<'_>) -> Result<(), ApiError> {
    let zone = call.parameter("zone");
    if state.project(call.project())?.zones.contains(zone) {
        return Ok(());
    }
    Err(ApiError::invalid(format!("Invalid value for field 'zone': '{zone}'. Unknown zone.")))
}

pub(super) fn get(state: &mut State, call: &Call<'_>) -> Result<Value, ApiError> {
    needs(state, call.project(), "compute.instances.get", &path(call))?;
    in_known_zone(state, call)?;
    let key = (call.parameter("zone").to_owned(), call.parameter("instance").to_owned());
    let found = state.project(call.project())?.machines.get(&key);
    let (machine, id, fingerprint) = found.ok_or_else(|| ApiError::not_found(&path(call)))?;
    let shown = machine.shown(*id, *fingerprint);
    if let Some(FaultKind::AddTag(tag)) = &call.fault {
        let add = |machine: &mut Machine| _ = machine.tags.insert(tag.clone());
        state.change_instance(call.project(), &key.0, &key.1, add);
    }
    Ok(shown)
}

pub(super) fn list(state: &State, call: &Call<'_>) -> Result<Value, ApiError> {
    let (project, zone) = (call.project(), call.parameter("zone"));
    needs(state, project, "compute.instances.list", &format!("projects/{project}"))?;
    in_known_zone(state, call)?;
    let machines = state.project(project)?.machines.iter().filter(|((own, _), _)| own == zone);
    let all = machines.map(|(_, (machine, id, fingerprint))| machine.shown(*id, *fingerprint)).collect();
    let (items, next) = page(state, call, all)?;
    let path = format!("projects/{project}/zones/{zone}/instances");
    Ok(answer("compute#instanceList", &path, json!(items), next))
}

/// By zone; a zone without any on this page says so.
pub(super) fn aggregated_list(state: &State, call: &Call<'_>) -> Result<Value, ApiError> {
    let project = call.project();
    needs(state, project, "compute.instances.list", &format!("projects/{project}"))?;
    let known = state.project(project)?;
    let all = known.machines.values().map(|(machine, id, fingerprint)| machine.shown(*id, *fingerprint));
    let (items, next) = page(state, call, all.collect())?;
    let mut scopes: BTreeMap<String, Value> = BTreeMap::new();
    for zone in &known.zones {
        let scope = format!("zones/{zone}");
        let own: Vec<&Value> = items
            .iter()
            .filter(|item| item["zone"].as_str().is_some_and(|url| url.ends_with(&format!("/{scope}"))))
            .collect();
        let shown = if own.is_empty() { empty(&scope) } else { json!({ "instances": own }) };
        scopes.insert(scope, shown);
    }
    let path = format!("projects/{project}/aggregated/instances");
    Ok(answer("compute#instanceAggregatedList", &path, json!(scopes), next))
}

fn empty(scope: &str) -> Value {
    json!({ "warning": {
        "code": "NO_RESULTS_ON_PAGE",
        "message": format!("There are no results for scope '{scope}' on this page."),
        "data": [{ "key": "scope", "value": scope }],
    } })
}

pub(super) fn set_tags(state: &mut State, call: &Call<'_>) -> Result<Value, ApiError> {
    let (zone, instance) = (call.parameter("zone").to_owned(), call.parameter("instance").to_owned());
    let path = path(call);
    needs(state, call.project(), "compute.instances.setTags", &path)?;
    in_known_zone(state, call)?;
    let found = state.project(call.project())?.machines.get(&(zone.clone(), instance.clone()));
    let &(_, id, current) = found.ok_or_else(|| ApiError::not_found(&path))?;
    if state.under_way(&path).is_some() {
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
    if encoded(current) != fingerprint && !state.settings.fingerprint_conflict_in_operation {
        return Err(outdated());
    }
    let effect = Effect::Tags { zone: zone.clone(), instance, tags, fingerprint };
    let operation = begun(call, Some(&zone), "setTags", &path, id, effect);
    Ok(state.start(operation, call.request_id()?, slow(call)))
}
