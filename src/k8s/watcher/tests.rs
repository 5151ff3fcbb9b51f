//! Tests of the watch against an API server in process: what is asked for, and what the index knows.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use kube::Client;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::optional_kinds::watch_optional_kinds;
use super::*;
use crate::k8s::index::Index;
use crate::k8s::objects::builders::{host_port, pod};

/// The requests that were made, without their path's version.
type Requests = Arc<Mutex<Vec<String>>>;

/// Returns a client of a server that answers as `answer` does, from the request and its number.
fn server(
    answer: impl Fn(&str, usize) -> Response<Body> + Clone + Send + Sync + 'static,
) -> (Client, Requests) {
    let requests = Requests::default();
    let log = requests.clone();
    let handle = move |request: Request| {
        let (uri, number) = (request.uri().to_string(), log.lock().unwrap().len());
        log.lock().unwrap().push(uri.clone());
        let response = answer(&uri, number);
        async move { response }
    };
    (Client::new(Router::new().fallback(handle), "default"), requests)
}

fn respond(code: u16, content_type: &str, body: Body) -> Response<Body> {
    Response::builder().status(code).header("content-type", content_type).body(body).expect("a response")
}

fn status(code: u16, more: &Value) -> Response<Body> {
    let mut status = json!({ "kind": "Status", "code": code, "message": "it is so", "metadata": {} });
    status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    respond(code, "application/json", status.to_string().into())
}

fn refuse(code: u16) -> Response<Body> {
    status(code, &json!({}))
}

fn page(version: &str, next: &str, items: &[Value]) -> Response<Body> {
    let list = json!({ "metadata": { "resourceVersion": version, "continue": next }, "items": items });
    respond(200, "application/json", list.to_string().into())
}

/// Returns events that come at once; then the watch goes on, or ends.
fn events(events: &[Value], goes_on: bool) -> Response<Body> {
    let chunk = |event: &Value| Ok::<_, std::io::Error>(Bytes::from(format!("{event}\n")));
    let chunks: Vec<_> = events.iter().map(chunk).collect();
    let sent = stream::iter(chunks);
    let body =
        if goes_on { Body::from_stream(sent.chain(stream::pending())) } else { Body::from_stream(sent) };
    respond(200, "application/json", body)
}

fn event(kind: &str, version: u32, mut object: Value) -> Value {
    object["metadata"]["resourceVersion"] = version.to_string().into();
    json!({ "type": kind, "object": object })
}

fn added(version: u32, name: &str) -> Value {
    event("ADDED", version, web(name))
}

fn bookmark(version: u32) -> Value {
    event("BOOKMARK", version, json!({ "metadata": {} }))
}

fn end_of_list(version: u32) -> Value {
    let metadata = json!({ "annotations": { "k8s.io/initial-events-end": "true" } });
    event("BOOKMARK", version, json!({ "metadata": metadata }))
}

fn web(name: &str) -> Value {
    pod("shop", name, "n", &json!([host_port(80)]))
}

fn names(index: &SharedIndex) -> Vec<String> {
    index.read().pods().filter_map(|pod| pod.metadata.name.clone()).collect()
}

/// Watches pods for a time. Returns the index and the gaps that it had.
async fn watch_pods(client: Client, seconds: u64) -> (SharedIndex, Vec<String>) {
    let index = SharedIndex::new(Index::expecting([Watch::Pods]));
    let gaps = Mutex::new(Vec::new());
    let progress = Progress::default();
    let note = async {
        let mut changes = index.clone();
        loop {
            changes.changed().await;
            gaps.lock().unwrap().extend(index.read().gaps());
        }
    };
    let watch = async { tokio::join!(watch_kind(client, Kind::new(Watch::Pods), &index, &progress), note) };
    assert!(timeout(Duration::from_secs(seconds), watch).await.is_err(), "it goes on for ever");
    (index, gaps.into_inner().unwrap())
}

fn count(requests: &Requests, part: &str) -> usize {
    requests.lock().unwrap().iter().filter(|request| request.contains(part)).count()
}

