//! Services: their node ports, and the host ports of k3s' `ServiceLB`.

use std::collections::BTreeSet;

use super::*;
use crate::guardrails::{NamespaceMatcher, NamespaceRule};
use crate::intents::demand::Demand;
use crate::intents::port_owner::PortOwners;
use crate::k8s::objects::builders::{annotated, endpoint_slice};

const EXPOSE: &str = "hostport-firewall.dev/expose";
const EXPOSE_NODE_PORTS: &str = "hostport-firewall.dev/expose-node-ports";
const SOURCES: &str = "hostport-firewall.dev/source-ranges";

/// Returns a Service of this type, whose ports 80, 443 and 53 (UDP) have the node ports 30080, 30443 and
/// 30053.
fn service(kind: &str, annotations: &Value) -> Value {
    let ports = json!([
        { "name": "http", "port": 80, "nodePort": 30080, "protocol": "TCP" },
        { "name": "https", "port": 443, "nodePort": 30443 },
        { "name": "dns", "port": 53, "nodePort": 30053, "protocol": "UDP" },
    ]);
    annotated(builders::service("shop", "web", kind, &ports), annotations)
}

fn slice(name: &str, endpoints: &Value) -> Value {
    endpoint_slice("shop", "web", name, endpoints)
}

fn with(pods: Vec<Value>, service: Value, slices: Vec<Value>) -> Index {
    let mut index = cluster(pods);
    index.reset(Watch::Services, vec![Object::Service(from_json(service))]);
    let slices = slices.into_iter().map(|slice| Object::EndpointSlice(from_json(slice)));
    index.reset(Watch::EndpointSlices, slices.collect());
    index
}

fn collect_service(service: Value) -> Collected {
    collect_exposures(&with(vec![], service, vec![]), &Settings::default())
}

/// Returns the rules, node by node.
fn by_node(found: &Collected) -> Vec<String> {
    let lines = found.exposures.iter().flat_map(|exposure| {
        let node = exposure.node.name.clone();
        rules(exposure).into_iter().map(move |rule| format!("{node} {rule}"))
    });
    lines.collect()
}

fn port_owners(index: &Index) -> PortOwners {
    let mut demand = Demand::default();
    let all = index.names().map(|(watch, name)| (watch.clone(), name.clone())).collect();
    demand.update(index, &all, true, &Settings::default());
    demand.result().port_owners
}

#[test]
fn node_ports_are_selected_by_name_and_number() {
    let table = [
        ("NodePort", "http", vec!["tcp/30080"]),
        ("NodePort", "80", vec!["tcp/30080"]),
        ("NodePort", "http, 443", vec!["tcp/30080", "tcp/30443"]),
        ("NodePort", "53/udp", vec!["udp/30053"]),
        ("NodePort", "1-1000", vec!["tcp/30080", "tcp/30443"]),
        ("LoadBalancer", "dns", vec!["udp/30053"]),
    ];
    for (kind, listed, expected) in table {
        let found =
            collect_service(service(kind, &json!({ EXPOSE_NODE_PORTS: listed, SOURCES: "192.0.2.0/24" })));
        assert!(found.problems.is_empty(), "{:?}", found.problems);
        let nodes = ["node-a", "node-b", "node-v4"];
        let expected: Vec<String> = nodes
            .iter()
            .flat_map(|node| expected.iter().map(move |port| format!("{node} {port} from 192.0.2.0/24")))
            .collect();
        assert_eq!(by_node(&found), expected, "{kind} {listed}");
        let exposure = &found.exposures[0];
        assert_eq!(exposure.port_owner.to_string(), "Service shop/web");
        assert_eq!(
            (&exposure.intent, exposure.group.workload.to_string()),
            (&exposure.port_owner, "Service shop/web".into())
        );
    }
}

#[test]
fn service_without_annotations_opens_nothing() {
    for kind in ["NodePort", "LoadBalancer", "ClusterIP", "ExternalName"] {
        assert_eq!(collect_service(service(kind, &json!({}))), Collected::default(), "{kind}");
    }
    let mut narrowed = service("LoadBalancer", &json!({}));
    narrowed["spec"]["loadBalancerSourceRanges"] = json!(["192.0.2.0/24"]);
    assert_eq!(
        collect_service(narrowed),
        Collected::default(),
        "sources are for the balancer, node ports are not requested"
    );
}

