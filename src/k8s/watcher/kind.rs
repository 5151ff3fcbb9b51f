//! The watched kinds: their paths, selectors and encodings, and the requests that read them.

use http::header::{ACCEPT, HeaderValue};
use kube::api::{ListParams, Request, WatchParams};
use kube::core::request::Error;

use crate::k8s::index::Watch;

/// The time for which a watch is asked for, in seconds. The server ends it then, and it is resumed.
const WATCH_SECONDS: u32 = 290;

/// A request without a body.
type Get = Result<http::Request<Vec<u8>>, Error>;

/// One kind to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) watch: Watch,
    /// For example `networking.k8s.io/v1`
    pub(super) api_version: String,
    fields: Option<String>,
    labels: Option<String>,
}

impl Kind {
    /// Returns all objects of a kind in the API version of which its fields are read.
    pub(super) fn new(watch: Watch) -> Self {
        let api_version = watch.kind().0.into_owned();
        Self { watch, api_version, fields: None, labels: None }
    }

    /// Returns the same kind in another API version.
    pub(super) fn version(self, api_version: String) -> Self {
        Self { api_version, ..self }
    }

    /// Returns only the objects whose fields fit.
    pub(super) fn fields(self, selector: &str) -> Self {
        Self { fields: Some(selector.to_owned()), ..self }
    }

    /// Returns only the objects whose labels fit.
    pub(super) fn labels(self, selector: &str) -> Self {
        Self { labels: Some(selector.to_owned()), ..self }
    }

    /// Requests one page of a list.
    pub(super) fn page(&self, limit: u32, continue_token: Option<String>) -> Get {
        let parameters = ListParams {
            field_selector: self.fields.clone(),
            label_selector: self.labels.clone(),
            limit: Some(limit),
            continue_token,
            ..ListParams::default()
        };
        Ok(self.accepted(Request::new(self.path()).list(&parameters)?))
    }

    /// Requests all objects as events, then all changes.
    pub(super) fn streaming_list(&self) -> Get {
        let parameters = WatchParams { send_initial_events: true, ..self.watch_parameters() };
        Ok(self.accepted(Request::new(self.path()).watch(&parameters, "")?))
    }

    /// Requests all changes since a version.
    pub(super) fn changes_since(&self, resource_version: &str) -> Get {
        Ok(self.accepted(Request::new(self.path()).watch(&self.watch_parameters(), resource_version)?))
    }

    fn watch_parameters(&self) -> WatchParams {
        WatchParams {
            field_selector: self.fields.clone(),
            label_selector: self.labels.clone(),
            timeout: Some(WATCH_SECONDS),
            bookmarks: true,
            send_initial_events: false,
        }
    }

    fn path(&self) -> String {
        let name = self.watch.to_string();
        let plural = name.split('.').next().unwrap_or_default();
        let root = if self.api_version.contains('/') { "apis" } else { "api" };
        format!("/{root}/{}/{plural}", self.api_version)
    }

    /// Adds the encodings that are understood. The API server has Protocol Buffers for the kinds that it
    /// defines itself, and answers in JSON where it has not.
    fn accepted(&self, mut request: http::Request<Vec<u8>>) -> http::Request<Vec<u8>> {
        let encodings = match &self.watch {
            Watch::HostPortExposures | Watch::DNSEndpoints => "application/json",
            Watch::Ingresses(group) if group != "networking.k8s.io" => "application/json",
            _ => "application/vnd.kubernetes.protobuf, application/json",
        };
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(encodings));
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(request: Get) -> (String, String) {
        let request = request.expect("a request");
        let accept = request.headers()["accept"].to_str().expect("text").to_owned();
        (request.uri().to_string(), accept)
    }

    #[test]
    fn requests_name_path_selectors_and_encodings() {
        let pods = Kind::new(Watch::Pods).fields("spec.nodeName!=");
        let (uri, accept) = parts(pods.page(500, Some("a/b".into())));
        assert_eq!(uri, "/api/v1/pods?&fieldSelector=spec.nodeName%21%3D&limit=500&continue=a%2Fb");
        assert!(accept.starts_with("application/vnd.kubernetes.protobuf"), "{accept}");
        let exposures = Kind::new(Watch::HostPortExposures).labels("a=b");
        let (uri, accept) = parts(exposures.streaming_list());
        assert!(uri.starts_with("/apis/hostport-firewall.dev/v1alpha1/hostportexposures?"), "{uri}");
        for parameter in [
            "labelSelector=a%3Db",
            "sendInitialEvents=true",
            "resourceVersionMatch=NotOlderThan",
            "allowWatchBookmarks=true",
        ] {
            assert!(uri.contains(parameter), "{uri}");
        }
        assert_eq!(accept, "application/json");
        let voyager = Kind::new(Watch::Ingresses("voyager.appscode.com".into()));
        let voyager = voyager.version("voyager.appscode.com/v1beta1".into());
        let (uri, accept) = parts(voyager.changes_since("17"));
        assert!(uri.starts_with("/apis/voyager.appscode.com/v1beta1/ingresses?&watch=true"), "{uri}");
        assert!(uri.ends_with("&resourceVersion=17"), "{uri}");
        assert_eq!(accept, "application/json");
    }
}
