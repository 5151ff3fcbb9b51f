//! Bad input: each mistake is a clear message on its object, and affects no other object.

use serde_json::{Value, json};

use crate::environment::{ANYWHERE_80, CLUSTER, Mode, TestEnvironment};
use crate::gce::{PROJECT, ZONE};
use crate::machine::Machine;
use crate::objects::{daemon_set_pod, host_port, pod};

fn web(name: &str, node: &str, annotations: Value) -> Value {
    pod(name, node, annotations, host_port(80))
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn bad_input_is_reported_and_affects_only_its_object_on_aws() {
    let env = TestEnvironment::start(Mode::Attach, 2).await;
    let [good, other] = &env.machines[..] else { panic!("two machines") };
    let untagged = env.aws().seed("untagged", &["--untagged", "--nodes", "1"]).remove(0);
    env.cluster.register_node(&untagged).await;
    let of_karpenter = ["--nodes", "1", "--instance-tag", "karpenter.sh/nodepool"];
    let provisioned = env.aws().seed("karpenter", &of_karpenter).remove(0);
    env.cluster.register_node(&provisioned).await;
    let nodes = [
        ("unknown", "openstack:///0b3f", "openstack"),
        ("k3s", "k3s://k3s", "k3s"),
        ("fargate", "aws:///eu-central-1a/fargate-ip-10-0-0-1.ec2.internal", "Fargate"),
        ("gone", "aws:///eu-central-1a/i-0123456789abcdef0", "i-0123456789abcdef0"),
    ];
    let exposed = json!({ "hostport-firewall.dev/expose": "80" });
    for (name, provider_id, _) in nodes {
        env.cluster.register_node(&Machine::new(name, provider_id, &["10.20.9.9".to_owned()])).await;
        env.cluster.create_pod(web(&format!("on-{name}"), name, exposed.clone())).await;
    }
    env.cluster.create_pod(web("on-untagged", &untagged.name, exposed.clone())).await;
    env.cluster.create_pod(web("on-provisioned", &provisioned.name, exposed.clone())).await;
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
        env.cluster.create_pod(web(name, &other.name, annotations.clone())).await;
    }
    env.cluster
        .create_pod(pod("no-host-port", &other.name, expose("80"), json!([{ "containerPort": 80 }])))
        .await;
    env.cluster.create_pod(web("good", &good.name, exposed)).await;

    let _controller = env.start_controller(&[]);
    env.wait_until_open(good, ANYWHERE_80).await;
    for (name, _, text) in nodes {
        env.cluster.wait_for_event("Node", name, text).await;
    }
    env.cluster.wait_for_event("Node", &untagged.name, "kubernetes.io/cluster/").await;
    env.cluster.wait_for_event("Node", &provisioned.name, "EC2NodeClass").await;
    for (name, _, text) in &pods {
        env.cluster.wait_for_event("Pod", name, text).await;
    }
    env.cluster.wait_for_event("Pod", "no-host-port", "host port").await;
    env.wait_until_idle().await;
    env.wait_until_open(other, &[]).await;
    env.wait_until_open(&untagged, &[]).await;
    env.wait_until_open(&provisioned, &[]).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn bad_input_is_reported_and_affects_only_its_object_on_gce() {
    let env = TestEnvironment::start(Mode::Destination, 1).await;
    let gce = env.gce();
    let good = &env.machines[0];
    let nodes = [
        ("other-project", "gce://somebody-else/europe-west1-b/node", "--gce-project somebody-else"),
        ("malformed", "gce://p/z", "gce://<project>/<zone>/<name>"),
        ("gone", "gce://nodes-1234/europe-west1-b/gone", "does not exist"),
        ("aws", "aws:///eu-central-1a/i-0123456789abcdef0", "--providers aws,gce"),
    ];
    for (name, provider_id, _) in nodes {
        env.cluster.register_node(&Machine::new(name, provider_id, &["10.30.9.9".to_owned()])).await;
        env.cluster.create_pod(daemon_set_pod(&format!("on-{name}"), name, 80)).await;
    }
    env.cluster.create_pod(daemon_set_pod("good", &good.name, 80)).await;
    let controller = env.start_controller(&["--resync", "2s"]);
    env.wait_until_open(good, ANYWHERE_80).await;
    for (name, _, text) in nodes {
        env.cluster.wait_for_event("Node", name, text).await;
    }

    // A person takes the name of a rule: the rule is left alone from then on, and the log names it.
    let (name, mut taken) = gce.list_owned_rules(CLUSTER).pop_first().expect("a rule");
    taken["description"] = json!("mine");
    gce.cloud().put_firewall(PROJECT, &taken).expect("a valid rule");
    let others = gce.list_foreign_rules(CLUSTER);
    env.wait_for_log(&format!("firewall rule {name}")).await;
    env.wait_for_log("the name belongs to a resource that this cluster does not own").await;
    env.wait_until_idle().await;
    assert_eq!(gce.list_foreign_rules(CLUSTER), others);
    gce.cloud().remove_firewall(PROJECT, &name);
    env.wait_until_open(good, ANYWHERE_80).await;

    // An instance that is deleted while its node is still there.
    gce.cloud().remove_instance(PROJECT, ZONE, &good.name);
    env.cluster.wait_for_event("Node", &good.name, "does not exist").await;
    // Its address may be another instance's next.
    env.wait_until_nothing_owned().await;
    assert!(controller.terminate());

    let again = gce.launch(5, &format!("projects/{PROJECT}/global/networks/main"));
    env.cluster.register_node(&again).await;
    env.cluster.create_pod(daemon_set_pod("again", &again.name, 80)).await;
    let _controller = env.start_controller(&["--gce-network", "absent"]);
    env.cluster
        .wait_for_event("Node", &again.name, "projects/nodes-1234/global/networks/absent does not exist")
        .await;
    assert_eq!(gce.list_owned_rules(CLUSTER).len(), 0);
}
