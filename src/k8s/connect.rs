//! Connects to the API server.

use std::time::Duration;

use kube::{Client, Config};
use thiserror::Error;

/// The reason for which the API server cannot be connected to.
#[derive(Debug, Error)]
#[error("cannot connect to Kubernetes: {0}; set KUBECONFIG, run in a pod, or use --manifests")]
pub struct ConnectError(String);

/// Connects to the cluster of the kubeconfig or the pod.
///
/// # Errors
/// If there is neither, or it is not usable.
pub(crate) async fn connect() -> Result<Client, ConnectError> {
    /// Longer than a watch lasts (290 s), as kube asks for it. Without a read timeout, a list that is never
    /// answered would be waited for forever.
    const READ_TIMEOUT: Duration = Duration::from_secs(295);
    let cannot = |error: &dyn std::error::Error| ConnectError(error.to_string());
    let mut config = Config::infer().await.map_err(|error| cannot(&error))?;
    config.read_timeout = Some(READ_TIMEOUT);
    Client::try_from(config).map_err(|error| cannot(&error))
}
