//! One type for every cloud: a reconciler without the types of its provider, so that the loop and the
//! commands have a list.

use std::collections::BTreeSet;
use std::sync::Arc;

use firewall_core::{FirewallProvider, InstanceId, ProviderError};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::cleanup::{self, CleanupError};
use super::outcome::Membership;
use super::pass::{Pass, PlannedPass};
use super::reconciler::Reconciler;
use super::reported_plan::ReportedPlan;
use crate::desired::claims::CloudName;
use crate::desired::snapshot::Snapshot;
use crate::k8s::problem::Problem;

/// The reconciler of one cloud.
pub trait CloudReconciler: Send + Sync {
    /// Returns the cloud's name.
    fn name(&self) -> CloudName;

    /// Returns how the providerIDs of its machines begin, see
    /// [`FirewallProvider::provider_id_prefixes`].
    fn provider_id_prefixes(&self) -> Vec<String>;

    /// Observes the cloud and plans, see [`Reconciler::observe_and_plan`]. The plan holds the reconciler: it
    /// is executed, or abandoned, before the next is made.
    fn observe_and_plan<'a>(
        &'a mut self,
        snapshot: &'a Arc<Snapshot>,
    ) -> BoxFuture<'a, Result<Box<dyn PlannedCloud + 'a>, ProviderError>>;

    /// Waits until a change that an earlier pass left under way has ended; for ever if there is none.
    fn wait_for_ended_change(&mut self) -> BoxFuture<'_, ()>;

    /// Waits until every change under way has ended.
    fn end_all_changes(&mut self) -> BoxFuture<'_, ()>;

    /// Returns the plan that would remove everything of this cluster.
    fn plan_cleanup(&self) -> BoxFuture<'_, Result<ReportedPlan, CleanupError>>;

    /// Removes everything of this cluster.
    fn clean_up(&self) -> BoxFuture<'_, Result<(), CleanupError>>;
}

/// A plan for one cloud that has not been executed yet.
pub trait PlannedCloud: Send {
    /// Returns everything wrong with objects of the cluster.
    fn problems(&self) -> BTreeSet<Problem>;

    /// Returns true if the plan closes anything, be it by a step that opens as well.
    fn closes(&self) -> bool;

    /// Returns the instances that the plan is about; none if it is about all.
    fn scope(&self) -> Option<&BTreeSet<InstanceId>>;

    /// Returns the memberships in scope as they will be after the plan.
    fn projected_memberships(&self) -> Vec<Arc<Membership>>;

    /// Returns the plan in a form that does not depend on the cloud.
    fn report(&self) -> ReportedPlan;

    /// Drops the plan: the next is made of all that this one was made of.
    fn abandon(self: Box<Self>);

    /// Executes the plan until `leave`.
    fn execute<'a>(self: Box<Self>, leave: &'a CancellationToken) -> BoxFuture<'a, Pass>
    where
        Self: 'a;
}

impl<P: FirewallProvider + 'static> CloudReconciler for Reconciler<P> {
    fn name(&self) -> CloudName {
        self.provider().name()
    }

    fn provider_id_prefixes(&self) -> Vec<String> {
        self.provider().provider_id_prefixes()
    }

    fn observe_and_plan<'a>(
        &'a mut self,
        snapshot: &'a Arc<Snapshot>,
    ) -> BoxFuture<'a, Result<Box<dyn PlannedCloud + 'a>, ProviderError>> {
        async {
            let planned = Self::observe_and_plan(self, snapshot).await?;
            let planned: Box<dyn PlannedCloud + 'a> = Box::new(Planned { reconciler: self, planned });
            Ok(planned)
        }
        .boxed()
    }

    fn wait_for_ended_change(&mut self) -> BoxFuture<'_, ()> {
        Self::wait_for_ended_change(self).boxed()
    }

    fn end_all_changes(&mut self) -> BoxFuture<'_, ()> {
        Self::end_all_changes(self).boxed()
    }

    fn plan_cleanup(&self) -> BoxFuture<'_, Result<ReportedPlan, CleanupError>> {
        cleanup::plan_cleanup(self.provider()).boxed()
    }

    fn clean_up(&self) -> BoxFuture<'_, Result<(), CleanupError>> {
        cleanup::clean_up(self.shared_provider()).boxed()
    }
}

struct Planned<'a, P: FirewallProvider> {
    reconciler: &'a mut Reconciler<P>,
    planned: PlannedPass<P>,
}

impl<P: FirewallProvider + 'static> PlannedCloud for Planned<'_, P> {
    fn problems(&self) -> BTreeSet<Problem> {
        self.planned.problems()
    }

    fn closes(&self) -> bool {
        self.planned.plan.steps.iter().any(|step| step.action.may_close())
    }

    fn scope(&self) -> Option<&BTreeSet<InstanceId>> {
        self.planned.scope.as_ref()
    }

    fn projected_memberships(&self) -> Vec<Arc<Membership>> {
        self.reconciler.projected_memberships(&self.planned)
    }

    fn report(&self) -> ReportedPlan {
        ReportedPlan::new(self.reconciler.provider().name(), &self.planned.plan)
    }

    fn abandon(self: Box<Self>) {
        self.reconciler.abandon(self.planned);
    }

    fn execute<'a>(self: Box<Self>, leave: &'a CancellationToken) -> BoxFuture<'a, Pass>
    where
        Self: 'a,
    {
        async move { self.reconciler.execute_plan(self.planned, leave).await }.boxed()
    }
}
