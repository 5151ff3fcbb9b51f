//! Tests of parsing objects: a whole one, and ones with odd fields.

use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::builders::{from_json, object_ref};
use super::*;

/// As the API server returns it, shortened only where a part repeats.
const WHOLE_POD: &str = r#"{
    "apiVersion": "v1", "kind": "Pod",
    "metadata": {
        "name": "ingress-nginx-x7k2p", "generateName": "ingress-nginx-", "namespace": "ingress",
        "uid": "0c6a7c9e-45a0-4d5c-9b0e-4f0a6a1d2b11", "resourceVersion": "912334", "generation": 1,
        "creationTimestamp": "2026-05-04T09:12:44Z", "deletionTimestamp": "2026-05-04T10:00:00Z",
        "labels": { "app": "ingress-nginx", "controller-revision-hash": "7b9f6" },
        "annotations": {
            "hostport-firewall.dev/expose": "http, https",
            "kubectl.kubernetes.io/last-applied-configuration": "{}",
            "cni.projectcalico.org/podIP": "10.20.0.4/32"
        },
        "ownerReferences": [{
            "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "ingress-nginx", "uid": "5f",
            "controller": true, "blockOwnerDeletion": true
        }],
        "managedFields": [{ "manager": "kubelet", "operation": "Update", "fieldsV1": { "f:status": {} } }]
    },
    "spec": {
        "nodeName": "ip-10-20-0-4", "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet",
        "containers": [{
            "name": "controller", "image": "registry.k8s.io/ingress-nginx/controller:v1.13.0",
            "args": ["/nginx-ingress-controller"], "env": [{ "name": "POD_NAME", "value": "x" }],
            "ports": [
                { "name": "http", "hostPort": 80, "containerPort": 80, "protocol": "TCP" },
                { "name": "https", "hostPort": 443, "containerPort": 443, "protocol": "TCP", "hostIP": "::" }
            ],
            "resources": { "requests": { "cpu": "100m" } }
        }],
        "initContainers": [{ "name": "proxy", "restartPolicy": "Always", "image": "example.invalid/proxy" }],
        "tolerations": [{ "operator": "Exists" }], "volumes": [{ "name": "t", "emptyDir": {} }]
    },
    "status": {
        "phase": "Running", "qosClass": "Burstable", "hostIP": "10.20.0.4", "podIP": "10.20.0.4",
        "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": "2026-05-04T09:12:59Z" }]
    }
}"#;

#[test]
fn only_needed_fields_of_a_whole_pod_are_kept() {
    let pod: Pod = serde_json::from_str(WHOLE_POD).unwrap();
    assert_eq!(pod.spec.node_name.as_deref(), Some("ip-10-20-0-4"));
    assert!(pod.spec.host_network);
    assert_eq!(pod.status.phase.as_deref(), Some("Running"));
    let ports: Vec<_> = pod.spec.containers[0].ports.iter().map(|port| port.host_port).collect();
    assert_eq!(ports, [Some(80), Some(443)]);
    assert_eq!(pod.spec.containers[0].ports[1].host_ip.as_deref(), Some("::"));
    assert_eq!(pod.spec.init_containers[0].restart_policy.as_deref(), Some("Always"));
    let annotations = pod.metadata.annotations.unwrap();
    assert_eq!(annotations.keys().collect::<Vec<_>>(), ["hostport-firewall.dev/expose"]);
    assert_eq!(pod.metadata.owner_references.unwrap()[0].name, "ingress-nginx");
    assert_eq!(pod.metadata.managed_fields, None);
    assert_eq!(pod.metadata.creation_timestamp, None);
}

#[test]
fn absent_and_null_lists_are_empty() {
    let nothing = json!({ "metadata": { "name": "a" } });
    let null = json!({
        "metadata": { "name": "a", "labels": null, "annotations": null, "ownerReferences": null },
        "spec": { "containers": null, "initContainers": null, "rules": null, "loadBalancerSourceRanges": null },
        "status": { "addresses": null },
    });
    let all_null = json!({ "metadata": { "name": "a" }, "spec": null, "status": null });
    for object in [nothing, null, all_null] {
        assert!(from_json::<Pod>(object.clone()).spec.containers.is_empty());
        assert!(from_json::<Node>(object.clone()).status.addresses.is_empty());
        assert!(from_json::<Ingress>(object).spec.rules.is_empty());
    }
    let container: Container = from_json(json!({ "name": "main", "ports": null }));
    assert!(container.ports.is_empty());
}

#[test]
fn number_outside_the_port_range_is_kept() {
    let port: ContainerPort = from_json(json!({ "containerPort": -1, "hostPort": 99999 }));
    assert_eq!((port.container_port, port.host_port), (-1, Some(99999)));
}

#[test]
fn ingress_port_can_be_a_number_a_text_or_anything() {
    let port = |port: Value| {
        let rules = json!([{ "http": { "port": port } }]);
        let ingress: Ingress = from_json(json!({ "metadata": {}, "spec": { "rules": rules } }));
        ingress.spec.rules[0].http.clone().unwrap().port
    };
    assert_eq!(port(json!(8080)), Some(IntOrText::Int(8080)));
    assert_eq!(port(json!("8080")), Some(IntOrText::Text("8080".into())));
    assert_eq!(port(json!(null)), None);
    for odd in [json!({}), json!([80]), json!(80.5), json!(true), json!(u64::MAX)] {
        assert_eq!(port(odd), Some(IntOrText::Other(IgnoredAny)));
    }
}

#[test]
fn object_is_named_by_kind_and_name() {
    assert_eq!(object_ref("Pod", "default", "web").to_string(), "Pod default/web");
    assert_eq!(object_ref("Pod", "", "web").to_string(), "Pod web");
}
