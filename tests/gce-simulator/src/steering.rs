//! The steering endpoint under `/simulator/`, for tests that cannot call the library.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cloud::Cloud;
use crate::instance::Instance;
use crate::settings::Fault;

/// An HTTP status and a text
type Refusal = (u16, String);

/// The body of `POST /simulator/networks`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Network {
    project: String,
    name: String,
}

/// The body of `PUT /simulator/permissions`
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Permissions {
    /// Projects, or `*`, each with a permission that is revoked
    #[serde(default)]
    denied: Vec<(String, String)>,
    /// Projects, or `*`, each with all the permissions that are granted
    #[serde(default)]
    only: Vec<(String, BTreeSet<String>)>,
}

/// Handles a request under `/simulator/`, and returns the answer's body.
pub(crate) fn handle(cloud: &Cloud, verb: &str, path: &str, body: &[u8]) -> Result<Value, Refusal> {
    let segments: Vec<&str> = path.split('/').collect();
    match (verb, &segments[..]) {
        ("POST", ["networks"]) => {
            let Network { project, name } = read(body)?;
            cloud.add_network(&project, &name);
        }
        ("POST", ["instances"]) => {
            for instance in read::<Vec<Instance>>(body)? {
                cloud.add_instance(instance);
            }
        }
        ("DELETE", ["instances", project, zone, name]) => cloud.remove_instance(project, zone, name),
        ("PUT", ["status", project, zone, name]) => {
            cloud.set_status(project, zone, name, &read::<String>(body)?);
        }
        ("PUT", ["tags", project, zone, name]) => cloud.set_tags(project, zone, name, read(body)?),
        ("GET", ["firewalls", project]) => return Ok(json!(cloud.firewalls(project))),
        ("PUT", ["firewalls", project]) => {
            cloud.put_firewall(project, &read(body)?).map_err(|text| (400, text))?;
        }
        ("DELETE", ["firewalls", project, name]) => cloud.remove_firewall(project, name),
        ("GET", ["admits", project, zone, name]) => return Ok(json!(cloud.admits(project, zone, name))),
        ("GET", ["settings"]) => return Ok(json!(cloud.state().settings)),
        ("PATCH", ["settings"]) => change_settings(cloud, body)?,
        ("PUT", ["permissions"]) => set_permissions(cloud, read(body)?),
        ("POST", ["faults"]) => cloud.inject(read::<Fault>(body)?),
        ("DELETE", ["faults"]) => cloud.clear_faults(),
        ("GET", ["requests"]) => return Ok(json!(cloud.requests())),
        ("DELETE", ["requests"]) => cloud.clear_requests(),
        ("GET", ["violations"]) => return Ok(json!(cloud.violations())),
        _ => return Err((404, format!("{verb} /simulator/{path} does nothing; see the README\n"))),
    }
    Ok(json!({}))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| (400, format!("{error}\n")))
}

fn change_settings(cloud: &Cloud, body: &[u8]) -> Result<(), Refusal> {
    let mut settings = json!(cloud.state().settings);
    crate::firewall::merge(&mut settings, &read::<Value>(body)?);
    let changed = serde_json::from_value(settings).map_err(|error| (400, format!("{error}\n")))?;
    cloud.configure(|settings| *settings = changed);
    Ok(())
}

/// Sets the permissions; those that are not named are granted.
fn set_permissions(cloud: &Cloud, wanted: Permissions) {
    cloud.grant_all();
    for (project, permission) in wanted.denied {
        cloud.deny(&project, &permission);
    }
    for (project, permissions) in wanted.only {
        cloud.grant_only(&project, &permissions.iter().map(String::as_str).collect::<Vec<_>>());
    }
}
