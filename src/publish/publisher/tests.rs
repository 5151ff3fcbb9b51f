//! Tests of writing beside the passes, on virtual time, over an API server in memory.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::patch;
use firewall_core::Fence;
use kube::Client;
use serde_json::{Value, json};

use super::*;
use crate::k8s::index::Index;
use crate::publish::status::tests::{index, outcomes};

const STATUS: &str = "/apis/hostport-firewall.dev/v1alpha1/namespaces/shop/hostportexposures/web/status";

/// The statuses that have arrived: the second, and the nodes whose addresses they have.
#[derive(Default)]
struct Written {
    start: Option<Instant>,
    statuses: Vec<(u64, Vec<String>)>,
    /// The time that a write takes once it has arrived
    takes: Duration,
    fails: bool,
}

type Server = Arc<Mutex<Written>>;

async fn write(State(server): State<Server>, body: Bytes) -> (StatusCode, String) {
    let mut object: Value = serde_json::from_slice(&body).expect("an object");
    let (takes, fails) = {
        let mut server = lock(&server);
        let addresses = object["status"]["controllers"][0]["addresses"].as_array().cloned();
        let node = |address: &Value| address["node"].as_str().unwrap_or_default().to_owned();
        let nodes = addresses.unwrap_or_default().iter().map(node).collect();
        let second = server.start.map_or(0, |start| start.elapsed().as_secs());
        server.statuses.push((second, nodes));
        (server.takes, server.fails)
    };
    sleep(takes).await;
    if fails {
        return (StatusCode::INTERNAL_SERVER_ERROR, "{}".to_owned());
    }
    object["spec"] = json!({ "podSelector": { "matchLabels": { "app": "web" } }, "ports": [{ "port": 80 }] });
    (StatusCode::OK, object.to_string())
}

/// A publisher of one cloud, in a cluster of two nodes with a pod each.
struct Published {
    server: Server,
    publisher: Publisher,
    index: Index,
}

impl Published {
    fn new(takes: Duration, fails: bool) -> Self {
        let start = Some(Instant::now());
        let server = Server::new(Mutex::new(Written { start, statuses: Vec::new(), takes, fails }));
        let routes = Router::new().route(STATUS, patch(write)).with_state(Arc::clone(&server));
        let writer = StatusWriter::new(Client::new(routes, "shop"), "test", Fence::always_open());
        let publisher = Publisher::new(Some(writer), None, "test", &[Vec::new()]);
        Self { server, publisher, index: index(&["a", "bb"], &["a", "bb"], &Value::Null) }
    }

    /// The cluster as it is: the API server's watch tells nothing of what is written.
    fn cluster(&self) -> ClusterNow {
        ClusterNow { index: self.index.clone(), ..ClusterNow::default() }
    }

    /// Lets it write beside a story, and until all is written.
    async fn beside(&self, story: impl Future<Output = ()>) {
        let (done, cluster) = (CancellationToken::new(), || self.cluster());
        let story = async {
            story.await;
            done.cancel();
        };
        tokio::join!(self.publisher.keep_written(&cluster, &done, |_| {}), Box::pin(story));
    }

    fn written(&self) -> Vec<(u64, Vec<String>)> {
        lock(&self.server).statuses.clone()
    }
}

/// Returns the result of a pass that has, or will have, ports open on these nodes.
fn result(open: &[&str]) -> CloudResult {
    let outcomes = outcomes(open, &[]);
    let demand = ClusterDemand {
        exposures: outcomes.exposures,
        generations: outcomes.generations.into_iter().collect(),
        ..ClusterDemand::default()
    };
    CloudResult { problems: BTreeSet::new(), scope: None, memberships: outcomes.memberships, demand }
}

fn nodes(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn removal_waits_for_no_more_than_the_write_under_way() {
    let published = Published::new(Duration::from_secs(3), false);
    let story = async {
        published.publisher.record("gce", result(&["a", "bb"]));
        sleep(Duration::from_secs(1)).await;
        published.publisher.retract_addresses("gce", result(&["bb"]), &|| published.cluster()).await;
        let expected = [(0, nodes(&["a", "bb"])), (3, nodes(&["bb"]))];
        assert_eq!(published.written(), expected, "the address is removed when the call returns");
        published.publisher.refresh(None, result(&["a", "bb"]).demand);
        sleep(Duration::from_secs(4)).await;
        assert_eq!(published.written(), expected, "nothing is written while the plan is executed");
        published.publisher.record("gce", result(&["bb"]));
        sleep(Duration::from_secs(4)).await;
    };
    published.beside(story).await;
    let written = published.written();
    assert!(written.len() > 2 && written[2..].iter().all(|(_, open)| *open == nodes(&["bb"])), "{written:?}");
}

#[tokio::test(start_paused = true)]
async fn plan_that_takes_long_holds_up_writing_for_ten_seconds() {
    let published = Published::new(Duration::ZERO, false);
    let story = async {
        published.publisher.record("gce", result(&["a", "bb"]));
        sleep(Duration::from_secs(1)).await;
        published.publisher.retract_addresses("gce", result(&["bb"]), &|| published.cluster()).await;
        published.publisher.refresh(None, result(&["bb"]).demand);
        sleep(Duration::from_secs(30)).await;
    };
    published.beside(story).await;
    let seconds: Vec<u64> = published.written().iter().map(|(second, _)| *second).collect();
    assert_eq!(seconds[..3], [0, 1, 11], "{seconds:?}");
}

#[tokio::test(start_paused = true)]
async fn failed_write_is_tried_again_more_slowly_each_time() {
    let published = Published::new(Duration::ZERO, true);
    let story = async {
        published.publisher.record("gce", result(&["a", "bb"]));
        sleep(Duration::from_secs(100)).await;
    };
    published.beside(story).await;
    let seconds: Vec<u64> = published.written().iter().map(|(second, _)| *second).collect();
    assert_eq!(seconds, [0, 10, 30, 70, 100], "the last one at the end");
}

#[tokio::test(start_paused = true)]
async fn changes_meanwhile_put_off_no_later_attempt() {
    let published = Published::new(Duration::ZERO, true);
    let story = async {
        for _ in 0..8 {
            published.publisher.record("gce", result(&["a", "bb"]));
            sleep(Duration::from_secs(1)).await;
        }
        sleep(Duration::from_secs(20)).await;
    };
    published.beside(story).await;
    let seconds: Vec<u64> = published.written().iter().map(|(second, _)| *second).collect();
    assert_eq!(seconds, [0, 1, 2, 3, 4, 5, 6, 7, 17, 28]);
}
