//! What deploy/ grants: accepted by a real API server, enough, and nothing that is not needed.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cluster::{Cluster, NAMESPACE, pod};
use crate::process::root;
use crate::world::{Mode, World};

fn grants(rules: &[PolicyRule]) -> Vec<(String, String)> {
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

/// The rules without one resource of one group.
fn without(rules: &[PolicyRule], group: &str, resource: &str) -> Vec<PolicyRule> {
    let mut left = Vec::new();
    for rule in rules {
        for (of, named) in grants(std::slice::from_ref(rule)) {
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

/// Has the controller's role grant these rules and no others.
async fn replace_rules<R: Clone + Debug + DeserializeOwned>(api: &Api<R>, rules: &[PolicyRule]) {
    let patch = Patch::Merge(json!({ "rules": rules }));
    api.patch("hostport-firewall", &PatchParams::default(), &patch).await.expect("the role changes");
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn without_any_one_permission_to_read_nothing_changes_and_the_log_names_it() {
    let world = World::start(Mode::Attach, 1).await;
    let machine = &world.machines[0];
    let expose = json!({ "hostport-firewall.dev/expose": "80" });
    world
        .cluster
        .run(pod("web", &machine.name, expose, json!([{ "containerPort": 80, "hostPort": 80 }])))
        .await;
    let roles: Api<ClusterRole> = Api::all(world.cluster.client.clone());
    let full = roles.get("hostport-firewall").await.unwrap().rules.unwrap();
    let before = world.settled().await;
    // What the API server does not serve is not asked for.
    let served = ["", "discovery.k8s.io", "networking.k8s.io"];
    let read: Vec<PolicyRule> =
        full.iter().filter(|rule| rule.verbs.iter().any(|verb| verb == "list")).cloned().collect();
    let read: Vec<_> =
        grants(&read).into_iter().filter(|(group, _)| served.contains(&group.as_str())).collect();
    assert_eq!(read.len(), 6, "{read:?}");
    for (group, resource) in &read {
        replace_rules(&roles, &without(&full, group, resource)).await;
        let controller = world.controller(&[]);
        let missing = format!("cannot list resource \"{resource}\" in API group \"{group}\"");
        world.says(&missing).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(world.mutations(), before, "nothing changes without {resource}");
        controller.kill();
    }
    replace_rules(&roles, &full).await;
    let _controller = world.controller(&[]);
    world.opens(machine, &["tcp/80 0.0.0.0/0", "tcp/80 ::/0"]).await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn without_its_lease_it_does_not_write_and_without_events_it_does() {
    let world = World::start(Mode::Attach, 1).await;
    let machine = &world.machines[0];
    let expose = json!({ "hostport-firewall.dev/expose": "80" });
    world
        .cluster
        .run(pod("web", &machine.name, expose, json!([{ "containerPort": 80, "hostPort": 80 }])))
        .await;
    let roles: Api<Role> = Api::namespaced(world.cluster.client.clone(), NAMESPACE);
    let full = roles.get("hostport-firewall").await.unwrap().rules.unwrap();
    let before = world.settled().await;
    replace_rules(&roles, &[]).await;
    let controller = world.controller(&[]);
    world.says("cannot get resource \"leases\"").await;
    // Long enough for a first pass.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(world.mutations(), before, "nobody writes without the Lease");
    drop(controller);
    replace_rules(&roles, &full).await;

    let cluster_roles: Api<ClusterRole> = Api::all(world.cluster.client.clone());
    let all = cluster_roles.get("hostport-firewall").await.unwrap().rules.unwrap();
    replace_rules(&cluster_roles, &without(&all, "events.k8s.io", "events")).await;
    let bad = json!({ "hostport-firewall.dev/expose": "99999" });
    world.cluster.run(pod("bad", &machine.name, bad, json!([{ "containerPort": 81, "hostPort": 81 }]))).await;
    let _controller = world.controller(&[]);
    world.opens(machine, &["tcp/80 0.0.0.0/0", "tcp/80 ::/0"]).await;
    world.says("cannot write an Event").await;
}

#[tokio::test]
#[ignore = "end to end: run by ./test"]
async fn the_api_server_takes_the_deployment_and_the_sidecar_patch() {
    let cluster = Cluster::start().await;
    cluster.apply(&root().join("deploy/deployment.yaml")).await;
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
    deployments.create(&PostParams::default(), &operator).await.expect("the operator is there");
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
