//! Connects to the API server.

use std::time::Duration;

use kube::{Client, Config};
use thiserror::Error;

/// Why the API server cannot be connected to.
#[derive(Debug, Error)]
#[error("cannot connect to Kubernetes: {0}; set KUBECONFIG, run in a pod, or use --manifests")]
pub struct ConnectError(String);

/// Connects to the cluster of the kubeconfig or the pod.
///
/// # Errors
/// If neither is there or usable.
pub async fn connect() -> Result<Client, ConnectError> {
    /// Longer than a watch lasts (290 s), as kube asks for it. Without, a list that is never answered is waited for for ever.
    const SILENCE: Duration = Duration::from_secs(295);
    let cannot = |error: &dyn std::error::Error| ConnectError(error.to_string());
    let mut config = Config::infer().await.map_err(|error| cannot(&error))?;
    config.read_timeout = Some(SILENCE);
    Client::try_from(config).map_err(|error| cannot(&error))
}
