//! Malformed annotations on real pods: none opens anything, and each pod is told its mistake.

use std::collections::BTreeMap;

use serde_json::json;

use crate::cluster::pod;
use crate::mistakes::{mistakes, shows};
use crate::patience::until;
use crate::world::{Mode, World};

/// The texts of the Events `Refused`, by the pod that they are about.
async fn refusals(world: &World) -> BTreeMap<String, String> {
    let all = world.cluster.all_events().await.into_iter();
    let refused = all.filter(|event| event.reason.as_deref() == Some("Refused"));
    refused.filter_map(|event| Some((event.regarding?.name?, event.note?))).collect()
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn no_malformed_annotation_opens_anything_and_each_pod_is_told_its_mistake() {
    let world = World::start(Mode::Destination, 2).await;
    let [bad, good] = &world.machines[..] else { panic!("two machines") };
    let ports = json!([{ "name": "http", "containerPort": 80, "hostPort": 80 }]);
    let kinds = mistakes();
    for (number, (name, text, _)) in kinds.iter().enumerate() {
        let mut annotations = json!({ "hostport-firewall.dev/expose": "http" });
        annotations[name] = json!(text);
        world.cluster.run(pod(&format!("bad-{number}"), &bad.name, annotations, ports.clone())).await;
    }
    let controller = world.controller(&[]);
    let annotations = json!({ "hostport-firewall.dev/expose": "http", "hostport-firewall.dev/source-ranges": "192.0.2.0/24" });
    world.cluster.run(pod("good", &good.name, annotations, ports)).await;
    world.opens(good, &["tcp/80 192.0.2.0/24"]).await;
    for (number, (name, text, mistake)) in kinds.iter().enumerate() {
        let note = until(&format!("{text:?} is told"), async || {
            let mut told = refusals(&world).await;
            told.remove(&format!("bad-{number}")).ok_or_else(|| format!("{told:#?}"))
        })
        .await;
        assert!(note.contains(name) && shows(&note, name, mistake), "{text:?}: {note}");
    }
    assert_eq!(world.settled().await, ["compute.firewalls.insert"], "the good one's, and none in between");
    world.opens(bad, &[]).await;
    world.opens(good, &["tcp/80 192.0.2.0/24"]).await;
    assert!(controller.terminate(), "it is still there");
    assert!(!world.log_since(0).contains("panicked"));
}
