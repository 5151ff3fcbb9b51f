//! The metadata server, as far as application default credentials use it.

use axum::http::HeaderMap;
use serde_json::json;

/// Returns the metadata server's answer to a path: status, content type and text.
pub(crate) fn answer(path: &str, headers: &HeaderMap, project: Option<&str>) -> (u16, &'static str, String) {
    const TEXT: &str = "application/text";
    if headers.get("Metadata-Flavor").is_none_or(|flavor| flavor != "Google") {
        return (403, "text/html", "Missing Metadata-Flavor:Google header.".to_owned());
    }
    // Google's Python library requests this path to find out whether there is a metadata server.
    if path == "/" {
        return (200, TEXT, "computeMetadata/\n".to_owned());
    }
    let account = "simulator@developer.gserviceaccount.com";
    match path.trim_end_matches('/') {
        "/computeMetadata/v1/instance/service-accounts/default/token" => {
            let token = json!({ "access_token": "simulated", "expires_in": 3600, "token_type": "Bearer" });
            (200, "application/json", token.to_string())
        }
        "/computeMetadata/v1/instance/service-accounts/default" => {
            let about = json!({ "aliases": ["default"], "email": account, "scopes": ["https://www.googleapis.com/auth/cloud-platform"] });
            (200, "application/json", about.to_string())
        }
        "/computeMetadata/v1/instance/service-accounts/default/email" => (200, TEXT, account.to_owned()),
        "/computeMetadata/v1/universe/universe-domain" | "/computeMetadata/v1/universe/universe_domain" => {
            (200, TEXT, "googleapis.com".to_owned())
        }
        "/computeMetadata/v1/project/project-id" => match project {
            Some(project) => (200, TEXT, project.to_owned()),
            None => (404, "text/html", "no project is set".to_owned()),
        },
        _ => (404, "text/html", format!("{path} is not simulated")),
    }
}
