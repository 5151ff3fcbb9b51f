//! Holds each snapshot of a series to one that is taken by itself, through random histories.

use std::collections::BTreeMap;
use std::ptr;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::guardrails::file::parse;
use crate::k8s::index::Object;
use crate::k8s::index::shared_index::SharedIndex;
use crate::k8s::objects::builders::{
    annotated, endpoint_slice, from_json, host_port_exposure, named_host_port, object_ref, pod, service,
};
use crate::k8s::problem::{Problem, Verdict};

const VOYAGER: &str = "voyager.appscode.com";

fn ingresses() -> Watch {
    Watch::Ingresses(VOYAGER.to_owned())
}

/// A kind, and three numbers from which one change of an object of that kind follows.
type Change = (usize, usize, usize, usize);

fn namespace_of(number: usize) -> &'static str {
    ["shop", "games"][number % 2]
}

fn set_pod(number: usize, kind: usize, place: usize) -> Object {
    let (name, node) = (format!("pod-{}", number / 2), format!("node-{}", place % 4));
    let port = 80 + u16::try_from(place / 4 % 2).expect("a port");
    let mut object = pod(namespace_of(number), &name, &node, &json!([named_host_port("web", port)]));
    match kind % 7 {
        0 | 1 => object["metadata"]["labels"] = json!({ "app": (["a", "b"][kind % 2]) }),
        2 => object = annotated(object, &json!({ "hostport-firewall.dev/expose": "80" })),
        3 => {
            object["spec"]["containers"][0]["name"] = json!("haproxy");
            object["metadata"]["labels"] = json!({ "origin": "voyager", "origin-name": "web" });
        }
        4 => {
            object["metadata"]["labels"] = json!({
                "svccontroller.k3s.cattle.io/svcname": "web", "svccontroller.k3s.cattle.io/svcnamespace": namespace_of(place),
            });
        }
        5 => object["status"]["phase"] = json!("Succeeded"),
        _ => {
            object["metadata"]["labels"] = json!({ "app": "a" });
            object["spec"]["readinessGates"] = json!([{ "conditionType": "hostport-firewall.dev/open" }]);
        }
    }
    Object::Pod(from_json(object))
}

fn set_node(number: usize, kind: usize, place: usize) -> Object {
    let addresses: &[&str] =
        if place.is_multiple_of(2) { &["10.0.0.1"] } else { &["10.0.0.1", "2001:db8::1"] };
    let id =
        [format!("memory://i-{number}"), format!("memory://j-{number}"), String::new()][kind % 3].clone();
    let mut node = crate::k8s::objects::builders::node(&format!("node-{}", number % 4), &id, addresses);
    node["metadata"]["labels"] = json!({ "zone": (["x", "y"][place / 2 % 2]) });
    node["status"]["conditions"] = json!([{ "type": "Ready", "status": (["True", "False"][kind / 3 % 2]) }]);
    Object::Node(from_json(node))
}

fn set_exposure(number: usize, kind: usize, place: usize) -> Object {
    let mut spec = json!({
        "podSelector": { "matchLabels": { "app": (["a", "b"][kind % 2]) } }, "ports": [{ "port": "web" }],
    });
    match place % 5 {
        0 => spec["nodeSelector"] = json!({ "matchLabels": { "zone": "x" } }),
        1 => spec["sourceRanges"] = json!(["2001:db8::/32"]),
        2 => spec["ports"] = json!([{ "port": "absent" }]),
        3 => spec["podSelector"] = json!({}),
        _ => spec["hostname"] = json!("a.example"),
    }
    let mut exposure = host_port_exposure(namespace_of(number), &format!("x-{}", number / 2), &spec);
    exposure["metadata"]["generation"] = json!(kind);
    Object::HostPortExposure(from_json(exposure))
}

