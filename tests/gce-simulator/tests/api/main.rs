//! The simulated API, call by call: what it accepts, refuses and does.

mod calls;
mod rules;
mod steering;

use std::net::Ipv4Addr;
use std::time::Duration;

use gce_simulator::{Cloud, Instance, Simulator};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

const NETWORK: &str = "projects/demo/global/networks/main";
const RULES: &str = "projects/demo/global/firewalls";

/// A running simulator with a client
struct Api {
    simulator: Simulator,
    client: reqwest::Client,
}

impl Api {
    /// Starts a simulator with one project, a network and two instances; operations end at once.
    async fn start() -> Self {
        let cloud = Cloud::default();
        cloud.configure(|settings| settings.operation_delay = Duration::ZERO);
        cloud.add_network("demo", "main");
        for number in 0..2 {
            let (name, address) = (format!("node-{number}"), Ipv4Addr::new(10, 0, 0, 10 + number));
            cloud.add_instance(Instance::new("demo", "zone-a", &name, NETWORK, address));
        }
        let simulator = Simulator::start(cloud).await.expect("a free port");
        Self { simulator, client: reqwest::Client::builder().no_proxy().build().expect("a client") }
    }

    fn cloud(&self) -> &Cloud {
        self.simulator.cloud()
    }

    fn request(&self, verb: Method, path: &str) -> RequestBuilder {
        let url = format!("{}/compute/v1/{path}", self.simulator.url());
        self.client.request(verb, url).bearer_auth("token")
    }

    /// Calls a method, and returns the answer's status and body.
    async fn call(&self, verb: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.request(verb, path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.expect("an answer");
        (answer.status().as_u16(), answer.json().await.expect("JSON"))
    }

    async fn insert(&self, rule: Value) -> (u16, Value) {
        self.call(Method::POST, RULES, Some(rule)).await
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.call(Method::GET, path, None).await
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let violations = self.cloud().violations();
        assert!(violations.is_empty() || std::thread::panicking(), "{violations:?}");
    }
}

/// Returns a firewall rule with these fields changed or added.
#[expect(clippy::needless_pass_by_value, reason = "callers build the value in place")]
fn rule(name: &str, change: Value) -> Value {
    let mut rule = json!({
        "name": name,
        "network": NETWORK,
        "allowed": [{ "IPProtocol": "tcp", "ports": ["80"] }],
        "sourceRanges": ["192.0.2.0/24"],
    });
    for (field, value) in change.as_object().expect("fields") {
        rule[field] = value.clone();
    }
    rule
}

/// Returns an answer's status and the reason of its error.
fn reason(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["error"]["errors"][0]["reason"].as_str().unwrap_or("none"))
}
