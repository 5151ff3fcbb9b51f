//! `plan`: shows the changes that would be made, and makes none.

use std::sync::Arc;
use std::time::Duration;

use firewall_core::ProviderError;

use super::report::Report;
use crate::desired::snapshot::Snapshot;
use crate::intents::settings::Settings;
use crate::k8s::index::shared_index::SharedIndex;
use crate::reconcile::cloud::CloudReconciler;

/// Returns the plan for each cloud.
///
/// # Errors
/// If a cloud cannot be observed.
pub async fn plan(
    index: &SharedIndex,
    settings: &Settings,
    mut clouds: Vec<Box<dyn CloudReconciler>>,
) -> Result<Report, ProviderError> {
    let snapshot = Arc::new(Snapshot::take(&index.read(), settings, Duration::ZERO));
    let mut report = Report::default();
    for cloud in &mut clouds {
        let planned = cloud.observe_and_plan(&snapshot).await?;
        report.add(planned.report(), planned.problems());
    }
    Ok(report)
}