fn set_service(number: usize, kind: usize, place: usize) -> Object {
    let ports = json!([{ "name": "web", "port": 80, "nodePort": 30000 + place % 2 }]);
    let name = if kind % 5 == 4 { "voyager-web" } else { "web" };
    let mut object = service(namespace_of(number), name, ["NodePort", "LoadBalancer"][kind % 2], &ports);
    object["spec"]["externalTrafficPolicy"] = json!(["Cluster", "Local"][place / 2 % 2]);
    let key = ["expose-node-ports", "expose", "expose-node-ports", "misspelt"][kind % 4];
    if kind % 5 == 4 {
        object["metadata"]["labels"] = json!({ "origin": "voyager", "origin-name": "web" });
    } else {
        object = annotated(object, &json!({ format!("hostport-firewall.dev/{key}"): "80" }));
    }
    Object::Service(from_json(object))
}

fn set_slice(number: usize, kind: usize, place: usize) -> Object {
    let endpoint = |node: usize| json!({ "nodeName": format!("node-{}", node % 4), "conditions": { "ready": !kind.is_multiple_of(3) } });
    let endpoints = json!([endpoint(place), endpoint(place / 4)]);
    let service = ["web", "other"][kind / 3 % 2];
    Object::EndpointSlice(from_json(endpoint_slice(
        namespace_of(number),
        service,
        &format!("slice-{}", number / 2),
        &endpoints,
    )))
}

fn set_ingress(number: usize, kind: usize, place: usize) -> Object {
    let rules = json!([{ "http": { "port": ([80, 81, 99_999][place % 3]) } }]);
    let kind = ["HostPort", "NodePort", "LoadBalancer"][kind % 3];
    Object::Ingress(from_json(crate::k8s::objects::builders::ingress(
        namespace_of(number),
        "web",
        kind,
        &rules,
    )))
}

fn set_namespace(number: usize, kind: usize) -> Object {
    let labels = json!({ "may": (["open", "not"][kind % 2]) });
    let metadata = json!({ "name": namespace_of(number), "uid": (kind % 3).to_string(), "labels": labels });
    Object::Namespace(from_json(json!({ "metadata": metadata })))
}

/// Returns the settings of a number; by the second, a namespace's labels decide.
fn settings(number: usize) -> Settings {
    let guardrails = [
        "{}",
        "namespaces: [{selector: {matchLabels: {may: open}}}]",
        "namespaces: [{names: [shop]}]",
        "deniedPorts: [81]",
    ][number % 4];
    let guardrails = parse(guardrails).expect("guardrails");
    Settings { guardrails, external_dns: number % 8 < 4, ..Settings::default() }
}

fn name(object: &Object) -> NamespacedName {
    object.name()
}

fn problem(watch: &Watch, (namespace, name): &NamespacedName) -> Problem {
    let kind = if *watch == Watch::HostPortExposures { "HostPortExposure" } else { "Ingress" };
    Problem::new(object_ref(kind, namespace, name), Verdict::Rejected, "Unreadable", "it is so".to_owned())
}

/// Makes one change.
fn change(index: &mut Index, current: &mut Settings, (kind, number, sort, place): Change) {
    let number_in = |most: usize| number % most;
    let (watch, object) = match kind {
        0..=3 => (Watch::Pods, set_pod(number_in(6), sort, place)),
        4 | 5 => (Watch::Nodes, set_node(number_in(4), sort, place)),
        6 | 7 => (Watch::HostPortExposures, set_exposure(number_in(4), sort, place)),
        8 | 9 => (Watch::Services, set_service(number_in(2), sort, place)),
        10 => (Watch::EndpointSlices, set_slice(number_in(4), sort, place)),
        11 => (ingresses(), set_ingress(number_in(2), sort, place)),
        12 => (Watch::Namespaces, set_namespace(number_in(2), sort)),
        13 => {
            *current = settings(number);
            return;
        }
        _ => {
            let kinds = [
                Watch::Pods,
                Watch::Nodes,
                Watch::Services,
                Watch::EndpointSlices,
                Watch::HostPortExposures,
                ingresses(),
            ];
            let watch = &kinds[number % kinds.len()];
            match sort % 4 {
                0 => _ = index.mark_incomplete(watch.clone(), "it broke".to_owned()),
                1 => _ = index.mark_resumed(watch),
                2 if *watch != Watch::Nodes => _ = index.reset(watch.clone(), Vec::new()),
                _ => _ = index.drop_kind(&ingresses()),
            }
            return;
        }
    };
    match place % 6 {
        0 => _ = index.delete(&watch, &name(&object)),
        1 if matches!(watch, Watch::HostPortExposures | Watch::Ingresses(_)) => {
            let name = name(&object);
            index.mark_unreadable(&watch, name.clone(), problem(&watch, &name));
        }
        _ => _ = index.apply(&watch, object),
    }
}

