//! Malformed annotations on real pods: none opens a port, and each is reported on its pod.

use std::collections::BTreeMap;

use serde_json::json;

use crate::environment::{Mode, TestEnvironment};
use crate::mistakes::{mistakes, shows};
use crate::objects::pod;
use crate::wait::wait_until;

/// Returns the notes of the Events `Rejected`, by the name of their pod.
async fn list_rejections(env: &TestEnvironment) -> BTreeMap<String, String> {
    let all = env.cluster.list_all_events().await.into_iter();
    let rejected = all.filter(|event| event.reason.as_deref() == Some("Rejected"));
    rejected.filter_map(|event| Some((event.regarding?.name?, event.note?))).collect()
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn malformed_annotation_opens_nothing_and_is_reported() {
    let env = TestEnvironment::start(Mode::Destination, 2).await;
    let [bad, good] = &env.machines[..] else { panic!("two machines") };
    let ports = json!([{ "name": "http", "containerPort": 80, "hostPort": 80 }]);
    let kinds = mistakes();
    for (number, (name, text, _)) in kinds.iter().enumerate() {
        let mut annotations = json!({ "hostport-firewall.dev/expose": "http" });
        annotations[name] = json!(text);
        env.cluster.create_pod(pod(&format!("bad-{number}"), &bad.name, annotations, ports.clone())).await;
    }
    let controller = env.start_controller(&[]);
    let annotations = json!({ "hostport-firewall.dev/expose": "http", "hostport-firewall.dev/source-ranges": "192.0.2.0/24" });
    env.cluster.create_pod(pod("good", &good.name, annotations, ports)).await;
    env.wait_until_open(good, &["tcp/80 192.0.2.0/24"]).await;
    for (number, (name, text, mistake)) in kinds.iter().enumerate() {
        let note = wait_until(&format!("{text:?} is reported"), async || {
            let mut rejections = list_rejections(&env).await;
            rejections.remove(&format!("bad-{number}")).ok_or_else(|| format!("{rejections:#?}"))
        })
        .await;
        assert!(note.contains(name) && shows(&note, name, mistake), "{text:?}: {note}");
    }
    assert_eq!(
        env.wait_until_idle().await,
        ["compute.firewalls.insert"],
        "the good one's, and none in between"
    );
    env.wait_until_open(bad, &[]).await;
    env.wait_until_open(good, &["tcp/80 192.0.2.0/24"]).await;
    assert!(controller.terminate(), "it is still running");
    assert!(!env.read_log_since(0).contains("panicked"));
}
