//! Detects the Google Cloud project that this process runs in, from its environment.

use std::time::Duration;

/// Host name of the metadata server, unless `GCE_METADATA_HOST` is set.
const METADATA_HOST: &str = "metadata.google.internal";

/// Time limit of a request to the metadata server, which is on the same machine: it responds at once or is
/// absent.
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);

/// Returns the project that `GOOGLE_CLOUD_PROJECT` names, otherwise the project of the instance that this
/// process runs on; `None` outside Google Cloud.
pub async fn detect_project() -> Option<String> {
    match std::env::var("GOOGLE_CLOUD_PROJECT") {
        Ok(project) if !project.is_empty() => Some(project),
        _ => read_metadata().await,
    }
}

/// Returns the project that the metadata server names. The header `Metadata-Flavor` distinguishes Google's
/// server from the metadata servers of other clouds, which respond at the same address.
///
/// Source: "Query VM metadata" in the Compute Engine documentation.
async fn read_metadata() -> Option<String> {
    let host = std::env::var("GCE_METADATA_HOST").unwrap_or_else(|_| METADATA_HOST.to_owned());
    let client = reqwest::Client::builder().no_proxy().timeout(METADATA_TIMEOUT).build().ok()?;
    let request = client.get(format!("http://{host}/computeMetadata/v1/project/project-id"));
    let response = request.header("Metadata-Flavor", "Google").send().await.ok()?.error_for_status().ok()?;
    let is_google = response.headers().get("Metadata-Flavor").is_some_and(|flavor| flavor == "Google");
    let project = response.text().await.ok()?.trim().to_owned();
    (is_google && !project.is_empty()).then_some(project)
}
