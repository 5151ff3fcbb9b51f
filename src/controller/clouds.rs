//! The clouds that one run keeps in line: which are active, and whose a node is.

use std::collections::BTreeSet;

use firewall_aws::{Aws, AwsConfig};
use firewall_gce::{Gce, GceConfig};
use thiserror::Error;

use crate::commands::cleanup::{self, CleanupError};
use crate::commands::report::Report;
use crate::desired::claims::Provider;
use crate::k8s::index::shared_index::SharedIndex;
use crate::reconcile::pass::Options;
use crate::reconcile::reconciler::Reconciler;

/// Which providers to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Those that the surroundings tell of: AWS by a Region, Google Cloud by a project.
    Auto,
    /// These
    These(BTreeSet<Provider>),
}

/// The configuration of all providers.
#[derive(Clone, Debug)]
pub struct ProvidersConfig {
    /// Which of them to run
    pub choice: Choice,
    /// For AWS
    pub aws: AwsConfig,
    /// For Google Cloud; without a project, the one that the surroundings name
    pub gce: GceConfig,
}

/// Why the providers cannot be set up.
#[derive(Debug, Error)]
pub enum ProvidersError {
    /// AWS cannot.
    #[error(transparent)]
    Aws(#[from] firewall_aws::ConnectError),
    /// Google Cloud cannot.
    #[error(transparent)]
    Gce(#[from] firewall_gce::ConnectError),
    /// Nothing says which project.
    #[error("no Google Cloud project: set --gce-project or GOOGLE_CLOUD_PROJECT, or run on Compute Engine")]
    NoProject,
    /// The surroundings tell of no cloud.
    #[error(
        "no cloud found: for AWS, set --aws-region or AWS_REGION, or run on EC2; for Google Cloud, set --gce-project or \
         GOOGLE_CLOUD_PROJECT, or run on Compute Engine"
    )]
    None,
}

/// The active providers.
#[derive(Debug)]
pub struct Providers {
    aws: Option<Aws>,
    gce: Option<Gce>,
}

/// A reconciler for each active provider.
pub struct Reconcilers {
    pub(crate) aws: Option<Reconciler<Aws>>,
    pub(crate) gce: Option<Reconciler<Gce>>,
}

impl Reconcilers {
    /// How many clouds there are.
    pub(crate) fn count(&self) -> usize {
        usize::from(self.aws.is_some()) + usize::from(self.gce.is_some())
    }
}

impl Providers {
    /// Connects to the chosen clouds. No call is made to them but to the metadata server.
    ///
    /// # Errors
    /// If a chosen cloud cannot be connected to, or `auto` finds none.
    pub async fn connect(config: ProvidersConfig) -> Result<Self, ProvidersError> {
        let ProvidersConfig { choice, aws, gce } = config;
        let wanted = |provider| match &choice {
            Choice::Auto => true,
            Choice::These(these) => these.contains(&provider),
        };
        let auto = choice == Choice::Auto;
        let (aws, gce) = tokio::join!(
            // The SDKs' own futures are tens of kilobytes large.
            Box::pin(async { if wanted(Provider::Aws) { connect_aws(aws, auto).await } else { Ok(None) } }),
            Box::pin(async { if wanted(Provider::Gce) { connect_gce(gce, auto).await } else { Ok(None) } }),
        );
        let providers = Self { aws: aws?, gce: gce? };
        if providers.active().is_empty() {
            return Err(ProvidersError::None);
        }
        let active: Vec<String> = providers.active().iter().map(ToString::to_string).collect();
        tracing::info!(providers = active.join(","), "connected");
        Ok(providers)
    }

    fn active(&self) -> BTreeSet<Provider> {
        let aws = self.aws.iter().map(|_| Provider::Aws);
        aws.chain(self.gce.iter().map(|_| Provider::Gce)).collect()
    }

    /// A reconciler for each.
    #[must_use]
    pub fn reconcilers(self, options: &Options) -> Reconcilers {
        let options = Options { active: self.active(), ..options.clone() };
        Reconcilers {
            aws: self.aws.map(|aws| Reconciler::new(aws, options.clone())),
            gce: self.gce.map(|gce| Reconciler::new(gce, options)),
        }
    }

    /// What each would change.
    ///
    /// # Errors
    /// If a cloud cannot be observed.
    pub async fn plan(
        self,
        index: &SharedIndex,
        options: &Options,
    ) -> Result<Report, firewall_core::ProviderError> {
        let mut report = Report::default();
        let Reconcilers { aws, gce } = self.reconcilers(options);
        if let Some(mut aws) = aws {
            let planned = aws.observe_and_plan(index).await?;
            report.add(aws.name(), &planned.plan, planned.notices);
        }
        if let Some(mut gce) = gce {
            let planned = gce.observe_and_plan(index).await?;
            report.add(gce.name(), &planned.plan, planned.notices);
        }
        Ok(report)
    }

    /// What cleaning up would remove.
    ///
    /// # Errors
    /// If a cloud cannot be observed.
    pub async fn show_cleanup(&self) -> Result<Report, CleanupError> {
        let mut report = Report::default();
        if let Some(aws) = &self.aws {
            cleanup::show(aws, &mut report).await?;
        }
        if let Some(gce) = &self.gce {
            cleanup::show(gce, &mut report).await?;
        }
        Ok(report)
    }

    /// Removes everything of the cluster's.
    ///
    /// # Errors
    /// If something is left in one of the clouds; the others are cleaned up nevertheless.
    pub async fn clean_up(&self) -> Result<(), CleanupError> {
        let aws = async { if let Some(aws) = &self.aws { cleanup::remove(aws).await } else { Ok(()) } };
        let gce = async { if let Some(gce) = &self.gce { cleanup::remove(gce).await } else { Ok(()) } };
        let (aws, gce) = tokio::join!(aws, gce);
        aws.and(gce)
    }
}

async fn connect_aws(config: AwsConfig, auto: bool) -> Result<Option<Aws>, ProvidersError> {
    match Aws::connect(config).await {
        Ok(aws) => Ok(Some(aws)),
        Err(firewall_aws::ConnectError::NoRegion) if auto => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn connect_gce(mut config: GceConfig, auto: bool) -> Result<Option<Gce>, ProvidersError> {
    if config.project.is_empty() {
        match firewall_gce::project().await {
            Some(project) => config.project = project,
            None if auto => return Ok(None),
            None => return Err(ProvidersError::NoProject),
        }
    }
    Ok(Some(Gce::connect(config).await?))
}
