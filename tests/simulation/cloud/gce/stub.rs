//! The transport beneath Google's client: typed requests become HTTP requests to the simulator.

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Request};
use firewall_core::{ErrorKind, ProviderError};
use google_cloud_compute_v1::model::{
    Firewall, FirewallList, Instance, InstanceAggregatedList, InstanceList, Network, Operation, firewalls,
    global_operations, instances, networks, zone_operations,
};
use google_cloud_compute_v1::stub;
use google_cloud_gax::Result;
use google_cloud_gax::error::Error;
use google_cloud_gax::error::rpc::Status;
use google_cloud_gax::options::RequestOptions;
use google_cloud_gax::response::Response;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tower::ServiceExt;

use super::{Gce, OPERATION};
use crate::checker::Cause;
use crate::cloud::ModelCloud;
use crate::cloud::faults::{Call, Fate};
use crate::process::Process;

/// The clients' way to the simulator, for one process.
#[derive(Clone)]
pub(super) struct Stub {
    pub(super) gce: Gce,
    pub(super) process: Process,
}

impl std::fmt::Debug for Stub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stub")
    }
}

/// A request: verb, path below the API, parameters and body.
struct Http {
    verb: &'static str,
    path: String,
    query: Vec<(&'static str, Option<String>)>,
    body: Option<Value>,
}

impl Http {
    fn new(verb: &'static str, path: &str) -> Self {
        Self { verb, path: format!("/compute/v1/{path}"), query: Vec::new(), body: None }
    }

    fn with(mut self, key: &'static str, value: Option<impl ToString>) -> Self {
        self.query.push((key, value.map(|value| value.to_string())));
        self
    }

    fn with_body(mut self, body: Option<impl Serialize>) -> Self {
        self.body = body.map(|body| serde_json::to_value(body).expect("a model can be written"));
        self
    }

    fn request(&self) -> Request<Body> {
        let given =
            self.query.iter().filter_map(|(key, value)| Some(format!("{key}={}", encode(value.as_ref()?))));
        let query = given.collect::<Vec<_>>().join("&");
        let body = self.body.as_ref().map_or_else(Body::empty, |body| Body::from(body.to_string()));
        Request::builder()
            .method(self.verb)
            .uri(format!("{}?{query}", self.path))
            .header("authorization", "Bearer token")
            .body(body)
            .expect("a request")
    }

    /// Returns the call as text: the verb, the object, and what it is for.
    fn describe(&self, known: Option<&Value>) -> String {
        let body = self.body.as_ref().and_then(|body| body["description"].as_str());
        let description = body.or_else(|| known.and_then(|rule| rule["description"].as_str()));
        let mark: Value = description.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        format!("{} {} [{}]", self.verb, self.name(), mark["group"].as_str().unwrap_or_default())
    }

    /// Returns true if the call only takes ranges off a rule, or the rule itself.
    fn closes(&self, known: Option<&Value>) -> bool {
        let is_part = |field: &str| {
            let (Some(after), Some(before)) =
                (self.body.as_ref().map(|body| &body[field]), known.map(|rule| &rule[field]))
            else {
                return false;
            };
            let before = before.as_array().map(Vec::as_slice).unwrap_or_default();
            after.as_array().is_none_or(|after| after.iter().all(|one| before.contains(one)))
        };
        self.verb == "DELETE"
            || self.verb == "PATCH"
                && ["destinationRanges", "sourceRanges", "allowed"].into_iter().all(is_part)
    }

