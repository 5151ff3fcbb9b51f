//! Tests of what is read from files, and of what is no knowledge.

use tempfile::TempDir;

use super::*;

const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: web, annotations: {hostport-firewall.dev/expose: \"80\"}}, \
                   spec: {nodeName: n}}";
const NODE: &str = "{apiVersion: v1, kind: Node, metadata: {name: n}}";

fn read_file(name: &str, text: &str) -> Result<Index, ManifestError> {
    let folder = TempDir::new().expect("a temporary folder");
    std::fs::write(folder.path().join(name), text).expect("the file can be written");
    read(&Manifests::Path(folder.path().to_owned()))
}

fn found(index: &Index) -> (usize, bool) {
    (index.pods().count(), index.node("n").is_some())
}

#[test]
fn documents_lists_and_json_are_read_alike() {
    let cases = [
        ("a.yaml", format!("{POD}\n---\n{NODE}\n")),
        ("a.yml", format!("kind: List\napiVersion: v1\nitems:\n- {POD}\n- {NODE}\n")),
        ("a.json", r#"{"kind":"NodeList","apiVersion":"v1","items":[{"metadata":{"name":"n"}}]}"#.to_owned()),
    ];
    for (name, text) in cases {
        let index = read_file(name, &text).expect("it can be read");
        assert_eq!(found(&index), (usize::from(name != "a.json"), true), "{name}");
        assert!(index.is_synced(), "files are complete as they are");
    }
}

#[tokio::test]
async fn change_right_after_reading_is_not_missed() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("a.yaml");
    std::fs::write(&path, NODE).expect("it can be written");
    let manifests = Manifests::Path(path.clone());
    let (mut index, watching) = watch_manifests(&manifests).expect("it can be read");
    std::fs::write(&path, format!("{NODE}\n---\n{POD}")).expect("it can be written");
    let limit = std::time::Duration::from_secs(30);
    tokio::select! {
        () = watching => {}
        changed = tokio::time::timeout(limit, index.changed()) => changed.expect("it is read again"),
    }
    assert_eq!(found(&index.read()), (1, true));
}

#[test]
fn irrelevant_kinds_and_files_are_ignored() {
    let secret = "{apiVersion: v1, kind: Secret, metadata: {name: s}}";
    let folder = TempDir::new().expect("a temporary folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("a file");
    write("a.yaml", &format!("---\n{POD}\n---\n{secret}\n---\n# nothing\n---\n{NODE}"));
    write("b.yaml", secret);
    write("notes.txt", "not a manifest: [");
    let index = read(&Manifests::Path(folder.path().to_owned())).expect("it can be read");
    assert_eq!(found(&index), (1, true));
}

#[test]
fn read_error_names_file_and_object_and_nothing_is_used() {
    let syntax_error = read_file("a.yaml", "kind: [").expect_err("not YAML");
    assert!(
        matches!(&syntax_error, ManifestError::Syntax { path, .. } if path.ends_with("a.yaml")),
        "{syntax_error}"
    );
    let text = format!("{NODE}\n---\n{{kind: Pod, apiVersion: v1, metadata: {{name: web}}, spec: 7}}");
    let field_error = read_file("a.yaml", &text).expect_err("spec is no object").to_string();
    assert!(field_error.contains("a.yaml") && field_error.contains("Pod default/web"), "{field_error}");
    let missing = read(&Manifests::Path("/does/not/exist".into())).expect_err("no such file");
    assert!(matches!(missing, ManifestError::Io { .. }), "{missing}");
}

fn error_of(text: &str) -> String {
    match read_file("a.yaml", text) {
        Ok(index) => panic!("it is read: {:?}\n{text}", found(&index)),
        Err(error) => error.to_string(),
    }
}

#[test]
fn input_without_an_object_is_an_error() {
    for text in ["", "\n", "---\n---\n", "# nothing\n", "null\n", "---\n# Source: empty.yaml\n"] {
        let error = error_of(text);
        assert!(error.contains("a.yaml") && error.contains("no object"), "{text:?}: {error}");
    }
    let folder = TempDir::new().expect("a temporary folder");
    let error = read(&Manifests::Path(folder.path().to_owned())).expect_err("an empty folder").to_string();
    assert!(error.contains("no file"), "{error}");
    std::fs::write(folder.path().join("nodes.yaml"), NODE).expect("a file");
    std::fs::write(folder.path().join("pods.yaml"), "").expect("a file");
    let error = read(&Manifests::Path(folder.path().to_owned())).expect_err("half a folder").to_string();
    assert!(error.contains("pods.yaml"), "{error}");
}

#[test]
fn empty_standard_input_says_what_happened() {
    let error = ManifestError::NoObject { path: STANDARD_INPUT.to_owned() }.to_string();
    assert!(error.contains("the command before it") && error.contains("kubectl"), "{error}");
}

#[test]
fn status_instead_of_objects_is_an_error_with_its_text() {
    let status =
        r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"pods is forbidden","code":403}"#;
    for text in [status.to_owned(), format!("{NODE}\n---\n{status}\n")] {
        let error = error_of(&text);
        assert!(error.contains("pods is forbidden") && error.contains("a.yaml"), "{error}");
    }
}

#[test]
fn document_that_is_no_object_is_an_error() {
    let cases = [
        ("- a\n", "document 1"),
        ("7\n", "document 1"),
        ("error: the server is away\n", "document 1"),
        ("No resources found\n", "document 1"),
        ("{kind: Pod, metadata: {name: a}}", "apiVersion"),
        ("{apiVersion: v1, metadata: {name: a}}", "kind"),
        ("{apiVersion: 1, kind: Pod, metadata: {name: a}}", "apiVersion"),
        ("{apiVersion: v1, kind: \"\", metadata: {name: a}}", "kind"),
    ];
    for (text, part) in cases {
        let error = error_of(text);
        assert!(error.contains(part), "{text}: {error}");
        let error = error_of(&format!("{NODE}\n---\n{text}"));
        assert!(error.contains(&part.replace('1', "2")), "{text}: {error}");
    }
}

#[test]
fn broken_list_is_an_error_that_names_the_item() {
    let cases = [
        ("{apiVersion: v1, kind: PodList}", "items"),
        ("{apiVersion: v1, kind: List, items: {a: b}}", "items"),
        ("{apiVersion: v1, kind: PodList, items: [a]}", "item 1"),
        (
            "{apiVersion: v1, kind: List, items: [{kind: Pod, apiVersion: v1, metadata: {name: a}}, null]}",
            "item 2",
        ),
        ("{apiVersion: v1, kind: List, items: [{metadata: {name: a}}]}", "item 1"),
        ("{apiVersion: v1, kind: PodList, items: [{metadata: {name: a}, spec: 7}]}", "Pod default/a"),
        ("{apiVersion: v1, kind: List, items: [{kind: Status, apiVersion: v1, message: no}]}", "Status"),
    ];
    for (text, part) in cases {
        let error = error_of(&format!("{NODE}\n---\n{text}"));
        assert!(error.contains(part) && error.contains("a.yaml"), "{text}: {error}");
    }
    let empty = format!("{NODE}\n---\n{{apiVersion: v1, kind: List, items: []}}");
    assert_eq!(found(&read_file("a.yaml", &empty).expect("nothing was found")), (0, true));
}

#[test]
fn bombs_and_deep_nesting_are_errors() {
    let level = |number: usize| {
        format!("l{number}: &l{number} [{}]\n", vec![format!("*l{}", number - 1); 9].join(", "))
    };
    let bomb: String = (1..12).map(level).collect();
    let bomb = format!("apiVersion: v1\nkind: Node\nmetadata: {{name: n}}\nl0: &l0 [a]\n{bomb}");
    let deep = |open: &str, close: &str| {
        let (open, close) = (open.repeat(100_000), close.repeat(100_000));
        format!(
            "{{\"apiVersion\": \"v1\", \"kind\": \"Node\", \"metadata\": {{\"name\": \"n\"}}, \"x\": {open}1{close}}}"
        )
    };
    let list = |depth: usize| {
        let (open, close) =
            (r#"{"apiVersion":"v1","kind":"List","items":["#.repeat(depth), "]}".repeat(depth));
        format!("{open}{close}")
    };
    for text in [bomb, deep("[", "]"), deep("{\"a\":", "}"), list(50_000)] {
        let error = error_of(&text);
        assert!(error.len() < 1000 && error.contains("a.yaml"), "{error}");
    }
}

#[test]
fn large_dump_is_read() {
    let pod = |number: usize| {
        let labels: Vec<String> = (0..50).map(|label| format!("\"l{label}\":\"v\"")).collect();
        let labels = labels.join(",");
        format!(
            r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"p{number}","labels":{{{labels}}}}},"spec":{{"nodeName":"n","hostNetwork":true,"containers":[{{"name":"a","ports":[{{"containerPort":80}}]}}]}}}}"#
        )
    };
    let pods: Vec<String> = (0..3000).map(pod).collect();
    let node = r#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"n"}}"#;
    let json = format!(r#"{{"apiVersion":"v1","kind":"List","items":[{node},{}]}}"#, pods.join(","));
    assert_eq!(found(&read_file("a.json", &json).expect("JSON")), (3000, true));
    let yaml = format!("{node}\n---\n{}\n", pods.join("\n---\n"));
    assert_eq!(found(&read_file("a.yaml", &yaml).expect("YAML")), (3000, true));
}

