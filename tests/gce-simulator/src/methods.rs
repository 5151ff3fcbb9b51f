//! The methods of the API

mod firewalls;
mod instances;
mod operations;

use serde_json::{Value, json};

use crate::discovery::{Method, Parameters};
use crate::error::ApiError;
use crate::fields::Fields;
use crate::filter::Filter;
use crate::firewall::API;
use crate::settings::FaultKind;
use crate::state::State;

/// One call, with its parsed parameters and body
pub(crate) struct Call<'a> {
    pub(crate) method: &'a Method,
    pub(crate) path: Parameters,
    pub(crate) query: Parameters,
    pub(crate) body: Option<Value>,
    pub(crate) fault: Option<FaultKind>,
}

impl Call<'_> {
    /// Returns a parameter of the path.
    pub(crate) fn parameter(&self, name: &str) -> &str {
        self.path.get(name).map_or("", String::as_str)
    }

    fn project(&self) -> &str {
        self.parameter("project")
    }

    /// Returns the request id, if there is one, or an error if it is no UUID.
    fn request_id(&self) -> Result<Option<&String>, ApiError> {
        let Some(id) = self.query.get("requestId") else { return Ok(None) };
        match uuid::Uuid::parse_str(id) {
            Ok(uuid) if !uuid.is_nil() => Ok(Some(id)),
            _ => Err(ApiError::invalid(format!(
                "Invalid value for field 'requestId': '{id}'. Must be a valid UUID."
            ))),
        }
    }
}

/// Returns an error unless the permission is granted in the project.
fn require_permission(state: &State, project: &str, permission: &str, path: &str) -> Result<(), ApiError> {
    if state.permissions.is_granted(project, permission) {
        Ok(())
    } else {
        Err(ApiError::forbidden(permission, path))
    }
}

/// Performs a call on the state, and returns the answer's body.
pub(crate) fn perform(state: &mut State, call: &Call<'_>) -> Result<Value, ApiError> {
    state.finish_due_operations();
    state.project(call.project())?;
    if let Some(id) = call.request_id()? {
        let key = (call.project().to_owned(), id.clone());
        if let Some(before) = state.operations_by_request.get(&key).and_then(|id| state.operation(*id)) {
            return Ok(before.to_json());
        }
    }
    match call.method.id.as_str() {
        "compute.firewalls.insert" => firewalls::insert(state, call),
        "compute.firewalls.get" => firewalls::get(state, call),
        "compute.firewalls.list" => firewalls::list(state, call),
        "compute.firewalls.patch" | "compute.firewalls.update" => firewalls::change(state, call),
        "compute.firewalls.delete" => firewalls::delete(state, call),
        "compute.firewalls.testIamPermissions" => firewalls::test_permissions(state, call),
        "compute.instances.get" => instances::get(state, call),
        "compute.instances.list" => instances::list(state, call),
        "compute.instances.aggregatedList" => instances::aggregated_list(state, call),
        "compute.instances.setTags" => instances::set_tags(state, call),
        "compute.networks.get" => get_network(state, call),
        "compute.globalOperations.list" => operations::list(state, call),
        "compute.globalOperations.get" | "compute.globalOperations.wait" => {
            operations::get(state, call, None)
        }
        "compute.zoneOperations.get" | "compute.zoneOperations.wait" => {
            operations::get(state, call, Some(call.parameter("zone")))
        }
        other => Err(ApiError::new(501, "notImplemented", format!("{other} is not simulated"))),
    }
}

fn get_network(state: &State, call: &Call<'_>) -> Result<Value, ApiError> {
    let (project, name) = (call.project(), call.parameter("network"));
    let path = format!("projects/{project}/global/networks/{name}");
    require_permission(state, project, "compute.networks.get", &path)?;
    if !state.project(project)?.networks.contains(name) {
        return Err(ApiError::not_found(&path));
    }
    Ok(json!({
        "kind": "compute#network",
        "name": name,
        "selfLink": format!("{API}/{path}"),
        "autoCreateSubnetworks": true,
        "routingConfig": { "routingMode": "REGIONAL" },
    }))
}

/// Returns one page of the items that pass the filter, and the token of the next page.
fn paginate(
    state: &State,
    call: &Call<'_>,
    mut items: Vec<Value>,
) -> Result<(Vec<Value>, Option<String>), ApiError> {
    if let Some(filter) = call.query.get("filter").filter(|filter| !filter.is_empty()) {
        let filter = Filter::parse(filter)?;
        items.retain(|item| filter.matches(item));
    }
    match call.query.get("orderBy").map(String::as_str) {
        None | Some("" | "name") => {}
        Some("creationTimestamp desc") => {
            items.sort_by_key(|item| std::cmp::Reverse(item["creationTimestamp"].to_string()));
        }
        Some(other) => {
            return Err(ApiError::invalid(format!("Invalid value for field 'orderBy': '{other}'.")));
        }
    }
    let asked = call.query.get("maxResults").and_then(|count| count.parse().ok()).unwrap_or(500_usize);
    if asked > 500 {
        let message = format!(
            "Invalid value for field 'maxResults': '{asked}'. Values must be within the range: [0, 500]"
        );
        return Err(ApiError::invalid(message));
    }
    let size = if asked == 0 { 500 } else { asked }.min(state.settings.page_size).max(1);
    let start = match call.query.get("pageToken").filter(|token| !token.is_empty()) {
        None => 0,
        Some(token) => {
            token.strip_prefix("page-").and_then(|start| start.parse::<usize>().ok()).ok_or_else(|| {
                ApiError::invalid(format!(
                    "Invalid value for field 'pageToken': '{token}'. The token is malformed."
                ))
            })?
        }
    };
    let next = (start + size < items.len()).then(|| format!("page-{}", start + size));
    Ok((items.into_iter().skip(start).take(size).collect(), next))
}

/// Returns a list as the API answers it.
fn list_response(kind: &str, path: &str, items: Value, next: Option<String>) -> Value {
    let mut answer = json!({ "kind": kind, "id": path, "selfLink": format!("{API}/{path}") });
    if items.as_array().is_none_or(|items| !items.is_empty()) {
        answer["items"] = items;
    }
    if let Some(next) = next {
        answer["nextPageToken"] = json!(next);
    }
    answer
}

/// Keeps the parts of an answer that the parameter `fields`, or the header for it, selects.
pub(crate) fn select_fields(
    mut answer: Value,
    query: &Parameters,
    field_mask: &str,
) -> Result<Value, ApiError> {
    let parameter = query.get("fields").or_else(|| query.get("$fields")).map(String::as_str);
    if let Some(fields) = parameter.or_else(|| Some(field_mask).filter(|mask| !mask.is_empty())) {
        Fields::parse(fields)?.select(&mut answer);
    }
    Ok(answer)
}
