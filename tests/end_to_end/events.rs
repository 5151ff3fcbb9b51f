//! Events: each thing is told once.

use std::time::Duration;

use serde_json::json;

use crate::cluster::pod;
use crate::world::{Mode, World};

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn what_has_been_told_is_not_told_again() {
    let world = World::start(Mode::Destination, 1).await;
    let [a] = &world.machines[..] else { panic!("one machine") };
    let _controller = world.controller(&["--resync", "1s"]);
    for (name, port) in [("refused", 22), ("opened", 80)] {
        let expose = json!({ "hostport-firewall.dev/expose": port.to_string() });
        let bound = json!([{ "containerPort": port, "hostPort": port }]);
        world.cluster.run(pod(name, &a.name, expose, bound)).await;
    }
    world.cluster.event("Pod", "refused", "22").await;
    world.cluster.event("Pod", "opened", "open on node").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let all = world.cluster.all_events().await;
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all.iter().all(|event| event.series.is_none()), "counted up: {all:?}");
}