#[test]
fn local_traffic_opens_only_nodes_with_a_ready_endpoint() {
    let endpoint = |node: &str, pod: &str, ready: Value| {
        let target = json!({ "kind": "Pod", "namespace": "shop", "name": pod, "uid": pod });
        json!({ "nodeName": node, "conditions": { "ready": ready }, "targetRef": target })
    };
    let local = || {
        let mut service = service("NodePort", &json!({ EXPOSE_NODE_PORTS: "http", SOURCES: "192.0.2.0/24" }));
        service["spec"]["externalTrafficPolicy"] = json!("Local");
        service
    };
    let slices = vec![
        slice(
            "web-v4",
            &json!([endpoint("node-a", "a-1", json!(true)), endpoint("node-b", "b-1", json!(false))]),
        ),
        slice("web-v6", &json!([endpoint("node-a", "a-1", json!(true))])),
    ];
    let index = with(vec![], local(), slices);
    let found = collect_exposures(&index, &Settings::default());
    assert_eq!(by_node(&found), ["node-a tcp/30080 from 192.0.2.0/24"]);
    let port_owner = &found.exposures[0].port_owner;
    assert_eq!(port_owner.to_string(), "Service shop/web", "whatever pods its slices claim to be behind it");
    let owners = port_owners(&index);
    assert_eq!(["node-a", "node-b"].map(|node| owners.owns(port_owner, node)), [true, false]);

    let unknown = slice("web", &json!([endpoint("node-b", "b-1", Value::Null)]));
    let found = collect_exposures(&with(vec![], local(), vec![unknown]), &Settings::default());
    assert_eq!(by_node(&found).len(), 1, "an endpoint that does not say is ready");
    assert_eq!(collect_exposures(&with(vec![], local(), vec![]), &Settings::default()), Collected::default());
}

#[test]
fn local_traffic_keeps_ports_open_while_endpoints_drain() {
    let binds = |conditions: Value| {
        let mut service = service("NodePort", &json!({ EXPOSE_NODE_PORTS: "http", SOURCES: "192.0.2.0/24" }));
        service["spec"]["externalTrafficPolicy"] = json!("Local");
        let endpoints = json!([{ "nodeName": "node-a", "conditions": conditions }]);
        let index = with(vec![], service, vec![slice("web", &endpoints)]);
        let found = collect_exposures(&index, &Settings::default());
        let service = found.exposures.first().map(|exposure| exposure.port_owner.clone());
        let owners = port_owners(&index);
        service.map(|service| {
            assert!(owners.owns(&service, "node-a"));
            owners.accepts_new_clients(&service, "node-a")
        })
    };
    let table = [
        (json!({ "ready": true, "serving": true, "terminating": false }), Some(true)),
        (json!({ "ready": false, "serving": true, "terminating": true }), Some(false)),
        (json!({ "ready": false, "serving": false, "terminating": true }), None),
        (json!({ "ready": false, "terminating": true }), None),
        (json!({ "ready": false, "serving": true, "terminating": false }), None),
    ];
    for (conditions, expected) in table {
        assert_eq!(binds(conditions.clone()), expected, "{conditions}: open, and to new clients");
    }
}

#[test]
fn sources_of_the_annotation_precede_those_of_the_balancer() {
    let balancer = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let table = [
        (
            json!({ SOURCES: "192.0.2.0/24", balancer: "10.0.0.0/8" }),
            json!(["172.16.0.0/12"]),
            "192.0.2.0/24",
        ),
        (json!({ balancer: "10.0.0.0/8" }), json!(["172.16.0.0/12"]), "172.16.0.0/12"),
        (json!({ balancer: "10.0.0.0/8" }), json!([]), "10.0.0.0/8"),
        (json!({}), json!(["172.16.0.0/12"]), "172.16.0.0/12"),
        (json!({ format!("{SOURCES}.http"): "192.0.2.0/24" }), json!(["172.16.0.0/12"]), "192.0.2.0/24"),
        (json!({ format!("{SOURCES}.80"): "192.0.2.0/24" }), json!([]), "192.0.2.0/24"),
    ];
    for (mut annotations, ranges, expected) in table {
        annotations[EXPOSE_NODE_PORTS] = json!("http");
        let mut service = service("NodePort", &annotations);
        service["spec"]["loadBalancerSourceRanges"] = ranges;
        let found = collect_service(service);
        assert_eq!(by_node(&found)[0], format!("node-a tcp/30080 from {expected}"), "{annotations}");
    }
}

#[test]
fn service_of_one_family_is_opened_in_that_family() {
    let mut single = service("NodePort", &json!({ EXPOSE_NODE_PORTS: "http" }));
    single["spec"]["ipFamilies"] = json!(["IPv6"]);
    let found = collect_service(single);
    assert_eq!(by_node(&found), ["node-a tcp/30080 from ::/0", "node-b tcp/30080 from ::/0"]);
}

