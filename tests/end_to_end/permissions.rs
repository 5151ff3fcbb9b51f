//! The permissions in deploy/: a real API server accepts them, they are enough, and each is needed.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cluster::{Cluster, NAMESPACE};
use crate::environment::{ANYWHERE_80, Mode, TestEnvironment};
use crate::objects::{exposing_pod, host_port, pod};
use crate::process::root;

/// Returns each API group and resource that the rules name.
fn list_grants(rules: &[PolicyRule]) -> Vec<(String, String)> {
    let pairs = |rule: &PolicyRule| {
        let (groups, resources) =
            (rule.api_groups.clone().unwrap_or_default(), rule.resources.clone().unwrap_or_default());
        groups
            .into_iter()
            .flat_map(|group| {
                resources.iter().map(move |resource| (group.clone(), resource.clone())).collect::<Vec<_>>()
            })
            .collect::<Vec<_>>()
    };
    rules.iter().flat_map(pairs).collect()
}

/// Returns the rules without one resource of one API group.
fn remove_grant(rules: &[PolicyRule], group: &str, resource: &str) -> Vec<PolicyRule> {
    let mut left = Vec::new();
    for rule in rules {
        for (of, named) in list_grants(std::slice::from_ref(rule)) {
            if (of.as_str(), named.as_str()) != (group, resource) {
                left.push(PolicyRule {
                    api_groups: Some(vec![of]),
                    resources: Some(vec![named]),
                    ..rule.clone()
                });
            }
        }
    }
    left
}

/// Makes the controller's role grant these rules and no others.
async fn replace_rules<R: Clone + Debug + DeserializeOwned>(api: &Api<R>, rules: &[PolicyRule]) {
    let patch = Patch::Merge(json!({ "rules": rules }));
    api.patch("hostport-firewall", &PatchParams::default(), &patch).await.expect("the role changes");
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn missing_read_permission_is_logged_and_changes_nothing() {
    let env = TestEnvironment::start(Mode::Attach, 1).await;
    let machine = &env.machines[0];
    env.cluster.create_pod(exposing_pod("web", &machine.name, 80)).await;
    let roles: Api<ClusterRole> = Api::all(env.cluster.client.clone());
    let full = roles.get("hostport-firewall").await.unwrap().rules.unwrap();
    let before = env.wait_until_idle().await;
    // The controller asks only for what the API server serves.
    let served = ["", "discovery.k8s.io", "networking.k8s.io"];
    let read: Vec<PolicyRule> =
        full.iter().filter(|rule| rule.verbs.iter().any(|verb| verb == "list")).cloned().collect();
    let read: Vec<_> =
        list_grants(&read).into_iter().filter(|(group, _)| served.contains(&group.as_str())).collect();
    assert_eq!(read.len(), 6, "{read:?}");
    for (group, resource) in &read {
        replace_rules(&roles, &remove_grant(&full, group, resource)).await;
        let controller = env.start_controller(&[]);
        let missing = format!("cannot list resource \"{resource}\" in API group \"{group}\"");
        env.wait_for_log(&missing).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(env.list_mutations(), before, "nothing changes without {resource}");
        controller.kill();
    }
    replace_rules(&roles, &full).await;
    let _controller = env.start_controller(&[]);
    env.wait_until_open(machine, ANYWHERE_80).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn controller_needs_its_lease_to_write_but_not_its_events() {
    let env = TestEnvironment::start(Mode::Attach, 1).await;
    let machine = &env.machines[0];
    env.cluster.create_pod(exposing_pod("web", &machine.name, 80)).await;
    let roles: Api<Role> = Api::namespaced(env.cluster.client.clone(), NAMESPACE);
    let full = roles.get("hostport-firewall").await.unwrap().rules.unwrap();
    let before = env.wait_until_idle().await;
    replace_rules(&roles, &[]).await;
    let controller = env.start_controller(&[]);
    env.wait_for_log("cannot get resource \"leases\"").await;
    // Long enough for a first pass.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(env.list_mutations(), before, "nothing is written without the Lease");
    drop(controller);
    replace_rules(&roles, &full).await;

    let cluster_roles: Api<ClusterRole> = Api::all(env.cluster.client.clone());
    let all = cluster_roles.get("hostport-firewall").await.unwrap().rules.unwrap();
    replace_rules(&cluster_roles, &remove_grant(&all, "events.k8s.io", "events")).await;
    let bad = json!({ "hostport-firewall.dev/expose": "99999" });
    env.cluster.create_pod(pod("bad", &machine.name, bad, host_port(81))).await;
    let _controller = env.start_controller(&[]);
    env.wait_until_open(machine, ANYWHERE_80).await;
    env.wait_for_log("cannot write an Event").await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn api_server_accepts_deployment_and_sidecar_patch() {
    let cluster = Cluster::start().await;
    cluster.apply_file(&root().join("deploy/deployment.yaml")).await;
    let operator = json!({
        "metadata": { "name": "voyager-operator", "namespace": "default" },
        "spec": {
            "selector": { "matchLabels": { "app": "voyager" } },
            "template": {
                "metadata": { "labels": { "app": "voyager" } },
                "spec": { "containers": [{ "name": "operator", "image": "example.invalid/voyager" }] },
            },
        },
    });
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), "default");
    let operator: Deployment = serde_json::from_value(operator).expect("a Deployment");
    deployments.create(&PostParams::default(), &operator).await.expect("the operator is created");
    let text = std::fs::read_to_string(root().join("deploy/sidecar/patch.yaml")).expect("the patch");
    let patch: Value = serde_saphyr::from_str(&text).expect("valid YAML");
    let patched =
        deployments.patch("voyager-operator", &PatchParams::default(), &Patch::Strategic(patch)).await;
    let template = patched.expect("the patch applies").spec.template;
    let names: Vec<String> =
        template.spec.expect("a pod").containers.into_iter().map(|container| container.name).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(
        names.contains(&"hostport-firewall".to_owned()) && names.contains(&"operator".to_owned()),
        "{names:?}"
    );
}
