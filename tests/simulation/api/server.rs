//! The server: answers a request from the store.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, Response};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::request::{Query, Target};
use super::watches::Watch;
use super::{Faults, Kind, Store};
use crate::process::Process;

/// The time that an answer takes.
const LATENCY: Duration = Duration::from_millis(4);

/// The time after which a client gives up on an answer: the read timeout of the controller's own client.
const READ_TIMEOUT: Duration = Duration::from_secs(90);

/// The most objects of one page, whatever the client asks for: a server may give fewer.
const PAGE: usize = 5;

/// A write that a controller has made.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) process: usize,
    pub(crate) kind: Kind,
    pub(crate) text: String,
}

/// The state that requests and the history share.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) faults: Faults,
    /// The writes of all controllers, but for Leases
    pub(crate) writes: Vec<Write>,
    /// The number of pages of lists, and of all other reads: of single objects, and of the served APIs
    pub(crate) lists: usize,
    pub(crate) look_ups: usize,
    /// The last write of a Lease, by the number of its process, and when; none once it is released
    pub(crate) lease_holder: Option<(usize, Instant)>,
    /// The last answer to such a write that has arrived
    pub(crate) lease_answered: Option<(usize, Instant)>,
}

/// The state, and the version that watches wait for.
pub(super) struct Shared {
    state: Mutex<State>,
    version: watch::Sender<u64>,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The API server. Clones share one state.
#[derive(Clone)]
pub(crate) struct ApiServer(Arc<Shared>);

/// An answer: the status code, and an object.
type Answer = (u16, Value);

impl ApiServer {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), version: watch::Sender::new(0) }))
    }

    /// Reads the state.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.0.lock())
    }

    /// Changes the state as somebody else does, and wakes the watches.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.0.lock();
        let changed = change(&mut state);
        let version = state.store.version();
        drop(state);
        self.0.version.send_replace(version);
        changed
    }

    /// Returns the client of a process.
    pub(crate) fn client(&self, process: &Process) -> Client {
        let (server, process) = (self.clone(), process.clone());
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let (server, process) = (server.clone(), process.clone());
            async move { server.answer(&process, request).await }
        });
        Client::new(service, "operators")
    }

    async fn answer(
        &self,
        process: &Process,
        request: Request<kube::client::Body>,
    ) -> Result<Response<Body>, tower::BoxError> {
        process.pause_if_dead().await;
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await?;
        let target = Target::of_path(parts.uri.path());
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let is_lease = matches!(target, Target::Objects { kind: Kind::Leases, .. });
        let is_write = parts.method != Method::GET;
        let is_silent = self.read(|state| state.faults.is_silent);
        let late = match (is_write, is_lease) {
            (false, _) => Duration::ZERO,
            (true, true) => self.read(|state| state.faults.lease_delay),
            (true, false) => self.read(|state| state.faults.write_delay),
        };
        sleep(LATENCY).await;
        if is_silent {
            sleep(READ_TIMEOUT).await;
            return Err("the API server does not answer".into());
        }
        let response = if query.is_true("watch") {
            self.watch(process, &target, &query)
        } else if parts.method == Method::GET {
            let is_list = matches!(target, Target::Objects { name: None, .. });
            self.change(|state| if is_list { state.lists += 1 } else { state.look_ups += 1 });
            json_response(self.get(&target, &query))
        } else {
            let body: Value = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body)? };
            let (answer, is_lost) = self.write(process, &parts.method, target, body);
            if is_lost {
                sleep(READ_TIMEOUT).await;
                return Err("the answer was lost".into());
            }
            json_response(answer)
        };
        sleep(late).await;
        if is_lease && is_write && response.status().is_success() {
            self.0.lock().lease_answered = Some((process.number, Instant::now()));
        }
        process.pause_if_dead().await;
        Ok(response)
    }

    fn get(&self, target: &Target, query: &Query) -> Answer {
        let state = self.0.lock();
        let Target::Objects { kind, namespace, name, .. } = target else {
            let Target::Resources(api_version) = target else { return failure(404, "not served") };
            return resources(&state.faults, api_version);
        };
        if state.faults.absent.contains(kind) {
            return failure(404, "not served");
        }
        if let Some(code) = state.faults.unlistable.get(kind) {
            return failure(*code, "as the history asks");
        }
        let in_namespace = namespace.clone().unwrap_or_default();
        if let Some(name) = name {
            let object = state.store.get(*kind, &in_namespace, name);
            return object.map_or_else(|| failure(404, "not found"), |object| (200, object.clone()));
        }
        let selector = query.selector();
        let is_listed = |object: &&Value| {
            selector.selects(object)
                && (in_namespace.is_empty() || object["metadata"]["namespace"] == in_namespace)
        };
        let all: Vec<&Value> = state.store.all(*kind).filter(is_listed).collect();
        let version = state.store.version();
        let (from, version) = match query.get("continue").and_then(|token| token.split_once('-')) {
            // The model keeps no former versions: a list that changes between pages has expired.
            Some((at, _)) if at != version.to_string() => return failure(410, "the list has expired"),
            Some((_, from)) => (from.parse().unwrap_or(0), version),
            None => (0, version),
        };
        let end = all.len().min(from + PAGE);
        let mut metadata = json!({ "resourceVersion": version.to_string() });
        if end < all.len() && query.get("limit").is_some() {
            metadata["continue"] = json!(format!("{version}-{end}"));
        }
        let end = if query.get("limit").is_some() { end } else { all.len() };
        let list = format!("{}List", kind.names().3);
        (
            200,
            json!({ "apiVersion": kind.api_version(), "kind": list, "metadata": metadata, "items": all[from..end] }),
        )
    }

    fn watch(&self, process: &Process, target: &Target, query: &Query) -> Response<Body> {
        let state = self.0.lock();
        let Target::Objects { kind, namespace, .. } = target else {
            return json_response(failure(404, "no kind"));
        };
        let refused = state.faults.unlistable.get(kind).copied();
        let refused = refused.or_else(|| state.faults.absent.contains(kind).then_some(404));
        if let Some(code) = refused {
            return json_response(failure(code, "as the history asks"));
        }
        if query.get("sendInitialEvents").is_some() {
            return json_response(failure(
                422,
                "sendInitialEvents is forbidden: the feature WatchList is off",
            ));
        }
        let version = query.get("resourceVersion").and_then(|version| version.parse().ok());
        let version = version.unwrap_or_else(|| state.store.version());
        let faults = &state.faults;
        if version < faults.oldest.get(kind).copied().unwrap_or_default() {
            let (_, status) = failure(410, "too old resource version");
            let line = format!("{}\n", json!({ "type": "ERROR", "object": status }));
            return Response::builder().status(200).body(Body::from(line)).expect("a response");
        }
        let seconds = query.get("timeoutSeconds").and_then(|seconds| seconds.parse().ok()).unwrap_or(300);
        let watch = Watch {
            shared: Arc::clone(&self.0),
            process: process.clone(),
            kind: *kind,
            namespace: namespace.clone(),
            selector: query.selector(),
            version,
            breaks: faults.breaks.get(kind).copied().unwrap_or_default(),
            ends: Instant::now() + Duration::from_secs(seconds),
            wants_bookmarks: query.is_true("allowWatchBookmarks"),
            changes: self.0.version.subscribe(),
        };
        let body = watch.body();
        Response::builder().header("content-type", "application/json").body(body).expect("a response")
    }

    /// Also returns true if the answer is lost.
    fn write(&self, process: &Process, method: &Method, target: Target, body: Value) -> (Answer, bool) {
        let Target::Objects { kind, namespace, name, subresource } = target else {
            return (failure(404, "not served"), false);
        };
        let namespace = namespace.unwrap_or_default();
        if kind == Kind::Leases {
            return self.write_lease(process, method, &namespace, body);
        }
        let name = name.unwrap_or_default();
        self.change(|state| {
            // The library names an Event by the system's time, which no run shares with another.
            let told = if kind == Kind::Events { "" } else { name.as_str() };
            let text = format!("{method} {namespace}/{told}{}", summary(kind, &body));
            state.writes.push(Write { process: process.number, kind, text });
            if kind == Kind::Events {
                return ((200, body), false);
            }
            let Some(object) = state.store.get(kind, &namespace, &name) else {
                return (failure(404, "not found"), false);
            };
            let mut object = object.clone();
            let uid = &body["metadata"]["uid"];
            if !uid.is_null() && *uid != object["metadata"]["uid"] {
                return (failure(409, "another uid"), false);
            }
            assert_eq!(subresource.as_deref(), Some("status"), "only statuses are written: {method} {name}");
            merge_status(&mut object, &body["status"]);
            ((200, state.store.put(kind, object)), false)
        })
    }

    fn write_lease(
        &self,
        process: &Process,
        method: &Method,
        namespace: &str,
        mut lease: Value,
    ) -> (Answer, bool) {
        self.change(|state| {
            let name = lease["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            if lease["metadata"]["namespace"].is_null() {
                lease["metadata"]["namespace"] = json!(namespace);
            }
            if state.faults.lease_conflicts > 0 {
                state.faults.lease_conflicts -= 1;
                return (failure(409, "somebody else has changed the Lease"), false);
            }
            let before = state.store.get(Kind::Leases, namespace, &name);
            let version = &lease["metadata"]["resourceVersion"];
            let is_current = match before {
                None => *method == Method::POST,
                Some(before) => {
                    *method != Method::POST
                        && (version.is_null() || *version == before["metadata"]["resourceVersion"])
                }
            };
            if !is_current {
                return (failure(409, "the object has been modified"), false);
            }
            let is_held = lease["spec"]["holderIdentity"].as_str().is_some_and(|holder| !holder.is_empty());
            state.lease_holder = is_held.then(|| (process.number, Instant::now()));
            let stored = state.store.put(Kind::Leases, lease);
            let is_lost = state.faults.lost_lease_answers > 0;
            state.faults.lost_lease_answers = state.faults.lost_lease_answers.saturating_sub(1);
            ((200, stored), is_lost)
        })
    }
}

