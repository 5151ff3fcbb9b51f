//! The configuration of the controller, whoever builds it: the command line, or a test.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::clouds::CloudsConfig;
use super::guardrails_file::{GuardrailsError, read_guardrails};
use crate::intents::settings::Settings;
use crate::k8s::dns_zone::Zone;
use crate::k8s::manifests::Manifests;
use crate::reconcile::pass::Options;

/// The configuration of the controller.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster's name in the clouds
    pub cluster: String,
    /// The clouds
    pub clouds: CloudsConfig,
    /// The files that stand for a cluster, if any
    pub manifests: Option<Manifests>,
    /// The settings of all intents
    pub settings: SettingsSource,
    /// The administrator's choices for reconciling
    pub options: Options,
    /// Time between two passes although nothing changed
    pub resync: Duration,
    /// The Lease; without one, nothing else may run for this cluster
    pub lease: Option<LeaseConfig>,
    /// The name of this replica in the Lease and in Events; by default the host's
    pub identity: Option<String>,
    /// The hostnames to publish, if any
    pub zone: Option<Zone>,
    /// The address to serve metrics at, if any
    pub metrics_address: Option<SocketAddr>,
}

/// The Lease that one replica holds at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseConfig {
    /// Its name
    pub name: String,
    /// Its namespace; by default the client's own
    pub namespace: Option<String>,
}

/// The settings of all intents, of which a file can hold the guardrails.
#[derive(Clone, Debug)]
pub struct SettingsSource {
    /// The settings without the file
    pub fixed: Settings,
    /// The file with the guardrails, if any
    pub guardrails: Option<PathBuf>,
}

impl SettingsSource {
    /// Reads the settings, with the guardrails as the file has them now.
    ///
    /// # Errors
    /// If the file cannot be read or understood.
    pub fn read(&self) -> Result<Settings, GuardrailsError> {
        let mut settings = self.fixed.clone();
        if let Some(path) = &self.guardrails {
            let allowed = std::mem::take(&mut settings.guardrails.allowed_ports);
            settings.guardrails = read_guardrails(path)?;
            settings.guardrails.allowed_ports.extend(allowed);
        }
        Ok(settings)
    }
}