fn empty_index() -> Index {
    let optional = [Watch::HostPortExposures, ingresses()];
    let mut index = Index::expecting(Watch::ALWAYS.into_iter().chain(optional));
    index.reset(Watch::Nodes, (0..4).map(|number| set_node(number, 0, 1)).collect());
    index.reset(Watch::Namespaces, (0..2).map(|number| set_namespace(number, 0)).collect());
    for watch in [Watch::Pods, Watch::Services, Watch::EndpointSlices, Watch::HostPortExposures, ingresses()]
    {
        index.reset(watch, Vec::new());
    }
    index
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn snapshot_of_a_series_equals_one_taken_by_itself(
        batches in prop::collection::vec(
            prop::collection::vec((0..15_usize, 0..24_usize, 0..24_usize, 0..24_usize), 1..4), 1..40,
        ),
    ) {
        let index = SharedIndex::new(empty_index());
        let (mut series, mut settings) = (Snapshots::default(), Settings::default());
        let mut before: Option<(Arc<Snapshot>, Snapshot)> = None;
        for batch in batches {
            index.update(|index| {
                for one in &batch {
                    change(index, &mut settings, *one);
                }
                true
            });
            let (now, changes) = index.read_changes();
            let alone = Snapshot::take(&now, &settings, Duration::ZERO);
            let found = series.take(now, &changes, &settings, Duration::ZERO);
            let demand = |one: &Snapshot| {
                let ClusterDemand { exposures, generations, pods_with_gate, .. } = one.demand.clone();
                (exposures, generations, pods_with_gate)
            };
            prop_assert_eq!(demand(&found), demand(&alone));
            prop_assert_eq!(&found.problems, &alone.problems);
            prop_assert_eq!(&found.port_owners, &alone.port_owners);
            prop_assert_eq!(&found.fingerprints, &alone.fingerprints);
            prop_assert_eq!(&found.unknown, &alone.unknown);
            prop_assert_eq!(&found.machines, &alone.machines);
            prop_assert_eq!(&found.settings, &alone.settings);
            prop_assert_eq!(&found.why_everything_is_unknown, &alone.why_everything_is_unknown);
            if let Some((before, alone_before)) = before {
                let differs = alone.changes_plan_since(&alone_before);
                prop_assert!(!differs || found.changes_plan_since(&before), "a change of the plan is missed");
            }
            before = Some((found, alone));
        }
    }
}

/// Returns a cluster with a pod on each of 40 nodes; each pod is selected by an exposure, is annotated or
/// Voyager's, or its Service's nodes are exposed.
fn cluster() -> Index {
    let mut index = empty_index();
    for number in 0..40 {
        let node = json!({ "metadata": { "name": format!("node-{number}") }, "spec": { "providerID": format!("memory://{number}") } });
        index.apply(&Watch::Nodes, Object::Node(from_json(node)));
        index.apply(&Watch::Pods, Object::Pod(from_json(pod_on(number, 80))));
    }
    index.apply(&ingresses(), set_ingress(0, 0, 0));
    index.apply(&Watch::HostPortExposures, selecting("x", "a"));
    let service = service("shop", "web", "NodePort", &json!([{ "port": 80, "nodePort": 30000 }]));
    let service = annotated(service, &json!({ "hostport-firewall.dev/expose-node-ports": "80" }));
    index.apply(&Watch::Services, Object::Service(from_json(service)));
    index
}

fn selecting(name: &str, app: &str) -> Object {
    let spec = json!({ "podSelector": { "matchLabels": { "app": app } }, "ports": [{ "port": "web" }] });
    Object::HostPortExposure(from_json(host_port_exposure("shop", name, &spec)))
}

