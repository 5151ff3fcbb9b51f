//! The HTTP server: understands a request, has it carried out, checks the answer, and writes it down.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
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
use crate::methods::{Call, perform, selected};
use crate::settings::FaultKind;
use crate::{admin, metadata};

/// How often a `wait` looks whether the operation has ended.
const LOOK: Duration = Duration::from_millis(10);

/// The largest body that is read: larger than any rule can be, and room for thousands of instances to begin with.
const LARGEST_BODY: usize = 1 << 25;

/// A running server. It stops when dropped.
pub struct Simulator {
    cloud: Cloud,
    address: SocketAddr,
    serving: JoinHandle<()>,
}

#[derive(Clone)]
struct Served {
    cloud: Cloud,
    discovery: Arc<Discovery>,
}

impl Simulator {
    /// Serves on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// If there is none.
    pub async fn start(cloud: Cloud) -> std::io::Result<Self> {
        Self::listen(cloud, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Serves on this address.
    ///
    /// # Errors
    /// If it cannot be listened on.
    pub async fn listen(cloud: Cloud, address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let served = Served { cloud: cloud.clone(), discovery: Arc::new(Discovery::load()) };
        let router = Router::new().fallback(answer).with_state(served);
        let serving = tokio::spawn(async move {
            // It ends only with the task.
            _ = serve(listener, router).await;
        });
        Ok(Self { cloud, address, serving })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as `http://…`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The cloud behind it.
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

async fn answer(
    Shared(served): Shared<Served>,
    verb: Verb,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    let Ok(body) = axum::body::to_bytes(body, LARGEST_BODY).await else {
        return json(413, &ApiError::new(413, "requestTooLarge", "The request is too large.").body());
    };
    if uri.path() == "/" || uri.path().starts_with("/computeMetadata/") {
        let project = served.cloud.state().settings.project_id.clone();
        let (status, kind, text) = metadata::answer(uri.path(), &headers, project.as_deref());
        return with_headers(status, kind, text);
    }
    if let Some(path) = uri.path().strip_prefix("/simulator/") {
        return match admin::answer(&served.cloud, verb.as_str(), path, &body) {
            Ok(value) => json(200, &value),
            Err((status, text)) => with_headers(status, "text/plain", text),
        };
    }
    let asked = Asked::read(&verb, &uri, &headers, &body);
    served.api(asked).await
}

/// A request as it came.
struct Asked {
    verb: String,
    path: String,
    query: Parameters,
    body: Bytes,
    authorized: bool,
    user_agent: String,
}

impl Asked {
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
        }
    }

    /// The body, if there is one; an error if it is not JSON.
    fn json(&self) -> Result<Option<Value>, ApiError> {
        if self.body.is_empty() {
            return Ok(None);
        }
        let broken = |_| ApiError::invalid_argument("Invalid JSON payload received. Parse error.");
        serde_json::from_slice(&self.body).map(Some).map_err(broken)
    }
}

impl Served {
    async fn api(&self, asked: Asked) -> Response<Body> {
        let found = self.discovery.method(&asked.verb, &asked.path);
        let id = found.as_ref().map_or("", |(method, _)| method.id.as_str()).to_owned();
        let mutating = found.as_ref().is_some_and(|(method, _)| method.mutates());
        let fault = if id.is_empty() { None } else { self.cloud.state().fault(&id, mutating) };
        if let Some(FaultKind::Latency(duration)) = &fault {
            sleep(*duration).await;
        }
        let mut result = self.call(&asked, fault.clone());
        let longest = Instant::now() + self.cloud.state().settings.longest_wait;
        while found.as_ref().is_some_and(|(method, _)| method.name() == "wait")
            && matches!(&result, Ok(operation) if operation["status"] != "DONE")
            && Instant::now() < longest
        {
            sleep(LOOK).await;
            result = self.call(&asked, None);
        }
        let (status, body) = match result {
            Ok(body) => (200, body),
            Err(error) => (error.status, error.body()),
        };
        self.cloud.state().requests.push(Request {
            mutating,
            method: id,
            body: asked.json().ok().flatten(),
            verb: asked.verb,
            path: asked.path,
            query: asked.query,
            status,
            user_agent: asked.user_agent,
        });
        if fault == Some(FaultKind::DropResponse) { cut() } else { json(status, &body) }
    }

    fn call(&self, asked: &Asked, fault: Option<FaultKind>) -> Result<Value, ApiError> {
        if !asked.authorized {
            let message = "Request is missing required authentication credential. Expected OAuth 2 access token, login \
                           cookie or other valid authentication credential.";
            return Err(ApiError::new(401, "required", message));
        }
        let Some((method, path)) = self.discovery.method(&asked.verb, &asked.path) else {
            return Err(ApiError::new(
                404,
                "notFound",
                format!("{} {} is not simulated", asked.verb, asked.path),
            ));
        };
        if let Some(FaultKind::Error { status, reason, message }) = &fault {
            return Err(ApiError::new(*status, reason, message));
        }
        let body = asked.json()?;
        self.discovery.check_parameters(method, &path, &asked.query)?;
        self.discovery.check_body(method, body.as_ref())?;
        let call = Call { method, path, query: asked.query.clone(), body, fault };
        let mut state = self.cloud.state();
        let answer = perform(&mut state, &call)?;
        if let Err(violation) = self.discovery.check_answer(method, &answer) {
            let violation = format!("{}: {violation}", method.id);
            state.violations.push(violation.clone());
            return Err(ApiError::new(500, "internalError", violation));
        }
        selected(answer, &call.query)
    }
}

/// An answer that breaks off: what the client sees when a connection is lost.
fn cut() -> Response<Body> {
    let broken = broken_off();
    let response = Response::builder().status(200).header(header::CONTENT_TYPE, "application/json");
    response.header(header::CONTENT_LENGTH, "1000").body(broken).unwrap_or_default()
}

fn broken_off() -> Body {
    Body::from_stream(futures::stream::once(async {
        Err::<Bytes, _>(std::io::Error::from(std::io::ErrorKind::ConnectionReset))
    }))
}

fn json(status: u16, body: &Value) -> Response<Body> {
    with_headers(status, "application/json; charset=UTF-8", body.to_string())
}

fn with_headers(status: u16, kind: &'static str, text: String) -> Response<Body> {
    let status =
        axum::http::StatusCode::from_u16(status).unwrap_or(axum::http::StatusCode::INTERNAL_SERVER_ERROR);
    let headers: BTreeMap<_, _> = [("content-type", kind), ("metadata-flavor", "Google")].into();
    let mut response = (status, text).into_response();
    for (name, value) in headers {
        response.headers_mut().insert(name, axum::http::HeaderValue::from_static(value));
    }
    response
}
