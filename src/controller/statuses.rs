//! Writes the statuses of `HostPortExposure`s and the readiness gates of pods where they differ from what the cluster
//! has.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::Mutex;

use crate::host_port_exposure::{HostPortExposure, HostPortExposureStatus};
use crate::index::Index;
use crate::objects::ObjectRef;
use crate::readiness::{GATE, Gate, gates};
use crate::status::{Outcomes, statuses};
use crate::watch::SharedIndex;

/// Who owns the fields of a status, as server-side apply has it.
const MANAGER: &str = "hostport-firewall";

/// The statuses, put together from what each cloud has come to. Clones write as one.
#[derive(Clone)]
pub(super) struct Statuses(Arc<Mutex<Written>>);

struct Written {
    /// None where there is no cluster to write to
    client: Option<Client>,
    by_cloud: BTreeMap<&'static str, Outcomes>,
}

impl Statuses {
    pub(super) fn new(client: Option<Client>) -> Self {
        Self(Arc::new(Mutex::new(Written { client, by_cloud: BTreeMap::new() })))
    }

    /// Writes what has changed, now that one cloud has come to this.
    pub(super) async fn say(&self, cloud: &'static str, outcomes: Outcomes, index: &SharedIndex) {
        // Held while statuses are written, so that an older one never overwrites a newer.
        let mut written = self.0.lock().await;
        written.by_cloud.insert(cloud, outcomes);
        let Some(client) = &written.client else { return };
        let mut all = Outcomes::default();
        for outcomes in written.by_cloud.values() {
            all.problems.extend(outcomes.problems.iter().cloned());
            all.memberships.extend(outcomes.memberships.iter().cloned());
            all.asked.extend(outcomes.asked.iter().cloned());
        }
        let (statuses, gates) = {
            // Not held while anything is written.
            let index = index.read();
            (outdated(&index, &all), gates(&index, &all))
        };
        for (exposure, status) in statuses {
            write(client, &exposure, &status).await;
        }
        for gate in gates {
            turn(client, &gate).await;
        }
    }
}

/// The statuses that differ from what the index has.
fn outdated(index: &Index, outcomes: &Outcomes) -> Vec<(ObjectRef, HostPortExposureStatus)> {
    let statuses = statuses(index, outcomes, &now()).into_iter();
    let outdated = statuses.filter(|(exposure, status)| exposure.status.as_ref() != Some(status));
    outdated.map(|(exposure, status)| (exposure.reference(), status)).collect()
}

/// Makes a gate say what it should. Conditions are merged by type: those of others stay.
async fn turn(client: &Client, gate: &Gate) {
    let Gate { namespace, name, open, reason, message } = gate;
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let condition = json!({
        "type": GATE,
        "status": if *open { "True" } else { "False" },
        "reason": reason,
        "message": message,
        "lastTransitionTime": now(),
    });
    let patch = Patch::Strategic(json!({ "status": { "conditions": [condition] } }));
    if let Err(error) = api.patch_status(name, &PatchParams::default(), &patch).await {
        tracing::warn!(namespace, name, "cannot write the readiness gate of a pod: {error}");
    }
}

/// Now, in whole seconds, as Kubernetes' own objects have their times.
fn now() -> Time {
    Time(Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default())
}

/// A status that cannot be written is logged and tried again with the next pass: ports do not depend on it.
async fn write(client: &Client, exposure: &ObjectRef, status: &HostPortExposureStatus) {
    let ObjectRef { api_version, kind, namespace, name, .. } = exposure;
    let api: Api<HostPortExposure> = Api::namespaced(client.clone(), namespace);
    let object = json!({
        "apiVersion": api_version,
        "kind": kind,
        "metadata": { "name": name },
        "status": status,
    });
    let parameters = PatchParams::apply(MANAGER).force();
    if let Err(error) = api.patch_status(name, &parameters, &Patch::Apply(object)).await {
        tracing::warn!(namespace, name, "cannot write the status of a HostPortExposure: {error}");
    }
}
