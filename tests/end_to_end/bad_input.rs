//! Bad input: each a clear message on the object it concerns, and no effect on the others.

use serde_json::{Value, json};

use crate::cluster::pod;
use crate::machine::Machine;
use crate::world::{Mode, World};

fn web(name: &str, node: &str, annotations: Value) -> Value {
    pod(name, node, annotations, json!([{ "containerPort": 80, "hostPort": 80 }]))
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn bad_input_is_told_on_its_object_and_changes_nothing_else() {
    let world = World::start(Mode::Attach, 2).await;
    let [good, other] = &world.machines[..] else { panic!("two machines") };
    let untagged = world.amazon().seed("untagged", &["--untagged", "--nodes", "1"]).remove(0);
    world.cluster.join(&untagged).await;
    let nodes = [
        ("unknown", "openstack:///0b3f", "openstack"),
        ("k3s", "k3s://k3s", "k3s"),
        ("fargate", "aws:///eu-central-1a/fargate-ip-10-0-0-1.ec2.internal", "Fargate"),
        ("gone", "aws:///eu-central-1a/i-0123456789abcdef0", "i-0123456789abcdef0"),
    ];
    let exposed = json!({ "hostport-firewall.dev/expose": "80" });
    for (name, provider_id, _) in nodes {
        world.cluster.join(&Machine::new(name, provider_id, &["10.20.9.9".to_owned()])).await;
        world.cluster.run(web(&format!("on-{name}"), name, exposed.clone())).await;
    }
    world.cluster.run(web("on-untagged", &untagged.name, exposed.clone())).await;
    let sources = |sources: &str| json!({ "hostport-firewall.dev/expose": "80", "hostport-firewall.dev/source-ranges": sources });
    let expose = |ports: &str| json!({ "hostport-firewall.dev/expose": ports });
    let pods = [
        ("bad-prefix", sources("10.0.0.0/33"), "10.0.0.0/33"),
        ("host-bits", sources("10.0.0.1/8"), "10.0.0.0/8"),
        ("bad-port", expose("99999"), "99999"),
        ("icmp", expose("80/icmp"), "icmp"),
        ("empty", expose(""), "empty"),
        ("empty-sources", sources(""), "empty"),
        ("true", expose("true"), "true"),
        ("denied", expose("80, 22"), "22"),
    ];
    for (name, annotations, _) in &pods {
        world.cluster.run(web(name, &other.name, annotations.clone())).await;
    }
    world.cluster.run(pod("no-host-port", &other.name, expose("80"), json!([{ "containerPort": 80 }]))).await;
    world.cluster.run(web("good", &good.name, exposed)).await;

    let _controller = world.controller(&[]);
    world.opens(good, &["tcp/80 0.0.0.0/0", "tcp/80 ::/0"]).await;
    for (name, _, text) in nodes {
        world.cluster.event("Node", name, text).await;
    }
    world.cluster.event("Node", &untagged.name, "kubernetes.io/cluster/").await;
    for (name, _, text) in &pods {
        world.cluster.event("Pod", name, text).await;
    }
    world.cluster.event("Pod", "no-host-port", "host port").await;
    world.settled().await;
    world.opens(other, &[]).await;
    world.opens(&untagged, &[]).await;
}
