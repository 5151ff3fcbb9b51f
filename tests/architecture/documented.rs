//! The docs have every reason, flag, metric, annotation and condition that the code has, and no other.

use std::collections::{BTreeMap, BTreeSet};

use firewall_core::WithheldReason;

use crate::commands::{commands, is_part_of_flag};
use crate::in_code::{
    DOMAIN, conditions, domain_words, event_reasons, flags, literal_reasons, metrics, reasons,
};
use crate::in_docs::{
    FLAGS_OF_OTHERS, Mention, differences, domain_mentions, mentions, metric_mentions, spans,
    tables_of_reasons, unknown, unknown_conditions, unknown_flags,
};
use crate::source::{Texts, files, production, root, set, texts, untested, without_tests};

/// Returns what users read: the README, the docs and what stands beside the manifests and the policies.
fn docs() -> Texts {
    let mut docs = files("docs", ".md");
    docs.retain(|path, _| !path.starts_with("docs/decisions/"));
    for path in ["README.md", "deploy/README.md", "iam/README.md"] {
        docs.insert(path.to_owned(), read(path));
    }
    docs
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn only(path: &str) -> Texts {
    BTreeMap::from([(path.to_owned(), read(path))])
}

fn assert_same(found: &[String], code: &BTreeSet<String>) {
    assert!(!code.is_empty(), "the code has none at all: is it looked for in the right place?");
    assert!(found.is_empty(), "{} to mend:\n{}", found.len(), found.join("\n"));
}

#[test]
fn reasons_are_in_the_tables_of_the_docs() {
    let reasons = reasons(&production());
    let mut found = differences("reason", &reasons, &tables_of_reasons(&only("docs/operations.md")));
    found.extend(unknown("reason", &reasons, &tables_of_reasons(&only("docs/guardrails.md"))));
    assert_same(&found, &reasons);
}

#[test]
fn reasons_are_constants() {
    let found = literal_reasons(&production());
    assert!(found.is_empty(), "{} to mend:\n{}", found.len(), found.join("\n"));
}

#[test]
fn reasons_of_events_are_in_the_docs() {
    let reasons = event_reasons(&production());
    let text = read("docs/operations.md");
    let spans: BTreeSet<&str> = text.lines().flat_map(spans).collect();
    let lacking = reasons.iter().filter(|reason| !spans.contains(reason.as_str()));
    assert_same(&lacking.map(|reason| format!("operations.md lacks {reason}")).collect::<Vec<_>>(), &reasons);
}

#[test]
fn reasons_for_withholding_are_in_the_docs() {
    let reasons: BTreeSet<String> = WithheldReason::ALL.iter().map(|reason| format!("`{reason}`")).collect();
    let text = read("docs/operations.md");
    let lacking = reasons.iter().filter(|reason| !text.contains(reason.as_str()));
    assert_same(&lacking.map(|reason| format!("operations.md lacks {reason}")).collect::<Vec<_>>(), &reasons);
}

#[test]
fn flags_are_in_the_docs() {
    let flags = flags();
    let all: BTreeSet<String> =
        flags.values().flatten().map(|flag| flag.trim_start_matches('-').to_owned()).collect();
    let docs = docs();
    let named: Vec<Mention> =
        mentions(&docs, "--", is_part_of_flag).into_iter().filter(|(flag, _)| all.contains(flag)).collect();
    let mut found = differences("flag", &all, &named);
    found.extend(unknown_flags(&docs, &flags));
    assert_same(&found, &all);
}

#[test]
fn flags_in_the_manifests_exist() {
    let others = FLAGS_OF_OTHERS.map(|(_, flag)| flag.to_owned());
    let all: BTreeSet<String> = flags().into_values().flatten().chain(others).collect();
    let mut named = mentions(&files("deploy", ".yaml"), "--", is_part_of_flag);
    named.retain(|(flag, _)| flag.starts_with(|first: char| first.is_ascii_lowercase()));
    let named: Vec<Mention> = named.into_iter().map(|(flag, place)| (format!("--{flag}"), place)).collect();
    assert!(!named.is_empty());
    assert_same(&unknown("flag", &all, &named), &all);
}

#[test]
fn flags_of_other_tools_are_still_named() {
    let docs = docs();
    let bare: BTreeSet<String> = docs
        .values()
        .flat_map(|text| commands(text))
        .filter(|command| command.tool.is_empty())
        .flat_map(|command| command.flags)
        .collect();
    let unused: Vec<_> = FLAGS_OF_OTHERS.iter().filter(|(_, flag)| !bare.contains(*flag)).collect();
    assert!(unused.is_empty(), "the docs no longer name {unused:?}");
}

#[test]
fn metrics_are_in_the_docs() {
    let metrics = metrics(&without_tests(&read("src/publish/metrics.rs")));
    assert_same(&differences("metric", &metrics, &metric_mentions(&docs())), &metrics);
}

#[test]
fn annotations_conditions_and_tags_are_in_the_docs() {
    let mut words = domain_words(&production());
    let keys = domain_words(&BTreeMap::from([(String::new(), read("src/intents/annotation_keys.rs"))]));
    assert!(keys.len() >= 4 && keys.is_subset(&words), "{keys:?}");
    words.insert("v1alpha1".to_owned());
    // The label by which the guardrails that are shipped select namespaces.
    let label = "allowed".to_owned();
    assert!(read("deploy/guardrails/guardrails.yaml").contains(&format!("{DOMAIN}{label}")));
    words.insert(label);
    assert_same(&differences("annotation, condition or tag", &words, &domain_mentions(&docs())), &words);
}

#[test]
fn condition_types_are_in_the_docs() {
    let types = conditions(&read("src/k8s/host_port_exposure.rs"));
    let guide = read("docs/user-guide.md");
    let spans: BTreeSet<&str> = guide.lines().flat_map(spans).collect();
    let lacking = types.iter().filter(|kind| !spans.contains(kind.as_str()));
    let mut found: Vec<String> =
        lacking.map(|kind| format!("the user guide lacks the condition {kind}")).collect();
    found.extend(unknown_conditions(&docs(), &types));
    assert_same(&found, &types);
}

#[test]
fn an_undocumented_or_unknown_reason_is_found() {
    let code = untested(texts(&[
        (
            "src/a/reasons.rs",
            "/// `NoDoc`\npub(crate) const B: &str = \"PortDenied\";\npub const C: &str = \"NoPods\";",
        ),
        ("src/a/b.rs", "const D: &str = \"Other\";"),
        (
            "providers/core/src/provider.rs",
            "Self::InUse => \"InUse\", \"{} failed\" }\n#[cfg(test)]\nconst T: &str = \"Test\";",
        ),
    ]));
    let reasons = reasons(&code);
    assert_eq!(reasons, set(&["InUse", "NoPods", "PortDenied"]));
    let table = "| key | b |\n| --- | --- |\n| `Key` | |\n\n| reason | do |\n| --- | --- |\n| `PortDenied`, `InUse` | `a` |\n| `Gone` | |\n\n`After`";
    let found = differences("reason", &reasons, &tables_of_reasons(&texts(&[("a.md", table)])));
    assert_eq!(found, ["the docs lack the reason NoPods", "a.md:8: the code has no reason Gone"]);
}

#[test]
fn an_unknown_flag_is_found() {
    let flags = BTreeMap::from([
        ("plan".to_owned(), set(&["--manifests", "--output"])),
        ("cleanup".to_owned(), set(&["--yes"])),
    ]);
    let found = |text: &str| unknown_flags(&texts(&[("a.md", text)]), &flags).len();
    assert_eq!(found("`--yes`, `--policy`, `kubectl get --watch`, `hostport-firewall cleanup --yes`"), 0);
    assert_eq!(found("`--no`"), 1);
    assert_eq!(found("`hostport-firewall plan --yes`, `plan --yes`"), 2);
    assert_eq!(found("    kubectl get | hostport-firewall plan \\\n      --manifest - --output json"), 1);
}

#[test]
fn an_undocumented_metric_is_found() {
    let code = "r.register(\"a_b\", help);\nr.register(\n    \"c\",\n    help);\n// r.register(\"d\")\n";
    let metrics = metrics(code);
    assert_eq!(metrics, set(&["a_b", "c"]));
    let docs = texts(&[("a.md", "Alert on `hostport_firewall_a_b{cloud}`,\nor hostport_firewall_d_total.")]);
    let found = differences("metric", &metrics, &metric_mentions(&docs));
    assert_eq!(found, ["the docs lack the metric c", "a.md:2: the code has no metric d"]);
}

#[test]
fn an_undocumented_annotation_is_found() {
    let code = texts(&[(
        "src/a.rs",
        "\"hostport-firewall.dev/expose\"; \"hostport-firewall.dev/\"; \"hostport-firewall.dev/open\"",
    )]);
    let docs = texts(&[(
        "a.md",
        "`hostport-firewall.dev/expose.http`, under `hostport-firewall.dev/`: hostport-firewall.dev/shut",
    )]);
    let found = differences("annotation", &domain_words(&code), &domain_mentions(&docs));
    assert_eq!(found, ["the docs lack the annotation open", "a.md:1: the code has no annotation shut"]);
}

#[test]
fn an_unknown_condition_is_found() {
    let types = conditions("\".status.conditions[?(@.type==\\\"Accepted\\\")].status\"");
    assert_eq!(types, set(&["Accepted"]));
    let docs = texts(&[(
        "a.md",
        "`--for=condition=Accepted`\n`--for=condition=Done`, its condition `Open`, the condition\n`hostport-firewall.dev/open`",
    )]);
    assert_eq!(unknown_conditions(&docs, &types).len(), 2);
}
