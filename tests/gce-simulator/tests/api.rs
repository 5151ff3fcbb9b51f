//! What the simulated API accepts, refuses and does, call by call.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use gce_simulator::{Cloud, Fault, FaultKind, Machine, Simulator};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

const NETWORK: &str = "projects/demo/global/networks/main";
const RULES: &str = "projects/demo/global/firewalls";

struct Api {
    simulator: Simulator,
    client: reqwest::Client,
}

impl Api {
    /// One project with a network and two instances, whose operations end at once.
    async fn start() -> Self {
        let cloud = Cloud::default();
        cloud.configure(|settings| settings.operation_delay = Duration::ZERO);
        cloud.add_network("demo", "main");
        for number in 0..2 {
            let (name, address) = (format!("node-{number}"), Ipv4Addr::new(10, 0, 0, 10 + number));
            cloud.add_instance(Machine::new("demo", "zone-a", &name, NETWORK, address));
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

    /// The answer's status and body.
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

fn reason(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["error"]["errors"][0]["reason"].as_str().unwrap_or("none"))
}

#[tokio::test]
async fn a_rule_that_google_would_refuse_is_refused() {
    let api = Api::start().await;
    let ranges =
        |count: u32| (0..count).map(|n| format!("{}/32", Ipv4Addr::from(n << 8))).collect::<Vec<_>>();
    let tags = |count: u32| (0..count).map(|n| format!("t{n}")).collect::<Vec<_>>();
    let ports = |ports: Value| json!({ "allowed": [{ "IPProtocol": "tcp", "ports": ports }] });
    let allowed =
        |protocol: &str, ports: Value| json!({ "allowed": [{ "IPProtocol": protocol, "ports": ports }] });
    let refused = [
        (json!({ "unknown": 1 }), "badRequest"),
        (json!({ "allowed": [{ "IPProtocol": "tcp", "port": "80" }] }), "badRequest"),
        (json!({ "priority": "high" }), "badRequest"),
        (json!({ "direction": "SIDEWAYS" }), "badRequest"),
        (json!({ "sourceRanges": "10.0.0.0/8" }), "badRequest"),
        (json!({ "name": "Web" }), "invalid"),
        (json!({ "name": "a".repeat(64) }), "invalid"),
        (json!({ "priority": 65536 }), "invalid"),
        (json!({ "priority": -1 }), "invalid"),
        (json!({ "description": "x".repeat(2049) }), "invalid"),
        (json!({ "allowed": [] }), "invalid"),
        (json!({ "denied": [{ "IPProtocol": "tcp" }] }), "invalid"),
        (allowed("smtp", json!([])), "invalid"),
        (allowed("256", json!([])), "invalid"),
        (allowed("icmp", json!(["80"])), "invalid"),
        (ports(json!(["65536"])), "invalid"),
        (ports(json!(["90-80"])), "invalid"),
        (ports(json!(["http"])), "invalid"),
        (ports(json!((0..101).map(|port| port.to_string()).collect::<Vec<_>>())), "invalid"),
        (json!({ "sourceRanges": ["10.0.0.0/33"] }), "invalid"),
        (json!({ "sourceRanges": ["10.0.0.1/8"] }), "invalid"),
        (json!({ "sourceRanges": ["10.0.0.0/8", "2001:db8::/32"] }), "invalid"),
        (json!({ "destinationRanges": ["2001:db8::1/128"] }), "invalid"),
        (json!({ "sourceRanges": ranges(257) }), "invalid"),
        (json!({ "destinationRanges": ranges(257) }), "invalid"),
        (json!({ "targetTags": tags(71) }), "invalid"),
        (json!({ "sourceTags": tags(31) }), "invalid"),
        (json!({ "targetTags": ["Web"] }), "invalid"),
        (json!({ "targetTags": ["web"], "targetServiceAccounts": ["a@b"] }), "invalid"),
        (json!({ "direction": "EGRESS", "sourceTags": ["web"] }), "invalid"),
        (json!({ "network": "main" }), "invalid"),
        (json!({ "network": "projects/other/global/networks/main" }), "invalid"),
    ];
    for (change, expected) in refused {
        let answer = api.insert(rule("refused", change.clone())).await;
        assert_eq!(reason(&answer), (400, expected), "{change}: {answer:?}");
    }
    let absent = api.insert(rule("refused", json!({ "network": "global/networks/absent" }))).await;
    assert_eq!(reason(&absent), (404, "notFound"));
    assert_eq!(api.cloud().firewalls("demo").len(), 0);
}

#[tokio::test]
async fn a_rule_at_every_limit_is_taken() {
    let api = Api::start().await;
    let ranges: Vec<String> = (0..256_u32).map(|n| format!("{}/32", Ipv4Addr::from(n << 8))).collect();
    let change = json!({
        "name": format!("a{}z", "-".repeat(61)),
        "network": "https://www.googleapis.com/compute/v1/projects/demo/global/networks/main",
        "allowed": [{ "IPProtocol": "TCP", "ports": (0..100).map(|port| port.to_string()).collect::<Vec<_>>() }],
        "sourceRanges": ranges, "destinationRanges": ranges,
        "targetTags": (0..70).map(|n| format!("t{n}")).collect::<Vec<_>>(),
        "priority": 65535, "description": "ö".repeat(2048),
        "id": "seven",
    });
    assert_eq!(api.insert(rule("x", change.clone())).await.0, 400, "an id is a number");
    let mut change = change;
    change["id"] = json!("7");
    let (status, operation) = api.insert(rule("x", change)).await;
    assert_eq!((status, &operation["status"]), (200, &json!("DONE")), "{operation}");
    let rules = api.cloud().firewalls("demo");
    assert_eq!(rules.len(), 1);
    assert!(rules.values().all(|rule| rule["id"] != "7"), "what only the service writes is ignored");
}

#[tokio::test]
async fn a_patch_merges_and_an_update_replaces() {
    let api = Api::start().await;
    let full = json!({ "destinationRanges": ["10.0.0.10/32"], "targetTags": ["web"], "priority": 7 });
    api.insert(rule("web", full)).await;
    let path = format!("{RULES}/web");
    let changes = json!({ "targetTags": null, "destinationRanges": ["10.0.0.11/32"] });
    assert_eq!(api.call(Method::PATCH, &path, Some(changes)).await.0, 200);
    let patched = api.get(&path).await.1;
    assert_eq!((patched.get("targetTags"), &patched["priority"]), (None, &json!(7)));
    assert_eq!(patched["destinationRanges"], json!(["10.0.0.11/32"]));

    assert_eq!(api.call(Method::PUT, &path, Some(rule("web", json!({})))).await.0, 200);
    let updated = api.get(&path).await.1;
    assert_eq!((updated.get("destinationRanges"), &updated["priority"]), (None, &json!(1000)));
    assert_eq!(updated["id"], patched["id"]);

    api.cloud().add_network("demo", "other");
    for change in [
        json!({ "name": "other" }),
        json!({ "network": "global/networks/other" }),
        json!({ "direction": "EGRESS" }),
    ] {
        let answer = api.call(Method::PATCH, &path, Some(change.clone())).await;
        assert_eq!(reason(&answer), (400, "invalid"), "{change}");
    }
}

#[tokio::test]
async fn a_rule_shows_when_its_operation_has_ended_and_not_before() {
    let api = Api::start().await;
    api.cloud().configure(|settings| settings.operation_delay = Duration::from_millis(400));
    let (_, operation) = api.insert(rule("web", json!({}))).await;
    assert_eq!(operation["status"], "RUNNING");
    let path = format!("{RULES}/web");
    assert_eq!(reason(&api.get(&path).await), (404, "notFound"));
    assert_eq!(reason(&api.insert(rule("web", json!({}))).await), (409, "alreadyExists"));
    assert_eq!(reason(&api.call(Method::DELETE, &path, None).await), (400, "resourceNotReady"));
    let wait =
        format!("projects/demo/global/operations/{}/wait", operation["name"].as_str().expect("a name"));
    assert_eq!(api.call(Method::POST, &wait, None).await.1["status"], "DONE");
    assert_eq!(api.get(&path).await.0, 200);

    api.call(Method::DELETE, &path, None).await;
    for verb in [Method::PATCH, Method::DELETE] {
        let body = (verb == Method::PATCH).then(|| json!({ "priority": 1 }));
        assert_eq!(reason(&api.call(verb, &path, body).await), (400, "resourceNotReady"));
    }
    api.cloud().configure(|settings| settings.visible_while_pending = true);
    api.insert(rule("seen", json!({}))).await;
    assert_eq!(api.get(&format!("{RULES}/seen")).await.0, 200);
    assert_eq!(
        reason(&api.call(Method::DELETE, &format!("{RULES}/seen"), None).await),
        (400, "resourceNotReady")
    );
}

#[tokio::test]
async fn the_same_request_id_is_the_same_request() {
    let api = Api::start().await;
    let path = |id: &str| format!("{RULES}?requestId={id}");
    let once = path("6f8b4e0a-53e5-4d84-9d21-3a3a1c8b0f10");
    let first = api.call(Method::POST, &once, Some(rule("web", json!({})))).await;
    let again = api.call(Method::POST, &once, Some(rule("web", json!({})))).await;
    assert_eq!((first.0, &first.1["name"]), (200, &again.1["name"]));
    for id in ["00000000-0000-0000-0000-000000000000", "once"] {
        let answer = api.call(Method::POST, &path(id), Some(rule("other", json!({})))).await;
        assert_eq!(reason(&answer), (400, "invalid"), "{id}");
    }
}

#[tokio::test]
async fn lists_are_paged_filtered_and_partial() {
    let api = Api::start().await;
    for name in ["a", "b", "c"] {
        api.insert(rule(name, json!({}))).await;
    }
    let (mut names, mut token) = (Vec::new(), String::new());
    for _ in 0..3 {
        let page = api.get(&format!("{RULES}?maxResults=1&pageToken={token}")).await.1;
        names.push(page["items"][0]["name"].clone());
        token = page["nextPageToken"].as_str().unwrap_or_default().to_owned();
    }
    assert_eq!((names, token.as_str()), (vec![json!("a"), json!("b"), json!("c")], ""));
    let filtered = api.get(&format!("{RULES}?filter=name%20eq%20%22a%7Cb%22&fields=items/name")).await.1;
    assert_eq!(filtered, json!({ "items": [{ "name": "a" }, { "name": "b" }] }));
    for query in [
        "maxResults=501",
        "maxResults=-1",
        "filter=name",
        "pageToken=x",
        "orderBy=size",
        "fields=a(",
        "nope=1",
    ] {
        assert_eq!(api.get(&format!("{RULES}?{query}")).await.0, 400, "{query}");
    }
    let scopes = api.get("projects/demo/aggregated/instances?maxResults=1").await.1;
    assert_eq!(scopes["items"]["zones/zone-a"]["instances"].as_array().map(Vec::len), Some(1));
    assert!(scopes["nextPageToken"].is_string());
}

#[tokio::test]
async fn tags_are_set_only_with_the_fingerprint_that_they_have() {
    let api = Api::start().await;
    let instance = "projects/demo/zones/zone-a/instances/node-0";
    let fingerprint = api.get(instance).await.1["tags"]["fingerprint"].clone();
    let set = format!("{instance}/setTags");
    let tags =
        |items: Value, fingerprint: &Value| Some(json!({ "items": items, "fingerprint": fingerprint }));
    assert_eq!(api.call(Method::POST, &set, tags(json!(["web"]), &fingerprint)).await.0, 200);
    assert_eq!(api.cloud().tags("demo", "zone-a", "node-0"), BTreeSet::from(["web".to_owned()]));
    let stale = api.call(Method::POST, &set, tags(json!([]), &fingerprint)).await;
    assert_eq!(reason(&stale), (412, "conditionNotMet"));
    assert_eq!(
        reason(&api.call(Method::POST, &set, Some(json!({ "items": ["x"] }))).await),
        (412, "conditionNotMet")
    );
    let now = api.get(instance).await.1["tags"]["fingerprint"].clone();
    assert_eq!(api.call(Method::POST, &set, tags(json!(["Web"]), &now)).await.0, 400);
    let many: Vec<String> = (0..65).map(|n| format!("t{n}")).collect();
    assert_eq!(api.call(Method::POST, &set, tags(json!(many), &now)).await.0, 400);

    api.cloud().configure(|settings| settings.fingerprint_conflict_in_operation = true);
    let (status, operation) = api.call(Method::POST, &set, tags(json!([]), &fingerprint)).await;
    assert_eq!((status, &operation["error"]["errors"][0]["code"]), (200, &json!("CONDITION_NOT_MET")));
}

#[tokio::test]
async fn each_method_names_the_permission_that_it_lacks() {
    let api = Api::start().await;
    api.insert(rule("web", json!({}))).await;
    let instance = "projects/demo/zones/zone-a/instances/node-0";
    let tags = Some(json!({ "items": [] }));
    let web = format!("{RULES}/web");
    let cases = [
        (Method::POST, RULES, Some(rule("new", json!({}))), "compute.firewalls.create"),
        (Method::POST, RULES, Some(rule("new", json!({}))), "compute.networks.updatePolicy"),
        (Method::GET, RULES, None, "compute.firewalls.list"),
        (Method::GET, &web, None, "compute.firewalls.get"),
        (Method::PATCH, &web, Some(json!({ "priority": 1 })), "compute.firewalls.update"),
        (Method::PATCH, &web, Some(json!({ "priority": 1 })), "compute.networks.updatePolicy"),
        (Method::PUT, &web, Some(rule("web", json!({}))), "compute.firewalls.update"),
        (Method::DELETE, &web, None, "compute.firewalls.delete"),
        (Method::DELETE, &web, None, "compute.networks.updatePolicy"),
        (Method::GET, instance, None, "compute.instances.get"),
        (Method::GET, "projects/demo/zones/zone-a/instances", None, "compute.instances.list"),
        (Method::GET, "projects/demo/aggregated/instances", None, "compute.instances.list"),
        (
            Method::POST,
            "projects/demo/zones/zone-a/instances/node-0/setTags",
            tags,
            "compute.instances.setTags",
        ),
        (Method::GET, NETWORK, None, "compute.networks.get"),
        (Method::GET, "projects/demo/global/operations/x", None, "compute.globalOperations.get"),
        (Method::GET, "projects/demo/zones/zone-a/operations/x", None, "compute.zoneOperations.get"),
    ];
    for (verb, path, body, permission) in cases {
        api.cloud().grant_all();
        api.cloud().deny("demo", permission);
        let answer = api.call(verb.clone(), path, body).await;
        assert_eq!(reason(&answer), (403, "forbidden"), "{verb} {path}");
        let message = answer.1["error"]["message"].as_str().expect("a message");
        assert!(
            message.starts_with(&format!("Required '{permission}' permission for 'projects/demo")),
            "{message}"
        );
    }
    api.cloud().grant_all();
    api.cloud().grant_only("demo", &["compute.firewalls.list"]);
    assert_eq!((api.get(RULES).await.0, api.get(&web).await.0), (200, 403));
    let asked = Some(json!({ "permissions": ["compute.firewalls.list", "compute.firewalls.get"] }));
    let granted = api.call(Method::POST, &format!("{web}/testIamPermissions"), asked).await.1;
    assert_eq!(granted, json!({ "permissions": ["compute.firewalls.list"] }));
}

#[tokio::test]
async fn quotas_strangers_and_unknown_things_are_refused() {
    let api = Api::start().await;
    api.cloud().configure(|settings| settings.firewalls_per_project = 1);
    api.insert(rule("web", json!({}))).await;
    let full = api.insert(rule("more", json!({}))).await;
    assert_eq!(reason(&full), (403, "quotaExceeded"));
    assert_eq!(full.1["error"]["message"], "Quota 'FIREWALLS' exceeded.  Limit: 1.0 globally.");
    for path in [
        "projects/absent/global/firewalls",
        &format!("{RULES}/absent"),
        "projects/demo/global/networks/absent",
    ] {
        assert_eq!(reason(&api.get(path).await), (404, "notFound"), "{path}");
    }
    assert_eq!(reason(&api.get("projects/demo/zones/nowhere/instances").await), (400, "invalid"));
    let url = format!("{}/compute/v1/{RULES}", api.simulator.url());
    let nobody = api.client.get(url).send().await.expect("an answer");
    assert_eq!(nobody.status(), 401);
}

#[tokio::test]
async fn faults_happen_as_often_as_they_were_asked_for() {
    let api = Api::start().await;
    let fault = |kind| Fault { method: "compute.firewalls.insert".to_owned(), times: 1, kind };
    let message = "Rate Limit Exceeded".to_owned();
    api.cloud().inject(fault(FaultKind::Error {
        status: 403,
        reason: "rateLimitExceeded".to_owned(),
        message,
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
        "it took effect, and nobody heard of it"
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
async fn what_is_let_in_follows_targets_priorities_and_denials() {
    let api = Api::start().await;
    let open = || {
        let admitted = api.cloud().admits("demo", "zone-a", "node-0");
        admitted.into_iter().map(|one| (one.firewall, one.denied_in_part_by.len())).collect::<Vec<_>>()
    };
    let put = |rule: Value| api.cloud().put_firewall("demo", &rule).expect("a valid rule");
    put(rule("here", json!({ "destinationRanges": ["10.0.0.10/32"] })));
    put(rule("there", json!({ "destinationRanges": ["10.0.0.11/32"] })));
    put(rule("tagged", json!({ "targetTags": ["web"] })));
    put(rule("off", json!({ "disabled": true })));
    assert_eq!(open(), [("here".to_owned(), 0)]);
    api.cloud().set_tags("demo", "zone-a", "node-0", BTreeSet::from(["web".to_owned()]));
    assert_eq!(open().len(), 2);
    let deny = |priority: i32, sources: &str| {
        json!({
            "name": "deny", "network": NETWORK, "priority": priority, "sourceRanges": [sources],
            "denied": [{ "IPProtocol": "all" }],
        })
    };
    put(deny(1001, "0.0.0.0/0"));
    assert_eq!(open(), [("here".to_owned(), 0), ("tagged".to_owned(), 0)]);
    put(deny(1000, "192.0.2.0/25"));
    assert_eq!(open(), [("here".to_owned(), 1), ("tagged".to_owned(), 1)], "a part of the sources");
    put(deny(1000, "0.0.0.0/0"));
    assert_eq!(open(), [], "deny wins at the same priority");
}

#[tokio::test]
async fn a_test_in_another_language_can_steer_it_over_http() {
    let api = Api::start().await;
    let steer = async |verb: Method, path: &str, body: Value| -> (u16, String) {
        let url = format!("{}/simulator/{path}", api.simulator.url());
        let answer = api.client.request(verb, url).json(&body).send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("a text"))
    };
    let machine =
        Machine::new("new", "zone-b", "node", "projects/new/global/networks/n", Ipv4Addr::LOCALHOST);
    for (verb, path, body) in [
        (Method::POST, "networks", json!({ "project": "new", "name": "n" })),
        (Method::POST, "instances", json!([machine])),
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
    assert!(steer(Method::GET, "requests", json!({})).await.1.contains("compute.firewalls.list"));
    assert_eq!(steer(Method::PATCH, "settings", json!({ "nope": 1 })).await.0, 400);
    assert_eq!(steer(Method::GET, "nope", json!({})).await.0, 404);
}

#[tokio::test]
async fn the_metadata_server_gives_a_token_to_those_who_ask_as_google_says() {
    let api = Api::start().await;
    api.cloud().configure(|settings| settings.project_id = Some("demo".to_owned()));
    let url = format!("{}/computeMetadata/v1/project/project-id", api.simulator.url());
    assert_eq!(api.client.get(&url).send().await.expect("an answer").status(), 403);
    let answer = api.client.get(&url).header("Metadata-Flavor", "Google").send().await.expect("an answer");
    assert_eq!(answer.headers()["Metadata-Flavor"], "Google");
    assert_eq!(answer.text().await.expect("a text"), "demo");
}