#[tokio::test(start_paused = true)]
async fn streaming_list_becomes_the_watch() {
    let (client, requests) = server(|_, _| {
        let portless = event("ADDED", 4, pod("shop", "portless", "n", &json!([])));
        let deleted = event("DELETED", 8, web("a"));
        let closes = event("MODIFIED", 9, pod("shop", "b", "n", &json!([])));
        let listed = [added(3, "a"), portless, added(5, "b"), end_of_list(6)];
        events(&[&listed[..], &[added(7, "c"), deleted, closes]].concat(), true)
    });
    let (index, gaps) = watch_pods(client, 60).await;
    assert_eq!((names(&index), gaps), (vec!["c".into()], vec![]));
    assert!(index.read().is_synced());
    assert_eq!(requests.lock().unwrap().len(), 1, "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn broken_watch_is_resumed_from_its_bookmark_without_a_gap() {
    let (client, requests) = server(|_, number| match number {
        0 => events(&[added(3, "a"), end_of_list(6), event("MODIFIED", 20, web("a")), bookmark(40)], false),
        1 => refuse(503),
        2 => events(&[added(41, "b")], true),
        _ => events(&[], true),
    });
    let (index, gaps) = watch_pods(client, 60).await;
    assert_eq!((names(&index), gaps), (vec!["a".into(), "b".into()], vec![]));
    assert_eq!(count(&requests, "sendInitialEvents"), 1, "nothing is listed again");
    assert_eq!(count(&requests, "resourceVersion=40"), 2, "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn watch_that_is_resumed_late_was_a_gap_and_is_none_any_more() {
    let began = Instant::now();
    let (client, requests) = server(move |_, number| match number {
        0 => events(&[added(3, "a"), end_of_list(6)], false),
        _ if began.elapsed() < Duration::from_secs(40) => refuse(503),
        _ => events(&[], true),
    });
    let (index, gaps) = watch_pods(client, 80).await;
    assert!(gaps.iter().any(|gap| gap.contains("503")), "{gaps:?}");
    assert!(index.read().is_synced());
    assert_eq!(count(&requests, "sendInitialEvents"), 1, "nothing is listed again");
}

#[tokio::test(start_paused = true)]
async fn dead_connection_is_noticed_and_resumed() {
    let watches = Arc::new(Mutex::new(0));
    let (client, requests) = server(move |uri, _| match uri {
        _ if uri.contains("sendInitialEvents") => refuse(422),
        _ if uri.contains("watch=true") => {
            *watches.lock().unwrap() += 1;
            if *watches.lock().unwrap() == 1 {
                events(&[bookmark(40)], true)
            } else {
                events(&[added(41, "b")], true)
            }
        }
        _ => page("7", "", &[web("a")]),
    });
    let (index, gaps) = watch_pods(client, 90).await;
    assert_eq!((names(&index), gaps), (vec!["a".into(), "b".into()], vec![]));
    assert_eq!(count(&requests, "resourceVersion=40"), 1, "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn server_without_streaming_lists_is_read_in_pages() {
    let (client, requests) = server(|uri, _| match uri {
        _ if uri.contains("sendInitialEvents") => refuse(422),
        _ if uri.contains("continue=more") => page("7", "", &[web("b")]),
        _ if uri.contains("watch=true") => events(&[added(8, "c")], true),
        _ => page("7", "more", &[web("a")]),
    });
    let (index, gaps) = watch_pods(client, 60).await;
    assert_eq!((names(&index), gaps), (vec!["a".into(), "b".into(), "c".into()], vec![]));
    assert_eq!(count(&requests, "sendInitialEvents"), 1);
    assert!(count(&requests, "resourceVersion=7") >= 1, "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn expired_list_goes_on_with_what_changed_meanwhile() {
    let (client, requests) = server(|uri, _| match uri {
        _ if uri.contains("sendInitialEvents") => refuse(422),
        _ if uri.contains("continue=old") => status(410, &json!({ "metadata": { "continue": "newer" } })),
        _ if uri.contains("continue=newer") => page("90", "", &[web("z")]),
        _ if uri.contains("watch=true") && uri.contains("resourceVersion=7") => {
            events(&[event("DELETED", 50, web("a")), added(51, "b")], true)
        }
        _ if uri.contains("watch=true") => events(&[], true),
        _ => page("7", "old", &[web("a"), web("k")]),
    });
    let (index, gaps) = watch_pods(client, 60).await;
    assert_eq!((names(&index), gaps), (vec!["b".into(), "k".into(), "z".into()], vec![]));
    assert_eq!(count(&requests, "limit=500") - count(&requests, "continue="), 1, "it did not begin anew");
}

#[tokio::test(start_paused = true)]
async fn refused_watch_is_a_gap_and_not_listed_back_to_back() {
    for code in [403, 500] {
        let (client, requests) =
            server(
                move |uri, _| {
                    if uri.contains("watch=true") { refuse(code) } else { page("7", "", &[web("a")]) }
                },
            );
        let (index, gaps) = watch_pods(client, 600).await;
        assert_eq!(names(&index), ["a"], "what was listed is known");
        assert!(!index.read().is_synced() && gaps.iter().any(|gap| gap.contains("it is so")), "{gaps:?}");
        let lists = count(&requests, "limit=");
        assert!((4..=6).contains(&lists), "{lists} lists in ten minutes");
        assert!(requests.lock().unwrap().len() < 50, "{requests:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn object_that_cannot_be_read_is_named_and_hides_no_other() {
    let odd = |name: &str| json!({ "metadata": { "name": name, "namespace": "shop" }, "spec": 7 });
    let pages = move |uri: &str| match uri {
        _ if uri.contains("sendInitialEvents") => refuse(422),
        _ if uri.contains("watch=true") => events(&[event("MODIFIED", 8, odd("b"))], true),
        _ => page("7", "", &[odd("a"), web("b"), web("c")]),
    };
    let streams = move || {
        let listed = [event("ADDED", 1, odd("a")), added(2, "b"), added(3, "c"), end_of_list(4)];
        events(&[&listed[..], &[event("MODIFIED", 8, odd("b"))]].concat(), true)
    };
    let servers = [server(move |uri, _| pages(uri)), server(move |_, _| streams())];
    for (client, _) in servers {
        let (index, gaps) = watch_pods(client, 60).await;
        assert_eq!((names(&index), gaps), (vec!["c".into()], vec![]));
        let index = index.read();
        let unreadable: Vec<_> = index.unreadable().map(|problem| problem.object.to_string()).collect();
        assert_eq!(unreadable, ["Pod shop/a", "Pod shop/b"]);
    }
}

#[tokio::test(start_paused = true)]
async fn page_that_is_too_long_is_asked_for_with_fewer_objects() {
    let (client, requests) = server(|uri, _| match uri {
        _ if uri.contains("sendInitialEvents") => refuse(422),
        _ if uri.contains("watch=true") => events(&[], true),
        _ if uri.contains("limit=500") => respond(200, "application/json", Body::from(vec![b' '; 33 << 20])),
        _ => page("7", "", &[web("a")]),
    });
    let (index, gaps) = watch_pods(client, 60).await;
    assert_eq!((names(&index), gaps), (vec!["a".into()], vec![]));
    assert_eq!(count(&requests, "limit=62"), 1, "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn protocol_buffers_fill_the_index_as_json_does() {
    const PAGES: [&[u8]; 2] =
        [include_bytes!("protobuf/testdata/pods.json"), include_bytes!("protobuf/testdata/pods.pb")];
    const EVENTS: [&[u8]; 2] =
        [include_bytes!("protobuf/testdata/watch.json"), include_bytes!("protobuf/testdata/watch.pb")];
    const TYPES: [&str; 2] = ["application/json", "application/vnd.kubernetes.protobuf"];
    let mut found = Vec::new();
    for which in [0, 1] {
        let (paged, _) = server(move |uri, _| match uri {
            _ if uri.contains("sendInitialEvents") => refuse(400),
            _ if uri.contains("watch=true") => events(&[], true),
            _ => respond(200, TYPES[which], Body::from(PAGES[which])),
        });
        let (streamed, _) = server(move |_, _| {
            let sent = stream::iter(EVENTS[which].chunks(100).map(Ok::<_, std::io::Error>));
            let body = Body::from_stream(sent.chain(stream::pending()));
            respond(200, &format!("{};stream=watch", TYPES[which]), body)
        });
        for client in [paged, streamed] {
            let (index, gaps) = watch_pods(client, 60).await;
            assert_eq!(gaps, Vec::<String>::new());
            assert!(index.read().is_synced() && names(&index).len() > 1);
            found.push(index.read().clone());
        }
    }
    assert!(found[0] == found[2] && found[1] == found[3]);
}

/// Returns how long it took until the kinds that the cluster lacks were known to be absent.
async fn settle(definitions: u16) -> Duration {
    let (client, _) = server(move |uri, _| {
        let code = if uri.contains("customresourcedefinitions") { definitions } else { 404 };
        refuse(code)
    });
    let expected: Vec<Watch> =
        expected_watches(None).filter(|watch| !Watch::ALWAYS.contains(watch)).collect();
    let index = SharedIndex::new(Index::expecting(expected.into_iter().chain([Watch::Pods])));
    index.update(|index| index.reset(Watch::Pods, vec![]));
    let (began, progress) = (Instant::now(), Progress::default());
    tokio::select! {
        () = crate::k8s::index::shared_index::wait_until_synced(&index) => began.elapsed(),
        () = watch_optional_kinds(client, &index, None, &progress) => unreachable!(),
    }
}

#[tokio::test(start_paused = true)]
async fn kind_without_a_definition_costs_a_start_nothing() {
    assert!(settle(404).await < Duration::from_millis(500));
    let unsure = settle(403).await;
    assert!((4..6).contains(&unsure.as_secs()), "without the permission it took {unsure:?}");
}
