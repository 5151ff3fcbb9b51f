//! Writes the statuses of `HostPortExposure`s and the readiness gates of pods where they differ from what the cluster
//! has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::Mutex;

use super::hostnames::Hostnames;
use crate::dns::{self, Zone};
use crate::exposures::Exposure;
use crate::host_port_exposure::{HostPortExposure, HostPortExposureStatus};
use crate::notice::Notice;
use crate::objects::ObjectRef;
use crate::readiness::{GATE, Gate, gates};
use crate::reconcile::Membership;
use crate::status::{self, Outcomes, statuses};
use crate::watch::SharedIndex;

/// Who owns the fields that are written, as server-side apply has it.
pub(super) const MANAGER: &str = "hostport-firewall";

/// How long what has to be written before anything closes may take: a port must not stay open because the API server
/// does not answer.
const WITHDRAWING: Duration = Duration::from_secs(10);

/// What one cloud has come to.
pub(super) struct Outcome {
    pub(super) problems: BTreeSet<Notice>,
    pub(super) memberships: Vec<Membership>,
    pub(super) asked: Arc<[Exposure]>,
}

/// The statuses, put together from what each cloud has come to. Clones write as one.
#[derive(Clone)]
pub(super) struct Statuses(Arc<Mutex<Known>>);

struct Known {
    /// None where there is no cluster to write to
    client: Option<Client>,
    hostnames: Hostnames,
    /// How many clouds there are
    clouds: usize,
    by_cloud: BTreeMap<&'static str, (BTreeSet<Notice>, Vec<Membership>)>,
    /// Those that could not be observed, and have not been before
    unobserved: BTreeSet<&'static str>,
    asked: Arc<[Exposure]>,
    statuses: status::Statuses,
}

/// What has come of writing.
pub(super) struct Written {
    /// Whether nothing has to be tried again
    pub(super) all: bool,
    /// The hostnames that are not published, and why
    pub(super) unpublished: BTreeSet<Notice>,
}

impl Written {
    const NOTHING_TO_DO: Self = Self { all: true, unpublished: BTreeSet::new() };
}

impl Statuses {
    pub(super) fn new(client: Option<Client>, zone: Option<Zone>, clouds: usize) -> Self {
        Self(Arc::new(Mutex::new(Known {
            client,
            hostnames: Hostnames::new(zone),
            clouds,
            by_cloud: BTreeMap::new(),
            unobserved: BTreeSet::new(),
            asked: [].into(),
            statuses: BTreeMap::new(),
        })))
    }

    /// Takes addresses back that lead to what one cloud is about to close.
    pub(super) async fn withdraw(&self, cloud: &'static str, outlook: Outcome, index: &SharedIndex) {
        // Held while statuses are written, so that an older one never overwrites a newer.
        let mut known = self.0.lock().await;
        known.learn(cloud, outlook);
        if tokio::time::timeout(WITHDRAWING, known.withdraw(index)).await.is_err() {
            tracing::warn!(cloud, "addresses could not be taken back in time; ports are closed nevertheless");
        }
    }

    /// Writes what has changed, now that one cloud has come to this.
    pub(super) async fn say(&self, cloud: &'static str, outcome: Outcome, index: &SharedIndex) -> Written {
        let mut known = self.0.lock().await;
        known.learn(cloud, outcome);
        known.write(index).await
    }

    /// Writes what has changed although one cloud cannot be observed.
    pub(super) async fn unobserved(&self, cloud: &'static str, index: &SharedIndex) {
        let mut known = self.0.lock().await;
        known.unobserved.insert(cloud);
        known.write(index).await;
    }
}

impl Known {
    fn learn(&mut self, cloud: &'static str, outcome: Outcome) {
        self.unobserved.remove(cloud);
        self.by_cloud.insert(cloud, (outcome.problems, outcome.memberships));
        self.asked = outcome.asked;
    }