    /// Returns the method of Google's API.
    fn method(&self) -> Option<&'static str> {
        let parts: Vec<&str> = self.path.rsplit('/').collect();
        Some(match (self.verb, &parts[..]) {
            (_, [_, "operations", ..]) => "operations.get",
            ("GET", ["firewalls", ..]) => "firewalls.list",
            ("GET", [_, "firewalls", ..]) => "firewalls.get",
            ("POST", ["firewalls", ..]) => "firewalls.insert",
            ("PATCH", _) => "firewalls.patch",
            ("PUT", _) => "firewalls.update",
            ("DELETE", _) => "firewalls.delete",
            ("GET", ["instances", "aggregated", ..]) => "instances.aggregatedList",
            ("GET", ["instances", ..]) => "instances.list",
            ("GET", [_, "instances", ..]) => "instances.get",
            ("POST", ["setTags", ..]) => "instances.setTags",
            ("GET", [_, "networks", ..]) => "networks.get",
            _ => return None,
        })
    }

    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

fn encode(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

impl Stub {
    async fn read<T: DeserializeOwned>(&self, http: Http) -> Result<Response<T>> {
        self.process.pause_if_dead().await;
        let kill = self.announce_read(&http);
        if kill == Some(true) {
            self.process.kill();
            self.process.pause_if_dead().await;
        }
        sleep(OPERATION / 4).await;
        if self.gce.faults().is_unreadable {
            return Err(Error::timeout("as the history asks"));
        }
        if http.path.ends_with("/firewalls")
            && let Some(observer) = self.gce.observer.get()
        {
            observer.has_read(&self.process);
        }
        let mut answer = self.send(&http).await;
        if let Ok(list) = &mut answer {
            self.omit(list);
        }
        if kill == Some(false) {
            self.process.kill();
        }
        self.process.pause_if_dead().await;
        parse(answer?)
    }

    /// Announces a read, and returns the way in which its sender is killed at it, if it is. A poll of an operation
    /// is none: how many there are depends on the time that Google takes.
    fn announce_read(&self, http: &Http) -> Option<bool> {
        let method = http.method().filter(|method| *method != "operations.get")?;
        if let Some(observer) = self.gce.observer.get() {
            observer.called(method, false);
        }
        self.gce.faults().next_kill(true)
    }

    /// Leaves machines out of a list of instances.
    fn omit(&self, list: &mut Value) {
        let mut faults = self.gce.faults();
        for (machine, reads) in &mut faults.omitted {
            let name = super::name(*machine);
            let Some(items) = list["items"].as_array_mut().filter(|_| *reads > 0) else { continue };
            let before = items.len();
            items.retain(|instance| instance["name"] != name || instance["kind"] != "compute#instance");
            *reads -= u32::from(items.len() < before);
        }
    }

    /// Sends one change: what has been sent takes effect, whatever becomes of the sender.
    async fn change(&self, http: Http) -> Result<Response<Operation>> {
        self.process.pause_if_dead().await;
        let known = self.gce.cloud.firewalls(super::PROJECT);
        let text = http.describe(known.get(http.name()));
        let (begun, half) = (Instant::now(), self.gce.faults().duration(&text) / 2);
        sleep(half).await;
        self.process.pause_if_dead().await;
        let observer = self.gce.observer.get().cloned();
        if let Some(observer) = &observer {
            observer.sent(&self.process, &text);
            observer.called(http.method().unwrap_or_default(), true);
        }
        let (fate, kill) = {
            let mut faults = self.gce.faults();
            let closes = http.closes(known.get(http.name()));
            let call = Call { text: &text, closes, creates_group: http.verb == "POST" };
            (faults.decide(call), faults.next_kill(false))
        };
        if kill == Some(true) {
            self.process.kill();
            self.process.pause_if_dead().await;
        }
        let (answer, answered) = oneshot::channel();
        let stub = self.clone();
        tokio::spawn(async move {
            sleep(half).await;
            let result = match fate {
                Fate::Succeeds => stub.send(&http).await,
                Fate::AnswerLost(error) => stub.send(&http).await.and_then(|_| Err(refusal(&error))),
                Fate::Fails(error) => Err(refusal(&error)),
            };
            let outcome = result.as_ref().map_or_else(ToString::to_string, |_| "ok".to_owned());
            if let Some(observer) = &observer {
                observer.ended(&stub.process, &text, &outcome);
            }
            if kill == Some(false) {
                stub.process.kill();
            }
            _ = answer.send(result);
            stub.announce_effect(begun).await;
        });
        let result = answered.await;
        self.process.pause_if_dead().await;
        parse(result.expect("the task ends by answering")?)
    }

    /// Announces the effect of an operation when it has ended.
    async fn announce_effect(&self, begun: Instant) {
        let mut pending = OPERATION;
        self.gce.cloud.configure(|settings| pending = settings.operation_delay);
        sleep(pending + std::time::Duration::from_millis(1)).await;
        self.gce.announce(Cause::of_call(begun));
    }

    /// Lets the simulator answer.
    async fn send(&self, http: &Http) -> Result<Value> {
        let response = self.gce.service.clone().oneshot(http.request()).await.expect("it is infallible");
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), usize::MAX).await.map_err(Error::io)?;
        if status == 200 {
            return serde_json::from_slice(&body).map_err(Error::deser);
        }
        let details = Status::try_from(&body)?;
        Err(Error::service_with_http_metadata(details, Some(status), Some(HeaderMap::new())))
    }
}

fn parse<T: DeserializeOwned>(value: Value) -> Result<Response<T>> {
    serde_json::from_value(value).map(Response::from).map_err(Error::deser)
}

