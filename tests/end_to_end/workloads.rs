//! Every kind of workload under every intent that can name it: exactly the expected ports open.

use serde_json::{Value, json};

use crate::environment::{Mode, TestEnvironment};
use crate::machine::Machine;
use crate::objects::{exposure, ingress, pod, service, set_owner, voyager_crd};
use crate::process::root;

/// A kind of workload, with the ports that are asked for and the rules that are then open on its node.
struct Workload {
    name: &'static str,
    ports: Value,
    /// Makes a pod one of this kind; the second argument is its node's name, the third the node's address
    change: fn(&mut Value, &str, &str),
    requested: &'static [(u16, &'static str)],
    open: &'static [&'static str],
}

const WEB: &[&str] = &["tcp/80 192.0.2.0/24", "tcp/80 2001:db8::/32"];
const TCP_80: &[(u16, &str)] = &[(80, "TCP")];

fn workloads() -> Vec<Workload> {
    let port = |number: u16| json!([{ "containerPort": 8080, "hostPort": number }]);
    let bare: fn(&mut Value, &str, &str) = |_, _, _| {};
    let row = |name, ports, change, requested, open| Workload { name, ports, change, requested, open };
    vec![
        row("bare", port(80), bare, TCP_80, WEB),
        row("daemon-set", port(80), |pod, _, _| set_owner(pod, "DaemonSet", "web"), TCP_80, WEB),
        row("deployment", port(80), |pod, _, _| set_owner(pod, "ReplicaSet", "web-5d9c"), TCP_80, WEB),
        row("stateful-set", port(80), |pod, _, _| set_owner(pod, "StatefulSet", "web"), TCP_80, WEB),
        row(
            "static",
            port(80),
            |pod, node, _| {
                set_owner(pod, "Node", node);
                pod["metadata"]["annotations"]["kubernetes.io/config.mirror"] = json!("1");
            },
            TCP_80,
            WEB,
        ),
        row(
            "sidecar",
            json!([]),
            |pod, _, _| {
                pod["spec"]["initContainers"] = json!([{
                    "name": "sidecar", "image": "example.invalid/image", "restartPolicy": "Always",
                    "ports": [{ "containerPort": 80, "hostPort": 80 }],
                }]);
            },
            TCP_80,
            WEB,
        ),
        row(
            "host-network",
            json!([{ "containerPort": 80 }, { "containerPort": 9100 }]),
            |pod, _, _| pod["spec"]["hostNetwork"] = json!(true),
            TCP_80,
            WEB,
        ),
        row("loopback", port(80), |pod, _, _| bind_to(pod, "127.0.0.1"), TCP_80, &[]),
        row("node-address", port(80), |pod, _, address| bind_to(pod, address), TCP_80, &WEB[..1]),
        row("ipv6", port(80), |pod, _, _| bind_to(pod, "2001:db8::1"), TCP_80, &WEB[1..]),
        row(
            "tcp-and-udp",
            json!([
                { "containerPort": 53, "hostPort": 53 },
                { "containerPort": 53, "hostPort": 53, "protocol": "UDP" },
            ]),
            bare,
            &[(53, "TCP"), (53, "UDP")],
            &["tcp/53 192.0.2.0/24", "tcp/53 2001:db8::/32", "udp/53 192.0.2.0/24", "udp/53 2001:db8::/32"],
        ),
        row(
            "sctp",
            json!([{ "containerPort": 3868, "hostPort": 3868, "protocol": "SCTP" }]),
            bare,
            &[(3868, "SCTP")],
            &["sctp/3868 192.0.2.0/24", "sctp/3868 2001:db8::/32"],
        ),
    ]
}

fn bind_to(pod: &mut Value, address: &str) {
    pod["spec"]["containers"][0]["ports"][0]["hostIP"] = json!(address);
}

/// A way to ask for a pod's ports.
#[derive(Clone, Copy, PartialEq)]
enum Intent {
    Annotation,
    Exposure,
    /// A Voyager Ingress; the pod is its `HAProxy`
    Voyager,
    /// A Service; the pod is its `ServiceLB` pod of k3s
    ServiceLb,
}

const SOURCES: &str = "192.0.2.0/24, 2001:db8::/32";

impl Intent {
    /// Returns a pod of the workload, and the object that asks for its ports unless the pod's annotation
    /// does.
    fn build(self, workload: &Workload, machine: &Machine) -> (Value, Option<Value>) {
        let name = format!("{}-{}", workload.name, self.suffix());
        let mut pod = pod(&name, &machine.name, json!({}), workload.ports.clone());
        (workload.change)(&mut pod, &machine.name, machine.address());
        let object = match self {
            Self::Annotation => {
                annotate(&mut pod, workload);
                None
            }
            Self::Exposure => {
                pod["metadata"]["labels"] = json!({ "row": name });
                Some(build_exposure(workload, &name))
            }
            Self::Voyager => {
                pod["metadata"]["labels"] = json!({
                    "origin": "voyager", "origin-name": name, "origin-api-group": "voyager.appscode.com",
                });
                pod["spec"]["containers"][0]["name"] = json!("haproxy");
                Some(build_ingress(workload, &name))
            }
            Self::ServiceLb => {
                pod["metadata"]["labels"] = json!({ "svccontroller.k3s.cattle.io/svcname": name });
                Some(build_service(workload, &name))
            }
        };
        (pod, object)
    }

