//! Properties of any text in an annotation, and of any mix of pods.

use firewall_core::{InstanceId, RuleSet, Unknown};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{cluster, collect, pod};
use crate::desired::grouping::grouped;
use crate::intents::demand::collect_exposures;
use crate::intents::settings::Settings;
use crate::k8s::index::{Object, Watch};
use crate::k8s::objects::builders::{
    self, annotated, from_json, host_port, host_port_exposure, named_host_port,
};

/// Returns a pod with TCP 80, called `http`, and TCP 8080 and UDP 53, which have no name.
fn annotated_pod(expose: &str, sources: &str) -> Value {
    let ports = json!([
        named_host_port("http", 80),
        host_port(8080),
        { "containerPort": 53, "hostPort": 53, "protocol": "UDP" },
    ]);
    let annotations =
        json!({ "hostport-firewall.dev/expose": expose, "hostport-firewall.dev/source-ranges": sources });
    pod("web", &annotations, &ports)
}

/// Returns true if an entry names at least one port of [`annotated_pod`]. It shares no code with what it
/// judges.
fn names_a_port(entry: &str) -> bool {
    let (port, protocol) = entry.trim().split_once('/').unwrap_or((entry.trim(), ""));
    let lower = protocol.to_lowercase();
    let has_protocol = entry.contains('/');
    if port == "http" {
        return !has_protocol || lower == "tcp";
    }
    let bound: &[u32] = match (has_protocol, lower.as_str()) {
        (false, _) | (true, "tcp") => &[80, 8080],
        (true, "udp") => &[53],
        _ => return false,
    };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
        text.parse::<u32>().ok().filter(|number| digits && (1..=65535).contains(number))
    };
    let (first, last) = port.split_once('-').unwrap_or((port, port));
    match (number(first), number(last)) {
        (Some(first), Some(last)) => {
            first <= last && bound.iter().any(|port| first <= *port && *port <= last)
        }
        _ => false,
    }
}

fn is_cidr_without_host_bits(entry: &str) -> bool {
    entry.trim().parse::<ipnet::IpNet>().is_ok_and(|range| range.addr() == range.network())
}

fn port_entries() -> impl Strategy<Value = String> {
    let good = prop::sample::select(vec!["http", "80", "8080/tcp", "53/udp", "1-100", " 53-60/UDP "]);
    let entry = prop_oneof![6 => good.prop_map(str::to_owned), 1 => "[a-z0-9/-]{0,6}", 1 => "\\PC{0,8}"];
    prop::collection::vec(entry, 0..5).prop_map(|entries| entries.join(","))
}

fn source_entries() -> impl Strategy<Value = String> {
    let good = prop::sample::select(vec!["10.0.0.0/8", "192.0.2.1/32", " 2001:db8::/32", "0.0.0.0/0"]);
    let entry = prop_oneof![6 => good.prop_map(str::to_owned), 1 => "[0-9a-f.:/]{0,12}", 1 => "\\PC{0,8}"];
    prop::collection::vec(entry, 0..5).prop_map(|entries| entries.join(","))
}

