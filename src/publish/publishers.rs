//! Publishes the result of a pass: statuses, gates and hostnames; Events; metrics.

use std::collections::BTreeSet;

use super::cluster_now::ReadCluster;
use super::events::EventPublisher;
use super::metrics::Metrics;
use super::published_state::CloudResult;
use super::publisher::{PublishOutcome, Publisher};
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

    /// Publishes the result of a pass; `opened` has the memberships that were open after the pass before.
    /// Returns true if all of it could be written.
    pub(crate) async fn publish(
        &self,
        cloud: &'static str,
        pass: Pass,
        opened: &mut OpenMemberships,
        cluster: ReadCluster<'_>,
    ) -> bool {
        self.metrics.set_observe_failing(cloud, false);
        self.metrics.set_withheld(cloud, &pass.withheld);
        let transitions = opened.diff_and_record(&pass);
        let problems = pass.problems();
        let Pass { scope, memberships, snapshot, .. } = pass;
        let demand = snapshot.demand.clone();
        let result = CloudResult { problems: problems.clone(), scope, memberships, demand };
        let outcome = self.publisher.publish(cloud, result, cluster).await;
        self.report(cloud, problems);
        let is_complete = self.report_hostnames(outcome);
        self.events.announce(transitions);
        is_complete
    }

    /// Publishes a change of the cluster that cannot change the plan. Returns true if all of it could be
    /// written.
    pub(crate) async fn refresh(
        &self,
        cloud: Option<&'static str>,
        demand: ClusterDemand,
        cluster: ReadCluster<'_>,
    ) -> bool {
        let outcome = self.publisher.refresh(cloud, demand, cluster).await;
        self.report_hostnames(outcome)
    }

    /// Publishes that a cloud cannot be observed.
    pub(crate) async fn publish_unobserved(&self, cloud: &'static str, cluster: ReadCluster<'_>) {
        self.metrics.set_observe_failing(cloud, true);
        self.publisher.mark_unobserved(cloud, cluster).await;
    }

    /// Reports the current problems of a source in the log, as Events and in the metric.
    fn report(&self, source: &'static str, problems: BTreeSet<Problem>) {
        self.metrics.set_problems(&self.events.report(source, problems));
    }

    /// Reports the hostnames that are not published. Returns true if everything is written.
    fn report_hostnames(&self, outcome: PublishOutcome) -> bool {
        self.report("hostnames", outcome.unpublished_hostnames);
        outcome.is_complete
    }
}
