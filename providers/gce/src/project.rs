//! Which project this process runs in, as its surroundings say.

use std::time::Duration;

/// Where the metadata server is unless `GCE_METADATA_HOST` says otherwise.
const METADATA_HOST: &str = "metadata.google.internal";

/// The metadata server is on the same machine, and answers at once or is not there.
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);

/// The project that `GOOGLE_CLOUD_PROJECT` names, else the one of the machine that this runs on; `None` off Google
/// Cloud.
pub async fn project() -> Option<String> {
    match std::env::var("GOOGLE_CLOUD_PROJECT") {
        Ok(project) if !project.is_empty() => Some(project),
        _ => from_metadata().await,
    }
}

/// Source: "Query VM metadata" in the Compute Engine documentation; the header tells Google's server from others that
/// answer at the same address on other clouds.
async fn from_metadata() -> Option<String> {
    let host = std::env::var("GCE_METADATA_HOST").unwrap_or_else(|_| METADATA_HOST.to_owned());
    let client = reqwest::Client::builder().no_proxy().timeout(METADATA_TIMEOUT).build().ok()?;
    let request = client.get(format!("http://{host}/computeMetadata/v1/project/project-id"));
    let answer = request.header("Metadata-Flavor", "Google").send().await.ok()?.error_for_status().ok()?;
    let google = answer.headers().get("Metadata-Flavor").is_some_and(|flavor| flavor == "Google");
    let project = answer.text().await.ok()?.trim().to_owned();
    (google && !project.is_empty()).then_some(project)
}