#[test]
fn files_without_a_node_are_no_knowledge() {
    for text in
        [POD, "{apiVersion: v1, kind: List, items: []}", "{apiVersion: v1, kind: NodeList, items: []}"]
    {
        let error = error_of(text);
        assert!(error.contains("no Node"), "{text}: {error}");
    }
}

#[test]
fn name_that_no_api_server_accepts_is_an_error() {
    let cases = [
        "{apiVersion: v1, kind: Pod, metadata: {name: \"a\\nERROR all ports closed\"}}",
        "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: \"b\\u202E\"}}",
        "{apiVersion: v1, kind: Node, metadata: {name: \"\"}}",
        "{apiVersion: v1, kind: Node, metadata: {}}",
        "{apiVersion: v1, kind: Service, metadata: {name: a/b}}",
        "{apiVersion: v1, kind: \"Pod\\nERROR\", metadata: {name: a}}",
    ];
    for text in cases {
        let error = error_of(&format!("{NODE}\n---\n{text}"));
        assert!(error.contains("name") || error.contains("kind"), "{text}: {error}");
        assert!(!error.contains('\n') && !error.contains('\u{202e}'), "{error}");
    }
}

/// The field case `the-file-is-emptied-by-a-failed-export`.
#[tokio::test]
async fn emptied_file_keeps_what_was_read() {
    let pod = |name: &str, port: u16| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: web, \
             annotations: {{hostport-firewall.dev/expose: \"{port}\"}}}}\nspec: {{nodeName: n, \
             containers: [{{name: o, ports: [{{containerPort: {port}, hostPort: {port}}}]}}]}}\n"
        )
    };
    let all = format!("{NODE}\n---\n{}---\n{}", pod("a", 443), pod("b", 8443));
    let cut = &all[..all.len() - 60];
    let status = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"pods is forbidden"}"#;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("all.yaml");
    std::fs::write(&path, &all).expect("it can be written");
    let manifests = Manifests::Path(path.clone());
    let (mut index, watching) = watch_manifests(&manifests).expect("it can be read");
    let stages = async {
        for text in [cut, &all, "", &all, status, &all, NODE] {
            std::fs::write(&path, text).expect("it can be written");
            let is_knowledge = text == all || text == NODE;
            let expected = if text == NODE { 0 } else { 2 };
            loop {
                index.changed().await;
                let index = index.read();
                if index.is_synced() == is_knowledge {
                    assert_eq!(index.pods().count(), expected, "{text:?}");
                    break;
                }
            }
        }
    };
    let limit = std::time::Duration::from_mins(1);
    tokio::select! {
        () = watching => {}
        ended = tokio::time::timeout(limit, stages) => ended.expect("each stage is seen"),
    }
}

/// The field case `a-rendered-chart-without-pods`.
#[test]
fn workloads_without_pods_are_named() {
    let template =
        "spec: {containers: [{name: e, ports: [{name: https, containerPort: 8443, hostPort: 443}]}]}";
    let workload = |kind: &str| {
        format!(
            "---\n# Source: edge/templates/ds.yaml\napiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: edge}}\n\
                 spec:\n  selector: {{matchLabels: {{app: edge}}}}\n  template:\n    {template}\n"
        )
    };
    let chart = format!(
        "{NODE}\n---\n{}{}---\n# Source: edge/templates/empty.yaml\n",
        workload("DaemonSet"),
        workload("Deployment")
    );
    let texts = [("chart.yaml".to_owned(), chart.clone())];
    let said = collect(&texts).expect("it can be read").describe_passed_over().expect("a warning");
    assert!(said.contains("1 DaemonSet and 1 Deployment") && said.contains("pods are needed"), "{said}");
    let texts = [("dump.yaml".to_owned(), format!("{chart}---\n{POD}"))];
    assert_eq!(collect(&texts).expect("it can be read").describe_passed_over(), None);
}
