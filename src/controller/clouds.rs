//! The clouds of one run. A new cloud is a variant of [`CloudConfig`], a row of
//! [`crate::desired::claims::CLOUDS`], and a group of flags.

use std::collections::BTreeSet;

use firewall_aws::{Aws, AwsConfig};
use firewall_core::Fence;
use firewall_gce::{Gce, GceConfig};
use futures::future::join_all;
use thiserror::Error;

use crate::desired::claims::{AWS, CloudName, GCE};
use crate::reconcile::cloud::CloudReconciler;
use crate::reconcile::pass::Options;
use crate::reconcile::reconciler::Reconciler;

/// The clouds to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Those that the environment names: AWS by a Region, Google Cloud by a project.
    Auto,
    /// These
    These(BTreeSet<CloudName>),
}

/// The configuration of one cloud.
#[derive(Clone, Debug)]
pub enum CloudConfig {
    /// EC2 security groups
    Aws(AwsConfig),
    /// VPC firewall rules of Compute Engine; without a project, the one that the environment names
    Gce(GceConfig),
}

/// The configuration of all clouds.
#[derive(Clone, Debug)]
pub struct CloudsConfig {
    /// The clouds to run
    pub choice: Choice,
    /// Each cloud that can be run
    pub clouds: Vec<CloudConfig>,
}

/// Why a cloud cannot be connected to.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// AWS cannot.
    #[error(transparent)]
    Aws(#[from] firewall_aws::ConnectError),
    /// Google Cloud cannot.
    #[error(transparent)]
    Gce(#[from] firewall_gce::ConnectError),
    /// Nothing names a project.
    #[error("no Google Cloud project: set --gce-project or GOOGLE_CLOUD_PROJECT, or run on Compute Engine")]
    NoProject,
    /// The environment names no cloud.
    #[error(
        "no cloud found: for AWS, set --aws-region or AWS_REGION, or run on EC2; for Google Cloud, set --gce-project or \
         GOOGLE_CLOUD_PROJECT, or run on Compute Engine"
    )]
    NoCloud,
}

/// Connects to the chosen clouds, which ask the fence before each change. No call is made to them but to the
/// metadata server.
///
/// # Errors
/// If a chosen cloud cannot be connected to, or `auto` finds none.
pub async fn connect(
    config: CloudsConfig,
    options: &Options,
    fence: &Fence,
) -> Result<Vec<Box<dyn CloudReconciler>>, ConnectError> {
    let CloudsConfig { choice, clouds } = config;
    let is_chosen = |cloud: &CloudConfig| match &choice {
        Choice::Auto => true,
        Choice::These(names) => names.contains(cloud.name()),
    };
    let auto = choice == Choice::Auto;
    // The SDKs' own futures are tens of kilobytes large.
    let connecting = clouds.into_iter().filter(is_chosen).map(|cloud| Box::pin(cloud.connect(auto)));
    let connected = join_all(connecting).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let connected: Vec<Connected> = connected.into_iter().flatten().collect();
    let active: BTreeSet<CloudName> = connected.iter().map(Connected::name).collect();
    if active.is_empty() {
        return Err(ConnectError::NoCloud);
    }
    tracing::info!(providers = active.iter().copied().collect::<Vec<_>>().join(","), "connected");
    let options = Options { active, ..options.clone() };
    Ok(connected.into_iter().map(|cloud| cloud.reconciler(options.clone(), fence.clone())).collect())
}

impl CloudConfig {
    const fn name(&self) -> CloudName {
        match self {
            Self::Aws(_) => AWS,
            Self::Gce(_) => GCE,
        }
    }

    /// Connects to the cloud; none if `auto` and the environment does not name it.
    async fn connect(self, auto: bool) -> Result<Option<Connected>, ConnectError> {
        Ok(match self {
            Self::Aws(config) => connect_aws(config, auto).await?.map(Connected::Aws),
            Self::Gce(config) => connect_gce(config, auto).await?.map(Connected::Gce),
        })
    }
}

/// A cloud that is connected to.
enum Connected {
    Aws(Aws),
    Gce(Gce),
}

impl Connected {
    const fn name(&self) -> CloudName {
        match self {
            Self::Aws(_) => AWS,
            Self::Gce(_) => GCE,
        }
    }

    fn reconciler(self, options: Options, fence: Fence) -> Box<dyn CloudReconciler> {
        match self {
            Self::Aws(aws) => Box::new(Reconciler::new(aws.with_fence(fence), options)),
            Self::Gce(gce) => Box::new(Reconciler::new(gce.with_fence(fence), options)),
        }
    }
}

async fn connect_aws(config: AwsConfig, auto: bool) -> Result<Option<Aws>, ConnectError> {
    match Aws::connect(config).await {
        Ok(aws) => Ok(Some(aws)),
        Err(firewall_aws::ConnectError::NoRegion) if auto => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn connect_gce(mut config: GceConfig, auto: bool) -> Result<Option<Gce>, ConnectError> {
    if config.project.is_empty() {
        match firewall_gce::detect_project().await {
            Some(project) => config.project = project,
            None if auto => return Ok(None),
            None => return Err(ConnectError::NoProject),
        }
    }
    Ok(Some(Gce::connect(config).await?))
}