#[test]
fn invalid_service_is_rejected_as_a_whole() {
    let cases = [
        ("NodePort", json!({ EXPOSE: "http" }), "expose-node-ports opens node ports"),
        ("ClusterIP", json!({ EXPOSE_NODE_PORTS: "http" }), "has no node ports"),
        ("NodePort", json!({ EXPOSE_NODE_PORTS: "http, smtp" }), "\"smtp\""),
        ("NodePort", json!({ EXPOSE_NODE_PORTS: "true" }), "\"true\""),
        ("NodePort", json!({ EXPOSE_NODE_PORTS: "30080" }), "\"30080\""),
        ("NodePort", json!({ EXPOSE_NODE_PORTS: "http", SOURCES: "10.0.0.1/8" }), "10.0.0.0/8"),
        (
            "NodePort",
            json!({ EXPOSE_NODE_PORTS: "http", format!("{SOURCES}.https"): "10.0.0.0/8" }),
            "\"https\"",
        ),
        ("NodePort", json!({ SOURCES: "10.0.0.0/8" }), "no ports are named"),
        ("NodePort", json!({ "hostport-firewall.dev/hostname": "a.b" }), "no ports are named"),
        (
            "NodePort",
            json!({ EXPOSE_NODE_PORTS: "http", "hostport-firewall.dev/hostname": "a" }),
            "not a hostname",
        ),
        ("NodePort", json!({ "hostport-firewall.dev/expose-node-port": "http" }), "unknown annotation"),
    ];
    for (kind, annotations, part) in cases {
        let mut service = service(kind, &annotations);
        if kind == "ClusterIP" {
            for port in service["spec"]["ports"].as_array_mut().unwrap() {
                port["nodePort"] = Value::Null;
            }
        }
        let message = rejection(&collect_service(service));
        assert!(message.contains("Service shop/web") && message.contains(part), "{annotations}: {message}");
    }
}

#[test]
fn guardrail_applies_to_the_node_port_of_a_service() {
    let guardrails = Guardrails { denied_ports: vec!["30080".parse().unwrap()], ..Guardrails::default() };
    let settings = Settings { guardrails, ..Settings::default() };
    let index = with(vec![], service("NodePort", &json!({ EXPOSE_NODE_PORTS: "http, https" })), vec![]);
    assert!(
        rejection(&collect_exposures(&index, &settings))
            .starts_with("PortDenied Service shop/web: tcp/30080")
    );
}

#[test]
fn namespace_guardrail_applies_to_the_service_not_its_pods() {
    let allowing = |namespace: &str| {
        let allowed = NamespaceRule {
            matcher: NamespaceMatcher::Names(BTreeSet::from([namespace.to_owned()])),
            ports: None,
        };
        let guardrails = Guardrails { namespaces: Some(vec![allowed]), ..Guardrails::default() };
        Settings { guardrails, ..Settings::default() }
    };
    let balancer = service("LoadBalancer", &json!({ EXPOSE: "http", EXPOSE_NODE_PORTS: "https" }));
    let index = with(vec![svclb("kube-system")], balancer, vec![]);
    let allowed = collect_exposures(&index, &allowing("shop"));
    assert_eq!((allowed.exposures.len(), allowed.problems.len()), (4, 0), "a pod, and three nodes");
    let rejected = collect_exposures(&index, &allowing("kube-system"));
    assert!(rejected.exposures.is_empty(), "{rejected:?}");
    assert!(rejected.problems.iter().all(|problem| problem.reason == "NamespaceNotAllowed"), "{rejected:?}");
}

/// Returns a pod of `ServiceLB` for ports 80 and 443 of the Service.
fn svclb(namespace: &str) -> Value {
    let ports = json!([named_host_port("lb-tcp-80", 80), named_host_port("lb-tcp-443", 443)]);
    let mut pod = builders::pod(namespace, "svclb-web-4f1c-x", "node-a", &ports);
    pod["metadata"]["labels"] = json!({
        "svccontroller.k3s.cattle.io/svcname": "web",
        "svccontroller.k3s.cattle.io/svcnamespace": "shop",
    });
    pod
}

fn served(annotations: &Value, ranges: &Value, namespace: &str) -> Collected {
    let mut service = service("LoadBalancer", annotations);
    service["spec"]["loadBalancerSourceRanges"] = ranges.clone();
    collect_exposures(&with(vec![svclb(namespace)], service, vec![]), &Settings::default())
}

