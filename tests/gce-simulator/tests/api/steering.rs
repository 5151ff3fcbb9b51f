//! The steering of the simulator by tests, and the metadata server.

use std::net::Ipv4Addr;

use gce_simulator::{Fault, FaultKind, Instance};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{Api, RULES, reason, rule};

#[tokio::test]
async fn fault_happens_as_often_as_requested() {
    let api = Api::start().await;
    let fault = |kind| Fault { method: "compute.firewalls.insert".to_owned(), times: 1, kind };
    let message = "Rate Limit Exceeded".to_owned();
    api.cloud().inject(fault(FaultKind::Error {
        status: 403,
        reason: "rateLimitExceeded".to_owned(),
        message,
        retry_after: None,
    }));
    assert_eq!(reason(&api.insert(rule("web", json!({}))).await), (403, "rateLimitExceeded"));

    api.cloud().inject(fault(FaultKind::DropResponse));
    let request = api.request(Method::POST, RULES).json(&rule("web", json!({})));
    let lost = match request.send().await {
        Ok(answer) => answer.bytes().await.is_err(),
        Err(_) => true,
    };
    assert!(
        lost && api.cloud().firewalls("demo").contains_key("web"),
        "it took effect, and no answer arrived"
    );

    let message = "it failed".to_owned();
    api.cloud().inject(fault(FaultKind::OperationError {
        status: 400,
        code: "INVALID_USAGE".to_owned(),
        message,
    }));
    let (status, operation) = api.insert(rule("failed", json!({}))).await;
    assert_eq!((status, &operation["error"]["errors"][0]["code"]), (200, &json!("INVALID_USAGE")));
    assert!(!api.cloud().firewalls("demo").contains_key("failed"));
    assert_eq!(api.insert(rule("works", json!({}))).await.0, 200, "and that was all");
    assert_eq!(api.cloud().requests().iter().filter(|request| request.mutating).count(), 4);
}

#[tokio::test]
async fn simulator_is_steered_over_http() {
    let api = Api::start().await;
    let steer = async |verb: Method, path: &str, body: Value| -> (u16, String) {
        let url = format!("{}/simulator/{path}", api.simulator.url());
        let answer = api.client.request(verb, url).json(&body).send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("a text"))
    };
    let instance =
        Instance::new("new", "zone-b", "node", "projects/new/global/networks/n", Ipv4Addr::LOCALHOST);
    for (verb, path, body) in [
        (Method::POST, "networks", json!({ "project": "new", "name": "n" })),
        (Method::POST, "instances", json!([instance])),
        (Method::PUT, "tags/new/zone-b/node", json!(["web"])),
        (Method::PATCH, "settings", json!({ "operationDelay": 5, "firewallsPerProject": 3 })),
        (Method::PUT, "permissions", json!({ "denied": [["new", "compute.firewalls.list"]] })),
        (Method::POST, "faults", json!({ "method": "*", "times": 1, "kind": { "latency": 1 } })),
        (Method::DELETE, "faults", json!({})),
        (Method::PUT, "firewalls/demo", rule("web", json!({}))),
    ] {
        let answer = steer(verb, path, body).await;
        assert_eq!(answer.0, 200, "{path}: {answer:?}");
    }
    assert_eq!(api.cloud().tags("new", "zone-b", "node").len(), 1);
    assert_eq!(api.get("projects/new/global/firewalls").await.0, 403);
    assert!(
        steer(Method::GET, "admits/demo/zone-a/node-0", json!({})).await.1.contains("\"firewall\":\"web\"")
    );
    let calls: Value =
        serde_json::from_str(&steer(Method::GET, "requests", json!({})).await.1).expect("JSON");
    let (call, time) = (&calls[0], |name: &str| calls[0][name].as_i64().expect("a time"));
    assert_eq!(call["method"], "compute.firewalls.list");
    assert!(0 < time("receivedUs") && time("receivedUs") <= time("answeredUs"), "{call}");
    assert_eq!(steer(Method::PATCH, "settings", json!({ "nope": 1 })).await.0, 400);
    assert_eq!(steer(Method::GET, "nope", json!({})).await.0, 404);
}

#[tokio::test]
async fn metadata_server_requires_the_flavor_header() {
    let api = Api::start().await;
    api.cloud().configure(|settings| settings.project_id = Some("demo".to_owned()));
    let url = format!("{}/computeMetadata/v1/project/project-id", api.simulator.url());
    assert_eq!(api.client.get(&url).send().await.expect("an answer").status(), 403);
    let answer = api.client.get(&url).header("Metadata-Flavor", "Google").send().await.expect("an answer");
    assert_eq!(answer.headers()["Metadata-Flavor"], "Google");
    assert_eq!(answer.text().await.expect("a text"), "demo");
}
