//! Events: each is published once.

use std::time::Duration;

use crate::environment::{Mode, TestEnvironment};
use crate::objects::exposing_pod;

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn event_is_published_only_once() {
    let env = TestEnvironment::start(Mode::Destination, 1).await;
    let [a] = &env.machines[..] else { panic!("one machine") };
    let _controller = env.start_controller(&["--resync", "1s"]);
    for (name, port) in [("refused", 22), ("opened", 80)] {
        env.cluster.create_pod(exposing_pod(name, &a.name, port)).await;
    }
    env.cluster.wait_for_event("Pod", "refused", "22").await;
    env.cluster.wait_for_event("Pod", "opened", "open on node").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let all = env.cluster.list_all_events().await;
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all.iter().all(|event| event.series.is_none()), "counted up: {all:?}");
}