#[test]
fn service_lb_pods_open_the_ports_of_their_service() {
    let table = [
        (json!({}), json!([]), vec![]),
        (
            json!({ EXPOSE: "http" }),
            json!([]),
            vec!["node-a tcp/80 from 0.0.0.0/0", "node-a tcp/80 from ::/0"],
        ),
        (json!({ EXPOSE: "443" }), json!(["192.0.2.0/24"]), vec!["node-a tcp/443 from 192.0.2.0/24"]),
        (
            json!({}),
            json!(["192.0.2.0/24"]),
            vec!["node-a tcp/80 from 192.0.2.0/24", "node-a tcp/443 from 192.0.2.0/24"],
        ),
        (
            json!({ EXPOSE: "http", SOURCES: "10.0.0.0/8" }),
            json!(["192.0.2.0/24"]),
            vec!["node-a tcp/80 from 10.0.0.0/8"],
        ),
        (
            json!({ SOURCES: "10.0.0.0/8", "hostport-firewall.dev/hostname": "web.example.com" }),
            json!(["192.0.2.0/24"]),
            vec!["node-a tcp/80 from 10.0.0.0/8", "node-a tcp/443 from 10.0.0.0/8"],
        ),
        (
            json!({
                EXPOSE: "http", EXPOSE_NODE_PORTS: "https",
                format!("{SOURCES}.http"): "192.0.2.0/24", format!("{SOURCES}.https"): "10.0.0.0/8",
            }),
            json!([]),
            vec![
                "node-a tcp/80 from 192.0.2.0/24",
                "node-a tcp/30443 from 10.0.0.0/8",
                "node-b tcp/30443 from 10.0.0.0/8",
                "node-v4 tcp/30443 from 10.0.0.0/8",
            ],
        ),
    ];
    for (annotations, ranges, expected) in table {
        let found = served(&annotations, &ranges, "kube-system");
        assert_eq!(by_node(&found), expected, "{annotations} {ranges}: {:?}", found.problems);
        for exposure in &found.exposures {
            let pod = exposure.port_owner.to_string() == "Pod kube-system/svclb-web-4f1c-x";
            assert_eq!(
                pod,
                exposure.group.ports.iter().all(|(_, ports)| ports.last() < 30000),
                "{:?}",
                exposure.port_owner
            );
            assert_eq!(exposure.intent.to_string(), "Service shop/web");
            assert_eq!(exposure.group.workload.to_string(), "Service shop/web");
        }
    }
}

#[test]
fn node_port_and_balancer_port_of_one_number_get_two_groups() {
    let annotations = json!({
        EXPOSE: "https", EXPOSE_NODE_PORTS: "http",
        format!("{SOURCES}.http"): "0.0.0.0/0", format!("{SOURCES}.https"): "10.0.0.0/8",
    });
    let mut service = service("LoadBalancer", &annotations);
    service["spec"]["ports"][1]["port"] = json!(30080);
    let mut svclb = svclb("kube-system");
    svclb["spec"]["containers"][0]["ports"] = json!([host_port(30080)]);
    let found = collect_exposures(&with(vec![svclb], service, vec![]), &Settings::default());
    let [balancer, node_port] = ["Pod", "Service"].map(|port_owner| {
        found.exposures.iter().find(|exposure| exposure.port_owner.kind == port_owner).expect("an exposure")
    });
    assert_eq!(balancer.group.ports, node_port.group.ports);
    assert_ne!(balancer.rules, node_port.rules);
    assert_ne!(balancer.group, node_port.group);
}

#[test]
fn service_lb_labels_count_only_in_its_namespace() {
    let expose = json!({ EXPOSE: "http" });
    assert_eq!(served(&expose, &json!([]), "shop").exposures.len(), 1, "k3s before 1.23");
    let claimed = served(&expose, &json!([]), "elsewhere");
    assert!(rejection(&claimed).starts_with("NotServiceLb Pod elsewhere/svclb-web"), "{claimed:?}");
    let settings = Settings { service_lb_namespace: "elsewhere".to_owned(), ..Settings::default() };
    let index = with(vec![svclb("elsewhere")], service("LoadBalancer", &expose), vec![]);
    assert_eq!(collect_exposures(&index, &settings).exposures.len(), 1);
    let index = with(vec![svclb("kube-system")], service("NodePort", &json!({})), vec![]);
    assert_eq!(
        collect_exposures(&index, &Settings::default()),
        Collected::default(),
        "it is a balancer's no more"
    );
}

#[test]
fn invalid_balancer_is_reported_on_service_and_pods() {
    let found = served(&json!({ EXPOSE: "smtp" }), &json!([]), "kube-system");
    assert!(found.exposures.is_empty());
    for kind in ["Service", "Pod"] {
        let is_reported =
            |problem: &Problem| problem.object.kind == kind && problem.message.contains("\"smtp\"");
        assert!(found.problems.iter().any(is_reported), "{kind}: {:?}", found.problems);
    }
}
