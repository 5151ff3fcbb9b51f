//! Writes to the cluster: statuses of `HostPortExposure`s, readiness gates of pods, and `DNSEndpoint`s.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use firewall_core::{Fence, Fenced};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client, Resource};
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::dns_records::EndpointChange;
use super::readiness::GateUpdate;
use crate::k8s::dns_zone::{MANAGED_BY, Zone};
use crate::k8s::host_port_exposure::{HostPortExposure, HostPortExposureStatus};
use crate::k8s::objects::{DNSEndpoint, GATE, ObjectRef};
use crate::k8s::plain_text::escape_unprintable;

/// The time that one write may take: an API server that does not answer must not hold up ports.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The API server's status code if the object does not exist.
const NOT_FOUND: u16 = 404;

/// The API server's status code if the object has been replaced by another of its name.
const CONFLICT: u16 = 409;

/// Writes while the fence is open, and the API server answers. No port depends on these writes: a failure is
/// logged, and returned as false.
pub(crate) struct StatusWriter {
    client: Client,
    /// The owner of the written fields: of several controllers in one cluster, each has its own
    field_manager: String,
    /// Closed once another replica may lead, which may have written something newer
    fence: Fence,
    /// True if a write of this round was not sent or not answered: the others would not be either
    is_unanswered: AtomicBool,
}

impl StatusWriter {
    pub(crate) fn new(client: Client, controller: &str, fence: Fence) -> Self {
        let field_manager = format!("hostport-firewall-{controller}");
        Self { client, field_manager, fence, is_unanswered: AtomicBool::new(false) }
    }

    /// Begins a round of writes: the API server may answer again.
    pub(super) fn begin_round(&self) {
        self.is_unanswered.store(false, Ordering::Relaxed);
    }

    /// Writes the status of a `HostPortExposure`. Returns true if it is written.
    pub(super) async fn write_status(&self, exposure: &ObjectRef, status: &HostPortExposureStatus) -> bool {
        let ObjectRef { api_version, kind, namespace, name, .. } = exposure;
        let api: Api<HostPortExposure> = Api::namespaced(self.client.clone(), namespace);
        let object = json!({
            "apiVersion": api_version,
            "kind": kind,
            "metadata": { "name": name },
            "status": status,
        });
        let (parameters, patch) = (PatchParams::apply(&self.field_manager).force(), Patch::Apply(object));
        let call = api.patch_status(name, &parameters, &patch);
        self.send(&exposure.to_string(), "its status", &[NOT_FOUND], call).await
    }

    /// Writes the condition of a pod's readiness gate. Conditions are merged by type: those of others stay.
    /// Returns true if it is written.
    pub(super) async fn write_gate(&self, gate: &GateUpdate) -> bool {
        let GateUpdate { namespace, name, uid, is_open, status_changed, reason, message } = gate;
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let mut condition = json!({
            "type": GATE,
            "status": if *is_open { "True" } else { "False" },
            "reason": reason,
            "message": escape_unprintable(message),
        });
        if *status_changed {
            condition["lastTransitionTime"] = json!(current_time());
        }
        // With the UID, it is a conflict if the pod has been replaced by another of its name.
        let object = json!({ "metadata": { "uid": uid }, "status": { "conditions": [condition] } });
        let (parameters, patch) = (PatchParams::default(), Patch::Strategic(object));
        let call = api.patch_status(name, &parameters, &patch);
        self.send(&format!("Pod {namespace}/{name}"), "its readiness gate", &[NOT_FOUND, CONFLICT], call)
            .await
    }

    /// Creates, changes or deletes a `DNSEndpoint`. Returns true if that is done.
    pub(super) async fn write_dns_endpoint(&self, zone: &Zone, change: &EndpointChange) -> bool {
        let EndpointChange { namespace, name, spec } = change;
        let api: Api<DNSEndpoint> = Api::namespaced(self.client.clone(), namespace);
        let (object, hostname) =
            (format!("DNSEndpoint {namespace}/{name}"), change.hostname().unwrap_or_default());
        let is_written = if let Some(spec) = spec {
            let (label, value) = zone.label();
            let endpoint = json!({
                "apiVersion": DNSEndpoint::api_version(&()),
                "kind": DNSEndpoint::kind(&()),
                "metadata": { "name": name, "labels": { MANAGED_BY.0: MANAGED_BY.1, label: value } },
                "spec": spec,
            });
            let (parameters, patch) =
                (PatchParams::apply(&self.field_manager).force(), Patch::Apply(endpoint));
            // An apply creates the object: NOT_FOUND would mean that the kind is missing.
            self.send(&object, hostname, &[], api.patch(name, &parameters, &patch)).await
        } else {
            self.send(&object, "its deletion", &[NOT_FOUND], api.delete(name, &DeleteParams::default())).await
        };
        if is_written {
            tracing::info!(object, hostname, "published: {}", change.describe_targets());
        }
        is_written
    }

    /// Sends one write and waits for its answer, within [`WRITE_TIMEOUT`]. A status code in `superfluous`
    /// means that the write is no longer needed, and counts as success.
    async fn send<T>(
        &self,
        object: &str,
        content: &str,
        superfluous: &[u16],
        call: impl Future<Output = Result<T, kube::Error>> + Send,
    ) -> bool {
        if self.is_unanswered.load(Ordering::Relaxed) {
            return false;
        }
        let guarded = self.fence.guard(|| Instant::now().into_std(), call);
        match timeout(WRITE_TIMEOUT, guarded).await {
            Ok(Ok(Ok(_))) => true,
            Ok(Ok(Err(kube::Error::Api(status)))) if superfluous.contains(&status.code) => true,
            Ok(Ok(Err(error))) => {
                tracing::warn!(object, "cannot write {content}: {error}");
                false
            }
            Ok(Err(Fenced)) => {
                self.is_unanswered.store(true, Ordering::Relaxed);
                tracing::warn!(object, "did not write {content}, nor anything else: {Fenced}");
                false
            }
            Err(_) => {
                self.is_unanswered.store(true, Ordering::Relaxed);
                tracing::warn!(
                    object,
                    "cannot write {content}, nor anything else: the API server does not answer"
                );
                false
            }
        }
    }
}

/// Returns the current time in whole seconds, the precision of times in Kubernetes objects.
pub(super) fn current_time() -> Time {
    Time(Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default())
}