    fn outcomes(&self) -> Outcomes {
        let mut all = Outcomes {
            asked: Arc::clone(&self.asked),
            unknown: self.by_cloud.len() < self.clouds,
            ..Outcomes::default()
        };
        for (problems, memberships) in self.by_cloud.values() {
            all.problems.extend(problems.iter().cloned());
            all.memberships.extend(memberships.iter().cloned());
        }
        all
    }

    async fn withdraw(&mut self, index: &SharedIndex) {
        let Some(client) = self.client.clone() else { return };
        let outcomes = self.outcomes();
        let (leaving, records) = {
            let index = index.read();
            let statuses = statuses(&index, &outcomes, &self.statuses, &now());
            (status::without_leaving(&statuses, &self.statuses), self.hostnames.leaving(&index, &outcomes))
        };
        for (exposure, status) in leaving {
            write(&client, &exposure, &status).await;
            self.statuses.insert(exposure, status);
        }
        if let Some(records) = records {
            self.hostnames.publish(&client, records).await;
        }
    }

    async fn write(&mut self, index: &SharedIndex) -> Written {
        let Some(client) = self.client.clone() else { return Written::NOTHING_TO_DO };
        let outcomes = self.outcomes();
        // What a cloud has that answers a little later would else look as if it were gone.
        if self.by_cloud.len() + self.unobserved.len() < self.clouds {
            return Written::NOTHING_TO_DO;
        }
        let (outdated, gates, records) = {
            // Not held while anything is written.
            let index = index.read();
            let statuses = statuses(&index, &outcomes, &self.statuses, &now());
            let there: BTreeSet<ObjectRef> =
                statuses.iter().map(|(exposure, _)| exposure.reference()).collect();
            self.statuses.retain(|exposure, _| there.contains(exposure));
            let outdated =
                statuses.into_iter().filter(|(exposure, status)| exposure.status.as_ref() != Some(status));
            let outdated: Vec<_> =
                outdated.map(|(exposure, status)| (exposure.reference(), status)).collect();
            (outdated, gates(&index, &outcomes), self.hostnames.wanted(&index, &outcomes))
        };
        let mut all = true;
        for (exposure, status) in outdated {
            all &= write(&client, &exposure, &status).await;
            self.statuses.insert(exposure, status);
        }
        for gate in gates {
            all &= turn(&client, &gate).await;
        }
        let unpublished = match records {
            None => self.hostnames.none(&outcomes),
            Some(records) => {
                let failed = self.hostnames.publish(&client, records).await;
                all &= failed.is_empty();
                dns::unpublished(&outcomes, |hostname| failed.contains(hostname), "the log says why")
            }
        };
        Written { all, unpublished }
    }
}

/// Makes a gate say what it should. Conditions are merged by type: those of others stay. Returns whether it could.
async fn turn(client: &Client, gate: &Gate) -> bool {
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
    match api.patch_status(name, &PatchParams::default(), &patch).await {
        // A pod that is gone waits for nothing.
        Err(kube::Error::Api(status)) if status.code == 404 => true,
        Err(error) => {
            tracing::warn!(namespace, name, "cannot write the readiness gate of a pod: {error}");
            false
        }
        Ok(_) => true,
    }
}

/// Now, in whole seconds, as Kubernetes' own objects have their times.
fn now() -> Time {
    Time(Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default())
}

/// Writes a status. Returns whether it could: ports do not depend on it.
async fn write(client: &Client, exposure: &ObjectRef, status: &HostPortExposureStatus) -> bool {
    let ObjectRef { api_version, kind, namespace, name, .. } = exposure;
    let api: Api<HostPortExposure> = Api::namespaced(client.clone(), namespace);
    let object = json!({
        "apiVersion": api_version,
        "kind": kind,
        "metadata": { "name": name },
        "status": status,
    });
    let parameters = PatchParams::apply(MANAGER).force();
    match api.patch_status(name, &parameters, &Patch::Apply(object)).await {
        Err(kube::Error::Api(status)) if status.code == 404 => true,
        Err(error) => {
            tracing::warn!(namespace, name, "cannot write the status of a HostPortExposure: {error}");
            false
        }
        Ok(_) => true,
    }
}
