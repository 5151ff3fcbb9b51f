//! The policies and roles in `iam/` grant exactly what the code can call.

use std::collections::BTreeSet;
use std::path::Path;

use firewall_aws::Ec2Action;
use firewall_gce::{Method, Mode};
use serde::Deserialize;
use serde_json::Value;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("iam").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn actions(statements: &Value) -> BTreeSet<String> {
    let statements = statements.as_array().expect("statements").iter();
    let listed = |action: &Value| match action {
        Value::Array(actions) => actions.clone(),
        one => vec![one.clone()],
    };
    let actions = statements.flat_map(|statement| listed(&statement["Action"]));
    actions.map(|action| action.as_str().expect("a text").to_owned()).collect()
}

fn policy(path: &str) -> BTreeSet<String> {
    let policy: Value = serde_json::from_str(&read(path)).expect("valid JSON");
    actions(&policy["Statement"])
}

fn called(actions: &[Ec2Action]) -> BTreeSet<String> {
    actions.iter().map(|action| action.permission()).collect()
}

#[test]
fn the_policy_for_attach_grants_what_attach_calls() {
    assert_eq!(policy("aws/attach.json"), called(&Ec2Action::ATTACH));
}

#[test]
fn the_policy_for_shared_grants_what_shared_calls() {
    assert_eq!(policy("aws/shared.json"), called(&Ec2Action::SHARED));
}

#[test]
fn the_policy_that_voyager_documents_has_exactly_its_actions_and_suffices() {
    let documented = [
        "AuthorizeSecurityGroupIngress",
        "CreateRoute",
        "CreateSecurityGroup",
        "CreateTags",
        "DeleteRoute",
        "DeleteSecurityGroup",
        "ModifyInstanceAttribute",
        "RevokeSecurityGroupIngress",
        "DescribeInstances",
        "DescribeRouteTables",
        "DescribeSecurityGroups",
        "DescribeSubnets",
    ];
    let granted = policy("aws/voyager.json");
    assert_eq!(granted, documented.iter().map(|action| format!("ec2:{action}")).collect());
    assert!(granted.is_superset(&called(&Ec2Action::VOYAGER)), "it lacks what the fallback calls");
}

#[test]
fn the_kops_snippet_carries_the_policy_for_attach() {
    let attach: Value = serde_json::from_str(&read("aws/attach.json")).expect("valid JSON");
    let snippet: Value = serde_saphyr::from_str(&read("kops/cluster-patch.yaml")).expect("valid YAML");
    for role in ["node", "control-plane"] {
        let text = snippet["spec"]["additionalPolicies"][role].as_str().expect("a JSON text");
        let statements: Value = serde_json::from_str(text).expect("valid JSON");
        assert_eq!(statements, attach["Statement"], "{role}");
    }
}

/// A file for `gcloud iam roles create`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Role {
    title: String,
    description: String,
    stage: String,
    included_permissions: Vec<String>,
}

/// The permissions of a custom role, in the order of the file.
fn role(path: &str) -> Vec<String> {
    let role: Role = serde_saphyr::from_str(&read(path)).expect("a custom role");
    assert!(!role.title.is_empty() && !role.description.is_empty(), "{path}: without title or description");
    assert_eq!(role.stage, "GA", "{path}");
    role.included_permissions
}

/// What the methods need: sorted, and each once.
fn needed<'a>(methods: impl IntoIterator<Item = &'a Method>) -> Vec<String> {
    let permissions: BTreeSet<&str> =
        methods.into_iter().flat_map(|method| method.permissions()).copied().collect();
    permissions.into_iter().map(str::to_owned).collect()
}

#[test]
fn the_role_for_each_google_cloud_mode_grants_what_it_calls() {
    for (path, mode) in [("gcp/destination.yaml", Mode::Destination), ("gcp/tags.yaml", Mode::Tags)] {
        let methods = Method::of_rules().iter().chain(Method::of_instances(mode));
        assert_eq!(role(path), needed(methods), "{path}");
    }
}

#[test]
fn the_roles_for_a_shared_vpc_grant_what_is_called_in_each_project() {
    assert_eq!(role("gcp/shared-vpc-host.yaml"), needed(Method::of_rules()));
    for (path, mode) in [
        ("gcp/shared-vpc-service-destination.yaml", Mode::Destination),
        ("gcp/shared-vpc-service-tags.yaml", Mode::Tags),
    ] {
        assert_eq!(role(path), needed(Method::of_instances(mode)), "{path}");
    }
}
