//! Publishes the result of a pass: statuses, gates and hostnames; Events; metrics.

use std::collections::BTreeSet;

use tokio_util::sync::CancellationToken;

use super::cluster_now::ReadCluster;
use super::events::EventPublisher;
use super::metrics::Metrics;
use super::published_state::CloudResult;
use super::publisher::Publisher;
use super::transitions::OpenMemberships;
use crate::desired::snapshot::{ClusterDemand, Snapshot};
use crate::k8s::problem::Problem;
use crate::reconcile::cloud::PlannedCloud;
use crate::reconcile::pass::Pass;

/// The receivers of a pass's result.
#[derive(Clone)]
pub(crate) struct Publishers {
    pub(crate) events: EventPublisher,
    pub(crate) publisher: Publisher,
    pub(crate) metrics: Metrics,
}

impl Publishers {
    /// Removes addresses from statuses and DNS before the plan closes their ports.
    pub(crate) async fn retract_addresses(
        &self,
        cloud: &'static str,
        planned: &dyn PlannedCloud,
        snapshot: &Snapshot,
        cluster: ReadCluster<'_>,
    ) {
        // Nothing is retracted where nothing closes.
        if !planned.closes() {
            return;
        }
        let projected = CloudResult {
            problems: planned.problems(),
            scope: planned.scope().cloned(),
            memberships: planned.projected_memberships(),
            demand: snapshot.demand.clone(),
        };
        self.publisher.retract_addresses(cloud, projected, cluster).await;
    }

    /// Reports the result of a pass, and has it written; `opened` has the memberships that were open after the pass
    /// before.
    pub(crate) fn publish(&self, cloud: &'static str, pass: Pass, opened: &mut OpenMemberships) {
        self.metrics.set_observe_failing(cloud, false);
        self.metrics.set_withheld(cloud, &pass.withheld);
        let transitions = opened.diff_and_record(&pass);
        let problems = pass.problems();
        let Pass { scope, memberships, snapshot, .. } = pass;
        let demand = snapshot.demand.clone();
        let result = CloudResult { problems: problems.clone(), scope, memberships, demand };
        self.publisher.record(cloud, result);
        self.report(cloud, problems);
        self.events.announce(transitions);
    }

    /// Has a change of the cluster written that cannot change the plan.
    pub(crate) fn refresh(&self, cloud: Option<&'static str>, demand: ClusterDemand) {
        self.publisher.refresh(cloud, demand);
    }

    /// Reports that a cloud cannot be observed.
    pub(crate) fn publish_unobserved(&self, cloud: &'static str) {
        self.metrics.set_observe_failing(cloud, true);
        self.publisher.mark_unobserved(cloud);
    }

    /// Writes what passes have left to be written, beside them, until they are `done`.
    pub(crate) async fn keep_written(&self, cluster: ReadCluster<'_>, done: &CancellationToken) {
        self.publisher.keep_written(cluster, done, |problems| self.report("hostnames", problems)).await;
    }

    /// Reports the current problems of a source in the log, as Events and in the metric.
    fn report(&self, source: &'static str, problems: BTreeSet<Problem>) {
        self.metrics.set_problems(&self.events.report(source, problems));
    }
}
