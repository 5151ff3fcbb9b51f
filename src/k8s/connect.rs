//! Connects to the API server.

use std::time::Duration;

use http::header::{HeaderValue, USER_AGENT};
use kube::{Client, Config};
use thiserror::Error;

/// The name by which the audit log and the metrics of the API server know this program.
const AGENT: &str = concat!("hostport-firewall/", env!("CARGO_PKG_VERSION"));

/// The reason for which the API server cannot be connected to.
#[derive(Debug, Error)]
#[error("cannot connect to Kubernetes: {0}; set KUBECONFIG, run in a pod, or use --manifests")]
pub struct ConnectError(String);

/// Connects to the cluster of the kubeconfig or the pod.
///
/// # Errors
/// If there is neither, or it is not usable.
pub(crate) async fn connect() -> Result<Client, ConnectError> {
    let cannot = |error: &dyn std::error::Error| ConnectError(error.to_string());
    let config = Config::infer().await.map_err(|error| cannot(&error))?;
    Client::try_from(complete(config)).map_err(|error| cannot(&error))
}

/// Adds to a configuration what is the same in every cluster.
fn complete(mut config: Config) -> Config {
    /// Longer than a watch is quiet: the API server sends a bookmark every minute. Without a read timeout, what
    /// is never answered would be waited for forever.
    const READ_TIMEOUT: Duration = Duration::from_secs(90);
    config.read_timeout = Some(READ_TIMEOUT);
    config.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
    config
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::extract::Request;

    use super::*;

    #[tokio::test]
    async fn every_request_names_the_program_and_its_version() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let agent = |request: Request| async move {
            let agent = request.headers().get("user-agent");
            agent.and_then(|agent| agent.to_str().ok()).unwrap_or_default().to_owned()
        };
        let serving = tokio::spawn(async move { axum::serve(listener, Router::new().fallback(agent)).await });
        let config = Config::new(format!("http://{address}").parse().expect("a URL"));
        let client = Client::try_from(complete(config)).expect("a client");
        let request = http::Request::get("/api").body(vec![]).expect("a request");
        let answer = client.request_text(request).await.expect("an answer");
        assert_eq!(answer, concat!("hostport-firewall/", env!("CARGO_PKG_VERSION")));
        serving.abort();
    }
}
