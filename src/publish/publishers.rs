//! Publishes the result of a pass: statuses, gates and hostnames, Events, metrics.

use super::events::EventPublisher;
use super::metrics::Metrics;
use super::publisher::{CloudResult, Publisher};
use super::transitions::OpenMemberships;
use crate::desired::snapshot::{ClusterDemand, Snapshot};
use crate::k8s::index::shared_index::SharedIndex;
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
        index: &SharedIndex,
    ) {
        let projected = CloudResult {
            problems: planned.problems().clone(),
            memberships: planned.projected_memberships(),
            demand: snapshot.demand.clone(),
        };
        self.publisher.retract_addresses(cloud, projected, index).await;
    }

    /// Publishes the result of a pass; `opened` is what the passes before it have opened. Returns true if all of it could
    /// be written.
    pub(crate) async fn publish(
        &self,
        cloud: &'static str,
        pass: Pass,
        opened: &mut OpenMemberships,
        index: &SharedIndex,
    ) -> bool {
        self.metrics.readable(cloud, true);
        self.metrics.withheld(cloud, &pass.withheld);
        let transitions = opened.diff_and_record(&pass);
        let Pass { problems, memberships, snapshot, .. } = pass;
        let result = CloudResult { problems: problems.clone(), memberships, demand: snapshot.demand.clone() };
        let written = self.publisher.publish(cloud, result, index).await;
        self.events.say(cloud, problems);
        self.events.say("hostnames", written.unpublished);
        self.events.announce(transitions);
        written.all
    }

    /// Publishes a change of the cluster that cannot change the plan. Returns true if all of it could be written.
    pub(crate) async fn refresh(
        &self,
        cloud: &'static str,
        demand: ClusterDemand,
        index: &SharedIndex,
    ) -> bool {
        let written = self.publisher.refresh(cloud, demand, index).await;
        self.events.say("hostnames", written.unpublished);
        written.all
    }

    /// Publishes that a cloud cannot be observed.
    pub(crate) async fn publish_unobserved(&self, cloud: &'static str, index: &SharedIndex) {
        self.metrics.readable(cloud, false);
        self.publisher.mark_unobserved(cloud, index).await;
    }
}