/// Returns what a write says, without times and messages.
fn summary(kind: Kind, body: &Value) -> String {
    let conditions = body["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |condition: &Value| format!(" {}={}", condition["type"], condition["status"]);
    match kind {
        Kind::Events => format!(" {} {} {}", body["regarding"]["name"], body["reason"], body["note"]),
        _ => conditions.iter().map(text).collect(),
    }
}

/// Merges a status: conditions by their type, reports by their controller, everything else as it is written.
fn merge_status(object: &mut Value, status: &Value) {
    for (field, value) in status.as_object().into_iter().flatten() {
        let key = match field.as_str() {
            "conditions" => "type",
            "controllers" => "name",
            _ => "",
        };
        if key.is_empty() || !object["status"][field].is_array() {
            object["status"][field] = value.clone();
            continue;
        }
        for element in value.as_array().into_iter().flatten() {
            let all = object["status"][field].as_array_mut().expect("an array");
            match all.iter_mut().find(|own| own[key] == element[key]) {
                Some(own) => *own = element.clone(),
                None => all.push(element.clone()),
            }
        }
    }
}

/// Returns the resources of one version of a group.
fn resources(faults: &Faults, api_version: &str) -> Answer {
    if faults.is_undiscoverable {
        return failure(503, "the look-up fails");
    }
    let served = Kind::ALL
        .into_iter()
        .filter(|kind| kind.api_version() == api_version && !faults.absent.contains(kind));
    let resource = |kind: Kind| {
        let (_, _, plural, name) = kind.names();
        let verbs = ["get", "list", "watch", "create", "update", "patch", "delete"];
        json!({ "name": plural, "singularName": "", "kind": name, "namespaced": kind.is_namespaced(), "verbs": verbs })
    };
    let resources: Vec<Value> = served.map(resource).collect();
    if resources.is_empty() {
        return failure(404, "no such version");
    }
    (
        200,
        json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": resources }),
    )
}

fn failure(code: u16, message: &str) -> Answer {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        422 => "Invalid",
        _ => "InternalError",
    };
    (
        code,
        json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code }),
    )
}

fn json_response((status, object): Answer) -> Response<Body> {
    let response = Response::builder().status(status).header("content-type", "application/json");
    response.body(Body::from(object.to_string())).expect("a response")
}
