//! The kind `HostPortExposure`: the specs that the API server accepts, and the ports that an object opens.

use std::time::Duration;

use firewall_core::testing::conformance::rule;
use gce_simulator::{Fault, FaultKind};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::environment::{CLUSTER, Mode, TestEnvironment};
use crate::mistakes::{NOT_PORTS, NOT_SOURCES};
use crate::objects::{exposure, pod, web_exposure};
use crate::process::root;
use crate::wait::poll_every;

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
async fn exposure_opens_ports_of_selected_pods() {
    let env = TestEnvironment::start(Mode::Destination, 2).await;
    let [a, b] = &env.machines[..] else { panic!("two machines") };
    env.cluster.apply_file(&root().join("deploy/crd.yaml")).await;
    let _controller = env.start_controller(&[]);
    let http_from = |range: &str| web_exposure(json!([{ "port": "http" }]), &[range]);
    env.cluster.apply(http_from("192.0.2.0/24")).await;
    env.cluster.create_pod(web("web", &a.name, "web")).await;
    env.cluster.create_pod(web("other", &b.name, "other")).await;
    env.wait_until_open(a, &["tcp/80 192.0.2.0/24"]).await;
    env.wait_until_open(b, &[]).await;
    let status = env.cluster.wait_for_condition("Programmed", "True", "Programmed").await;
    assert_eq!((&status["ports"], &status["nodeCount"]), (&json!("tcp/80"), &json!(1)));
    assert_eq!(status["controllers"][0]["nodes"][0]["name"], json!(a.name));
    let opened_by =
        status["controllers"][0]["nodes"][0]["resources"][0].as_str().expect("the opening resources");
    assert!(opened_by.starts_with("firewall rule hpf-"), "{opened_by}");
    assert_eq!(status["controllers"][0]["addresses"], json!([]), "no pod is ready");
    env.cluster.mark_ready("web").await;
    let status = wait_for_addresses(&env, 2).await;
    assert_eq!(status["controllers"][0]["addresses"][0]["address"], json!(a.address()));

    for (kind, name) in [("Pod", "web"), ("HostPortExposure", "web")] {
        let note = env.cluster.wait_for_event(kind, name, &format!("tcp/80 open on node {}", a.name)).await;
        assert!(note.contains("firewall rule hpf-"), "{note}");
    }

    env.cluster.apply(http_from("198.51.100.0/24")).await;
    env.wait_until_open(a, &["tcp/80 198.51.100.0/24"]).await;
    env.cluster.apply(web_exposure(json!([{ "port": "absent" }]), &[])).await;
    env.wait_until_open(a, &[]).await;
    env.cluster.wait_for_event("HostPortExposure", "web", "http (80/tcp)").await;
    env.cluster.wait_for_event("HostPortExposure", "web", &format!("tcp/80 closed on node {}", a.name)).await;
    let status = env.cluster.wait_for_condition("Accepted", "False", "InvalidExposure").await;
    assert_eq!(
        (&status["nodeCount"], &status["conditions"][0]["observedGeneration"]),
        (&json!(0), &json!(3))
    );

    env.gce().cloud().deny("*", "compute.firewalls.create");
    env.cluster.apply(http_from("192.0.2.0/24")).await;
    env.cluster.wait_for_condition("Programmed", "False", "PermissionDenied").await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn port_edit_keeps_still_requested_ports_open() {
    let env = TestEnvironment::start(Mode::Destination, 1).await;
    let [machine] = &env.machines[..] else { panic!("a machine") };
    env.cluster.apply_file(&root().join("deploy/crd.yaml")).await;
    let _controller = env.start_controller(&[]);
    let exposing = |ports: Value| web_exposure(ports, &["192.0.2.0/24"]);
    env.cluster.apply(exposing(json!([{ "port": "http" }]))).await;
    env.cluster.create_pod(web("web", &machine.name, "web")).await;
    env.wait_until_open(machine, &["tcp/80 192.0.2.0/24"]).await;
    // Other ports are another rule; its insertion fails in the first pass, and in the next.
    let (status, reason, message) = (503, "backendError".to_owned(), "try again".to_owned());
    let kind = FaultKind::Error { status, reason, message, retry_after: None };
    env.gce().cloud().inject(Fault { method: "compute.firewalls.insert".to_owned(), times: 6, kind });
    env.cluster.apply(exposing(json!([{ "port": "http" }, { "port": "metrics" }]))).await;
    let (former, both) =
        (rule("tcp/80 192.0.2.0/24"), ["tcp/80 192.0.2.0/24", "tcp/9100 192.0.2.0/24"].map(rule));
    poll_every(Duration::from_millis(2), "both ports are open", async || {
        let open = env.read_open_rules(machine).await;
        assert!(open.iter().any(|rule| *rule == former), "the port was closed meanwhile: {open}");
        if open == both.into_iter().collect() { Ok(()) } else { Err(open.to_string()) }
    })
    .await;
    let failed = env.gce().cloud().requests();
    let failed = failed.iter().filter(|request| request.method == "compute.firewalls.insert").count();
    assert!(failed > 6, "the insertion failed meanwhile: {failed}");
    env.cluster.wait_for_event("Pod", "web", "try again").await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn security_group_is_reported_with_its_ec2_id() {
    let env = TestEnvironment::start(Mode::Attach, 1).await;
    let [a] = &env.machines[..] else { panic!("one machine") };
    env.cluster.apply_file(&root().join("deploy/crd.yaml")).await;
    let _controller = env.start_controller(&[]);
    env.cluster.apply(web_exposure(json!([{ "port": "http" }]), &[])).await;
    env.cluster.create_pod(web("web", &a.name, "web")).await;
    let status = env.cluster.wait_for_condition("Programmed", "True", "Programmed").await;
    let [id] = &env.aws().list_owned_groups(CLUSTER).await[..] else { panic!("one group") };
    let resources =
        status["controllers"][0]["nodes"][0]["resources"].as_array().expect("the opening resources");
    assert!(resources.iter().any(|one| one.as_str().is_some_and(|one| one.ends_with(&format!("({id})")))));
    for (kind, name) in [("Pod", "web"), ("HostPortExposure", "web")] {
        let note = env.cluster.wait_for_event(kind, name, &format!("tcp/80 open on node {}", a.name)).await;
        assert!(note.contains(&format!("({id})")), "{note}");
    }
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn address_leaves_status_before_firewall_closes() {
    let env = TestEnvironment::start(Mode::Destination, 1).await;
    let [a] = &env.machines[..] else { panic!("one machine") };
    env.cluster.apply_file(&root().join("deploy/crd.yaml")).await;
    let _controller = env.start_controller(&[]);
    env.cluster.apply(web_exposure(json!([{ "port": "http" }]), &[])).await;
    env.cluster.create_pod(web("web", &a.name, "web")).await;
    env.cluster.mark_ready("web").await;
    wait_for_addresses(&env, 2).await;
    let kind = FaultKind::SlowOperation(Duration::from_secs(15));
    let method = "compute.firewalls.delete".to_owned();
    env.gce().cloud().inject(Fault { method, times: 1, kind });
    env.cluster.delete_pod("web").await;
    wait_for_addresses(&env, 0).await;
    assert!(!env.read_open_rules(a).await.is_empty(), "the address left before the firewall closed");
    env.wait_until_open(a, &[]).await;
}

/// Waits until the status has this many addresses, and returns all of it.
async fn wait_for_addresses(env: &TestEnvironment, count: usize) -> Value {
    let fits = |status: &Value| {
        status["controllers"][0]["addresses"].as_array().is_some_and(|all| all.len() == count)
    };
    env.cluster.wait_for_exposure_status(&format!("there are {count} addresses"), fits).await
}

fn selector() -> Value {
    json!({ "matchLabels": { "app": "web" } })
}

fn unknown_operator() -> Value {
    json!({ "matchExpressions": [{ "key": "app", "operator": "Like", "values": ["web"] }] })
}

fn with_port(port: &Value) -> Value {
    json!({ "podSelector": selector(), "ports": [{ "port": port }] })
}

fn with_sources(range: &str) -> Value {
    json!({ "podSelector": selector(), "ports": [{ "port": "http" }], "sourceRanges": [range] })
}

fn with_port_sources(range: &str) -> Value {
    json!({ "podSelector": selector(), "ports": [{ "port": "http", "sourceRanges": [range] }] })
}

fn with_hostname(name: &str) -> Value {
    json!({ "podSelector": selector(), "ports": [{ "port": "http" }], "hostname": name })
}

/// Returns specs that are accepted.
fn valid_specs() -> Vec<Value> {
    vec![
        with_port(&json!(80)),
        with_port(&json!(65535)),
        with_port(&json!("http")),
        with_port(&json!("80")),
        with_port(&json!("30000-30100")),
        with_sources("10.0.0.0/8"),
        with_sources("2001:db8::/32"),
        with_port_sources("0.0.0.0/0"),
        with_hostname("arena.games.example.com"),
        with_hostname(&format!("{}.example.com", "a".repeat(63))),
        json!({ "podSelector": { "matchExpressions": [{ "key": "a", "operator": "Exists" }] }, "ports": [{ "port": 1 }] }),
    ]
}

/// Returns specs that are rejected, each with a part of the message.
fn invalid_specs() -> Vec<(Value, &'static str)> {
    vec![
        (with_port(&json!(0)), "1 to 65535"),
        (with_port(&json!(65536)), "1 to 65535"),
        (with_port(&json!("0")), "1 to 65535"),
        (with_port(&json!("70000")), "1 to 65535"),
        (with_port(&json!("30100-30000")), "lower to its higher"),
        (with_port(&json!("1-70000")), "lower to its higher"),
        (with_port(&json!("UPPER")), "range such as"),
        (with_port(&json!("80-90-100")), "range such as"),
        (with_sources("10.0.0.0/33"), "not a CIDR"),
        (with_sources("10.0.0.1"), "not a CIDR"),
        (with_sources("10.0.0.1/8"), "behind its prefix"),
        (with_port_sources("2001:db8::1/32"), "behind its prefix"),
        (with_hostname("Arena.example.com"), "hostname"),
        (with_hostname("localhost"), "hostname"),
        (with_hostname("*.example.com"), "hostname"),
        (with_hostname(&format!("{}.example.com", "a".repeat(64))), "hostname"),
        (json!({ "podSelector": unknown_operator(), "ports": [{ "port": 80 }] }), "DoesNotExist"),
        (
            json!({ "podSelector": selector(), "nodeSelector": unknown_operator(), "ports": [{ "port": 80 }] }),
            "DoesNotExist",
        ),
        (json!({ "podSelector": {}, "ports": [{ "port": 80 }] }), "every pod"),
        (json!({ "podSelector": { "matchLabels": {} }, "ports": [{ "port": 80 }] }), "every pod"),
        (json!({ "podSelector": selector(), "ports": [] }), "at least 1"),
        (json!({ "podSelector": selector(), "ports": [{ "port": 80, "protocol": "ICMP" }] }), "ICMP"),
        (json!({ "podSelector": selector(), "ports": [{ "port": 80 }], "sourceRanges": [] }), "at least 1"),
        (json!({ "ports": [{ "port": 80 }] }), "podSelector"),
    ]
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn api_server_rejects_what_the_controller_would_reject() {
    let cluster = Cluster::start().await;
    cluster.apply_file(&root().join("deploy/crd.yaml")).await;
    let kind = GroupVersionKind::gvk("hostport-firewall.dev", "v1alpha1", "HostPortExposure");
    let api: Api<DynamicObject> =
        Api::namespaced_with(cluster.client.clone(), "default", &ApiResource::from_gvk(&kind));
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let create = async |spec: &Value| {
        let object: DynamicObject = serde_json::from_value(exposure(spec)).expect("an object");
        api.create(&dry, &object).await.map_err(|error| error.to_string())
    };
    for spec in valid_specs() {
        assert!(create(&spec).await.is_ok(), "{spec}: {:?}", create(&spec).await);
    }
    // What is malformed in an annotation is malformed here. A name that no container has is still a name.
    let letters = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    let is_name =
        |text: &str| text.len() <= 15 && letters(text) && text.bytes().any(|byte| byte.is_ascii_lowercase());
    for text in NOT_PORTS {
        assert_eq!(create(&with_port(&json!(text))).await.is_ok(), is_name(text), "port {text:?}");
    }
    for text in NOT_SOURCES {
        assert!(
            create(&with_sources(text)).await.is_err() && create(&with_port_sources(text)).await.is_err(),
            "source {text:?}"
        );
    }
    for (spec, part) in invalid_specs() {
        let error = create(&spec).await.expect_err("it is rejected");
        assert!(error.contains(part), "{spec}: {error}");
    }
}
