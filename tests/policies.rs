//! The policies and roles in `iam/` grant exactly what the code can call.

use std::collections::BTreeSet;
use std::path::Path;

use firewall_aws::ApiCall as AwsCall;
use firewall_gce::{ApiCall as GceCall, Mode};
use serde::Deserialize;
use serde_json::Value;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("iam").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the actions of an IAM policy's statements.
fn list_actions(statements: &Value) -> BTreeSet<String> {
    let statements = statements.as_array().expect("statements").iter();
    let listed = |action: &Value| match action {
        Value::Array(actions) => actions.clone(),
        one => vec![one.clone()],
    };
    let actions = statements.flat_map(|statement| listed(&statement["Action"]));
    actions.map(|action| action.as_str().expect("a text").to_owned()).collect()
}

/// Returns the actions of an IAM policy.
fn read_policy(path: &str) -> BTreeSet<String> {
    let policy: Value = serde_json::from_str(&read(path)).expect("valid JSON");
    list_actions(&policy["Statement"])
}

/// Returns the permissions of these calls.
fn permissions_of(calls: &[AwsCall]) -> BTreeSet<String> {
    calls.iter().map(|call| call.permission()).collect()
}

#[test]
fn attach_policy_grants_what_attach_mode_calls() {
    assert_eq!(read_policy("aws/attach.json"), permissions_of(&AwsCall::ATTACH));
}

#[test]
fn shared_policy_grants_what_shared_mode_calls() {
    assert_eq!(read_policy("aws/shared.json"), permissions_of(&AwsCall::SHARED));
}

#[test]
fn voyager_policy_matches_its_documentation_and_suffices() {
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
    let granted = read_policy("aws/voyager.json");
    assert_eq!(granted, documented.iter().map(|action| format!("ec2:{action}")).collect());
    assert!(granted.is_superset(&permissions_of(&AwsCall::VOYAGER)), "it lacks what the fallback calls");
}

#[test]
fn kops_snippet_carries_the_attach_policy() {
    let attach: Value = serde_json::from_str(&read("aws/attach.json")).expect("valid JSON");
    let snippet: Value = serde_saphyr::from_str(&read("kops/cluster-patch.yaml")).expect("valid YAML");
    for role in ["node", "control-plane"] {
        let text = snippet["spec"]["additionalPolicies"][role].as_str().expect("a JSON text");
        let statements: Value = serde_json::from_str(text).expect("valid JSON");
        assert_eq!(statements, attach["Statement"], "{role}");
    }
}

/// The file for `gcloud iam roles create`
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Role {
    title: String,
    description: String,
    stage: String,
    included_permissions: Vec<String>,
}

/// Returns the permissions of a custom role, in the order of the file.
fn read_role(path: &str) -> Vec<String> {
    let role: Role = serde_saphyr::from_str(&read(path)).expect("a custom role");
    assert!(!role.title.is_empty() && !role.description.is_empty(), "{path}: without title or description");
    assert_eq!(role.stage, "GA", "{path}");
    role.included_permissions
}

/// Returns the permissions of the calls, sorted and without duplicates.
fn required_permissions<'a>(calls: impl IntoIterator<Item = &'a GceCall>) -> Vec<String> {
    let permissions: BTreeSet<&str> =
        calls.into_iter().flat_map(|call| call.permissions()).copied().collect();
    permissions.into_iter().map(str::to_owned).collect()
}

#[test]
fn gce_role_grants_what_its_mode_calls() {
    for (path, mode) in [("gcp/destination.yaml", Mode::Destination), ("gcp/tags.yaml", Mode::Tags)] {
        let calls = GceCall::of_rules().iter().chain(GceCall::of_instances(mode));
        assert_eq!(read_role(path), required_permissions(calls), "{path}");
    }
}

#[test]
fn shared_vpc_roles_grant_what_each_project_needs() {
    assert_eq!(read_role("gcp/shared-vpc-host.yaml"), required_permissions(GceCall::of_rules()));
    for (path, mode) in [
        ("gcp/shared-vpc-service-destination.yaml", Mode::Destination),
        ("gcp/shared-vpc-service-tags.yaml", Mode::Tags),
    ] {
        assert_eq!(read_role(path), required_permissions(GceCall::of_instances(mode)), "{path}");
    }
}
