//! Two controllers in one cluster, each for the nodes of a project: they leave each other's objects alone.

use std::net::Ipv4Addr;
use std::time::Duration;

use gce_simulator::Instance;
use hostport_firewall::k8s::host_port_exposure::HostPortExposure;
use k8s_openapi::api::rbac::v1::Role;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::cluster::NAMESPACE;
use crate::environment::{Mode, TestEnvironment};
use crate::gce::ZONE;
use crate::machine::Machine;
use crate::metrics::read_metric;
use crate::objects::{add_readiness_gate, host_port, pod, set_web_label, web_exposure};
use crate::process::{find_free_port, root};

/// The second project, whose nodes the first controller does not serve.
const NEIGHBOUR: &str = "nodes-5678";

/// The options of the second controller, besides its Lease.
fn neighbour_options(lease: &str) -> Vec<String> {
    [format!("--gce-project={NEIGHBOUR}"), format!("--lease-name={lease}")].into()
}

/// Starts an environment with a node in each of two projects, and a Lease for each.
async fn start() -> (TestEnvironment, Machine) {
    let env = TestEnvironment::start(Mode::Destination, 1).await;
    let (name, address) = ("neighbour-0", Ipv4Addr::new(10, 40, 0, 10));
    env.gce().cloud().add_network(NEIGHBOUR, "main");
    let network = format!("projects/{NEIGHBOUR}/global/networks/main");
    env.gce().cloud().add_instance(Instance::new(NEIGHBOUR, ZONE, name, &network, address));
    let machine = Machine::new(name, &format!("gce://{NEIGHBOUR}/{ZONE}/{name}"), &[address.to_string()]);
    env.cluster.register_node(&machine).await;
    env.cluster.apply_file(&root().join("deploy/crd.yaml")).await;
    let roles: Api<Role> = Api::namespaced(env.cluster.client.clone(), NAMESPACE);
    let rule = |verbs: &[&str], names: &[&str]| {
        let groups = ["coordination.k8s.io"];
        json!({ "apiGroups": groups, "resources": ["leases"], "verbs": verbs, "resourceNames": names })
    };
    let names = ["hostport-firewall", "hostport-firewall-neighbour"];
    let grants = json!({ "rules": [rule(&["create"], &[]), rule(&["get", "update"], &names)] });
    let patched = roles.patch("hostport-firewall", &PatchParams::default(), &Patch::Merge(grants)).await;
    patched.expect("the role changes");
    (env, machine)
}

/// Returns a pod that is ready only once its port is open.
fn gated(name: &str, node: &Machine, annotations: Value, port: u16) -> Value {
    let mut pod = pod(name, &node.name, annotations, host_port(port));
    add_readiness_gate(&mut pod);
    pod
}

/// Returns the versions of everything that a controller could write to.
async fn read_versions(env: &TestEnvironment, pods: &[&str]) -> Vec<Option<String>> {
    let exposures: Api<HostPortExposure> = Api::namespaced(env.cluster.client.clone(), "default");
    let mut versions = vec![exposures.get("web").await.expect("the exposure").metadata.resource_version];
    for pod in pods {
        versions.push(env.cluster.pods().get(pod).await.expect("the pod").metadata.resource_version);
    }
    versions
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn controllers_of_two_projects_leave_each_other_alone() {
    let (env, other) = start().await;
    let own = &env.machines[0];
    env.cluster.apply(web_exposure(json!([{ "port": 80 }]), &["192.0.2.0/24"])).await;
    for (name, machine) in [("own", own), ("others", &other)] {
        let mut pod = gated(name, machine, json!({}), 80);
        set_web_label(&mut pod);
        env.cluster.create_pod(pod).await;
    }
    let annotations = json!({ "hostport-firewall.dev/expose": "81" });
    env.cluster.create_pod(gated("annotated", &other, annotations, 81)).await;
    let _first = env.start_controller(&["--resync=2s"]);
    let options = neighbour_options("hostport-firewall-neighbour");
    let options: Vec<&str> = options.iter().map(String::as_str).chain(["--resync=2s"]).collect();
    let _second = env.start_replica_of("e2e-neighbour", "neighbour", &options);
    let pods = ["own", "others", "annotated"];
    for pod in pods {
        env.cluster.wait_for_gate(pod, "True", "Open").await;
    }
    let both = |status: &Value| status["nodeCount"] == 2;
    env.cluster.wait_for_exposure_status("both nodes are open", both).await;
    env.cluster.wait_for_condition("Programmed", "True", "Programmed").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = read_versions(&env, &pods).await;
    // Long enough for several passes of both.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(read_versions(&env, &pods).await, before, "something is written although nothing changes");

    // A change of one's pods is written once, and answered by nobody.
    env.cluster.delete_pod("own").await;
    let one = |status: &Value| status["nodeCount"] == 1;
    let status = env.cluster.wait_for_exposure_status("the other's node is left", one).await;
    assert_eq!(status["ports"], "tcp/80", "{status:#}");
    env.cluster.wait_for_condition("Programmed", "True", "Programmed").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = read_versions(&env, &pods[1..]).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(read_versions(&env, &pods[1..]).await, before);
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn lease_of_another_cluster_is_reported_loudly() {
    let (env, _) = start().await;
    let _first = env.start_controller(&[]);
    env.wait_for_log("leading").await;
    let port = find_free_port();
    let mut options = neighbour_options("hostport-firewall");
    options.push(format!("--metrics-address=127.0.0.1:{port}"));
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let _second = env.start_replica_of("e2e-neighbour", "neighbour", &options);
    env.wait_for_log("the lease is held for the cluster name \"e2e\"").await;
    let state = "state=\"held-by-another-cluster\"";
    assert_eq!(read_metric(port, "hostport_firewall_lease_state", &[state]).as_deref(), Some("1"));
}
