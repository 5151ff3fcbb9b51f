//! The methods of `compute.globalOperations` and `compute.zoneOperations`

use serde_json::{Value, json};

use super::{Call, list_response, paginate, require_permission};
use crate::error::ApiError;
use crate::operation::Operation;
use crate::state::State;

pub(super) fn get(state: &State, call: &Call<'_>, zone: Option<&str>) -> Result<Value, ApiError> {
    let (project, name) = (call.project(), call.parameter("operation"));
    let (scope, permission) = match zone {
        None => ("global".to_owned(), "compute.globalOperations.get"),
        Some(zone) => (format!("zones/{zone}"), "compute.zoneOperations.get"),
    };
    let path = format!("projects/{project}/{scope}/operations/{name}");
    require_permission(state, project, permission, &path)?;
    let is_requested = |operation: &&Operation| {
        operation.project == project
            && operation.zone.as_deref() == zone
            && (operation.name() == name || operation.id.to_string() == name)
    };
    state
        .operations
        .iter()
        .find(is_requested)
        .map(Operation::to_json)
        .ok_or_else(|| ApiError::not_found(&path))
}

pub(super) fn list(state: &State, call: &Call<'_>) -> Result<Value, ApiError> {
    let project = call.project();
    require_permission(state, project, "compute.globalOperations.list", &format!("projects/{project}"))?;
    let own =
        state.operations.iter().filter(|operation| operation.project == project && operation.zone.is_none());
    let (items, next) = paginate(state, call, own.map(Operation::to_json).collect())?;
    let path = format!("projects/{project}/global/operations");
    Ok(list_response("compute#operationList", &path, json!(items), next))
}