/// One pod: its workload, node, port, the address that the port is bound to, its sources if it names any, and
/// another address that the same number is bound to.
type Bound = (usize, usize, u16, &'static str, Option<&'static str>, Option<&'static str>);

fn bound() -> impl Strategy<Value = Vec<Bound>> {
    let sources = prop::option::of(prop::sample::select(vec!["10.0.0.0/8", "192.0.2.0/24, 2001:db8::/32"]));
    let address = prop::sample::select(vec!["", "", "10.0.0.1", "2001:db8::1"]);
    let second = prop::option::of(prop::sample::select(vec!["", "10.0.0.2", "2001:db8::2"]));
    prop::collection::vec((0..4_usize, 0..3_usize, 80..83_u16, address, sources, second), 0..12)
}

/// Returns the pods: those of workload 0 are Voyager's, whose sources are the Ingress's, those of 1
/// annotated, those of 2 selected, by the names of their ports, one of which has sources of its own, and
/// those of 3 `ServiceLB`'s.
fn pods(bound: &[Bound]) -> Vec<Value> {
    let nodes = ["node-a", "node-b", "node-v4"];
    bound
        .iter()
        .enumerate()
        .map(|(number, (workload, node, port, address, sources, second))| {
            let mut ports = json!([
                { "containerPort": port, "hostPort": port, "hostIP": address },
                host_port(90),
            ]);
            if let Some(second) = second {
                let again = json!({ "containerPort": port, "hostPort": port, "hostIP": second });
                ports.as_array_mut().expect("ports").push(again);
            }
            let mut annotations = json!({});
            if *workload == 1 {
                annotations["hostport-firewall.dev/expose"] = json!(format!("{port}, 90"));
            }
            if let (1, Some(sources)) = (workload, sources) {
                annotations["hostport-firewall.dev/source-ranges"] = json!(sources);
            }
            let mut pod = pod(&format!("pod-{number}"), &annotations, &ports);
            pod["spec"]["nodeName"] = json!(nodes[*node]);
            pod["spec"]["containers"][0]["name"] = json!("haproxy");
            pod["metadata"]["ownerReferences"] =
                json!([{ "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "web", "uid": "u", "controller": true }]);
            if *workload == 0 {
                pod["metadata"]["labels"] = json!({ "origin": "voyager", "origin-name": "shop" });
            }
            if *workload == 2 {
                pod["metadata"]["labels"] = json!({ "app": "web" });
                let names = if sources.is_some() { ["narrow", "wide"] } else { ["wide", "narrow"] };
                pod["spec"]["containers"][0]["ports"][0]["name"] = json!(names[0]);
                if second.is_some() {
                    pod["spec"]["containers"][0]["ports"][2]["name"] = json!(names[1]);
                }
            }
            if *workload == 3 {
                pod["metadata"]["labels"] = json!({ "svccontroller.k3s.cattle.io/svcname": "balancer" });
            }
            pod
        })
        .collect()
}

fn selecting() -> Object {
    let ports =
        json!([{ "port": "wide" }, { "port": "narrow", "sourceRanges": ["10.0.0.0/8"] }, { "port": 90 }]);
    let spec = json!({ "podSelector": { "matchLabels": { "app": "web" } }, "ports": ports });
    Object::HostPortExposure(from_json(host_port_exposure("shop", "x", &spec)))
}

/// Returns a Service whose ports 80 to 82 are open to few sources, and are the node ports of others, which
/// are open to all.
fn balancer() -> Object {
    let port =
        |port: u16, on_node: u16| json!({ "name": format!("p{port}"), "port": port, "nodePort": on_node });
    let ports: Vec<Value> =
        (80..83).flat_map(|number| [port(number, 30000 + number), port(8000 + number, number)]).collect();
    let mut annotations = json!({
        "hostport-firewall.dev/expose": "80-82", "hostport-firewall.dev/expose-node-ports": "8080-8082",
    });
    for number in 80..83 {
        annotations[format!("hostport-firewall.dev/source-ranges.{number}")] = json!("10.0.0.0/8");
    }
    let service = builders::service("shop", "balancer", "LoadBalancer", &json!(ports));
    Object::Service(from_json(annotated(service, &annotations)))
}

fn ingress(annotations: &Value) -> Object {
    let rules: Vec<Value> = (81..91).map(|port| json!({ "tcp": { "port": port } })).collect();
    let ingress = builders::ingress("shop", "shop", "HostPort", &json!(rules));
    Object::Ingress(from_json(annotated(ingress, annotations)))
}

proptest! {
    #[test]
    fn pod_is_exposed_if_and_only_if_every_entry_is_valid(
        expose in port_entries(), sources in source_entries(),
    ) {
        let is_valid =
            expose.split(',').all(names_a_port) && sources.split(',').all(is_cidr_without_host_bits);
        let found = collect([annotated_pod(&expose, &sources)]);
        prop_assert_eq!(!found.exposures.is_empty(), is_valid, "{:?} {:?} {:?}", expose, sources, found.problems);
        prop_assert_eq!(found.problems.is_empty(), is_valid, "intents that open nothing are reported");
    }

    #[test]
    fn annotation_with_any_suffix_is_valid_or_reported(name in "[a-z.]{0,6}(\\.\\PC{0,6})?") {
        let mut pod = annotated_pod("80", "10.0.0.0/8");
        pod["metadata"]["annotations"][format!("hostport-firewall.dev/source-ranges{name}")] = json!("10.1.0.0/16");
        let found = collect([pod]);
        let is_valid = name.is_empty() || name == ".80" || name == ".http";
        prop_assert_eq!((found.exposures.len(), found.problems.len()), if is_valid { (1, 0) } else { (0, 1) });
    }

    #[test]
    fn sources_on_an_ingress_never_give_way_to_the_default(
        way in 0..3_usize, text in prop_oneof![source_entries(), Just("{}".to_owned()), "\\PC{0,20}"],
    ) {
        let named = json!({ "service.beta.kubernetes.io/load-balancer-source-ranges": text });
        let annotations = match way {
            0 => json!({ "hostport-firewall.dev/source-ranges": text }),
            1 => json!({ "ingress.appscode.com/annotations-service": named.to_string() }),
            _ => json!({ "ingress.appscode.com/whitelist-source-range": text }),
        };
        let mut index = cluster(pods(&[(0, 0, 80, "", None, None)]));
        index.apply(&Watch::Ingresses("voyager.appscode.com".into()), ingress(&annotations));
        let default: ipnet::IpNet = "203.0.113.0/24".parse().unwrap();
        let settings = Settings { default_source_ranges: vec![default], ..Settings::default() };
        let found = collect_exposures(&index, &settings);
        let mut open = found.exposures.iter().flat_map(|exposure| exposure.rules.iter());
        prop_assert!(open.all(|rule| rule.source != default), "{:?}", found.exposures);
        prop_assert_ne!(found.exposures.is_empty(), found.problems.is_empty(), "intents that open nothing are reported");
    }

    #[test]
    fn groups_open_exactly_the_requested_rules_on_each_instance(
        bound in bound(), named in any::<bool>(), balanced in any::<bool>(),
    ) {
        let mut index = cluster(pods(&bound));
        let sources = json!({ "hostport-firewall.dev/source-ranges": "198.51.100.0/24, 2001:db8:1::/48" });
        let annotations = if named { sources } else { json!({}) };
        index.apply(&Watch::Ingresses("voyager.appscode.com".into()), ingress(&annotations));
        index.apply(&Watch::HostPortExposures, selecting());
        if balanced {
            index.apply(&Watch::Services, balancer());
        }
        let found = collect_exposures(&index, &Settings::default());
        let known = |id: &str| Some(Ok(InstanceId::new(id)));
        let desired = grouped(&found.exposures, known, Unknown::default()).desired;
        for instance in desired.members() {
            let requested: RuleSet = found
                .exposures
                .iter()
                .filter(|exposure| exposure.provider_id == instance.as_str())
                .flat_map(|exposure| exposure.rules.iter().copied())
                .collect();
            let groups = desired.groups.values().filter(|group| group.members.contains(&instance));
            let open: RuleSet = groups.flat_map(|group| group.rules.iter().copied()).collect();
            prop_assert_eq!(open, requested);
        }
        let nodes: std::collections::BTreeSet<&str> =
            found.exposures.iter().map(|exposure| exposure.provider_id.as_str()).collect();
        prop_assert_eq!(desired.members().len(), nodes.len());
    }
}