fn pod_on(number: usize, port: u16) -> Value {
    let mut object = pod(
        "shop",
        &format!("pod-{number}"),
        &format!("node-{number}"),
        &json!([named_host_port("web", port)]),
    );
    match number % 4 {
        0 => object["metadata"]["labels"] = json!({ "app": "a" }),
        1 => {
            object["spec"]["containers"][0]["name"] = json!("haproxy");
            object["metadata"]["labels"] = json!({ "origin": "voyager", "origin-name": "web" });
        }
        2 => object = annotated(object, &json!({ "hostport-firewall.dev/expose": "web" })),
        _ => object["metadata"]["labels"] = json!({ "app": "b" }),
    }
    object
}

/// Returns the rules of each exposure, whose address tells whether it has been computed anew.
fn addresses(snapshot: &Snapshot) -> BTreeMap<(String, String, String), *const firewall_core::RuleSet> {
    let address = |exposure: &crate::intents::exposure::Exposure| {
        let owner =
            (exposure.port_owner.to_string(), exposure.intent.to_string(), exposure.node.name.clone());
        let rules: &firewall_core::RuleSet = &exposure.rules;
        (owner, ptr::from_ref(rules))
    };
    snapshot.demand.exposures.iter().map(address).collect()
}

#[test]
fn change_computes_only_what_it_reaches() {
    let other_provider = json!({ "metadata": { "name": "node-8" }, "spec": { "providerID": "memory://8b" } });
    let not_ready = json!({
        "metadata": { "name": "node-8" }, "spec": { "providerID": "memory://8" },
        "status": { "conditions": [{ "type": "Ready", "status": "False" }] },
    });
    let mut ready = pod_on(10, 80);
    ready["status"]["conditions"] = json!([{ "type": "Ready", "status": "True" }]);
    let narrowed = crate::k8s::objects::builders::ingress("shop", "web", "HostPort", &json!([]));
    let narrowed = annotated(narrowed, &json!({ "hostport-firewall.dev/source-ranges": "10.0.0.0/8" }));
    let narrowed = Object::Ingress(from_json(narrowed));
    let unrelated = endpoint_slice("shop", "web", "s", &json!([{ "nodeName": "node-1" }]));
    let table: [(&str, Watch, Object, usize); 8] = [
        ("a pod", Watch::Pods, Object::Pod(from_json(pod_on(10, 81))), 1),
        ("a pod's readiness", Watch::Pods, Object::Pod(from_json(ready)), 0),
        (
            "a node's machine: its pod, and the Service on it",
            Watch::Nodes,
            Object::Node(from_json(other_provider)),
            2,
        ),
        ("a node's readiness", Watch::Nodes, Object::Node(from_json(not_ready)), 0),
        ("an exposure: the ten pods that it selects", Watch::HostPortExposures, selecting("x", "b"), 10),
        ("another exposure", Watch::HostPortExposures, selecting("y", "absent"), 0),
        ("an Ingress: its ten pods", ingresses(), narrowed, 10),
        (
            "endpoints of a Service that every node serves",
            Watch::EndpointSlices,
            Object::EndpointSlice(from_json(unrelated)),
            0,
        ),
    ];
    for (case, watch, object, expected) in table {
        let (index, mut series, settings) =
            (SharedIndex::new(cluster()), Snapshots::default(), Settings::default());
        let mut take = || {
            let (now, changes) = index.read_changes();
            series.take(now, &changes, &settings, Duration::ZERO)
        };
        let before = take();
        assert_eq!(before.demand.exposures.iter().count(), 30 + 40, "three of four pods, and the Service");
        index.update(|index| index.apply(&watch, object));
        let after = take();
        let (then, now) = (addresses(&before), addresses(&after));
        let computed = now.iter().filter(|(owner, rules)| then.get(*owner) != Some(*rules)).count();
        assert_eq!(computed, expected, "{case}");
        assert_eq!(after.changes_plan_since(&before), expected > 0 || case == "another exposure", "{case}");
        let again = take();
        assert!(Arc::ptr_eq(&after, &again), "nothing has changed: {case}");
    }
}
