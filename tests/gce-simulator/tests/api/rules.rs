//! Firewall rules: which are refused and accepted, and when they become visible.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{Api, NETWORK, RULES, reason, rule};

#[tokio::test]
async fn invalid_rule_is_refused() {
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
async fn rule_at_every_limit_is_accepted() {
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
    assert!(rules.values().all(|rule| rule["id"] != "7"), "a field that only the service writes is ignored");
}

#[tokio::test]
async fn patch_merges_and_update_replaces() {
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
async fn rule_appears_when_its_operation_ends() {
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
async fn repeated_request_id_returns_the_first_operation() {
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
async fn admitted_traffic_follows_targets_priorities_and_denials() {
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
