//! Lists, fingerprints, permissions and quotas.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{Api, NETWORK, RULES, reason, rule};

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
async fn tags_are_set_only_with_their_current_fingerprint() {
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
async fn method_names_its_missing_permission() {
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
async fn excess_anonymous_and_unknown_requests_are_refused() {
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
    let anonymous = api.client.get(url).send().await.expect("an answer");
    assert_eq!(anonymous.status(), 401);
}