    const fn suffix(self) -> &'static str {
        match self {
            Self::Annotation => "a",
            Self::Exposure => "o",
            Self::Voyager => "v",
            Self::ServiceLb => "b",
        }
    }

    /// Returns the rules that are open on the workload's node. A Voyager frontend is TCP, and a port of the
    /// container `haproxy`, not of a sidecar.
    fn expected_rules(self, workload: &Workload) -> Vec<&'static str> {
        let mut open = workload.open.to_vec();
        if self == Self::Voyager {
            open.retain(|rule| rule.starts_with("tcp/") && workload.name != "sidecar");
        }
        open
    }
}

fn annotate(pod: &mut Value, workload: &Workload) {
    let listed: Vec<String> = workload
        .requested
        .iter()
        .map(|(port, protocol)| format!("{port}/{protocol}").to_lowercase())
        .collect();
    let annotations = &mut pod["metadata"]["annotations"];
    annotations["hostport-firewall.dev/expose"] = json!(listed.join(", "));
    annotations["hostport-firewall.dev/source-ranges"] = json!(SOURCES);
}

fn build_exposure(workload: &Workload, name: &str) -> Value {
    let ports: Vec<Value> = workload
        .requested
        .iter()
        .map(|(port, protocol)| json!({ "port": port, "protocol": protocol }))
        .collect();
    let sources: Vec<&str> = SOURCES.split(", ").collect();
    let selector = json!({ "matchLabels": { "row": name } });
    let mut object = exposure(&json!({ "podSelector": selector, "ports": ports, "sourceRanges": sources }));
    object["metadata"]["name"] = json!(name);
    object
}

fn build_ingress(workload: &Workload, name: &str) -> Value {
    let rules: Vec<Value> =
        workload.requested.iter().map(|(port, _)| json!({ "tcp": { "port": port } })).collect();
    let annotations = json!({
        "ingress.appscode.com/type": "HostPort", "hostport-firewall.dev/source-ranges": SOURCES,
    });
    ingress("voyager.appscode.com/v1", name, &annotations, &json!({ "rules": rules }))
}

fn build_service(workload: &Workload, name: &str) -> Value {
    let port = |(position, (port, protocol)): (usize, &(u16, &str))| json!({ "name": format!("p{position}"), "port": port, "protocol": protocol });
    let spec = json!({
        "type": "LoadBalancer",
        "ports": workload.requested.iter().enumerate().map(port).collect::<Vec<_>>(),
        "loadBalancerSourceRanges": ["198.51.100.0/24"],
        "selector": { "row": name },
    });
    service(name, &spec, &json!({ "hostport-firewall.dev/source-ranges": SOURCES }))
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn every_workload_opens_exactly_its_requested_ports_on_gce() {
    let intents = [Intent::Annotation, Intent::Exposure, Intent::Voyager, Intent::ServiceLb];
    every_workload_opens_exactly_its_requested_ports(Mode::Destination, &intents).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn every_workload_opens_exactly_its_requested_ports_on_aws() {
    let intents = [Intent::Annotation, Intent::Exposure];
    every_workload_opens_exactly_its_requested_ports(Mode::Attach, &intents).await;
}

/// Runs each workload under each intent, on a node of its own.
async fn every_workload_opens_exactly_its_requested_ports(mode: Mode, intents: &[Intent]) {
    let workloads = workloads();
    let cases: Vec<(&Workload, Intent)> =
        workloads.iter().flat_map(|workload| intents.iter().map(move |intent| (workload, *intent))).collect();
    let env = TestEnvironment::start(mode, u32::try_from(cases.len()).expect("a few")).await;
    env.cluster.apply_file(&root().join("deploy/crd.yaml")).await;
    env.cluster.apply(voyager_crd(&["v1"])).await;
    let _controller = env.start_controller(&[]);
    for ((workload, intent), machine) in cases.iter().zip(&env.machines) {
        let (pod, object) = intent.build(workload, machine);
        if let Some(object) = object {
            env.cluster.apply(object).await;
        }
        env.cluster.create_pod(pod).await;
    }
    for ((workload, intent), machine) in cases.iter().zip(&env.machines) {
        env.wait_until_open(machine, &intent.expected_rules(workload)).await;
    }
    env.wait_until_idle().await;
    for ((workload, intent), machine) in cases.iter().zip(&env.machines) {
        env.wait_until_open(machine, &intent.expected_rules(workload)).await;
    }
}
