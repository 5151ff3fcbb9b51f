//! Groups that wait for each other in a circle: what can be opened beside them is, and then they are looked at
//! again.

use std::sync::Arc;
use std::time::Duration;

use firewall_core::InstanceId;
use firewall_core::testing::memory::MemoryCloud;
use hostport_firewall::desired::snapshot::Snapshot;
use hostport_firewall::intents::settings::Settings;
use hostport_firewall::k8s::index::{Index, Object, Watch};
use hostport_firewall::reconcile::pass::{NextPass, Options, Pass, WakeReason};
use hostport_firewall::reconcile::reconciler::Reconciler;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::node;

const OLD: &str = "10.0.0.0/8";
const NEW: &str = "192.0.2.0/24";

/// Returns the pods of a workload on these nodes.
fn pods(workload: &str, nodes: &[usize]) -> Vec<Object> {
    let pod = |node: &usize| {
        let pod = json!({
            "metadata": {
                "name": format!("{workload}-{node}"), "namespace": "default", "uid": format!("{workload}-{node}"),
                "labels": { "app": workload },
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "DaemonSet", "name": workload, "uid": "1", "controller": true,
                }],
            },
            "spec": {
                "nodeName": format!("n-{node}"),
                "containers": [{ "name": "main", "ports": [{ "containerPort": 80, "hostPort": 80 }] }],
            },
        });
        Object::Pod(serde_json::from_value(pod).expect("a pod"))
    };
    nodes.iter().map(pod).collect()
}

/// Asks for port 80 of a workload's pods from these sources.
fn exposure(workload: &str, sources: &str) -> Object {
    let exposure = json!({
        "metadata": { "name": workload, "namespace": "default", "uid": workload },
        "spec": {
            "podSelector": { "matchLabels": { "app": workload } },
            "ports": [{ "port": 80 }],
            "sourceRanges": [sources],
        },
    });
    Object::HostPortExposure(serde_json::from_value(exposure).expect("an exposure"))
}

#[tokio::test]
async fn blocked_changes_are_planned_again_once_others_are_made() {
    let cloud = MemoryCloud::new((0..4).map(|number| InstanceId::new(format!("i-{number}"))));
    let options = Options { linger: Duration::ZERO, ..Options::default() };
    let mut reconciler = Reconciler::new(cloud.provider("c"), options);
    let mut pass = async |one: (&str, &[usize]), two: (&str, &[usize])| -> Pass {
        let mut index = Index::expecting([Watch::Pods, Watch::Nodes, Watch::HostPortExposures]);
        index.reset(Watch::Nodes, (0..4).map(node).collect());
        index.reset(Watch::Pods, [pods("one", one.1), pods("two", two.1)].concat());
        index.reset(Watch::HostPortExposures, vec![exposure("one", one.0), exposure("two", two.0)]);
        let snapshot = Arc::new(Snapshot::take(&index, &Settings::default(), Duration::ZERO));
        let planned = reconciler.observe_and_plan(&snapshot).await.expect("the cloud answers");
        reconciler.execute_plan(planned, &CancellationToken::new()).await
    };
    pass((OLD, &[0, 2]), (NEW, &[1, 2])).await;

    // They exchange sources and nodes, and node 3 comes to one of them.
    let first = pass((NEW, &[1, 2, 3]), (OLD, &[0, 2])).await;
    let open = cloud.resources().reach(&InstanceId::new("i-3")).rules.to_string();
    assert_eq!(open, "tcp/80 from 192.0.2.0/24");
    assert_eq!(first.next, Some(NextPass::at_once(WakeReason::Unblocked)));

    let second = pass((NEW, &[1, 2, 3]), (OLD, &[0, 2])).await;
    assert_eq!((second.applied, second.withheld.contains_key("blocked-by-order")), (0, true));
    assert_ne!(second.next.map(|next| next.reason), Some(WakeReason::Unblocked), "nothing else is made");
}