/// Returns the error by which Compute Engine refuses a call.
fn refusal(error: &ProviderError) -> Error {
    let (code, reason) = match error.kind {
        ErrorKind::Throttled => (403, "rateLimitExceeded"),
        ErrorKind::PermissionDenied => (403, "forbidden"),
        ErrorKind::QuotaReached => (403, "quotaExceeded"),
        _ if error.message == "connection reset" => return Error::timeout("connection reset"),
        _ => (503, "backendError"),
    };
    let errors = json!([{ "reason": reason, "message": error.message, "domain": "global" }]);
    let body = json!({ "error": { "code": code, "message": error.message, "errors": errors } });
    let body = Bytes::from(body.to_string());
    match Status::try_from(&body) {
        Ok(details) => Error::service_with_http_metadata(details, Some(code), Some(HeaderMap::new())),
        Err(error) => error,
    }
}

impl stub::Firewalls for Stub {
    async fn list(&self, of: firewalls::ListRequest, _: RequestOptions) -> Result<Response<FirewallList>> {
        let http = Http::new("GET", &format!("projects/{}/global/firewalls", of.project));
        let http = http.with("filter", of.filter).with("maxResults", of.max_results);
        self.read(http.with("pageToken", of.page_token)).await
    }

    async fn get(&self, of: firewalls::GetRequest, _: RequestOptions) -> Result<Response<Firewall>> {
        self.read(Http::new("GET", &format!("projects/{}/global/firewalls/{}", of.project, of.firewall)))
            .await
    }

    async fn insert(&self, of: firewalls::InsertRequest, _: RequestOptions) -> Result<Response<Operation>> {
        let http = Http::new("POST", &format!("projects/{}/global/firewalls", of.project));
        self.change(http.with("requestId", of.request_id).with_body(of.body)).await
    }

    async fn patch(&self, of: firewalls::PatchRequest, _: RequestOptions) -> Result<Response<Operation>> {
        let http = Http::new("PATCH", &format!("projects/{}/global/firewalls/{}", of.project, of.firewall));
        self.change(http.with("requestId", of.request_id).with_body(of.body)).await
    }

    async fn update(&self, of: firewalls::UpdateRequest, _: RequestOptions) -> Result<Response<Operation>> {
        let http = Http::new("PUT", &format!("projects/{}/global/firewalls/{}", of.project, of.firewall));
        self.change(http.with("requestId", of.request_id).with_body(of.body)).await
    }

    async fn delete(&self, of: firewalls::DeleteRequest, _: RequestOptions) -> Result<Response<Operation>> {
        let http = Http::new("DELETE", &format!("projects/{}/global/firewalls/{}", of.project, of.firewall));
        self.change(http.with("requestId", of.request_id)).await
    }

    async fn get_operation(
        &self,
        of: global_operations::GetRequest,
        _: RequestOptions,
    ) -> Result<Response<Operation>> {
        self.read(Http::new("GET", &format!("projects/{}/global/operations/{}", of.project, of.operation)))
            .await
    }
}

impl stub::Instances for Stub {
    async fn list(&self, of: instances::ListRequest, _: RequestOptions) -> Result<Response<InstanceList>> {
        let http = Http::new("GET", &format!("projects/{}/zones/{}/instances", of.project, of.zone));
        let http = http.with("filter", of.filter).with("maxResults", of.max_results);
        self.read(http.with("pageToken", of.page_token)).await
    }

    async fn aggregated_list(
        &self,
        of: instances::AggregatedListRequest,
        _: RequestOptions,
    ) -> Result<Response<InstanceAggregatedList>> {
        let http = Http::new("GET", &format!("projects/{}/aggregated/instances", of.project));
        self.read(http.with("maxResults", of.max_results).with("pageToken", of.page_token)).await
    }

    async fn get(&self, of: instances::GetRequest, _: RequestOptions) -> Result<Response<Instance>> {
        let path = format!("projects/{}/zones/{}/instances/{}", of.project, of.zone, of.instance);
        self.read(Http::new("GET", &path)).await
    }

    async fn set_tags(
        &self,
        of: instances::SetTagsRequest,
        _: RequestOptions,
    ) -> Result<Response<Operation>> {
        let path = format!("projects/{}/zones/{}/instances/{}/setTags", of.project, of.zone, of.instance);
        self.change(Http::new("POST", &path).with("requestId", of.request_id).with_body(of.body)).await
    }

    async fn get_operation(
        &self,
        of: zone_operations::GetRequest,
        _: RequestOptions,
    ) -> Result<Response<Operation>> {
        let path = format!("projects/{}/zones/{}/operations/{}", of.project, of.zone, of.operation);
        self.read(Http::new("GET", &path)).await
    }
}

impl stub::Networks for Stub {
    async fn get(&self, of: networks::GetRequest, _: RequestOptions) -> Result<Response<Network>> {
        self.read(Http::new("GET", &format!("projects/{}/global/networks/{}", of.project, of.network))).await
    }
}
