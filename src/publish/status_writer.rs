//! Writes to the cluster: statuses of `HostPortExposure`s, readiness gates of pods, and `DNSEndpoint`s.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client, Resource};
use serde_json::json;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::dns_records::Change;
use super::readiness::GateUpdate;
use crate::k8s::dns_zone::{MANAGED_BY, Zone};
use crate::k8s::host_port_exposure::{HostPortExposure, HostPortExposureStatus};
use crate::k8s::objects::{DNSEndpoint, GATE, ObjectRef};

/// Who owns the fields that are written, as server-side apply has it.
const MANAGER: &str = "hostport-firewall";

/// How long one write may take: an API server that does not answer must not hold up ports.
const ATTEMPT: Duration = Duration::from_secs(10);

/// What the API server answers if there is no such object…
const GONE: u16 = 404;

/// …or if it is another one than is meant.
const REPLACED: u16 = 409;

/// Writes while this replica leads, and the API server answers.
pub(crate) struct Writer {
    client: Client,
    /// Another replica leads: it may have written something newer
    lost: CancellationToken,
    /// Whether a write has had no answer since the last [`begin`](Self::begin): those behind it would have none either
    silent: AtomicBool,
}

impl Writer {
    pub(crate) const fn new(client: Client, lost: CancellationToken) -> Self {
        Self { client, lost, silent: AtomicBool::new(false) }
    }

    /// The API server may answer again.
    pub(crate) fn begin(&self) {
        self.silent.store(false, Ordering::Relaxed);
    }

    /// Writes a status. Returns whether it could: ports do not depend on it.
    pub(crate) async fn status(&self, exposure: &ObjectRef, status: &HostPortExposureStatus) -> bool {
        let ObjectRef { api_version, kind, namespace, name, .. } = exposure;
        let api: Api<HostPortExposure> = Api::namespaced(self.client.clone(), namespace);
        let object = json!({
            "apiVersion": api_version,
            "kind": kind,
            "metadata": { "name": name },
            "status": status,
        });
        let (parameters, patch) = (PatchParams::apply(MANAGER).force(), Patch::Apply(object));
        self.write(&exposure.to_string(), "its status", &[GONE], api.patch_status(name, &parameters, &patch))
            .await
    }

    /// Makes a gate say what it should. Conditions are merged by type: those of others stay. Returns whether it could.
    pub(crate) async fn gate(&self, gate: &GateUpdate) -> bool {
        let GateUpdate { namespace, name, uid, open, status_changed, reason, message } = gate;
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let mut condition = json!({
            "type": GATE,
            "status": if *open { "True" } else { "False" },
            "reason": reason,
            "message": message,
        });
        if *status_changed {
            condition["lastTransitionTime"] = json!(now());
        }
        // The UID makes it a conflict where the pod has been replaced by another of its name.
        let object = json!({ "metadata": { "uid": uid }, "status": { "conditions": [condition] } });
        let (parameters, patch) = (PatchParams::default(), Patch::Strategic(object));
        let call = api.patch_status(name, &parameters, &patch);
        self.write(&format!("Pod {namespace}/{name}"), "its readiness gate", &[GONE, REPLACED], call).await
    }

    /// Makes a `DNSEndpoint` say what it should. Returns whether it could.
    pub(crate) async fn record(&self, zone: &Zone, change: &Change) -> bool {
        let Change { namespace, name, spec } = change;
        let api: Api<DNSEndpoint> = Api::namespaced(self.client.clone(), namespace);
        let (object, hostname) =
            (format!("DNSEndpoint {namespace}/{name}"), change.hostname().unwrap_or_default());
        let written = if let Some(spec) = spec {
            let (label, value) = zone.label();
            let wanted = json!({
                "apiVersion": DNSEndpoint::api_version(&()),
                "kind": DNSEndpoint::kind(&()),
                "metadata": { "name": name, "labels": { MANAGED_BY.0: MANAGED_BY.1, label: value } },
                "spec": spec,
            });
            let (parameters, patch) = (PatchParams::apply(MANAGER).force(), Patch::Apply(wanted));
            // If something is missing here, it is the kind.
            self.write(&object, hostname, &[], api.patch(name, &parameters, &patch)).await
        } else {
            self.write(&object, "its end", &[GONE], api.delete(name, &DeleteParams::default())).await
        };
        if written {
            tracing::info!(object, hostname, "published: {}", change.shown());
        }
        written
    }

    /// Waits for one write, within bounds. With one of the statuses in `needless`, none is needed any more.
    async fn write<T>(
        &self,
        object: &str,
        what: &str,
        needless: &[u16],
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> bool {
        if self.silent.load(Ordering::Relaxed) || self.lost.is_cancelled() {
            return false;
        }
        let outcome = tokio::select! {
            biased;
            () = self.lost.cancelled() => return false,
            outcome = timeout(ATTEMPT, call) => outcome,
        };
        match outcome {
            Ok(Ok(_)) => true,
            Ok(Err(kube::Error::Api(status))) if needless.contains(&status.code) => true,
            Ok(Err(error)) => {
                tracing::warn!(object, "cannot write {what}: {error}");
                false
            }
            Err(_) => {
                self.silent.store(true, Ordering::Relaxed);
                tracing::warn!(
                    object,
                    "cannot write {what}, nor anything else: the API server does not answer"
                );
                false
            }
        }
    }
}

/// Now, in whole seconds, as Kubernetes' own objects have their times.
pub(crate) fn now() -> Time {
    Time(Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default())
}
