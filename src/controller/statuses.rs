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

use super::dns_endpoints::publish;
use crate::dns::{self, Targets, Zone};
use crate::exposures::Exposure;
use crate::host_port_exposure::{HostPortExposure, HostPortExposureStatus};
use crate::index::Index;
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
    /// None where hostnames are not published
    zone: Option<Zone>,
    /// How many clouds there are
    clouds: usize,
    by_cloud: BTreeMap<&'static str, (BTreeSet<Notice>, Vec<Membership>)>,
    /// Those that could not be observed, and have not been before
    unobserved: BTreeSet<&'static str>,
    asked: Arc<[Exposure]>,
    statuses: status::Statuses,
    /// What was published last; none before anything was
    targets: Option<Targets>,
}

impl Statuses {
    pub(super) fn new(client: Option<Client>, zone: Option<Zone>, clouds: usize) -> Self {
        Self(Arc::new(Mutex::new(Known {
            client,
            zone,
            clouds,
            by_cloud: BTreeMap::new(),
            unobserved: BTreeSet::new(),
            asked: [].into(),
            statuses: BTreeMap::new(),
            targets: None,
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

    /// Writes what has changed, now that one cloud has come to this. Returns whether all of it could be written.
    pub(super) async fn say(&self, cloud: &'static str, outcome: Outcome, index: &SharedIndex) -> bool {
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
        let (leaving, dns) = {
            let index = index.read();
            let statuses = statuses(&index, &outcomes, &self.statuses, &now());
            (status::without_leaving(&statuses, &self.statuses), self.leaving_targets(&index, &outcomes))
        };
        for (exposure, status) in leaving {
            write(&client, &exposure, &status).await;
            self.statuses.insert(exposure, status);
        }
        if let Some((changes, targets)) = dns {
            self.publish(&client, changes, targets).await;
        }
    }

    async fn write(&mut self, index: &SharedIndex) -> bool {
        let Some(client) = self.client.clone() else { return true };
        let outcomes = self.outcomes();
        // What a cloud has that answers a little later would else look as if it were gone.
        if self.by_cloud.len() + self.unobserved.len() < self.clouds {
            return true;
        }
        let (outdated, gates, dns) = {
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
            (outdated, gates(&index, &outcomes), self.wanted_targets(&index, &outcomes))
        };
        let mut all = true;
        for (exposure, status) in outdated {
            all &= write(&client, &exposure, &status).await;
            self.statuses.insert(exposure, status);
        }
        for gate in gates {
            all &= turn(&client, &gate).await;
        }
        if let Some((changes, targets)) = dns {
            all &= self.publish(&client, changes, targets).await;
        }
        all
    }

    /// The `DNSEndpoint`s without what has to leave.
    fn leaving_targets(&self, index: &Index, outcomes: &Outcomes) -> Option<(Vec<dns::Change>, Targets)> {
        let zone = self.zone.as_ref()?;
        let before = self.targets.clone().unwrap_or_else(|| dns::published(index));
        let kept = dns::without_leaving(&before, &dns::targets(index, outcomes, &before));
        (kept != before).then(|| (dns::changes(index, zone, &before, &kept), kept))
    }

    /// The `DNSEndpoint`s as they should be.
    fn wanted_targets(&self, index: &Index, outcomes: &Outcomes) -> Option<(Vec<dns::Change>, Targets)> {
        let zone = self.zone.as_ref()?;
        let before = self.targets.clone().unwrap_or_else(|| dns::published(index));
        let wanted = dns::targets(index, outcomes, &before);
        Some((dns::changes(index, zone, &before, &wanted), wanted))
    }

    async fn publish(&mut self, client: &Client, changes: Vec<dns::Change>, targets: Targets) -> bool {
        let Some(zone) = &self.zone else { return true };
        let mut all = true;
        for change in changes {
            all &= publish(client, zone, &change).await;
        }
        self.targets = Some(targets);
        all
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
