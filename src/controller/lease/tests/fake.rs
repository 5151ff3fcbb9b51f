//! A Lease API in memory, as strict about versions as the real one.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use kube::Client;
use serde_json::{Value, json};
use tokio::time::sleep;

/// The Lease, and what happens to the next requests.
#[derive(Default)]
pub(in crate::controller) struct Served {
    lease: Option<Value>,
    pub(in crate::controller) version: u64,
    pub(in crate::controller) faults: Vec<Fault>,
}

/// What happens to one write.
#[derive(Clone, Copy, Debug)]
pub(in crate::controller) enum Fault {
    /// It is answered so much later.
    Late(Duration),
    /// It reaches the server so much later, and is answered at once then.
    Slow(Duration),
    /// Somebody annotates the Lease before it arrives.
    Annotated,
}

pub(in crate::controller) type Server = Arc<Mutex<Served>>;

pub(in crate::controller) fn lock(server: &Server) -> MutexGuard<'_, Served> {
    server.lock().expect("no test panics while it holds it")
}

async fn read(State(server): State<Server>) -> (StatusCode, String) {
    match &lock(&server).lease {
        Some(lease) => (StatusCode::OK, lease.to_string()),
        None => refuse(StatusCode::NOT_FOUND),
    }
}

fn refuse(code: StatusCode) -> (StatusCode, String) {
    let reason = if code == StatusCode::CONFLICT { "Conflict" } else { "NotFound" };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": reason,
        "reason": reason, "code": code.as_u16(),
    });
    (code, status.to_string())
}

async fn write(State(server): State<Server>, body: Bytes) -> (StatusCode, String) {
    let fault = lock(&server).faults.pop();
    if let Some(Fault::Slow(delay)) = fault {
        sleep(delay).await;
    }
    let answer = {
        let mut state = lock(&server);
        if matches!(fault, Some(Fault::Annotated)) {
            state.annotate();
        }
        state.write(serde_json::from_slice(&body).expect("a Lease"))
    };
    if let Some(Fault::Late(delay)) = fault {
        sleep(delay).await;
    }
    answer
}

impl Served {
    pub(in crate::controller) fn annotate(&mut self) {
        self.version += 1;
        if let Some(lease) = &mut self.lease {
            lease["metadata"]["annotations"]["example.com/seen"] = json!(self.version.to_string());
            lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        }
    }

    /// Writes as the API server does: an update needs the version that is there, a create that there is none.
    fn write(&mut self, mut lease: Value) -> (StatusCode, String) {
        let there = self.lease.as_ref().map(|lease| &lease["metadata"]["resourceVersion"]);
        if there.unwrap_or(&Value::Null) != &lease["metadata"]["resourceVersion"] {
            return refuse(StatusCode::CONFLICT);
        }
        self.version += 1;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.lease = Some(lease.clone());
        (StatusCode::OK, lease.to_string())
    }
}

/// Returns a client of the server.
pub(in crate::controller) fn client(server: &Server) -> Client {
    let leases = "/apis/coordination.k8s.io/v1/namespaces/ns/leases";
    let routes = Router::new()
        .route(leases, post(write))
        .route(&format!("{leases}/{{name}}"), get(read).put(write))
        .with_state(Arc::clone(server));
    Client::new(routes, "ns")
}
