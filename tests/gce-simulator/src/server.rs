//! The HTTP server: parses a request, performs it, checks the answer, and records both.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State as Shared;
use axum::http::{HeaderMap, Method as Verb, Response, Uri, header};
use axum::response::IntoResponse;
use axum::{Router, serve};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::cloud::{Cloud, Request};
use crate::discovery::{Discovery, Parameters};
use crate::error::ApiError;
use crate::methods::{Call, perform, select_fields};
use crate::settings::FaultKind;
use crate::{metadata, steering};

/// The interval at which a `wait` checks whether the operation has ended.
const WAIT_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The largest body that is read, in bytes: larger than any rule can be, and enough for thousands of seeded
/// instances.
const MAX_BODY_BYTES: usize = 1 << 25;

/// A running server. It stops when dropped.
pub struct Simulator {
    cloud: Cloud,
    address: SocketAddr,
    serving: JoinHandle<()>,
}

/// The parts that every request needs
#[derive(Clone)]
struct Service {
    cloud: Cloud,
    discovery: Arc<Discovery>,
}

impl Simulator {
    /// Serves on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// Returns an error if there is no free port.
    pub async fn start(cloud: Cloud) -> std::io::Result<Self> {
        Self::listen(cloud, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Serves on this address.
    ///
    /// # Errors
    /// Returns an error if the address cannot be bound.
    pub async fn listen(cloud: Cloud, address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let router = Self::router(cloud.clone());
        let serving = tokio::spawn(async move {
            // It ends only with the task.
            _ = serve(listener, router).await;
        });
        Ok(Self { cloud, address, serving })
    }

    /// Returns the service alone, to be called in process.
    pub fn router(cloud: Cloud) -> Router {
        static DISCOVERY: LazyLock<Arc<Discovery>> = LazyLock::new(|| Arc::new(Discovery::load()));
        Router::new().fallback(handle).with_state(Service { cloud, discovery: Arc::clone(&DISCOVERY) })
    }

    /// Returns the address on which it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the URL on which it listens, `http://…`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the cloud that it serves.
    #[must_use]
    pub const fn cloud(&self) -> &Cloud {
        &self.cloud
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn handle(
    Shared(service): Shared<Service>,
    verb: Verb,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY_BYTES).await else {
        return json_response(
            413,
            &ApiError::new(413, "requestTooLarge", "The request is too large.").body(),
        );
    };
    if uri.path() == "/" || uri.path().starts_with("/computeMetadata/") {
        let project = service.cloud.state().settings.project_id.clone();
        let (status, kind, text) = metadata::answer(uri.path(), &headers, project.as_deref());
        return text_response(status, kind, text);
    }
    if let Some(path) = uri.path().strip_prefix("/simulator/") {
        return match steering::handle(&service.cloud, verb.as_str(), path, &body) {
            Ok(value) => json_response(200, &value),
            Err((status, text)) => text_response(status, "text/plain", text),
        };
    }
    let request = HttpRequest::read(&verb, &uri, &headers, &body);
    service.call_api(request).await
}

/// A request as it was received
struct HttpRequest {
    verb: String,
    path: String,
    query: Parameters,
    body: Bytes,
    authorized: bool,
    user_agent: String,
    /// The header `X-Goog-FieldMask`, which selects fields as the parameter `fields` does
    field_mask: String,
}

impl HttpRequest {
    fn read(verb: &Verb, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let query = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        let token = text(header::AUTHORIZATION).strip_prefix("Bearer ");
        Self {
            verb: verb.to_string(),
            path: uri.path().to_owned(),
            query: query.into_owned().collect(),
            body: body.clone(),
            authorized: token.is_some_and(|token| !token.trim().is_empty()),
            user_agent: text(header::USER_AGENT).to_owned(),
            field_mask: text(header::HeaderName::from_static("x-goog-fieldmask")).to_owned(),
        }
    }

    /// Returns the body, `None` if it is empty, or an error if it is not JSON.
    fn parse_body(&self) -> Result<Option<Value>, ApiError> {
        if self.body.is_empty() {
            return Ok(None);
        }
        let broken = |_| ApiError::invalid_argument("Invalid JSON payload received. Parse error.");
        serde_json::from_slice(&self.body).map(Some).map_err(broken)
    }
}

impl Service {
    /// Calls a method of the API, with the faults that are due, and records the call.
    async fn call_api(&self, request: HttpRequest) -> Response<Body> {
        let received_us = now_us();
        let found = self.discovery.method(&request.verb, &request.path);
        let id = found.as_ref().map_or("", |(method, _)| method.id.as_str()).to_owned();
        let mutating = found.as_ref().is_some_and(|(method, _)| method.mutates());
        let text = format!("{} {}", request.path, request.query.get("filter").map_or("", String::as_str));
        let fault = if id.is_empty() { None } else { self.cloud.state().take_fault(&id, mutating, &text) };
        if let Some(FaultKind::Latency(duration)) = &fault {
            sleep(*duration).await;
        }
        let mut result = self.call(&request, fault.clone());
        let longest = Instant::now() + self.cloud.state().settings.longest_wait;
        while found.as_ref().is_some_and(|(method, _)| method.name() == "wait")
            && matches!(&result, Ok(operation) if operation["status"] != "DONE")
            && Instant::now() < longest
        {
            sleep(WAIT_POLL_INTERVAL).await;
            result = self.call(&request, None);
        }
        let (status, body) = match result {
            Ok(body) => (200, body),
            Err(error) => (error.status, error.body()),
        };
        self.cloud.state().requests.push(Request {
            mutating,
            method: id,
            body: request.parse_body().ok().flatten(),
            verb: request.verb,
            path: request.path,
            query: request.query,
            status,
            user_agent: request.user_agent,
            received_us,
            answered_us: now_us(),
        });
        match fault {
            Some(FaultKind::DropResponse) => truncated_response(),
            Some(FaultKind::Error { retry_after: Some(seconds), .. }) => {
                let mut response = json_response(status, &body);
                response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
                response
            }
            _ => json_response(status, &body),
        }
    }

    fn call(&self, request: &HttpRequest, fault: Option<FaultKind>) -> Result<Value, ApiError> {
        if !request.authorized {
            let message = "Request is missing required authentication credential. Expected OAuth 2 access token, login \
                           cookie or other valid authentication credential.";
            return Err(ApiError::new(401, "required", message));
        }
        let Some((method, path)) = self.discovery.method(&request.verb, &request.path) else {
            return Err(ApiError::new(
                404,
                "notFound",
                format!("{} {} is not simulated", request.verb, request.path),
            ));
        };
        if let Some(FaultKind::Error { status, reason, message, .. }) = &fault {
            return Err(ApiError::new(*status, reason, message));
        }
        let body = request.parse_body()?;
        self.discovery.check_parameters(method, &path, &request.query)?;
        self.discovery.check_body(method, body.as_ref())?;
        let call = Call { method, path, query: request.query.clone(), body, fault };
        let mut state = self.cloud.state();
        let answer = perform(&mut state, &call)?;
        if let Err(violation) = self.discovery.check_answer(method, &answer) {
            let violation = format!("{}: {violation}", method.id);
            state.violations.push(violation.clone());
            return Err(ApiError::new(500, "internalError", violation));
        }
        select_fields(answer, &call.query, &request.field_mask)
    }
}

fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

/// Returns an answer that breaks off, as a client sees it when the connection is lost.
fn truncated_response() -> Response<Body> {
    let broken = Body::from_stream(futures::stream::once(async {
        Err::<Bytes, _>(std::io::Error::from(std::io::ErrorKind::ConnectionReset))
    }));
    let response = Response::builder().status(200).header(header::CONTENT_TYPE, "application/json");
    response.header(header::CONTENT_LENGTH, "1000").body(broken).unwrap_or_default()
}

fn json_response(status: u16, body: &Value) -> Response<Body> {
    text_response(status, "application/json; charset=UTF-8", body.to_string())
}

fn text_response(status: u16, kind: &'static str, text: String) -> Response<Body> {
    let status =
        axum::http::StatusCode::from_u16(status).unwrap_or(axum::http::StatusCode::INTERNAL_SERVER_ERROR);
    let headers: BTreeMap<_, _> = [("content-type", kind), ("metadata-flavor", "Google")].into();
    let mut response = (status, text).into_response();
    for (name, value) in headers {
        response.headers_mut().insert(name, axum::http::HeaderValue::from_static(value));
    }
    response
}
