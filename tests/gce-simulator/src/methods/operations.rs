//! Operations.

use serde_json::{Value, json};

use super::{Call, answer, needs, page};
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
    needs(state, project, permission, &path)?;
    let mine = |operation: &&Operation| {
        operation.project == project
            && operation.zone.as_deref() == zone
            && (operation.name() == name || operation.id.to_string() == name)
    };
    state.operations.iter().find(mine).map(Operation::shown).ok_or_else(|| ApiError::not_found(&path))
}

pub(super) fn list(state: &State, call: &Call<'_>) -> Result<Value, ApiError> {
    let project = call.project();
    needs(state, project, "compute.globalOperations.list", &format!("projects/{project}"))?;
    let own =
        state.operations.iter().filter(|operation| operation.project == project && operation.zone.is_none());
    let (items, next) = page(state, call, own.map(Operation::shown).collect())?;
    let path = format!("projects/{project}/global/operations");
    Ok(answer("compute#operationList", &path, json!(items), next))
}
