//! Writes `DNSEndpoint`s, by which external-dns publishes addresses.

use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client, Resource};
use serde_json::json;

use super::statuses::MANAGER;
use crate::dns::{Change, MANAGED_BY, Zone};
use crate::objects::{DNSEndpoint, DNSEndpointSpec};

/// Makes a `DNSEndpoint` say what it should. Returns whether it could.
pub(super) async fn publish(client: &Client, zone: &Zone, change: &Change) -> bool {
    let Change { namespace, name, spec } = change;
    let api: Api<DNSEndpoint> = Api::namespaced(client.clone(), namespace);
    let result = match spec {
        None => match api.delete(name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(|_| ()),
        },
        Some(spec) => {
            let (label, value) = zone.label();
            let object = json!({
                "apiVersion": DNSEndpoint::api_version(&()),
                "kind": DNSEndpoint::kind(&()),
                "metadata": { "name": name, "labels": { MANAGED_BY.0: MANAGED_BY.1, label: value } },
                "spec": spec,
            });
            let parameters = PatchParams::apply(MANAGER).force();
            api.patch(name, &parameters, &Patch::Apply(object)).await.map(|_| ())
        }
    };
    let hostname = spec.iter().flat_map(|spec| &spec.endpoints).map(|record| record.dns_name.as_str()).next();
    match &result {
        Ok(()) => tracing::info!(namespace, name, hostname, "published: {}", published(spec.as_ref())),
        Err(error) => tracing::warn!(namespace, name, hostname, "cannot write a DNSEndpoint: {error}"),
    }
    result.is_ok()
}

fn published(spec: Option<&DNSEndpointSpec>) -> String {
    let targets: Vec<&str> = spec
        .iter()
        .flat_map(|spec| &spec.endpoints)
        .flat_map(|record| &record.targets)
        .map(String::as_str)
        .collect();
    if targets.is_empty() { "nothing any more".to_owned() } else { targets.join(", ") }
}
