//! `cleanup`: removes every resource that carries this cluster's mark, and only those.

use std::collections::BTreeSet;

use futures::future::join_all;

use super::report::Report;
use crate::reconcile::cleanup::CleanupError;
use crate::reconcile::cloud::CloudReconciler;

/// Returns the plans that would remove everything of this cluster.
///
/// # Errors
/// If a cloud cannot be read.
pub async fn plan_cleanup(clouds: &[Box<dyn CloudReconciler>]) -> Result<Report, CleanupError> {
    let mut report = Report::default();
    for cloud in clouds {
        report.add(cloud.plan_cleanup().await?, BTreeSet::new());
    }
    Ok(report)
}

/// Removes everything of this cluster.
///
/// # Errors
/// If something is left in one of the clouds; the others are cleaned up nevertheless.
pub async fn clean_up(clouds: &[Box<dyn CloudReconciler>]) -> Result<(), CleanupError> {
    join_all(clouds.iter().map(|cloud| cloud.clean_up())).await.into_iter().collect()
}
