//! The kind `HostPortExposure`: what the API server admits of it, and what it opens.

use std::time::Duration;

use firewall_core::testing::conformance::rule;
use gce_simulator::{Fault, FaultKind};
use hostport_firewall::k8s::host_port_exposure::HostPortExposure;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use crate::cluster::{Cluster, pod};
use crate::mistakes::{NOT_PORTS, NOT_SOURCES};
use crate::patience::{looking_every, until};
use crate::process::root;
use crate::world::{CLUSTER, Mode, World};

/// A `HostPortExposure` called `web`.
pub(crate) fn exposure(spec: &Value) -> Value {
    json!({
        "apiVersion": "hostport-firewall.dev/v1alpha1",
        "kind": "HostPortExposure",
        "metadata": { "name": "web", "namespace": "default" },
        "spec": spec,
    })
}

fn web(name: &str, node: &str, label: &str) -> Value {
    let ports = json!([
        { "name": "http", "containerPort": 80, "hostPort": 80 },
        { "name": "metrics", "containerPort": 9100, "hostPort": 9100 },
    ]);
    let mut pod = pod(name, node, json!({}), ports);
    pod["metadata"]["labels"] = json!({ "app": label });
    pod
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn an_object_opens_ports_of_the_pods_that_it_selects() {
    let world = World::start(Mode::Destination, 2).await;
    let [a, b] = &world.machines[..] else { panic!("two machines") };
    world.cluster.apply(&root().join("deploy/crd.yaml")).await;
    let _controller = world.controller(&[]);
    let selector = json!({ "matchLabels": { "app": "web" } });
    let sources = |ranges: &[&str]| json!({ "podSelector": selector, "ports": [{ "port": "http" }], "sourceRanges": ranges });
    world.cluster.create(exposure(&sources(&["192.0.2.0/24"]))).await;
    world.cluster.run(web("web", &a.name, "web")).await;
    world.cluster.run(web("other", &b.name, "other")).await;
    world.opens(a, &["tcp/80 192.0.2.0/24"]).await;
    world.opens(b, &[]).await;
    let status = becomes(&world, "Programmed", "True", "Programmed").await;
    assert_eq!((&status["ports"], &status["nodeCount"]), (&json!("tcp/80"), &json!(1)));
    assert_eq!(status["nodes"][0]["name"], json!(a.name));
    let opened_by = status["nodes"][0]["resources"][0].as_str().expect("what opens it");
    assert!(opened_by.starts_with("firewall rule hpf-"), "{opened_by}");
    assert_eq!(status["addresses"], json!([]), "no pod is ready");
    world.cluster.ready("web").await;
    let status = has_addresses(&world, 2).await;
    assert_eq!(status["addresses"][0]["address"], json!(a.address()));

    for (kind, name) in [("Pod", "web"), ("HostPortExposure", "web")] {
        let told = world.cluster.event(kind, name, &format!("tcp/80 open on node {}", a.name)).await;
        assert!(told.contains("firewall rule hpf-"), "{told}");
    }

    world.cluster.create(exposure(&sources(&["198.51.100.0/24"]))).await;
    world.opens(a, &["tcp/80 198.51.100.0/24"]).await;
    let absent = json!({ "podSelector": selector, "ports": [{ "port": "absent" }] });
    world.cluster.create(exposure(&absent)).await;
    world.opens(a, &[]).await;
    world.cluster.event("HostPortExposure", "web", "http (80/tcp)").await;
    world.cluster.event("HostPortExposure", "web", &format!("tcp/80 closed on node {}", a.name)).await;
    let status = becomes(&world, "Accepted", "False", "InvalidExposure").await;
    assert_eq!(
        (&status["nodeCount"], &status["conditions"][0]["observedGeneration"]),
        (&json!(0), &json!(3))
    );

    world.google().cloud().deny("*", "compute.firewalls.create");
    world.cluster.create(exposure(&sources(&["192.0.2.0/24"]))).await;
    becomes(&world, "Programmed", "False", "PermissionDenied").await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn an_edit_of_ports_closes_nothing_that_is_still_asked_for() {
    let world = World::start(Mode::Destination, 1).await;
    let [machine] = &world.machines[..] else { panic!("a machine") };
    world.cluster.apply(&root().join("deploy/crd.yaml")).await;
    let _controller = world.controller(&[]);
    let asking = |ports: Value| {
        let selector = json!({ "matchLabels": { "app": "web" } });
        exposure(&json!({ "podSelector": selector, "ports": ports, "sourceRanges": ["192.0.2.0/24"] }))
    };
    world.cluster.create(asking(json!([{ "port": "http" }]))).await;
    world.cluster.run(web("web", &machine.name, "web")).await;
    world.opens(machine, &["tcp/80 192.0.2.0/24"]).await;
    // Other ports are another rule. Enough that its insertion fails in the first pass, and in the next.
    let (status, reason, message) = (503, "backendError".to_owned(), "try again".to_owned());
    let kind = FaultKind::Error { status, reason, message };
    world.google().cloud().inject(Fault { method: "compute.firewalls.insert".to_owned(), times: 6, kind });
    world.cluster.create(asking(json!([{ "port": "http" }, { "port": "metrics" }]))).await;
    let (former, both) =
        (rule("tcp/80 192.0.2.0/24"), ["tcp/80 192.0.2.0/24", "tcp/9100 192.0.2.0/24"].map(rule));
    looking_every(Duration::from_millis(2), "both ports are open", async || {
        let open = world.open(machine).await;
        assert!(open.iter().any(|rule| *rule == former), "the port was closed meanwhile: {open}");
        if open == both.into_iter().collect() { Ok(()) } else { Err(open.to_string()) }
    })
    .await;
    let failed = world.google().cloud().requests();
    let failed = failed.iter().filter(|request| request.method == "compute.firewalls.insert").count();
    assert!(failed > 6, "the insertion failed meanwhile: {failed}");
    world.cluster.event("Pod", "web", "try again").await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn a_security_group_is_named_with_the_id_that_ec2_gave_it() {
    let world = World::start(Mode::Attach, 1).await;
    let [a] = &world.machines[..] else { panic!("one machine") };
    world.cluster.apply(&root().join("deploy/crd.yaml")).await;
    let _controller = world.controller(&[]);
    let selector = json!({ "matchLabels": { "app": "web" } });
    world.cluster.create(exposure(&json!({ "podSelector": selector, "ports": [{ "port": "http" }] }))).await;
    world.cluster.run(web("web", &a.name, "web")).await;
    let status = becomes(&world, "Programmed", "True", "Programmed").await;
    let [id] = &world.amazon().owned_groups(CLUSTER).await[..] else { panic!("one group") };
    let resources = status["nodes"][0]["resources"].as_array().expect("what opens it");
    assert!(resources.iter().any(|one| one.as_str().is_some_and(|one| one.ends_with(&format!("({id})")))));
    for (kind, name) in [("Pod", "web"), ("HostPortExposure", "web")] {
        let told = world.cluster.event(kind, name, &format!("tcp/80 open on node {}", a.name)).await;
        assert!(told.contains(&format!("({id})")), "{told}");
    }
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn an_address_leaves_the_status_before_the_firewall_closes() {
    let world = World::start(Mode::Destination, 1).await;
    let [a] = &world.machines[..] else { panic!("one machine") };
    world.cluster.apply(&root().join("deploy/crd.yaml")).await;
    let _controller = world.controller(&[]);
    let selector = json!({ "matchLabels": { "app": "web" } });
    world.cluster.create(exposure(&json!({ "podSelector": selector, "ports": [{ "port": "http" }] }))).await;
    world.cluster.run(web("web", &a.name, "web")).await;
    world.cluster.ready("web").await;
    has_addresses(&world, 2).await;
    let kind = FaultKind::SlowOperation(Duration::from_secs(15));
    let method = "compute.firewalls.delete".to_owned();
    world.google().cloud().inject(Fault { method, times: 1, kind });
    world.cluster.stop("web").await;
    has_addresses(&world, 0).await;
    assert!(!world.open(a).await.is_empty(), "the address left before the firewall closed");
    world.opens(a, &[]).await;
}

/// Waits until the status fits, and returns it.
async fn status(world: &World, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
    let api: Api<HostPortExposure> = Api::namespaced(world.cluster.client.clone(), "default");
    until(what, async || {
        let found = json!(api.get("web").await.expect("the exposure").status);
        if fits(&found) { Ok(found) } else { Err(format!("{found:#}")) }
    })
    .await
}

/// Waits until a condition has this status and reason, and returns the whole status.
pub(crate) async fn becomes(world: &World, kind: &str, value: &str, reason: &str) -> Value {
    let fits = |condition: &Value| {
        condition["type"] == *kind && condition["status"] == *value && condition["reason"] == *reason
    };
    let what = format!("{kind} becomes {value} for {reason}");
    status(world, &what, |status| status["conditions"].as_array().is_some_and(|all| all.iter().any(fits)))
        .await
}

/// Waits until the status has this many addresses, and returns all of it.
async fn has_addresses(world: &World, count: usize) -> Value {
    let fits = |status: &Value| status["addresses"].as_array().is_some_and(|all| all.len() == count);
    status(world, &format!("there are {count} addresses"), fits).await
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn the_api_server_refuses_what_the_controller_would_refuse_later() {
    let cluster = Cluster::start().await;
    cluster.apply(&root().join("deploy/crd.yaml")).await;
    let selector = json!({ "matchLabels": { "app": "web" } });
    let like = json!({ "matchExpressions": [{ "key": "app", "operator": "Like", "values": ["web"] }] });
    let port = |port: Value| json!({ "podSelector": selector, "ports": [{ "port": port }] });
    let sources = |range: &str| json!({ "podSelector": selector, "ports": [{ "port": "http" }], "sourceRanges": [range] });
    let hostname =
        |name: &str| json!({ "podSelector": selector, "ports": [{ "port": "http" }], "hostname": name });
    let own = |range: &str| json!({ "podSelector": selector, "ports": [{ "port": "http", "sourceRanges": [range] }] });
    let good = [
        port(json!(80)),
        port(json!(65535)),
        port(json!("http")),
        port(json!("80")),
        port(json!("30000-30100")),
        sources("10.0.0.0/8"),
        sources("2001:db8::/32"),
        own("0.0.0.0/0"),
        hostname("arena.games.example.com"),
        hostname(&format!("{}.example.com", "a".repeat(63))),
        json!({ "podSelector": { "matchExpressions": [{ "key": "a", "operator": "Exists" }] }, "ports": [{ "port": 1 }] }),
    ];
    let bad = [
        (port(json!(0)), "1 to 65535"),
        (port(json!(65536)), "1 to 65535"),
        (port(json!("0")), "1 to 65535"),
        (port(json!("70000")), "1 to 65535"),
        (port(json!("30100-30000")), "lower to its higher"),
        (port(json!("1-70000")), "lower to its higher"),
        (port(json!("UPPER")), "range such as"),
        (port(json!("80-90-100")), "range such as"),
        (sources("10.0.0.0/33"), "not a CIDR"),
        (sources("10.0.0.1"), "not a CIDR"),
        (sources("10.0.0.1/8"), "behind its prefix"),
        (own("2001:db8::1/32"), "behind its prefix"),
        (hostname("Arena.example.com"), "hostname"),
        (hostname("localhost"), "hostname"),
        (hostname("*.example.com"), "hostname"),
        (hostname(&format!("{}.example.com", "a".repeat(64))), "hostname"),
        (json!({ "podSelector": like, "ports": [{ "port": 80 }] }), "DoesNotExist"),
        (json!({ "podSelector": selector, "nodeSelector": like, "ports": [{ "port": 80 }] }), "DoesNotExist"),
        (json!({ "podSelector": {}, "ports": [{ "port": 80 }] }), "every pod"),
        (json!({ "podSelector": { "matchLabels": {} }, "ports": [{ "port": 80 }] }), "every pod"),
        (json!({ "podSelector": selector, "ports": [] }), "at least 1"),
        (json!({ "podSelector": selector, "ports": [{ "port": 80, "protocol": "ICMP" }] }), "ICMP"),
        (json!({ "podSelector": selector, "ports": [{ "port": 80 }], "sourceRanges": [] }), "at least 1"),
        (json!({ "ports": [{ "port": 80 }] }), "podSelector"),
    ];
    let kind = GroupVersionKind::gvk("hostport-firewall.dev", "v1alpha1", "HostPortExposure");
    let api: Api<DynamicObject> =
        Api::namespaced_with(cluster.client.clone(), "default", &ApiResource::from_gvk(&kind));
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let create = async |spec: &Value| {
        let object: DynamicObject = serde_json::from_value(exposure(spec)).expect("an object");
        api.create(&dry, &object).await.map_err(|error| error.to_string())
    };
    for spec in good {
        assert!(create(&spec).await.is_ok(), "{spec}: {:?}", create(&spec).await);
    }
    // What an annotation refuses is no better here. A name that no container has is a name.
    let letters = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    let is_name =
        |text: &str| text.len() <= 15 && letters(text) && text.bytes().any(|byte| byte.is_ascii_lowercase());
    for text in NOT_PORTS {
        assert_eq!(create(&port(json!(text))).await.is_ok(), is_name(text), "port {text:?}");
    }
    for text in NOT_SOURCES {
        assert!(
            create(&sources(text)).await.is_err() && create(&own(text)).await.is_err(),
            "source {text:?}"
        );
    }
    for (spec, part) in bad {
        let error = create(&spec).await.expect_err("it is refused");
        assert!(error.contains(part), "{spec}: {error}");
    }
}
